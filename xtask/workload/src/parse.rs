//! From statements to typed phases; every mistake is named.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use collapse_guest::units::{Bytes, HUGE, PAGE};
use collapse_guest::{Access, vm::SlotMode};
use serde_json::{Map, Value};

use crate::scenario::{Action, Phase, Range, ScenarioStep, SlotPick, Touch, VcpuPick, VmPick};
use crate::syntax::{self, Statement};

/// Reads a scenario.
pub fn scenario(text: &str) -> Result<Vec<ScenarioStep>> {
    syntax::parse(text)?.into_iter().map(step).collect()
}

fn step(statement: Statement) -> Result<ScenarioStep> {
    match statement {
        Statement::Repeat(count, body) => {
            Ok(ScenarioStep::Repeat(count, body.into_iter().map(step).collect::<Result<_>>()?))
        }
        Statement::Phase { name, words, pairs } => {
            let context = format!("phase `{name}`");
            phase(name, words, pairs).map(ScenarioStep::Phase).context(context)
        }
    }
}

fn phase(name: String, words: Vec<String>, pairs: Vec<(String, String)>) -> Result<Phase> {
    let mut args = Args::new(words, pairs)?;
    let vm = args.parsed("vm")?.unwrap_or(VmPick::All);
    let vcpu = args.parsed("vcpu")?.unwrap_or(VcpuPick::Split);
    let slot = args.parsed("slot")?.unwrap_or(SlotPick::All);
    let action = action(&name, &mut args)?;
    Ok(Phase { name, args: args.finish()?, action, vm, vcpu, slot })
}

fn action(name: &str, args: &mut Args) -> Result<Action> {
    Ok(match name {
        "create" => Action::Create(args.parsed("count")?),
        "destroy" => Action::Destroy,
        "touch" => Action::Touch(touch(args)?),
        "stop" => Action::Stop,
        "pause" => Action::Pause,
        "resume" => Action::Resume,
        "log-on" => Action::Log(true),
        "log-off" => Action::Log(false),
        "pre-fault" => Action::PreFault,
        "get-log" => Action::GetLog,
        "clear-log" => Action::ClearLog(args.parsed("step")?),
        "madvise" => Action::Madvise(args.choice("advice")?, range(args)?),
        "mprotect" => Action::Mprotect(args.choice("protection")?, range(args)?),
        "fork-cow" => Action::ForkCow,
        "fork-end" => Action::ForkEnd,
        "slot-delete" => Action::SlotDelete,
        "slot-add" => {
            let mode = SlotMode { logged: args.flag("logged"), read_only: args.flag("read-only") };
            Action::SlotAdd(args.parsed("size")?, args.chosen("backing")?, mode)
        }
        "uffd-register" => Action::UffdRegister,
        "uffd-protect" => Action::UffdProtect,
        "migrate-pages" => Action::MigratePages(args.parsed("node")?.context("`node` is missing")?),
        "slot-move" => Action::SlotMove(args.parsed("to")?),
        "hold" => Action::Hold(args.milliseconds()?),
        "wait-recovery" => Action::WaitRecovery(args.timeout(3000)?),
        "wait-huge" => Action::WaitHuge(args.timeout(30_000)?),
        other => bail!("unknown phase `{other}` (`workload list` shows them all)"),
    })
}

fn touch(args: &mut Args) -> Result<Touch> {
    let background = args.flag("background");
    let access = if args.words.is_empty() { Access::Write } else { args.choice("access")? };
    // The guest executes what the host puts at the start of each place; one place per region is
    // what the NX mitigation is about.
    let usual_stride = if access == Access::Exec { HUGE } else { PAGE };
    let touch = Touch {
        access,
        range: range(args)?,
        stride: args.parsed("stride")?.unwrap_or(Bytes(usual_stride)),
        random: args.parsed("random")?,
        seed: args.parsed("seed")?.unwrap_or(1),
        rate: args.parsed("rate")?,
        background,
    };
    ensure!(touch.stride.0 > 0, "stride must be more than 0");
    ensure!(touch.rate != Some(0), "rate must be more than 0 (see `pause`)");
    Ok(touch)
}

fn range(args: &mut Args) -> Result<Range> {
    Ok(Range { from: args.parsed("from")?.unwrap_or(Bytes(0)), size: args.parsed("size")? })
}

/// The arguments of one statement. Those that were understood move to the report.
struct Args {
    words: Vec<String>,
    pairs: BTreeMap<String, String>,
    report: Map<String, Value>,
}

