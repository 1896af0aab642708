//! What happens to a guest.

use std::{fmt, process::Command, str::FromStr, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::machine::Machine;

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Waits.
    Hold(Duration),
    /// Waits until the guest's console has a text.
    Guest(String),
    /// Runs a command of the machine's shell.
    Shell(String),
    /// Waits for an event.
    Event(String),
    /// Repeats a command until its reply has these values.
    Until(String, Value),
    /// Executes a command with these arguments.
    Execute(String, Value),
}

impl Step {
    /// Carries it out; returns what QEMU says to it.
    pub fn perform(&self, machine: &mut Machine) -> Result<Value> {
        match self {
            Self::Hold(time) => {
                thread::sleep(*time);
                Ok(Value::Null)
            }
            Self::Guest(text) => machine.wait_for(text).map(|()| Value::Null),
            Self::Shell(command) => {
                let status = Command::new("sh").args(["-c", command]).status();
                let status = status.context("starting a shell")?;
                ensure!(status.success(), "{command:?} ended with {status}");
                Ok(Value::Null)
            }
            Self::Event(name) => machine.qmp.event(name),
            Self::Until(command, wanted) => machine.poll(command, wanted),
            Self::Execute(command, arguments) => machine.qmp.execute(command, arguments),
        }
    }
}

impl FromStr for Step {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        ensure!(!word.is_empty(), "a step is empty");
        Ok(match word {
            "hold" => Self::Hold(Duration::from_millis(rest.parse().context("hold takes ms")?)),
            "guest" => Self::Guest(rest.to_owned()),
            "sh" => Self::Shell(rest.to_owned()),
            "event" => Self::Event(rest.to_owned()),
            "until" => {
                let (command, values) = rest.split_once(' ').context("until what?")?;
                Self::Until(command.to_owned(), object(values)?)
            }
            _ => Self::Execute(word.to_owned(), object(rest)?),
        })
    }
}

/// An object of JSON; none at all is an empty one.
fn object(text: &str) -> Result<Value> {
    if text.is_empty() {
        return Ok(json!({}));
    }
    let value: Value = serde_json::from_str(text).with_context(|| format!("{text:?}"))?;
    ensure!(value.is_object(), "expected {{\"KEY\":VALUE}}, not {text:?}");
    Ok(value)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Hold(time) => write!(f, "hold {}", time.as_millis()),
            Self::Guest(text) => write!(f, "guest {text}"),
            Self::Shell(command) => write!(f, "sh {command}"),
            Self::Event(name) => write!(f, "event {name}"),
            Self::Until(command, values) => write!(f, "until {command} {values}"),
            Self::Execute(command, arguments) => write!(f, "{command} {arguments}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_words_and_json() {
        let step = |text: &str| text.parse::<Step>();
        assert_eq!(step("hold 20").unwrap(), Step::Hold(Duration::from_millis(20)));
        assert_eq!(step("quit").unwrap(), Step::Execute("quit".to_owned(), json!({})));
        let migrate = step(r#"migrate {"uri": "exec:cat >/dev/null"}"#).unwrap();
        let arguments = json!({"uri": "exec:cat >/dev/null"});
        assert_eq!(migrate, Step::Execute("migrate".to_owned(), arguments));
        let until = step(r#"until query-migrate {"status": "active"}"#).unwrap();
        assert_eq!(until.to_string(), r#"until query-migrate {"status":"active"}"#);
        for wrong in ["", "hold", "hold x", "until quit", "migrate uri", "migrate [1]"] {
            assert!(step(wrong).is_err(), "{wrong}");
        }
    }
}
