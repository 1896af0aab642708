//! QEMU's machine protocol: a line of JSON for each command, reply and event.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Time for QEMU to say something.
const LIMIT: Duration = Duration::from_mins(3);

/// A connection.
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// Events that nobody waited for.
    events: VecDeque<Value>,
}

impl Qmp {
    /// Waits for QEMU's greeting and answers it.
    pub fn greet(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(LIMIT)).context("setting a time limit")?;
        let mut qmp = Self { stream: BufReader::new(stream), events: VecDeque::new() };
        let greeting = qmp.message()?;
        ensure!(greeting.get("QMP").is_some(), "QEMU greets with {greeting}");
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and returns the reply.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let message = json!({"execute": command, "arguments": arguments});
        writeln!(self.stream.get_mut(), "{message}").context("writing to QEMU")?;
        loop {
            let message = self.message()?;
            if let Some(reply) = message.get("return") {
                return Ok(reply.clone());
            }
            if let Some(error) = message.get("error") {
                bail!("QEMU refuses {command}: {}", error["desc"]);
            }
            self.events.push_back(message);
        }
    }

    /// Waits for the next event of a name and returns its data.
    pub fn event(&mut self, name: &str) -> Result<Value> {
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.message().with_context(|| format!("waiting for {name}"))?,
            };
            if event["event"] == name {
                return Ok(event["data"].clone());
            }
        }
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).context("reading from QEMU")?;
        ensure!(length > 0, "QEMU ended");
        serde_json::from_str(&line).with_context(|| format!("QEMU says {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Talks to what answers each line with the next of these.
    fn talk<T>(lines: &'static [&str], to: impl FnOnce(&mut Qmp) -> T) -> T {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let qemu = thread::spawn(move || {
            writeln!(theirs, "{{\"QMP\": {{}}}}\n{{\"return\": {{}}}}").unwrap();
            for line in lines {
                writeln!(theirs, "{line}").unwrap();
            }
            theirs
        });
        let mut qmp = Qmp::greet(ours).unwrap();
        let result = to(&mut qmp);
        drop(qemu.join().unwrap());
        result
    }

    #[test]
    fn events_before_a_reply_are_kept() {
        const LINES: &[&str] = &[
            r#"{"event": "STOP", "data": {}}"#,
            r#"{"event": "BALLOON_CHANGE", "data": {"actual": 5}}"#,
            r#"{"return": {"actual": 5}}"#,
        ];
        talk(LINES, |qmp| {
            let reply = qmp.execute("query-balloon", &json!({})).unwrap();
            assert_eq!(reply["actual"], 5);
            assert_eq!(qmp.event("BALLOON_CHANGE").unwrap()["actual"], 5);
        });
    }

    #[test]
    fn refusals_and_noise_are_errors() {
        const LINES: &[&str] = &[r#"{"error": {"desc": "no such device"}}"#, "noise"];
        talk(LINES, |qmp| {
            let refused = qmp.execute("device_del", &json!({"id": "x"})).unwrap_err();
            assert!(refused.to_string().contains("no such device"), "{refused}");
            assert!(qmp.event("STOP").is_err());
        });
    }
}
