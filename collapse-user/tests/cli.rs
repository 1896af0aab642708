//! The command line where nothing can be measured.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

/// Runs `collapse` as a user without privileges and without settings.
fn unprivileged(arguments: &[&str]) -> Output {
    with_settings(arguments, Path::new("/nonexistent"))
}

/// Runs `collapse` as [`unprivileged`] does, with a folder of settings.
fn with_settings(arguments: &[&str], folder_of_settings: &Path) -> Output {
    run(arguments, folder_of_settings, Stdio::null())
}

fn run(arguments: &[&str], folder_of_settings: &Path, input: Stdio) -> Output {
    // The build folder may be closed to other users.
    let folder = tempfile::tempdir().expect("a folder for the binary");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opening it");
    let binary = folder.path().join("collapse");
    // By another process: a command that another test starts meanwhile would inherit the descriptor
    // that writes, and the binary would be busy (ETXTBSY).
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_collapse")).arg(&binary).status();
    assert!(copied.expect("running cp").success());
    let mut command = Command::new(&binary);
    command.stdin(input).args(arguments).current_dir("/");
    command.env("XDG_CONFIG_HOME", folder_of_settings).env("XDG_CONFIG_DIRS", "/nonexistent");
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

/// Mistakes in demands are reported before anything is measured.
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
        (&["--baseline", &other], "not a collapse.report/1"),
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

/// Copies a recording to where everybody may read it.
fn recording(folder: &Path) -> String {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("opening it");
    let path = folder.join("run.rec");
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/recorded/four-guests.rec");
    fs::copy(kept, &path).expect("copying a recording");
    path.display().to_string()
}

#[test]
fn a_recording_is_printed_in_lines_where_there_is_no_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recording(folder.path());
    let lines = |arguments: &[&str]| {
        let output = unprivileged(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(output.stderr.is_empty(), "{}", stderr(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let times = |text: &str| {
        let times = text.lines().filter_map(|line| line.split(['=', ' ']).nth(1)?.parse().ok());
        let mut times: Vec<f64> = times.collect();
        times.dedup();
        times
    };
    let text = lines(&["live", "--from", &path]);
    assert_eq!(text, lines(&["--from", &path]));
    assert!(text.lines().all(|line| line.starts_with("t=") && line.contains(" pid=")), "{text}");
    assert!(text.contains(" name=web-frontend ") && text.contains(" name=database "), "{text}");
    let seconds = times(&text);
    assert!(seconds.windows(2).all(|pair| pair[0] < pair[1]), "{seconds:?}");
    let rarely = times(&lines(&["--from", &path, "--interval", "10s"]));
    assert!(rarely.len() >= 6 && rarely.len() * 5 < seconds.len(), "{rarely:?} {seconds:?}");
}

#[test]
fn a_dash_is_standard_input_and_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recording(folder.path());
    for arguments in [
        &["report", "--format", "json", "--output", "-"][..],
        &["events", "--output", "-"],
        &["export", "--format", "perfetto", "--output", "-"],
        &["export", "--format", "csv", "--output", "-"],
        &["live"],
    ] {
        let of_file = unprivileged(&[arguments, &["--from", &path]].concat());
        assert_eq!(of_file.status.code(), Some(0), "{arguments:?}: {}", stderr(&of_file));
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let bytes = fs::read(&path).expect("the recording");
        let written = thread::spawn(move || writer.write_all(&bytes));
        let arguments = [arguments, &["--from", "-"]].concat();
        let of_pipe = run(&arguments, Path::new("/nonexistent"), reader.into());
        assert_eq!(of_pipe, of_file, "{arguments:?}");
        assert!(!of_pipe.stdout.is_empty(), "{arguments:?}");
        written.join().expect("writing").expect("writing");
    }
    let output = unprivileged(&["record", "--output", "-", "--duration", "1s"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("a recording is a file"), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_played_is_one_line_and_has_its_own_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = recording(folder.path());
    let bytes = fs::read(&whole).expect("the recording");
    let file = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let (path, mut bytes) = (folder.path().join(name), bytes.clone());
        change(&mut bytes);
        fs::write(&path, bytes).expect("writing a file");
        path.display().to_string()
    };
    let middle = bytes.len() / 2;
    for (path, code, says) in [
        ("/no/such/file".to_owned(), 116, "cannot read /no/such/file: No such file"),
        (file("other", &|bytes| bytes[0] = b'x'), 116, "this is no recording of collapse"),
        (file("newer", &|bytes| bytes[8] = 0xff), 116, "this recording's format has version 255"),
        (file("damaged", &|bytes| bytes[middle] ^= 0x55), 116, "the recording is damaged at byte"),
        (file("cut", &|bytes| bytes.truncate(middle)), 0, "the recording is cut short at byte"),
    ] {
        let output = unprivileged(&["live", "--from", &path]);
        assert_eq!(output.status.code(), Some(code), "{path}: {}", stderr(&output));
        let line = stderr(&output);
        assert!(line.lines().count() == 1 && line.contains(says), "{path}: {line}");
    }
}

#[test]
fn a_warning_is_one_line_on_stderr() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recording(folder.path());
    for more in [&[][..], &["-vv"]] {
        let export = ["export", "--format", "folded", "--from", &path, "--output", "-"];
        let output = unprivileged(&[&export, more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(
            stderr(&output),
            "collapse: this recording has no stacks: record with --stacks\n"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn information_waits_for_a_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opening it");
    fs::create_dir(folder.path().join("collapse")).expect("a folder");
    let file = folder.path().join("collapse/config.toml");
    fs::write(&file, "interval = \"2s\"\n").expect("writing settings");
    let says = format!("collapse: settings are read from {}\n", file.display());
    for (arguments, says) in
        [(&["config"][..], ""), (&["config", "-v"], &says), (&["--verbose", "config"], &says)]
    {
        let output = with_settings(arguments, folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stderr(&output), says, "{arguments:?}");
    }
}

/// However much is written after it.
#[test]
fn the_first_write_error_is_reported_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recording(folder.path());
    for arguments in [
        &["events"][..],
        &["export", "--format", "perfetto"],
        &["export", "--format", "csv"],
        &["report", "--format", "json"],
    ] {
        let output =
            unprivileged(&[arguments, &["--from", &path, "--output", "/dev/full"]].concat());
        assert_eq!(output.status.code(), Some(120), "{arguments:?}: {}", stderr(&output));
        assert_eq!(
            stderr(&output),
            "collapse: cannot write /dev/full: No space left on device (os error 28)\n",
            "{arguments:?}"
        );
    }
}

#[test]
fn options_without_effect_are_wrong_usage() {
    for (arguments, says) in [
        (&["--from", "x", "--ring-size", "4M"][..], "--ring-size is about measuring"),
        (&["--fault-latency", "all", "live", "--from", "x"], "--fault-latency is about measuring"),
        (&["report", "--from", "x", "--budget-overhead", "1"], "--budget-overhead is about"),
        (&["--ebpf-log", "events", "--from", "x"], "--ebpf-log is about measuring"),
        (&["--interval", "2s", "report"], "before 'report'"),
        (&["--paused"], "--from <FILE>"),
        (&["live", "--at", "2s"], "--from <FILE>"),
    ] {
        let output = unprivileged(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

/// Without a command, the dashboard takes its own options.
#[test]
fn live_goes_without_saying() {
    for arguments in [&["--interval", "2s"][..], &["--title", "lab"], &["--interval", "nonsense"]] {
        let (output, said) =
            (unprivileged(arguments), unprivileged(&[&["live"], arguments].concat()));
        assert_eq!(output.status, said.status, "{arguments:?}");
        assert_eq!(stderr(&output), stderr(&said), "{arguments:?}");
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
fn help_lists_the_exit_codes() {
    let output = unprivileged(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("121  nothing can be measured"));
}

#[test]
fn settings_are_printed_as_a_file_that_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opening it");
    let printed = unprivileged(&["config", "--interval", "250ms", "--columns", "vm,faults"]);
    assert_eq!(printed.status.code(), Some(0), "{}", stderr(&printed));
    let text = String::from_utf8_lossy(&printed.stdout);
    assert!(text.contains("\ninterval = \"250ms\"\n"), "{text}");
    let place = folder.path().join("collapse");
    fs::create_dir(&place).expect("a folder");
    let place = place.join("config.toml");
    fs::write(&place, &printed.stdout).expect("writing settings");
    let again = with_settings(&["config"], folder.path());
    let again = String::from_utf8_lossy(&again.stdout);
    assert!(again.starts_with("# Settings in effect; read from "), "{again}");
    let settings = |text: &str| {
        text.lines().skip_while(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(settings(&text), settings(&again));
}

#[test]
fn mistakes_in_settings_are_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opening it");
    fs::create_dir(folder.path().join("collapse")).expect("a folder");
    let place = folder.path().join("collapse/config.toml");
    fs::write(&place, "sort = \"vm\"\nintervall = \"1s\"\n").expect("writing settings");
    for arguments in [&["config"][..], &["live"], &[]] {
        let output = with_settings(arguments, folder.path());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let says = "config.toml: line 2: there is no setting 'intervall'; did you mean 'interval'?";
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    let output = unprivileged(&["live", "--palette", "pink"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--palette pink: expected auto, none, 16, 256, true"));
}
