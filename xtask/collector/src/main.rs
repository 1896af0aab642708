//! Listens where collectors of OpenTelemetry do, and prints the host's numbers of each request as a line of JSON.

use std::net::TcpListener;

use anyhow::Result;

fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:4318")?;
    loop {
        let numbers = collector::receive(&listener, "200 OK")?.numbers()?;
        println!("{}", serde_json::to_string(&numbers)?);
    }
}
