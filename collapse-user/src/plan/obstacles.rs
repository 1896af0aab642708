//! Obstacles to measuring on this host, and how to remove them.

use std::fmt;

use serde::Serialize;

use crate::kernel::inspect::{
    Capability::{self, DacReadSearch},
    Inspected, Lockdown, ModuleState, Unknown,
};

/// Capabilities that loading and attaching depend on.
const NEEDED: [Capability; 2] = [Capability::Bpf, Capability::Perfmon];

/// Capabilities that more depends on, and what is missing without each.
const HELPFUL: [(Capability, &str); 3] = [
    (DacReadSearch, "tracefs is closed to other users than root"),
    (Capability::Syslog, "kernel addresses are hidden, by which functions are told apart"),
    (
        Capability::SysAdmin,
        "kprobes are refused where kernel.perf_event_paranoid is above 2, and the cost of the probes is \
         not measured, so that it has no limit",
    ),
];

/// An obstacle to measuring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// Whether it prevents any measurement at all.
    pub fatal: bool,
    /// Description of the obstacle.
    pub what: String,
    /// Command or other step that removes it.
    pub remedy: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

/// Finds every obstacle on `host`, in the order in which a person has to remove them: fatal ones
/// first.
pub fn obstacles(host: &Inspected) -> Vec<Obstacle> {
    let fatal = [privileges, machine, kvm, lockdown, types, tracefs, kprobes, ftrace];
    let lesser = [capabilities, addresses, module_types, realtime];
    let found = |checks: &[Check], fatal| {
        let found = checks.iter().filter_map(|check| check(host));
        found.map(|(what, remedy)| Obstacle { fatal, what, remedy }).collect::<Vec<_>>()
    };
    [found(&fatal, true), found(&lesser, false)].concat()
}

/// Names the capabilities that the process lacks, of those without which less is seen; `None` if it lacks none.
pub fn lacking(host: &Inspected) -> Option<String> {
    let privileges = &host.privileges;
    privileges.effective.as_ref().ok()?;
    let helpful = HELPFUL.iter().map(|(capability, _)| *capability);
    let missing: Vec<_> = helpful.filter(|capability| !privileges.has(*capability)).collect();
    (!missing.is_empty()).then(|| names(&missing))
}

/// A check for one obstacle, which returns its description and remedy.
type Check = fn(&Inspected) -> Option<(String, String)>;

fn privileges(host: &Inspected) -> Option<(String, String)> {
    let privileges = &host.privileges;
    let missing: Vec<_> = match &privileges.effective {
        Ok(_) => NEEDED.into_iter().filter(|capability| !privileges.has(*capability)).collect(),
        Err(_) if privileges.is_root() => Vec::new(),
        Err(_) => NEEDED.to_vec(),
    };
    if missing.is_empty() {
        return None;
    }
    let some = missing.len() < NEEDED.len();
    let remedy = if privileges.is_root() || some {
        format!("give the container or service {}", names(&missing))
    } else {
        "run as root (sudo collapse …)".to_owned()
    };
    Some(("not permitted".to_owned(), remedy))
}

fn machine(host: &Inspected) -> Option<(String, String)> {
    (host.machine != "x86_64")
        .then(|| (format!("this is {}", host.machine), "only x86_64 is supported".to_owned()))
}

fn kvm(host: &Inspected) -> Option<(String, String)> {
    let absent = [host.kvm.core, host.kvm.vendor_state].contains(&ModuleState::Absent);
    let remedy = "load it with `modprobe kvm_amd` or `modprobe kvm_intel`";
    absent.then(|| (NO_KVM.to_owned(), remedy.to_owned()))
}

/// Description of the obstacle that `kvm` or its vendor module is absent; neither works alone.
pub const NO_KVM: &str = "KVM is not loaded";

fn lockdown(host: &Inspected) -> Option<(String, String)> {
    (host.lockdown == Ok(Lockdown::Confidentiality)).then(|| {
        let what = "the kernel is locked down (confidentiality): nobody may read its memory";
        (what.to_owned(), "boot with lockdown=integrity".to_owned())
    })
}

fn types(host: &Inspected) -> Option<(String, String)> {
    let why = host.vmlinux_btf.as_ref().err()?;
    let remedy = "a kernel built with CONFIG_DEBUG_INFO_BTF is needed".to_owned();
    Some((format!("the kernel does not describe its types ({why})"), remedy))
}

fn tracefs(host: &Inspected) -> Option<(String, String)> {
    let why = host.tracefs.as_ref().err()?;
    let remedy = match why {
        Unknown::Denied(_) => format!("run as root, or give it {}", names(&[DacReadSearch])),
        _ => "mount it with `mount -t tracefs tracefs /sys/kernel/tracing`".to_owned(),
    };
    Some((format!("tracefs is not available ({why})"), remedy))
}

fn kprobes(host: &Inspected) -> Option<(String, String)> {
    let remedy = "a kernel built with CONFIG_KPROBES is needed, and \
                  /sys/kernel/debug/kprobes/enabled must be 1";
    (host.kprobes != Ok(true)).then(|| ("kprobes are not available".to_owned(), remedy.to_owned()))
}

