//! Serial lines that are this machine's own: what their URIs name.
//!
//! **Owns** how they are written. **Refuses to know** programs and devices: the runtime opens them.

use std::fmt;

use crate::telnet::PortSettings;

use super::target::NoTarget;

/// A serial line that the machine has itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LocalLine {
    /// `exec:COMMAND`: what this program prints, and what it is given to read.
    Program(Box<str>),
    /// `tty:/PATH?speed=9600`, `/dev/…`: a serial port. The runtime speaks RFC 2217 for it, as an access
    /// server would.
    Device(Box<str>),
    /// `pty:/PATH`: a pseudoterminal, with a link at this path that leads to it.
    Pty(Box<str>),
}

impl LocalLine {
    /// Reads a URI: what it names, and how that is to be set if it is a serial port. `None`: it is of
    /// something else.
    pub(super) fn read(uri: &str) -> Option<Result<(Self, Option<PortSettings>), NoTarget>> {
        if let Some(path) = uri.strip_prefix("pty:") {
            return Some(absolute(path).map(|path| (Self::Pty(path), None)));
        }
        if let Some(device) = uri.strip_prefix("tty:").or_else(|| uri.starts_with("/dev/").then_some(uri)) {
            return Some(port(device));
        }
        let command = uri.strip_prefix("exec:")?;
        let is_command = !command.trim().is_empty() && !command.contains(char::is_control);
        Some(match is_command {
            true => Ok((Self::Program(command.into()), None)),
            false => Err(NoTarget::Command),
        })
    }

    /// What of it is asked no faster than it answers.
    pub(super) fn place(&self) -> &str {
        match self {
            Self::Program(place) | Self::Device(place) | Self::Pty(place) => place,
        }
    }
}

impl fmt::Display for LocalLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(command) => write!(f, "exec:{command}"),
            Self::Device(path) => write!(f, "tty:{path}"),
            Self::Pty(path) => write!(f, "pty:{path}"),
        }
    }
}

fn port(device: &str) -> Result<(LocalLine, Option<PortSettings>), NoTarget> {
    let (path, settings) = device.split_once('?').map_or((device, None), |(path, set)| (path, Some(set)));
    let settings = settings.map_or(Ok(PortSettings::default()), str::parse)?;
    Ok((LocalLine::Device(absolute(path)?), Some(settings)))
}

fn absolute(path: &str) -> Result<Box<str>, NoTarget> {
    let is_path = path.starts_with('/') && path.len() > 1 && !path.contains(char::is_control);
    if is_path { Ok(path.into()) } else { Err(NoTarget::LocalPath(path.into())) }
}
