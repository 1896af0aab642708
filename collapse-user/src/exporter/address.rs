//! Where metrics are served.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, anyhow};

use crate::exit::{Exit, Failure, OrExit as _};

/// Mode of a socket in the file system: for its user and group.
const SOCKET_MODE: u32 = 0o660;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and a port; 0 for any that is free.
    Ip(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Address {
    /// The address without `--listen` saying one.
    pub const DEFAULT: &str = "127.0.0.1:9753";
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("expected unix:PATH".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let port = |port: &str| {
            let port = port.parse().ok()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
        };
        let (bare, local) = (port(text), text.strip_prefix("localhost:").and_then(port));
        let address = bare.or(local).or_else(|| text.parse().ok());
        address.map(Self::Ip).ok_or_else(|| {
            "expected an address and a port, such as 127.0.0.1:9753 or [::1]:9753, a port, or unix:PATH"
                .to_owned()
        })
    }
}

/// A socket that is listened on.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: Socket,
    /// The address, with the port that was free.
    pub(super) address: Address,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens; beyond this machine only if `remote`.
    ///
    /// # Errors
    ///
    /// [`Exit::Usage`] for an address beyond this machine, and [`Exit::Output`] if it cannot be listened on.
    pub fn bind(address: &Address, remote: bool) -> Result<Self, Failure> {
        match address {
            Address::Ip(ip) if !ip.ip().is_loopback() && !remote => Err(anyhow!(
                "{ip} can be reached from other machines, and metrics name VMs: listen on {} and let a proxy \
                 with TLS and a password pass it on, or give --allow-remote",
                Address::DEFAULT
            ))
            .or_exit(Exit::Usage),
            Address::Ip(ip) => {
                let bound = TcpListener::bind(ip).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    let address = Address::Ip(listener.local_addr()?);
                    Ok(Self { socket: Socket::Tcp(listener), address })
                });
                bound.with_context(|| format!("cannot listen on {ip}")).or_exit(Exit::Output)
            }
            Address::Unix(path) => {
                let bound = bind_unix(path).map(Socket::Unix);
                let bound = bound.map(|socket| Self { socket, address: address.clone() });
                let cannot = || format!("cannot listen on {}", path.display());
                bound.with_context(cannot).or_exit(Exit::Output)
            }
        }
    }

    /// Where it can be reached, for people.
    pub fn place(&self) -> String {
        match &self.address {
            Address::Ip(ip) => format!("http://{ip}/metrics"),
            Address::Unix(path) => format!("/metrics on the socket {}", path.display()),
        }
    }
}

/// Listens on a socket in the file system, in place of one that nobody listens on any more.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = || fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_socket() => {
            match UnixStream::connect(path) {
                Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path)?;
                    UnixListener::bind(path)?
                }
                _ => return Err(error),
            }
        }
        bound => bound?,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_this_machine_unless_they_say_otherwise() {
        let of = |text: &str| text.parse::<Address>();
        let local = |port| Ok(Address::Ip(SocketAddr::from(([127, 0, 0, 1], port))));
        assert_eq!(of(Address::DEFAULT), local(9753));
        assert_eq!((of("9100"), of("localhost:9100")), (local(9100), local(9100)));
        assert_eq!(of("unix:/run/a.sock"), Ok(Address::Unix("/run/a.sock".into())));
        assert_eq!(of("[::1]:1"), Ok(Address::Ip(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1)))));
        for wrong in ["", "unix:", "example.org:80", "127.0.0.1", "99999", ":9753"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_machines_are_refused_unless_allowed() {
        for address in ["0.0.0.0:0", "[::]:0"] {
            let address = address.parse().expect("an address");
            let refused = Listener::bind(&address, false).expect_err("refused");
            assert_eq!(refused.exit, Exit::Usage);
            assert!(refused.to_string().contains("--allow-remote"));
        }
        let any = "0.0.0.0:0".parse().expect("an address");
        Listener::bind(&any, true).expect("allowed");
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let address = Address::Unix(path.clone());
        let first = Listener::bind(&address, false).expect("a socket");
        let taken = Listener::bind(&address, false).expect_err("in use");
        assert_eq!(taken.exit, Exit::Output);
        drop(first);
        Listener::bind(&address, false).expect("replaced");
        let mode = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        let file = folder.path().join("file");
        fs::write(&file, "kept").expect("writing");
        Listener::bind(&Address::Unix(file.clone()), false).expect_err("no socket");
        assert_eq!(fs::read_to_string(&file).expect("reading"), "kept");
    }
}
