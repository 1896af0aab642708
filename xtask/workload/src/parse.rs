//! From statements to typed phases; every mistake is named.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use collapse_guest::Access;
use collapse_guest::units::{Bytes, HUGE, PAGE};
use serde_json::{Map, Value};

use crate::scenario::{Action, Phase, Range, SlotPick, Step, Touch, VcpuPick, VmPick};
use crate::syntax::Statement;

/// Gives one statement its meaning.
pub fn step(statement: Statement) -> Result<Step> {
    match statement {
        Statement::Repeat(count, body) => {
            Ok(Step::Repeat(count, body.into_iter().map(step).collect::<Result<_>>()?))
        }
        Statement::Phase { name, words, pairs } => {
            let context = format!("phase `{name}`");
            phase(name, words, pairs).map(Step::Phase).context(context)
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
        "get-log" => Action::GetLog,
        "clear-log" => Action::ClearLog(args.parsed("step")?),
        "madvise" => Action::Madvise(args.choice("advice")?, range(args)?),
        "mprotect" => Action::Mprotect(args.choice("protection")?, range(args)?),
        "fork-cow" => Action::ForkCow,
        "fork-end" => Action::ForkEnd,
        "slot-delete" => Action::SlotDelete,
        "slot-add" => Action::SlotAdd(args.parsed("size")?, args.chosen("backing")?),
        "slot-move" => Action::SlotMove(args.parsed("to")?),
        "hold" => Action::Hold(args.milliseconds()?),
        "wait-recovery" => {
            Action::WaitRecovery(Duration::from_millis(args.parsed("timeout")?.unwrap_or(3000)))
        }
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

/// The arguments of one statement. What is understood moves to the report.
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

    /// The same where the value is one of a few names.
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
    use super::*;
    use collapse_guest::Backing;

    #[test]
    fn names_of_choices_are_the_words_of_the_language() {
        assert_eq!(choices::<Access>(), "write, read, exec");
        assert_eq!(choices::<Backing>(), "thp, 4k, hugetlb");
    }
}
