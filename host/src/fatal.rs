//! Why a server does not start: one line for each reason, which names what was asked for and what to do, and
//! the exit code.
//!
//! **Owns** the words and the codes. **Refuses to know** who finds the reason, and who prints it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use vspc_core::concentrator::{Address, ClientPlace};

use crate::store::{FileError, RedisError};

/// Why a server did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// A bad command line; the text says which option and what to do.
    #[error("{0}")]
    Options(String),
    /// A certificate or key that cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Certificate(crate::tls::LoadError),
    /// The files of certificates have not been read after this time.
    #[error(
        "the files of --cert, --key and --client-ca have not been read after {} seconds: does their disk \
         hang?",
        .0.as_secs()
    )]
    Unanswered(Duration),
    /// The state file cannot be used.
    #[error(transparent)]
    State(FileError),
    /// The Redis that keeps state cannot be used.
    #[error(transparent)]
    Redis(RedisError),
    /// The state file has not been read after this time.
    #[error("{} is not read after {} seconds: does its disk hang?", .path.display(), .patience.as_secs())]
    StateUnanswered {
        /// Its path.
        path: PathBuf,
        /// For how long it was waited for.
        patience: Duration,
    },
    /// Logs of consoles cannot be kept in this directory.
    #[error("cannot keep logs in {}: {advice}", .0.display(), advice = log_advice(.1))]
    LogDirectory(PathBuf, io::Error),
    /// A certificate that cannot be made.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    MakeCertificate(crate::tls::MakeError),
    /// The VMs' listener cannot be opened.
    #[error("cannot listen on {0}: {advice}", advice = advice(.0, .1, &FOR_VMS))]
    Listen(Address, io::Error),
    /// The admin port that was asked for cannot be opened.
    #[error("cannot open the admin port on {0}: {advice}", advice = advice(.0, .1, &FOR_ADMIN))]
    ListenAdmin(Address, io::Error),
    /// The admin socket cannot be opened.
    #[error("cannot open the admin socket {0}: {advice}", advice = advice(.0, .1, &FOR_ADMIN))]
    AdminSocket(Address, io::Error),
    /// Client ports cannot be opened on this address.
    #[error("cannot open client ports on {0}: {advice}", advice = interface_advice(.1))]
    Interface(ClientPlace, io::Error),
    /// Fewer descriptors than a server can work with.
    #[error("descriptor limit {0} is too low, at least {1} are needed: raise it (ulimit -n, LimitNOFILE=)")]
    Descriptors(usize, usize),
    /// The system cannot do something that every Linux can.
    #[error("cannot {0}: {1}")]
    System(&'static str, io::Error),
}

impl Fatal {
    /// The exit code: 2 for what the operator can put right on the command line or the machine, 1 for
    /// what should not happen.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::System(..) => 1,
            _ => 2,
        }
    }
}

/// The options that say where listeners of one kind go.
struct Named {
    /// Their port and their address on TCP.
    port: &'static str,
    iface: &'static str,
    /// Their path.
    socket: &'static str,
    /// All of that.
    listen: &'static str,
}

const FOR_VMS: Named =
    Named { port: "--proxy-port", iface: "--proxy-iface", socket: "--vm-listen", listen: "--vm-listen" };

const FOR_ADMIN: Named = Named {
    port: "--admin-port",
    iface: "--admin-iface",
    socket: "--admin-socket",
    listen: "--admin-listen",
};

fn advice(address: &Address, why: &io::Error, options: &Named) -> String {
    match address {
        Address::Unix(_) => socket_advice(why, options.socket),
        Address::Vsock { .. } => vsock_advice(why, options.listen),
        _ => listen_advice(why, options),
    }
}

fn listen_advice(why: &io::Error, options: &Named) -> String {
    let Named { port, iface, listen, .. } = options;
    match why.kind() {
        io::ErrorKind::AddrInUse => {
            format!("address already in use; another vSPC running? stop it or choose {port} (or {listen})")
        }
        io::ErrorKind::PermissionDenied => format!(
            "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE, choose another {port} \
             (or {listen})"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("no interface of this machine has that address, choose {iface} (or {listen})")
        }
        _ => format!("{why}; check {iface}, {port} and {listen}"),
    }
}

/// Why nobody can listen on vsock, and what to do. `option`: which says where to listen.
#[must_use]
pub fn vsock_advice(why: &io::Error, option: &str) -> String {
    match why.kind() {
        io::ErrorKind::AddrInUse => format!("that port is in use: choose another {option}"),
        io::ErrorKind::PermissionDenied => format!(
            "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE: choose another \
             {option}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such CID: leave it out, or check {option}")
        }
        _ => format!(
            "{why}; has this kernel vsock (modprobe vhost_vsock, or vsock in a guest), and may the service \
             use it (RestrictAddressFamilies=)? check {option}"
        ),
    }
}

