//! Why a relay does not start: one line for each reason, which names what was asked for, and the exit code.

use std::io;
use std::path::PathBuf;

use vspc_host::fatal::vsock_advice;

use crate::endpoint::{Endpoint, Place};

/// Why a relay did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// A command line that makes no sense; the text says which option and what to do.
    #[error("{0}")]
    Options(String),
    /// A configuration file, a certificate or a key that cannot be used.
    #[error("{}: {why}", .path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// A listener cannot be opened.
    #[error("cannot listen on {at}: {advice}", advice = listen_advice(.at, .why))]
    Listen {
        /// Where.
        at: Endpoint,
        /// Why not.
        why: io::Error,
    },
    /// A relay that runs was asked for something, and it cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The system cannot do something that every Linux can.
    #[error("cannot {0}: {1}")]
    System(&'static str, io::Error),
}

impl Fatal {
    /// The exit code: 2 for what can be put right on the command line or the machine, 1 for what should not
    /// happen, and for what a relay that runs refuses.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::System(..) | Self::Refused(_) => 1,
            _ => 2,
        }
    }
}

fn listen_advice(at: &Endpoint, why: &io::Error) -> String {
    if let Place::Vsock(..) = at.place {
        return vsock_advice(why, "--listen");
    }
    match why.kind() {
        io::ErrorKind::AddrInUse => {
            "somebody listens there: stop that, or choose another --listen".to_owned()
        }
        io::ErrorKind::AlreadyExists => "something is there that is no socket, and it stays".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied (ports below 1024 need root or \
            CAP_NET_BIND_SERVICE, a socket a folder of this user's)"
            .to_owned(),
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address".to_owned(),
        io::ErrorKind::NotFound => "its folder does not exist".to_owned(),
        io::ErrorKind::InvalidInput => "a unix socket's path has at most 107 bytes".to_owned(),
        _ => why.to_string(),
    }
}
