//! Names and UUIDs of VMs, from the command line and cgroup of their processes.

use collapse_feed::{NameSource, VmName, printable};
use uuid::Uuid;

/// A VMM whose command line contains a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vmm {
    Qemu,
    Firecracker,
    CloudHypervisor,
    Crosvm,
    Kvmtool,
    Workload,
}

impl Vmm {
    /// Recognises a VMM by the name of its program. Distributions and releases add suffixes to some.
    fn of(program: &[u8]) -> Option<Self> {
        let program = program.rsplit(|&byte| byte == b'/').next()?;
        Some(match program {
            b"kvm" => Self::Qemu,
            b"crosvm" => Self::Crosvm,
            b"lkvm" | b"lkvm-static" | b"kvmtool" => Self::Kvmtool,
            b"workload" => Self::Workload,
            _ if program.starts_with(b"qemu") => Self::Qemu,
            _ if program.starts_with(b"firecracker") => Self::Firecracker,
            _ if program.starts_with(b"cloud-hypervisor") => Self::CloudHypervisor,
            _ => return None,
        })
    }

    fn name(self, args: &[Vec<u8>]) -> Option<(Vec<u8>, NameSource)> {
        Some(match self {
            Self::Qemu => (qemu_name(args)?, NameSource::Qemu),
            Self::Firecracker => (option(args, "--id")?.to_vec(), NameSource::Firecracker),
            Self::CloudHypervisor => {
                (api_socket_name(option(args, "--api-socket")?)?, NameSource::CloudHypervisor)
            }
            Self::Crosvm => (option(args, "--name")?.to_vec(), NameSource::Crosvm),
            Self::Kvmtool => (option(args, "--name")?.to_vec(), NameSource::Kvmtool),
            Self::Workload => (option(args, "--name")?.to_vec(), NameSource::Workload),
        })
    }

    fn uuid(self, args: &[Vec<u8>]) -> Option<Uuid> {
        let text = match self {
            Self::Qemu => qemu_values(args, "uuid").next_back()?.to_vec(),
            Self::CloudHypervisor => split_options(option(args, "--platform")?)
                .iter()
                .find_map(|option| option.strip_prefix(b"uuid=").map(<[u8]>::to_vec))?,
            _ => return None,
        };
        Uuid::try_parse_ascii(&text).ok()
    }
}

/// Returns the most specific name for the VM of process `pid`, from its command line, its
/// `/proc/<pid>/cgroup`, and its `comm`.
pub fn name_from(pid: u32, cmdline: &[Vec<u8>], cgroup: &str, comm: &[u8]) -> VmName {
    let own = vmm(cmdline, comm).and_then(|(vmm, args)| vmm.name(args));
    let own = own.filter(|(name, _)| !name.is_empty());
    let paths = || cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let machine = paths().find_map(libvirt_domain);
    let pod = paths().find_map(pod_uid);

    let (name, source) = match (own, machine, pod) {
        (Some((name, NameSource::Qemu)), _, Some(_)) => match kubevirt_name(&name) {
            Some(name) => (name, NameSource::KubeVirt),
            None => (name, NameSource::Qemu),
        },
        // The cgroup's name lacks the characters that machined forbids.
        (Some((name, NameSource::Qemu)), Some(_), None) => (name, NameSource::Libvirt),
        (Some(own), _, _) => own,
        (None, Some(machine), _) => (machine, NameSource::Libvirt),
        (None, None, Some(pod)) => (pod.into_bytes(), NameSource::Pod),
        (None, None, None) if !comm.is_empty() => (comm.to_vec(), NameSource::Comm),
        (None, None, None) => (pid.to_string().into_bytes(), NameSource::Pid),
    };
    VmName { text: printable(&name), source }
}

/// Returns the UUID that the command line of a VM gives it: QEMU's `-uuid`, which libvirt always sets, or that of
/// cloud-hypervisor's `--platform`.
pub fn uuid_from(cmdline: &[Vec<u8>], comm: &[u8]) -> Option<Uuid> {
    let (vmm, args) = vmm(cmdline, comm)?;
    vmm.uuid(args)
}

/// Recognises the VMM of a command line, and returns its arguments besides.
fn vmm<'a>(cmdline: &'a [Vec<u8>], comm: &[u8]) -> Option<(Vmm, &'a [Vec<u8>])> {
    let (program, args) = cmdline.split_first()?;
    Some((Vmm::of(program).or_else(|| Vmm::of(comm))?, args))
}

/// Returns the value of the last `--key value` or `--key=value`.
fn option<'a>(args: &'a [Vec<u8>], key: &str) -> Option<&'a [u8]> {
    let mut found = None;
    for (index, arg) in args.iter().enumerate() {
        match arg.strip_prefix(key.as_bytes()) {
            Some([]) => found = args.get(index + 1).map(Vec::as_slice).or(found),
            Some([b'=', value @ ..]) => found = Some(value),
            _ => {}
        }
    }
    found
}

