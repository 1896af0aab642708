//! `collapse metrics`

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::{ArgGroup, Args};
use collapse_metrics::Options;

use super::ready::ReadyArgs;
use crate::{
    diagnostics::note,
    exit::{Exit, Failure, OrExit as _},
    exporter::{Address, Collector, Exporter, Listener, Push, Server, Shelf, Textfile},
    kernel::Machine,
    output::is_dash,
    settings::{ThresholdFlags, values::parse_duration},
    source::recording::Clocks,
    watch::{Attached, Pipeline, Session, Setup, Window, replay, until_ended},
};

/// Time for which history is kept: nothing here looks back further.
const HISTORY: Duration = Duration::from_mins(10);

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("outputs").required(true).multiple(true))]
#[command(group = ArgGroup::new("timed").multiple(true))]
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
    #[arg(long, value_name = "FILE", groups = ["outputs", "timed"])]
    textfile: Option<PathBuf>,
    /// Send metrics to this collector of OpenTelemetry, by OTLP over HTTP: http://ADDR:PORT, or with a path if it is not
    /// /v1/metrics
    ///
    /// There is neither encryption nor a password: a collector on this machine can pass them on with both.
    #[cfg_attr(feature = "otlp", arg(long, value_name = "URL", groups = ["outputs", "timed"]))]
    #[cfg_attr(not(feature = "otlp"), arg(skip))]
    otlp: Option<Collector>,
    /// Time between two writings of --textfile, and between two sendings to a collector
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "15s",
        requires = "timed")]
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
    let collector = args.otlp;
    let is_shared = listener.is_some() || collector.is_some();
    let shelf = is_shared.then(Arc::<Shelf>::default);
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
    let send = |machine, clocks| {
        let sending = collector
            .zip(shelf.clone())
            .map(|(collector, shelf)| Push::start(collector, interval, machine, clocks, shelf));
        sending.transpose().context(CANNOT_SEND).or_exit(Exit::Output)
    };
    if let Some(path) = &args.from {
        let recording = replay::open(path)?;
        let (machine, clocks) = (recording.machine().clone(), recording.header().clocks);
        let pipeline = pipeline(machine.kernel.clone());
        let exit = replay::replay(recording, path, pipeline)?.exit;
        if let Some(shelf) = &shelf {
            shelf.complete();
        }
        finished(send(machine, clocks)?)?;
        if let Some(server) = serve()? {
            until_ended(args.duration)?;
            drop(server);
        }
        return Ok(exit);
    }
    let attached = Attached::new(&setup.into())?;
    let machine = Machine::from(&attached.host);
    let pipeline = pipeline(machine.kernel.clone());
    let mut session = Session::start(attached, pipeline);
    session.keep(Some(HISTORY));
    let _server = serve()?;
    let sending = send(machine, Clocks::now())?;
    let (duration, command) = (args.duration, &args.command);
    let window = Window { duration, command, keeps_stdout: true, replaces_files };
    let exit = window.run(&mut session, readiness)?;
    exit.or_else(finished(sending).map(|()| Exit::Ok))
}

const CANNOT_SEND: &str = "cannot send metrics";

/// Waits until the last numbers were sent.
fn finished(sending: Option<Push>) -> Result<(), Failure> {
    sending.map_or(Ok(()), Push::finish).context(CANNOT_SEND).or_exit(Exit::Output)
}
