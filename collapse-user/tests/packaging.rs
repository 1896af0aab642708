//! What packages carry beside the program.

mod exporter;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use exporter::collapse;

#[test]
fn each_command_has_a_page_in_the_manual() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man");
    let status = collapse(&["manual", "--output"]).arg(&pages).status().expect("running it");
    assert!(status.success());
    let names = fs::read_dir(&pages).expect("pages").map(|page| page.expect("a page").file_name());
    let names: BTreeSet<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let help = collapse(&["--help"]).output().expect("running it");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let (_, commands) = help.split_once("\nCommands:\n").expect("a list of commands");
    let commands = commands.lines().take_while(|line| !line.is_empty());
    // Deeper lines go on with what is above.
    let commands = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands = commands.filter(|name| !name.is_empty() && *name != "help");
    let mut expected: BTreeSet<_> = commands.map(|name| format!("collapse-{name}.1")).collect();
    assert!(expected.contains("collapse-metrics.1"), "{help}");
    expected.insert("collapse.1".to_owned());
    assert_eq!(names, expected);
    let page = fs::read_to_string(pages.join("collapse-record.1")).expect("a page");
    assert!(page.contains("keep\\-last") && page.contains("Exit status"), "{page}");
}

#[test]
fn shells_complete_every_command() {
    let script = |shell: &str| {
        let output = collapse(&["completions", shell]).output().expect("running it");
        assert!(output.status.success());
        output.stdout
    };
    for shell in ["bash", "zsh", "fish"] {
        let text = String::from_utf8(script(shell)).expect("text");
        for word in ["selftest", "textfile", "keep-last"] {
            assert!(text.contains(word), "no {word} for {shell}");
        }
    }
    let mut bash = Command::new("bash");
    let mut bash = bash.arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
    bash.stdin.take().expect("a pipe").write_all(&script("bash")).expect("writing");
    assert!(bash.wait().expect("its end").success());
}