fn ftrace(host: &Inspected) -> Option<(String, String)> {
    (host.ftrace_enabled == Ok(0)).then(|| {
        let what = "ftrace is switched off, so kprobes on function entry never fire";
        (what.to_owned(), "`sysctl -w kernel.ftrace_enabled=1`".to_owned())
    })
}

/// From 7.x on all tracepoint programs can be preempted there, and the kernel skips them meanwhile.
fn realtime(host: &Inspected) -> Option<(String, String)> {
    (host.realtime == Ok(1)).then(|| {
        let what = "this is a PREEMPT_RT kernel, which may skip programs for events on a busy CPU";
        (what.to_owned(), "what it skips is reported as lost (program_skipped)".to_owned())
    })
}

fn capabilities(host: &Inspected) -> Option<(String, String)> {
    let privileges = &host.privileges;
    privileges.effective.as_ref().ok()?;
    let missing = HELPFUL.into_iter().filter(|(capability, _)| !privileges.has(*capability));
    let (missing, lost): (Vec<_>, Vec<_>) = missing.unzip();
    let remedy = || format!("run as root, or give it {}", names(&missing));
    (!missing.is_empty()).then(|| (lost.join("; "), remedy()))
}

fn addresses(host: &Inspected) -> Option<(String, String)> {
    let hidden = addresses_are_hidden(host);
    let setting = host.kptr_restrict.as_ref().ok().filter(|setting| hidden && **setting > 1)?;
    let what = format!("kernel addresses are hidden (kernel.kptr_restrict is {setting})");
    Some((what, "`sysctl -w kernel.kptr_restrict=1`".to_owned()))
}

/// Whether the kernel tells no addresses of functions.
pub fn addresses_are_hidden(host: &Inspected) -> bool {
    host.symbols.as_ref().is_ok_and(|symbols| symbols.values().any(|symbol| symbol.address == 0))
}

fn module_types(host: &Inspected) -> Option<(String, String)> {
    let why = host.kvm_btf.as_ref().err().filter(|_| host.kvm.core == ModuleState::Loaded)?;
    let remedy =
        "a kernel from 5.11 on, built with CONFIG_DEBUG_INFO_BTF_MODULES, is needed".to_owned();
    Some((format!("KVM does not describe its types ({why})"), remedy))
}

fn names(capabilities: &[Capability]) -> String {
    capabilities.iter().map(|capability| capability.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::kernel;

    fn host(change: impl Fn(&mut Inspected)) -> Vec<Obstacle> {
        let mut host = kernel("6.12");
        change(&mut host);
        obstacles(&host)
    }

    fn fatal(found: &[Obstacle]) -> Vec<String> {
        found.iter().filter(|found| found.fatal).map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_in_the_way_of_root() {
        assert_eq!(host(|_| ()), []);
    }

    #[test]
    fn missing_privileges_come_with_a_remedy() {
        let user = host(|host| {
            host.privileges.euid = Ok(1000);
            host.privileges.effective = Ok([].into());
        });
        assert_eq!(fatal(&user), ["not permitted: run as root (sudo collapse …)"]);
        assert!(
            user.iter().any(|found| found
                .remedy
                .contains("CAP_DAC_READ_SEARCH, CAP_SYSLOG, CAP_SYS_ADMIN"))
        );
        let container = host(|host| host.privileges.effective = Ok([Capability::Bpf].into()));
        assert_eq!(fatal(&container), ["not permitted: give the container or service CAP_PERFMON"]);
        let unknown = host(|host| host.privileges.effective = Err(Unknown::Absent("x".into())));
        assert_eq!(unknown, []);
    }

    #[test]
    fn lacking_capabilities_are_named() {
        let mut host = kernel("6.12");
        assert_eq!(lacking(&host), None);
        let some = [Capability::Bpf, Capability::Perfmon, DacReadSearch];
        host.privileges.effective = Ok(some.into());
        assert_eq!(lacking(&host).as_deref(), Some("CAP_SYSLOG, CAP_SYS_ADMIN"));
    }

    #[test]
    fn half_of_kvm_is_no_kvm() {
        let found = host(|host| host.kvm.vendor_state = ModuleState::Absent);
        assert!(fatal(&found)[0].starts_with(NO_KVM), "{found:?}");
    }

    #[test]
    fn hidden_addresses_are_not_fatal() {
        let found = host(|host| {
            host.kptr_restrict = Ok(2);
            host.symbols.iter_mut().flat_map(|all| all.values_mut()).for_each(|s| s.address = 0);
        });
        assert_eq!(fatal(&found), [""; 0]);
        assert!(found[0].remedy.contains("kptr_restrict=1"), "{found:?}");
    }

    #[test]
    fn kprobes_that_never_fire_are_fatal() {
        let found = host(|host| host.ftrace_enabled = Ok(0));
        assert!(fatal(&found)[0].contains("kernel.ftrace_enabled=1"), "{found:?}");
        let without = host(|host| host.ftrace_enabled = Err(Unknown::Absent("x".into())));
        assert_eq!(without, []);
    }

    #[test]
    fn lockdown_is_named() {
        let found = host(|host| host.lockdown = Ok(Lockdown::Confidentiality));
        assert!(fatal(&found)[0].contains("lockdown=integrity"), "{found:?}");
    }
}
