//! What a line is called on the command line and in the file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the line is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A serial port, a virtio port: anything that is opened.
    Device(PathBuf),
    /// A unix socket that somebody listens on.
    Socket(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (make, path): (fn(PathBuf) -> Self, _) = match text.strip_prefix("unix:") {
            Some(path) => (Self::Socket, path),
            None => (Self::Device, text),
        };
        if path.starts_with('/') {
            Ok(make(path.into()))
        } else {
            Err("a line is /dev/NAME or unix:/PATH".to_owned())
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "{}", path.display()),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