impl Args {
    fn new(words: Vec<String>, given: Vec<(String, String)>) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        for (key, value) in given {
            ensure!(!pairs.contains_key(&key), "`{key}` is given twice");
            pairs.insert(key, value);
        }
        Ok(Self { words, pairs, report: Map::new() })
    }

    fn understood<T>(&mut self, key: &str, text: &str, value: T) -> T {
        self.report.insert(key.to_owned(), Value::String(text.to_owned()));
        value
    }

    /// The value of `key=value`, if it is given.
    fn parsed<T>(&mut self, key: &str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Into<anyhow::Error>,
    {
        let Some(text) = self.pairs.remove(key) else { return Ok(None) };
        let value: T =
            text.parse().map_err(Into::into).with_context(|| format!("{key}=`{text}`"))?;
        Ok(Some(self.understood(key, &text, value)))
    }

    /// The value of `key=value`, if it is given, where it is one of a few names.
    fn chosen<T: ValueEnum>(&mut self, key: &str) -> Result<Option<T>> {
        let Some(text) = self.pairs.remove(key) else { return Ok(None) };
        let value = choose(&text)?;
        Ok(Some(self.understood(key, &text, value)))
    }

    /// The first bare word, which is one of a few names.
    fn choice<T: ValueEnum>(&mut self, what: &str) -> Result<T> {
        ensure!(!self.words.is_empty(), "the {what} is missing: one of {}", choices::<T>());
        let text = self.words.remove(0);
        let value = choose(&text)?;
        Ok(self.understood(what, &text, value))
    }

    fn flag(&mut self, name: &str) -> bool {
        let Some(at) = self.words.iter().position(|word| word == name) else { return false };
        self.words.remove(at);
        self.report.insert(name.to_owned(), Value::Bool(true));
        true
    }

    /// The longest time to wait, of the word `timeout`.
    fn timeout(&mut self, usual_ms: u64) -> Result<Duration> {
        Ok(Duration::from_millis(self.parsed("timeout")?.unwrap_or(usual_ms)))
    }

    fn milliseconds(&mut self) -> Result<Duration> {
        ensure!(!self.words.is_empty(), "how many milliseconds to hold is missing");
        let text = self.words.remove(0);
        let time = text.parse().with_context(|| format!("`{text}` is not milliseconds"))?;
        Ok(self.understood("ms", &text, Duration::from_millis(time)))
    }

    fn finish(self) -> Result<Map<String, Value>> {
        match self.words.into_iter().chain(self.pairs.into_keys()).next() {
            Some(unknown) => bail!("does not know `{unknown}`"),
            None => Ok(self.report),
        }
    }
}

fn choose<T: ValueEnum>(text: &str) -> Result<T> {
    T::from_str(text, false).map_err(|_| anyhow!("`{text}` is not one of {}", choices::<T>()))
}

fn choices<T: ValueEnum>() -> String {
    let names = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    names.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", ")
}

impl FromStr for VmPick {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "all" => Self::All,
            "first" => Self::First,
            "last" => Self::Last,
            index => Self::Index(index.parse().context("not all, first, last or an index")?),
        })
    }
}

impl FromStr for VcpuPick {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "split" => Self::Split,
            "all" => Self::All,
            index => Self::Index(index.parse().context("not split, all or a number")?),
        })
    }
}

impl FromStr for SlotPick {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "all" => Self::All,
            id => Self::Id(id.parse().context("not all or a slot id")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use collapse_guest::Backing;

    use super::*;
    use crate::share::Share;

    #[test]
    fn names_of_choices_are_the_words_of_the_language() {
        assert_eq!(choices::<Access>(), "write, read, exec");
        assert_eq!(
            choices::<Backing>(),
            "thp, 4k, hugetlb, hugetlb1g, plain, sparse, shmem, device, guest-memfd"
        );
    }

    fn only_phase(text: &str) -> Phase {
        match scenario(text).unwrap().remove(0) {
            ScenarioStep::Phase(phase) => phase,
            ScenarioStep::Repeat(..) => panic!("a group"),
        }
    }

    #[test]
    fn a_plain_touch_writes_every_page_once() {
        let phase = only_phase("touch");
        let Action::Touch(touch) = phase.action else { panic!("not a touch") };
        assert_eq!(touch.access, Access::Write);
        assert_eq!(touch.stride, Bytes(4096));
        assert_eq!((touch.random, touch.rate, touch.background), (None, None, false));
        assert_eq!(
            (phase.vm, phase.vcpu, phase.slot),
            (VmPick::All, VcpuPick::Split, SlotPick::All)
        );
    }

    #[test]
    fn arguments_reach_the_phase_and_the_report() {
        let phase = only_phase("touch read vm=last vcpu=1 slot=2 from=2M random=10% background");
        assert_eq!(phase.vm, VmPick::Last);
        assert_eq!(phase.vcpu, VcpuPick::Index(1));
        assert_eq!(phase.slot, SlotPick::Id(2));
        assert_eq!(phase.args["random"], "10%");
        assert_eq!(phase.args["background"], true);
        let Action::Touch(touch) = phase.action else { panic!("not a touch") };
        assert_eq!(touch.random, Some(Share::Percent(10)));
        assert_eq!(touch.range.from, Bytes(2 << 20));
    }

    #[test]
    fn exec_goes_by_regions() {
        let Action::Touch(touch) = only_phase("touch exec").action else { panic!("not a touch") };
        assert_eq!(touch.stride, Bytes(2 << 20));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("tuch", "unknown phase `tuch`"),
            ("touch wrote", "`wrote`"),
            ("touch speed=3", "`speed`"),
            ("log-on background", "`background`"),
            ("touch stride=0", "stride"),
            ("touch rate=0", "rate"),
            ("touch vm=x", "`x`"),
            ("touch vm=1 vm=2", "twice"),
            ("madvise", "madvise"),
            ("madvise please", "`please`"),
            ("hold", "hold"),
            ("hold soon", "`soon`"),
            ("repeat 2 { create count=many }", "`many`"),
        ] {
            let error = format!("{:#}", scenario(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
