//! `collapse metrics` serving a recording, for tests.

#![allow(dead_code, reason = "each test uses a part")]

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A recording that is kept.
pub fn recorded(name: &str) -> String {
    format!("{}/tests/fixtures/recorded/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The command under test.
pub fn collapse(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collapse"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A running exporter, which ends with the test.
pub struct Exporter {
    child: Child,
    /// Address and port.
    pub address: String,
}

impl Exporter {
    /// Serves a recording on a free port.
    pub fn of(recording: &str) -> Self {
        Self::at(&recorded(recording), "0")
    }

    /// Serves the recording in a file at an address, or on a port.
    pub fn at(path: &str, listen: &str) -> Self {
        let arguments = ["metrics", "--from", path, "--listen", listen];
        let mut child = collapse(&arguments).stderr(Stdio::piped()).spawn().expect("collapse");
        let mut line = String::new();
        let stderr = child.stderr.take().expect("a pipe");
        BufReader::new(stderr).read_line(&mut line).expect("a line");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.unwrap_or_else(|| panic!("no address in {line}")).to_owned();
        Self { child, address }
    }

    /// A connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        stream
    }

    /// Sends a request, given by its head, and returns the answer.
    pub fn ask(&self, head: &str) -> String {
        answer(self.connect(), head)
    }

    /// Ends it at once, in the middle of whatever it does.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("its end");
    }

    /// Ends it as systemd does, and returns its exit code.
    pub fn end(mut self) -> Option<i32> {
        let pid = self.child.id() as libc::pid_t;
        // SAFETY: plain system call; the child was not waited for, so that the pid is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        self.child.wait().expect("its end").code()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request, given by its head, and returns the answer.
pub fn answer(mut stream: impl Read + Write, head: &str) -> String {
    write!(stream, "{}\r\nHost: localhost\r\n\r\n", head.replace('\n', "\r\n")).expect("sending");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
