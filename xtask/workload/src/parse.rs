//! From statements to typed phases; every mistake is named.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::scenario::{Access, Action, Phase, Range, SlotPick, Step, Touch, VcpuPick, VmPick};
use crate::syntax::Statement;
use crate::units::{Bytes, HUGE, PAGE};

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
    let report = report_args(&words, &pairs)?;
    let mut args = Args { words, pairs };
    let vm = args.parsed("vm")?.unwrap_or(VmPick::All);
    let vcpu = args.parsed("vcpu")?.unwrap_or(VcpuPick::Split);
    let slot = args.parsed("slot")?.unwrap_or(SlotPick::All);
    let action = action(&name, &mut args)?;
    args.finish()?;
    Ok(Phase { name, args: report, action, vm, vcpu, slot })
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
        "madvise" => Action::Madvise(args.choice("the advice")?, range(args)?),
        "mprotect" => Action::Mprotect(args.choice("the protection")?, range(args)?),
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
    let access = if args.words.is_empty() { Access::Write } else { args.choice("the access")? };
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

/// The arguments of one statement; what is understood is taken out.
struct Args {
    words: Vec<String>,
    pairs: Vec<(String, String)>,
}

impl Args {
    fn value(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(name, _)| name == key)?;
        Some(self.pairs.remove(at).1)
    }

    fn parsed<T>(&mut self, key: &str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Into<anyhow::Error>,
    {
        let Some(text) = self.value(key) else { return Ok(None) };
        text.parse::<T>().map(Some).map_err(Into::into).with_context(|| format!("{key}=`{text}`"))
    }

    fn chosen<T: ValueEnum>(&mut self, key: &str) -> Result<Option<T>> {
        self.value(key).map(|text| choose(&text)).transpose()
    }

    fn choice<T: ValueEnum>(&mut self, what: &str) -> Result<T> {
        ensure!(!self.words.is_empty(), "{what} is missing: one of {}", choices::<T>());
        choose(&self.words.remove(0))
    }

    fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    fn milliseconds(&mut self) -> Result<Duration> {
        ensure!(!self.words.is_empty(), "how many milliseconds to hold is missing");
        let text = self.words.remove(0);
        let time = text.parse().with_context(|| format!("`{text}` is not milliseconds"))?;
        Ok(Duration::from_millis(time))
    }

    fn finish(self) -> Result<()> {
        let pairs = self.pairs.into_iter().map(|(key, _)| key);
        match self.words.into_iter().chain(pairs).next() {
            Some(unknown) => bail!("does not know `{unknown}`"),
            None => Ok(()),
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

fn report_args(words: &[String], pairs: &[(String, String)]) -> Result<Map<String, Value>> {
    let words = words.iter().map(|word| (word.clone(), Value::Bool(true)));
    let pairs = pairs.iter().map(|(key, value)| (key.clone(), Value::String(value.clone())));
    let mut args = Map::new();
    for (key, value) in words.chain(pairs) {
        if args.insert(key.clone(), value).is_some() {
            bail!("`{key}` is given twice");
        }
    }
    Ok(args)
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
    use crate::scenario::Backing;

    #[test]
    fn names_of_choices_are_the_words_of_the_language() {
        assert_eq!(choices::<Access>(), "write, read, exec");
        assert_eq!(choices::<Backing>(), "thp, 4k, hugetlb");
    }
}
