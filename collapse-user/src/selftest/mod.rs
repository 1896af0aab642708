//! `collapse selftest`: a guest of our own causes known numbers of everything; are they measured?

mod bundle;
mod expect;
pub(crate) mod guest;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    io::{self, BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use self::{
    expect::{Facts, expect},
    guest::Account,
    verdict::{Verdict, subject},
};
use crate::{
    cli::{Format, SelftestArgs, Setup},
    exit::{Exit, Failure, OrExit as _},
    output::Output,
    plan::Mmu,
    report::Report,
    source::cost::Limit,
    watch::session::{DRAIN_INTERVAL, Session},
};

pub(crate) fn run(args: &SelftestArgs, setup: Setup) -> Result<Exit, Failure> {
    let wanted = args.bundle.as_deref().or(args.keep.then_some(Path::new(bundle::DEFAULT)));
    let bundle = wanted.map(|path| Output::open(Some(path))).transpose()?;
    // What it is to check must be seen, whatever that costs for a moment.
    let setup = Setup { budget_overhead: Limit::OFF, ..setup };
    let mut session = Session::start(setup)?;
    if session.coverage().mmu == Mmu::Unknown {
        let error = anyhow!("the parameters of KVM cannot be read: it is not known what is right");
        return Err(Failure { exit: Exit::CannotMeasure, error });
    }
    let account = watch_guest(&mut session).or_exit(Exit::CannotMeasure)?;
    session.poll(true);
    let mut report = Report::new(&session.model, session.coverage(), (&session.host).into(), None);
    report.vms.retain(|vm| vm.pid == Some(account.pid));
    // A bug report is for everybody to read.
    report.host.name = None;
    let missed = report.losses.get("program_skipped").copied().unwrap_or(0);
    let facts = Facts::new(&session.host, session.coverage(), missed);
    let verdict =
        Verdict::new(&expect(&facts, &account), &subject(&report, missed), report.host.clone());

    let mut output = Output::open(None)?;
    let text = match args.format {
        Format::Text => verdict.text(output.style()),
        Format::Json => serde_json::to_string_pretty(&verdict).or_exit(Exit::Output)? + "\n",
    };
    output.write(&text)?;
    let exit = if verdict.failed > 0 { Exit::Failed } else { Exit::Ok };
    if bundle.is_some() || exit == Exit::Failed {
        let text = bundle::text(&verdict, &account, &report, &session.host);
        save(bundle, &text.or_exit(Exit::Output)?).map_err(|failure| Failure {
            // A wrong signal counts for more than a file that cannot be written.
            exit: if exit == Exit::Failed { exit } else { failure.exit },
            ..failure
        })?;
    }
    Ok(exit)
}

/// Writes the bundle and says where, by default into the current folder.
fn save(bundle: Option<Output>, text: &str) -> Result<(), Failure> {
    let default = || Output::open(Some(Path::new(bundle::DEFAULT)));
    let mut file = bundle.map_or_else(default, Ok)?;
    file.write(text)?;
    if let Output::File(path, _) = file {
        eprintln!("collapse: for a bug report: {}", path.display());
    }
    Ok(())
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
    let told = first_line(stdout);
    let line = loop {
        match told.recv_timeout(DRAIN_INTERVAL) {
            Ok(line) => break line.context("cannot read from the test guest's process")?,
            Err(RecvTimeoutError::Timeout) => session.drain(),
            Err(RecvTimeoutError::Disconnected) => bail!("the test guest's process says nothing"),
        }
    };
    // It waits for us: a VM that ends too soon leaves no time to look at it.
    session.poll(false);
    drop(process.stdin.take());
    let status = process.wait().context("cannot wait for the test guest's process")?;
    ensure!(!line.is_empty(), "the test guest's process failed ({status})");
    serde_json::from_str::<Result<Account, String>>(&line)
        .context("what the test guest's process says is not understood")?
        .map_err(|why| anyhow!("the test guest cannot be run: {why}"))
}

/// The first line of a process's output, as soon as it is there.
fn first_line(stdout: ChildStdout) -> Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        // Whoever does not wait for it any more does not miss it.
        let _ = sender.send(read.map(|_| line));
    });
    receiver
}
