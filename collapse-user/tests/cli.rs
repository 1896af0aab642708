//! The command line where nothing can be measured.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Output},
};

/// Runs `collapse` as a user without privileges.
fn unprivileged(arguments: &[&str]) -> Output {
    // The build folder may be closed to other users.
    let folder = tempfile::tempdir().expect("a folder for the binary");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opening it");
    let binary = folder.path().join("collapse");
    fs::copy(env!("CARGO_BIN_EXE_collapse"), &binary).expect("copying the binary");
    let mut command = Command::new(&binary);
    command.args(arguments).current_dir("/");
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(65534).gid(65534);
    }
    command.output().expect("running collapse")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_privileges_one_line_says_what_to_do() {
    let commands =
        [&["report", "--duration", "1s"][..], &["live"], &["report", "--", "true"], &["selftest"]];
    for arguments in commands {
        let output = unprivileged(arguments);
        assert_eq!(output.status.code(), Some(121), "{}", stderr(&output));
        assert_eq!(stderr(&output), "collapse: not permitted: run as root (sudo collapse …)\n");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn doctor_still_answers_without_privileges() {
    let output = unprivileged(&["doctor", "--format", "json"]);
    assert_eq!(output.status.code(), Some(121));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["schema"], "collapse.doctor/1");
    assert!(answer["obstacle"].as_str().is_some_and(|why| why.contains("run as root")));
}

#[test]
fn wrong_usage_has_its_own_code() {
    for arguments in [&["--nonsense"][..], &["report", "--duration", "soon"], &["fly"]] {
        let output = unprivileged(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

/// Mistakes in what a run is held to are told before anything is measured.
#[test]
fn mistakes_in_demands_are_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opening it");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("writing a file");
        path.display().to_string()
    };
    let budgets = file("budgets", "splits == 0\nspilts == 0\n");
    let other = file("other.json", "{}");
    for (arguments, says) in [
        (&["--budget", "recovery_rat >= 1"][..], "did you mean 'recovery_rate'?"),
        (&["--budget", "time_to_recover.p99 < 2"], "give '2' a unit"),
        (&["--budget-file", "/no/such/file"], "cannot read /no/such/file"),
        (&["--budget-file", &budgets], "line 2: spilts == 0"),
        (&["--baseline", "/no/such/file"], "cannot read /no/such/file"),
        (&["--baseline", &other], "it is no collapse.report/1"),
        (&["--baseline-limit", "much"], "expected a percentage"),
        (&["--require", "half"], "possible values: full"),
        (&["--format", "pdf"], "possible values"),
        (&["-f", "json", "-f", "text"], "only one format can go to stdout"),
        (&["-o", "/tmp/a", "-o", "/tmp/a"], "is given twice"),
    ] {
        let output = unprivileged(&[&["report", "-d", "1s"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_schema_of_a_report_is_printed() {
    let output = unprivileged(&["schema", "report"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["title"], "collapse.report/1");
    assert!(jsonschema::meta::is_valid(&schema));
}

#[test]
fn help_tells_the_exit_codes() {
    let output = unprivileged(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("121  nothing can be measured"));
}
