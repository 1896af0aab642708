//! `collapse selftest`: a guest of our own causes known numbers of everything, and what was measured
//! is compared with them.

mod bundle;
mod expect;
pub mod guest;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    io::{self, BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use self::{
    expect::{Facts, expect},
    guest::Account,
    verdict::subject,
};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    kernel::Inspected,
    plan::Mmu,
    report::Report,
    source::cost::Limit,
    watch::{Attached, DRAIN_INTERVAL, Pipeline, Session, Setup},
};
pub use bundle::DEFAULT_BUNDLE;
pub use verdict::Verdict;

/// A self-test that was run.
pub struct Selftest {
    /// The comparison.
    pub verdict: Verdict,
    /// The guest's own account.
    account: Account,
    /// The measurement, of the guest's VM only.
    report: Report,
    host: Inspected,
}

impl Selftest {
    /// Watches the test guest from its start to its end.
    pub fn run(setup: Setup) -> Result<Self, Failure> {
        // Everything that is compared must be seen, whatever that costs for a moment.
        let setup = Setup { budget_overhead: Limit::OFF, ..setup };
        let mut session = Session::start(Attached::new(&setup.into())?, Pipeline::default());
        if session.coverage().mmu == Mmu::Unknown {
            let error = anyhow!("KVM's parameters cannot be read, so the right counts are unknown");
            return Err(error).or_exit(Exit::CannotMeasure);
        }
        let account = watch_guest(&mut session).or_exit(Exit::CannotMeasure)?;
        session.poll(true);
        let mut report =
            Report::new(session.model(), session.coverage(), (&session.host).into(), None);
        report.vms.retain(|vm| vm.pid == Some(account.pid));
        // A bug report is for everybody to read.
        report.host.name = None;
        let missed = report.losses.get("program_skipped").copied().unwrap_or(0);
        let facts = Facts::new(&session.host, session.coverage(), missed);
        let checks = expect(&facts, &account);
        let verdict = Verdict::new(&checks, &subject(&report, missed), report.host.clone());
        Ok(Self { verdict, account, report, host: session.host })
    }

    /// Everything that a bug report needs, as JSON text.
    pub fn bundle(&self) -> serde_json::Result<String> {
        bundle::text(&self.verdict, &self.account, &self.report, &self.host)
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        if self.verdict.failed > 0 { Exit::Failed } else { Exit::Ok }
    }
}

/// Runs the guest in a process of its own and follows it to its end.
fn watch_guest(session: &mut Session) -> Result<Account> {
    let mut process = Command::new("/proc/self/exe")
        .arg0("collapse")
        .arg(guest::COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the test guest's process")?;
    let stdout = process.stdout.take().context("the test guest's process has no output")?;
    let account = first_line(stdout);
    let line = loop {
        match account.recv_timeout(DRAIN_INTERVAL) {
            Ok(line) => break line.context("cannot read from the test guest's process")?,
            Err(RecvTimeoutError::Timeout) => session.drain(),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the test guest's process ended without a word")
            }
        }
    };
    // The process waits for the end of its stdin: a VM that ends too soon leaves no time to look at it.
    session.poll(false);
    drop(process.stdin.take());
    let status = process.wait().context("cannot wait for the test guest's process")?;
    ensure!(!line.is_empty(), "the test guest's process failed ({status})");
    serde_json::from_str::<Result<Account, String>>(&line)
        .context("cannot understand the output of the test guest's process")?
        .map_err(|why| anyhow!("the test guest cannot be run: {why}"))
}

/// Receives the first line of a process's output.
fn first_line(stdout: ChildStdout) -> Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        // Fails if nobody waits for the line any more.
        let _ = sender.send(read.map(|_| line));
    });
    receiver
}
