//! Times and durations in a report, against the workload's own phase times.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::observed::{ObservedRun, count, same};

/// An upper bound for the number of CPUs.
const FEW_CPUS: u64 = 4;

/// A span of time, ns.
type Span = (u64, u64);

/// The episode, the recoveries and the faults of a VM that went through one failed migration fit the
/// phases of the workload.
pub fn timeline(run: &ObservedRun, vm: &Value, regions: u64) -> Result<()> {
    let phase = |name: &str| -> Result<Span> {
        let phase = run.phase(name)?;
        let time = |key| count(phase, key).with_context(|| format!("{name} has no {key}"));
        Ok((time("/t_start_ns")?, time("/t_end_ns")?))
    };
    let (on, off, destroy) = (phase("log-on")?, phase("log-off")?, phase("destroy")?);
    let episode = &vm["episodes"][0];
    let at = |key: &str| count(episode, key).with_context(|| format!("no {key}: {episode}"));
    same("episodes", count(vm, "/episode_count"), Some(1))?;
    same("outcome", &episode["outcome"], &Value::from("recovered"))?;
    same("regions lost in the episode", at("/regions/lost")?, regions)?;
    same("splits in the episode", at("/splits")?, regions)?;
    within("log on", at("/start_ns")?, on)?;
    within("log off", at("/log_off_ns")?, off)?;
    within("first split", at("/first_split_ns")?, (on.0, off.0))?;
    within("last recovery", at("/last_recovery_ns")?, (off.0, destroy.0))?;
    let logging = at("/logging_duration_ns")?;
    within("time of logging", logging, (off.0 - on.1, off.1 - on.0))?;

    operations(run, vm)?;
    let recovered = &vm["time_to_recover"];
    same("times to recover", count(recovered, "/count"), Some(regions))?;
    let longest = count(recovered, "/max_ns").context("no time to recover")?;
    within("time to recover", longest, (0, destroy.0 - off.0))?;
    let from_loss = count_of(vm, "/time_to_recover_from_loss/max_ns")?;
    within("time to recover from the loss", from_loss, (longest, destroy.0 - on.0))?;

    let faults = count(vm, "/faults/while_logging").context("no faults")?;
    same("faults in the episode", at("/cost/logging/faults")?, faults)?;
    let one_in = count_of(vm, "/latency/timed_one_in")?;
    // One in `one_in` on each CPU.
    let of = |faults: u64| ((faults / one_in).saturating_sub(FEW_CPUS), faults / one_in + FEW_CPUS);
    within(
        "faults timed",
        count_of(vm, "/latency/total/count")?,
        of(count_of(vm, "/faults/total")?),
    )?;
    let fast = count(vm, "/latency/by_outcome/fast/count").unwrap_or(0);
    within("fast faults timed", fast, of(count_of(vm, "/faults/fast")?))?;

    // With PML there are few faults, and none of them may be timed.
    let least = u64::from(count_of(vm, "/latency/total/count")? > 0);
    // One vCPU: faults cannot take more of its time than it had, but for the error of the estimate.
    let touches = run.phases.iter().filter(|phase| phase["phase"] == "touch");
    let spans =
        touches.filter_map(|phase| Some(count(phase, "/t_end_ns")? - count(phase, "/t_start_ns")?));
    let most = spans.sum::<u64>() + 4 * count_of(vm, "/stall/error_ns")?;
    within("time lost to faults", count_of(vm, "/stall/total_ns")?, (least, most))
}

/// KVM's operations took part of the ioctls that asked for them, and the collapse routine as long as its span.
fn operations(run: &ObservedRun, vm: &Value) -> Result<()> {
    let of = |cause: &str, key: &str| count_of(vm, &format!("/operations/{cause}/{key}"));
    same("collapse operations", of("collapse", "calls")?, 1)?;
    let took = of("collapse", "total_ns")?;
    same("the longest of one", of("collapse", "longest_ns")?, took)?;
    within("time of collapse", took, (1, count_of(vm, "/collapse_spans/0/duration_ns")?))?;
    let harvests: Vec<u64> = run
        .phases
        .iter()
        .filter(|phase| phase["phase"] == "get-log")
        .filter_map(|phase| Some(count(phase, "/t_end_ns")? - count(phase, "/t_start_ns")?))
        .collect();
    same("harvests", of("get_dirty_log", "calls")?, harvests.len() as u64)?;
    let longest = of("get_dirty_log", "longest_ns")?;
    within("the longest harvest", longest, (1, harvests.iter().max().copied().unwrap_or(0)))?;
    within("time of harvests", of("get_dirty_log", "total_ns")?, (longest, harvests.iter().sum()))
}

fn count_of(vm: &Value, path: &str) -> Result<u64> {
    count(vm, path).with_context(|| format!("{path} is unknown"))
}

fn within(what: &str, got: u64, (first, last): Span) -> Result<()> {
    ensure!((first..=last).contains(&got), "{what}: {got}, not within {first} to {last}");
    Ok(())
}
