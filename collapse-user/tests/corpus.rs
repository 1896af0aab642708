//! Inputs that are, or once were, hard to parse: each is parsed or refused with a message.

use std::{fs, path::PathBuf};

use collapse::{identity::name_from, kernel::btf::Btf};

fn corpus(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus").join(name)
}

fn lines(name: &str) -> Vec<String> {
    let text = fs::read_to_string(corpus(name)).expect("the corpus");
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    assert!(lines.len() > 10, "{name}");
    lines
}

/// Names are printable and not empty.
#[test]
fn command_lines() {
    for line in lines("command-lines.txt") {
        let args: Vec<_> = line.split(' ').map(|arg| arg.as_bytes().to_vec()).collect();
        let name = name_from(7, &args, "", b"qemu").text;
        assert!(!name.is_empty() && !name.chars().any(char::is_control), "{line}: {name:?}");
    }
}

#[test]
fn type_information() {
    let mut files = 0;
    for entry in fs::read_dir(corpus("btf")).expect("the corpus") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("a file");
        for parsed in [Btf::parse(bytes.clone()), split(bytes)] {
            match parsed {
                Ok(btf) => interrogate(&btf),
                Err(error) => assert!(!error.to_string().is_empty(), "{}", path.display()),
            }
        }
        files += 1;
    }
    assert!(files > 10, "{files}");
}

/// Parses BTF as that of a module that extends itself.
fn split(bytes: Vec<u8>) -> Result<Btf, collapse::kernel::btf::BtfError> {
    Btf::parse_split(&Btf::parse(bytes.clone())?, bytes)
}

/// Makes every query; only their termination matters.
fn interrogate(btf: &Btf) {
    for name in ["kvm", "kvm.arch", "arch", "arch.kvm", "kvm.kvm", "", "."] {
        let _ = btf.field_offset(name);
        let _ = btf.size_of(name);
        let _ = btf.func_proto(name);
        let _ = btf.enum_value(Some(name), name);
    }
}