fn socket_advice(why: &io::Error, option: &str) -> String {
    match why.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another server is there: stop it, or choose another {option}")
        }
        io::ErrorKind::AlreadyExists => format!(
            "something is there that is no socket, and it stays: remove it, or choose another {option}"
        ),
        io::ErrorKind::NotFound => {
            format!("its directory does not exist: make it, or choose another {option}")
        }
        io::ErrorKind::PermissionDenied => format!(
            "permission denied: choose a place for it ({option}), and a group and an owner, that are this \
             user's"
        ),
        io::ErrorKind::InvalidInput => {
            format!("a unix socket's path has at most 107 bytes: choose a shorter {option}")
        }
        _ => format!("{why}; check {option}"),
    }
}

fn log_advice(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::NotFound => "it is not there: make it, or choose another --log-dir".to_owned(),
        io::ErrorKind::NotADirectory => "it is no directory: choose another --log-dir".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied: choose a --log-dir that this user may write in".to_owned()
        }
        io::ErrorKind::TimedOut => "its disk does not answer: choose another --log-dir".to_owned(),
        _ => format!("{why}; choose another --log-dir"),
    }
}

fn interface_advice(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address, choose --interface".to_owned()
        }
        io::ErrorKind::NotFound => "there is no such folder: make it, or choose --interface".to_owned(),
        io::ErrorKind::NotADirectory => "that is no folder: choose --interface".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "this user may not make sockets there: give it the folder, or choose --interface".to_owned()
        }
        _ => format!("{why}; check --interface"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use vspc_core::concentrator::SocketFile;

    #[test]
    fn an_admin_socket_is_refused_with_its_path_and_what_to_do() {
        let path = PathBuf::from("/run/vspc.sock");
        let file = SocketFile { path, mode: 0o660, owner: None, group: None };
        let address = Address::Unix(Arc::new(file));
        for (kind, words) in [
            (io::ErrorKind::AddrInUse, "another server is there"),
            (io::ErrorKind::AlreadyExists, "no socket"),
            (io::ErrorKind::NotFound, "directory"),
            (io::ErrorKind::PermissionDenied, "permission denied"),
            (io::ErrorKind::InvalidInput, "107"),
            (io::ErrorKind::Unsupported, "unsupported"),
        ] {
            let line = Fatal::AdminSocket(address.clone(), kind.into()).to_string();
            assert!(line.contains("/run/vspc.sock") && line.contains("--admin-socket"), "{line}");
            assert!(line.contains(words) && !line.contains('\n'), "{line}");
            let line = Fatal::Listen(address.clone(), kind.into()).to_string();
            assert!(line.contains(words) && line.contains("--vm-listen"), "{line}");
            assert!(!line.contains("--admin") && !line.contains("--proxy"), "{line}");
        }
    }

    #[test]
    fn a_vsock_listener_is_refused_with_what_the_machine_lacks() {
        for (kind, words) in [
            (io::ErrorKind::AddrInUse, "in use"),
            (io::ErrorKind::PermissionDenied, "1024"),
            (io::ErrorKind::AddrNotAvailable, "no such CID"),
            (io::ErrorKind::Unsupported, "vhost_vsock"),
        ] {
            let line = Fatal::Listen(Address::Vsock { cid: 7, port: 1 }, kind.into()).to_string();
            assert!(line.contains("vsock:7:1: ") && line.contains(words), "{line}");
            assert!(line.contains("--vm-listen") && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn every_refusal_names_the_address_and_what_to_do() {
        let address = Address::Ip("0.0.0.0:13370".parse().unwrap());
        for (kind, words) in [
            (io::ErrorKind::AddrInUse, "choose --proxy-port"),
            (io::ErrorKind::PermissionDenied, "--proxy-port"),
            (io::ErrorKind::AddrNotAvailable, "--proxy-iface"),
            (io::ErrorKind::Unsupported, "--proxy-iface"),
        ] {
            let fatal = Fatal::Listen(address.clone(), kind.into());
            let line = fatal.to_string();
            assert!(line.contains("0.0.0.0:13370") && line.contains(words), "{line}");
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(fatal.exit_code(), 2);
            let line = Fatal::ListenAdmin(address.clone(), kind.into()).to_string();
            assert!(line.contains(&words.replace("proxy", "admin")) && !line.contains("proxy"), "{line}");
        }
    }
}
