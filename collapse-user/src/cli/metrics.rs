//! `collapse metrics`

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::{ArgGroup, Args};
use collapse_metrics::Options;

use super::ready::ReadyArgs;
use crate::{
    diagnostics::note,
    exit::{Exit, Failure, OrExit as _},
    exporter::{Address, Exporter, Listener, Server, Shelf, Textfile},
    output::is_dash,
    settings::{ThresholdFlags, values::parse_duration},
    watch::{Attached, Pipeline, Session, Setup, Window, replay, until_ended},
};

/// Time for which history is kept: nothing here looks back further.
const HISTORY: Duration = Duration::from_mins(10);

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("outputs").required(true).multiple(true))]
pub(super) struct MetricsArgs {
    /// Serve metrics to Prometheus on this address, a port of this machine, or unix:PATH [without ADDR:
    /// 127.0.0.1:9753]
    #[arg(long, value_name = "ADDR", group = "outputs", num_args = 0..=1,
        default_missing_value = Address::DEFAULT)]
    listen: Option<Address>,
    /// Let --listen take an address that other machines reach
    ///
    /// There is neither encryption nor a password: anyone who can connect reads the names of VMs.
    #[arg(long, requires = "listen")]
    allow_remote: bool,
    /// Write metrics to this file now and then, for the node exporter's textfile collector; its name has to
    /// end in .prom. With --from, '-' is stdout
    #[arg(long, value_name = "FILE", group = "outputs")]
    textfile: Option<PathBuf>,
    /// Time between two writings of --textfile
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "15s",
        requires = "textfile")]
    interval: Duration,
    /// Most VMs that get series of their own, the oldest; the host's numbers include the others
    #[arg(long, value_name = "N", default_value_t = Options::default().max_vms)]
    limit_vms: usize,
    #[command(flatten)]
    thresholds: ThresholdFlags,
    #[command(flatten)]
    ready: ReadyArgs,
    /// Time to watch, or with --from to serve, such as 10s, 500ms or 2m
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// Export a recording, as it is at its end ('-' for stdin); needs neither root nor KVM
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    from: Option<PathBuf>,
    /// Command to run and watch
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: MetricsArgs, setup: Setup) -> Result<Exit, Failure> {
    let readiness = args.ready.readiness(!args.command.is_empty())?;
    let listener = args
        .listen
        .as_ref()
        .map(|address| Listener::bind(address, args.allow_remote))
        .transpose()?;
    if args.textfile.as_deref().is_some_and(is_dash) && args.from.is_none() {
        return Err(anyhow!(
            "--textfile - is for --from: a file that is replaced now and then has a name"
        ))
        .or_exit(Exit::Usage);
    }
    // A socket's file is removed in the end.
    let replaces_files = args.textfile.is_some() || matches!(args.listen, Some(Address::Unix(_)));
    let textfile = args.textfile.map(Textfile::new);
    let shelf = listener.is_some().then(Arc::<Shelf>::default);
    let options = Options { max_vms: args.limit_vms };
    let output = textfile.as_ref().map(Textfile::name).unwrap_or_default();
    let shelved = shelf.clone();
    let thresholds = args.thresholds.load()?;
    let interval = args.from.is_none().then_some(args.interval);
    let pipeline = |kernel| {
        let exporter = Exporter::new(kernel, options, shelved, textfile, interval);
        Pipeline::observed(output, exporter).diagnosing(thresholds)
    };
    let serve = || {
        let served = listener.zip(shelf.clone()).map(|(listener, shelf)| {
            note(format!("metrics are at {}", listener.place()));
            Server::start(listener, shelf)
        });
        served.transpose().context("cannot serve metrics").or_exit(Exit::Output)
    };
    if let Some(path) = &args.from {
        let recording = replay::open(path)?;
        let pipeline = pipeline(recording.machine().kernel.clone());
        let exit = replay::replay(recording, path, pipeline)?.exit;
        if let Some(shelf) = &shelf {
            shelf.complete();
        }
        if let Some(server) = serve()? {
            until_ended(args.duration)?;
            drop(server);
        }
        return Ok(exit);
    }
    let attached = Attached::new(&setup.into())?;
    let pipeline = pipeline(attached.host.release().clone());
    let mut session = Session::start(attached, pipeline);
    session.keep(Some(HISTORY));
    let _server = serve()?;
    let (duration, command) = (args.duration, &args.command);
    Window { duration, command, keeps_stdout: true, replaces_files }.run(&mut session, readiness)
}
