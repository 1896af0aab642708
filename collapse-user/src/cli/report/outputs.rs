//! Formats of the report and where they go.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use crate::{
    exit::{Exit, Failure, OrExit as _},
    output::{Output, is_dash},
    report::{Format, Report},
};

/// Every place for the report, opened before anything is measured.
pub struct Outputs(Vec<(Format, Output)>);

impl Outputs {
    /// Opens all of them: the n-th format is that of the n-th file, and one without a file goes to stdout.
    pub fn open(formats: &[Format], files: &[PathBuf]) -> Result<Self, Failure> {
        let pairs = pair(formats, files).or_exit(Exit::Usage)?;
        let open = |(format, file)| Output::open(file).map(|output| (format, output));
        pairs.into_iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Whether nothing of the report goes to stdout.
    pub fn spare_stdout(&self) -> bool {
        self.0.iter().all(|(_, output)| matches!(output, Output::File(..)))
    }

    /// Whether the report is shown to people at once.
    pub fn show_text(&self) -> bool {
        self.0
            .iter()
            .any(|(format, output)| *format == Format::Text && matches!(output, Output::Stdout))
    }

    /// Writes the report everywhere, even if one place fails; returns the first failure.
    pub fn write(&mut self, report: &Report) -> Result<(), Failure> {
        let mut written = Ok(());
        for (format, output) in &mut self.0 {
            let text = format.write(report, output.style()).or_exit(Exit::Output);
            written = written.and(text.and_then(|text| output.write(&text)));
        }
        written
    }
}

/// Pairs formats with files; `None` is stdout.
fn pair<'a>(
    formats: &[Format],
    files: &'a [PathBuf],
) -> anyhow::Result<Vec<(Format, Option<&'a Path>)>> {
    let place = |file: &'a PathBuf| (!is_dash(file)).then_some(file.as_path());
    let count = formats.len().max(files.len()).max(1);
    let pairs: Vec<_> = (0..count)
        .map(|n| {
            let file = files.get(n).and_then(place);
            let guess = || file.map(Format::of_file).unwrap_or_default();
            (formats.get(n).copied().unwrap_or_else(guess), file)
        })
        .collect();
    for (n, (_, file)) in pairs.iter().enumerate() {
        if pairs[..n].iter().any(|(_, other)| other == file) {
            bail!(match file {
                None => anyhow!("only one format can go to stdout: give each other an --output"),
                Some(file) => anyhow!("--output {} is given twice", file.display()),
            });
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(formats: &[Format], files: &[&str]) -> Option<Vec<(Format, Option<String>)>> {
        let files: Vec<_> = files.iter().map(PathBuf::from).collect();
        let text = |file: &Path| file.display().to_string();
        let pairs = pair(formats, &files).ok()?;
        Some(pairs.into_iter().map(|(format, file)| (format, file.map(text))).collect())
    }

    #[test]
    fn formats_go_with_files_in_order() {
        use Format::{Json, Text};
        let file = |name: &str| Some(name.to_owned());
        assert_eq!(paired(&[], &[]), Some(vec![(Text, None)]));
        assert_eq!(paired(&[Json], &[]), Some(vec![(Json, None)]));
        assert_eq!(
            paired(&[], &["a.json", "b"]),
            Some(vec![(Json, file("a.json")), (Text, file("b"))])
        );
        let one_to_stdout = paired(&[Json, Text], &["a"]);
        assert_eq!(one_to_stdout, Some(vec![(Json, file("a")), (Text, None)]));
        assert_eq!(
            paired(&[Json], &["a.txt", "-"]),
            Some(vec![(Json, file("a.txt")), (Text, None)])
        );
    }

    #[test]
    fn two_reports_in_one_place_are_refused() {
        use Format::{Json, Text};
        assert_eq!(paired(&[Json, Text], &[]), None);
        assert_eq!(paired(&[Json, Text], &["-"]), None);
        assert_eq!(paired(&[], &["a", "a"]), None);
    }
}
