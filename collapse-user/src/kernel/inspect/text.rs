//! Parsers of the kernel's text files. They are pure, apart from reading lines.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, BufRead};

use super::{Capability, Field, Lockdown, Symbol};

/// Parses a module parameter: `Y`/`N`, `1`/`0`, or the `never` that newer kernels show for
/// `kvm.nx_huge_pages`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "Y" | "y" | "1" => Some(true),
        "N" | "n" | "0" | "never" => Some(false),
        _ => None,
    }
}

/// Parses the mode in brackets of `none [integrity] confidentiality`.
pub(super) fn parse_lockdown(text: &str) -> Option<Lockdown> {
    let (_, rest) = text.split_once('[')?;
    match rest.split_once(']')?.0 {
        "none" => Some(Lockdown::None),
        "integrity" => Some(Lockdown::Integrity),
        "confidentiality" => Some(Lockdown::Confidentiality),
        _ => None,
    }
}

/// Parses the effective user id in `/proc/<pid>/status`.
pub(super) fn parse_euid(status: &str) -> Option<u32> {
    status_line(status, "Uid:")?.split_whitespace().nth(1)?.parse().ok()
}

/// Parses the effective capabilities in `/proc/<pid>/status`.
pub(super) fn parse_capabilities(status: &str) -> Option<BTreeSet<Capability>> {
    let mask = u64::from_str_radix(status_line(status, "CapEff:")?, 16).ok()?;
    Some(Capability::ALL.into_iter().filter(|cap| mask >> cap.bit() & 1 != 0).collect())
}

fn status_line<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// Parses the fields of a tracefs `format` file, without the common ones.
///
/// A line reads `field:u64 gfn; offset:8; size:8; signed:0;`, with tabs.
pub(super) fn parse_format(text: &str) -> Vec<Field> {
    text.lines()
        .filter_map(parse_field)
        .filter(|field| !field.name.starts_with("common_"))
        .collect()
}

fn parse_field(line: &str) -> Option<Field> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    let name = declaration.split('[').next()?.split_whitespace().next_back()?;
    let mut number = |key| parts.next()?.strip_prefix(key)?.parse::<u32>().ok();
    Some(Field {
        name: name.trim_start_matches('*').to_owned(),
        offset: number("offset:")?,
        size: number("size:")?,
        signed: number("signed:")? != 0,
    })
}

/// Parses the wanted symbols in `/proc/kallsyms`, without knowing which are traceable.
///
/// A line reads `ffffffffc0a1b2c3 t handle_changed_spte [kvm]`, the module being optional.
/// A name can be listed several times. Symbols of KVM's modules are preferred, then those of vmlinux,
/// then those of other modules.
pub(super) fn parse_kallsyms(
    reader: impl BufRead,
    wanted: &[&str],
) -> io::Result<BTreeMap<String, Symbol>> {
    let wanted: HashSet<&[u8]> = wanted.iter().map(|name| name.as_bytes()).collect();
    let mut symbols = BTreeMap::<String, Symbol>::new();
    for_each_line(reader, |line| {
        let mut words = line.splitn(3, |&byte| byte == b' ');
        let (Some(address), Some(kind), Some(rest)) = (words.next(), words.next(), words.next())
        else {
            return;
        };
        let (name, module) = split_module(rest);
        if !wanted.contains(name) {
            return;
        }
        let (Ok(name), Some(address)) = (str::from_utf8(name), parse_hex(address)) else { return };
        let found = Symbol {
            address,
            module: module.map(|module| String::from_utf8_lossy(module).into_owned()),
            function: matches!(kind, b"t" | b"T" | b"w" | b"W"),
            copies: 1,
            traceable: None,
        };
        match symbols.get_mut(name) {
            None => {
                symbols.insert(name.to_owned(), found);
            }
            Some(known) if known.module == found.module => known.copies += 1,
            Some(known) if rank(&found) < rank(known) => *known = found,
            Some(_) => {}
        }
    })?;
    Ok(symbols)
}

fn rank(symbol: &Symbol) -> u8 {
    match symbol.module.as_deref() {
        Some("kvm") => 0,
        Some("kvm_amd" | "kvm_intel") => 1,
        None => 2,
        Some(_) => 3,
    }
}

/// Sets which of the functions among `symbols` are listed in `available_filter_functions`.
///
/// A line reads `handle_changed_spte [kvm]`, the module being optional.
pub(super) fn mark_traceable(
    reader: impl BufRead,
    symbols: &mut BTreeMap<String, Symbol>,
) -> io::Result<()> {
    let mut functions: HashMap<&[u8], &mut Symbol> = symbols
        .iter_mut()
        .filter(|(_, symbol)| symbol.function)
        .map(|(name, symbol)| {
            symbol.traceable = Some(false);
            (name.as_bytes(), symbol)
        })
        .collect();
    for_each_line(reader, |line| {
        let (name, module) = split_module(line);
        if let Some(symbol) = functions.get_mut(name)
            && symbol.module.as_deref().map(str::as_bytes) == module
        {
            symbol.traceable = Some(true);
        }
    })
}

/// Splits a line into the name and, if white space and `[module]` follow, the module.
fn split_module(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(u8::is_ascii_whitespace) {
        Some(end) => {
            let (name, rest) = text.split_at(end);
            let module = rest.trim_ascii().strip_prefix(b"[");
            (name, module.and_then(|module| module.strip_suffix(b"]")))
        }
        None => (text, None),
    }
}

fn parse_hex(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

fn for_each_line(mut reader: impl BufRead, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? != 0 {
        each(line.trim_ascii_end());
        line.clear();
    }
    Ok(())
}