/// Finds the name in QEMU's `-name guest=foo,debug-threads=on` or `-name foo`, where a comma in the
/// name is doubled.
fn qemu_name(args: &[Vec<u8>]) -> Option<Vec<u8>> {
    qemu_values(args, "name").filter_map(guest_of).next_back()
}

/// Finds every value of one of QEMU's options, which have one dash or two, and a space before the value.
fn qemu_values<'a>(args: &'a [Vec<u8>], option: &str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    let is_option = move |arg: &[u8]| {
        arg.strip_prefix(b"-")
            .is_some_and(|arg| arg.strip_prefix(b"-").unwrap_or(arg) == option.as_bytes())
    };
    let pairs = args.iter().zip(args.iter().skip(1));
    pairs.filter(move |(key, _)| is_option(key)).map(|(_, value)| value.as_slice())
}

fn guest_of(options: &[u8]) -> Option<Vec<u8>> {
    let mut guest = None;
    for (index, option) in split_options(options).into_iter().enumerate() {
        if let Some(name) = option.strip_prefix(b"guest=") {
            guest = Some(name.to_vec());
        } else if index == 0 && !option.contains(&b'=') {
            guest = Some(option);
        }
    }
    guest
}

/// Splits at single commas; a doubled one stands for a comma.
fn split_options(text: &[u8]) -> Vec<Vec<u8>> {
    let mut options = vec![Vec::new()];
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b',' && bytes.next_if_eq(&b',').is_none() {
            options.push(Vec::new());
        } else if let Some(option) = options.last_mut() {
            option.push(byte);
        }
    }
    options
}

/// Derives a name from cloud-hypervisor's API socket. There is no option for a name, but where
/// several VMs run, their sockets or the directories of these have distinct names:
/// `/run/vms/web.sock`, or
/// `path=/run/vc/vm/web/clh-api.sock`.
fn api_socket_name(value: &[u8]) -> Option<Vec<u8>> {
    let path = split_options(value).into_iter().find_map(|option| {
        match option.strip_prefix(b"path=") {
            Some(path) => Some(path.to_vec()),
            None => (!option.contains(&b'=')).then_some(option),
        }
    })?;
    let mut parts = path.rsplit(|&byte| byte == b'/').filter(|part| !part.is_empty());
    let file = parts.next()?;
    let stem = match file.iter().rposition(|&byte| byte == b'.') {
        Some(dot) if dot > 0 => &file[..dot],
        _ => file,
    };
    let name = match stem {
        b"api" | b"ch" | b"ch-api" | b"clh" | b"clh-api" | b"cloud-hypervisor" => parts.next()?,
        _ => stem,
    };
    Some(name.to_vec())
}

/// Parses virt-launcher's name of a guest, `namespace_name`; neither part can contain an underscore.
fn kubevirt_name(guest: &[u8]) -> Option<Vec<u8>> {
    let (namespace, name) = str::from_utf8(guest).ok()?.split_once('_')?;
    let valid = |part: &str| !part.is_empty() && !part.contains('_');
    (valid(namespace) && valid(name)).then(|| format!("{namespace}/{name}").into_bytes())
}

/// Finds the domain in a cgroup path: `machine.slice/machine-qemu\x2d1\x2dfoo.scope` under systemd,
/// else `machine/qemu-1-foo.libvirt-qemu`.
fn libvirt_domain(path: &str) -> Option<Vec<u8>> {
    path.split('/').find_map(|part| {
        let scope = part.strip_prefix("machine-").and_then(|scope| scope.strip_suffix(".scope"));
        let machine = match scope {
            Some(scope) => unescape(scope),
            None => part.strip_suffix(".libvirt-qemu")?.as_bytes().to_vec(),
        };
        let mut words = machine.splitn(3, |&byte| byte == b'-');
        let (driver, id, name) = (words.next()?, words.next()?, words.next()?);
        let is_domain = matches!(driver, b"qemu" | b"ch")
            && !id.is_empty()
            && id.iter().all(u8::is_ascii_digit)
            && !name.is_empty();
        is_domain.then(|| name.to_vec())
    })
}

/// Reverts systemd's escaping of unit names: `\x2d` stands for `-`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    while let [first, rest @ ..] = bytes {
        if let [b'\\', b'x', high, low, rest @ ..] = bytes
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            plain.push(high << 4 | low);
            bytes = rest;
        } else {
            plain.push(*first);
            bytes = rest;
        }
    }
    plain
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Finds the pod in a cgroup path, and returns its uid as the API server writes it. The path contains
/// `kubepods-burstable-pod<uid>.slice` under systemd, where the uid has underscores for dashes, or else
/// `kubepods/burstable/pod<uid>`.
fn pod_uid(path: &str) -> Option<String> {
    let mut parts = path.split('/').skip_while(|part| !part.starts_with("kubepods"));
    parts.find_map(|part| {
        let part = part.strip_suffix(".slice").unwrap_or(part);
        let uid = match part.rsplit_once("-pod") {
            Some((_, uid)) => uid,
            None => part.strip_prefix("pod")?,
        };
        let valid = !uid.is_empty()
            && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_'));
        valid.then(|| uid.replace('_', "-"))
    })
}
