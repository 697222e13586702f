//! The option that says where events go, and what its words mean.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

/// The options for where events go.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct OutletOptions {
    /// Where events go as JSON lines: file:PATH, unix:PATH (somebody listens there), syslog or syslog:WHERE
    /// (a path, or an address and port for UDP), journald. Repeat it or separate by commas. HUP opens files
    /// anew.
    #[arg(long, value_name = "WHERE", value_delimiter = ',', help_heading = "Events (told to programs)")]
    pub events_to: Vec<Destination>,
}

/// Where events go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Destination {
    /// To the end of a file.
    File(PathBuf),
    /// To whoever listens at a unix socket.
    Unix(PathBuf),
    /// To the syslog at a unix socket.
    Syslog(PathBuf),
    /// To the syslog of another machine, by UDP.
    SyslogUdp(SocketAddr),
    /// To systemd's journal.
    Journald(PathBuf),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, place) = text.split_once(':').unwrap_or((text, ""));
        let path = || {
            let path = Path::new(place);
            let is_whole = path.is_absolute();
            is_whole.then(|| path.to_owned()).ok_or_else(|| format!("give a path from / on after {kind}:"))
        };
        Ok(match (kind, place) {
            ("file", _) => Self::File(path()?),
            ("unix", _) => Self::Unix(path()?),
            ("syslog", "") => Self::Syslog("/dev/log".into()),
            ("syslog", place) if !place.starts_with('/') => {
                let address = place.parse();
                let address = address.map_err(|_| "give a path, or an address and port, after syslog:")?;
                Self::SyslogUdp(address)
            }
            ("syslog", _) => Self::Syslog(path()?),
            ("journald", "") => Self::Journald("/run/systemd/journal/socket".into()),
            ("journald", _) => Self::Journald(path()?),
            _ => return Err("give file:PATH, unix:PATH, syslog, syslog:WHERE or journald".to_owned()),
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Syslog(path) => write!(f, "syslog:{}", path.display()),
            Self::SyslogUdp(address) => write!(f, "syslog:{address}"),
            Self::Journald(path) => write!(f, "journald:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::options::tests::parse;

    #[test]
    fn each_destination_is_what_it_says_and_others_are_refused_by_name() {
        let given = "file:/a,unix:/b,syslog,syslog:/c,syslog:[::1]:514,journald,journald:/d";
        let options = parse(&format!("--events-to {given}")).unwrap();
        let meant: Vec<String> = options.outlets.events_to.iter().map(ToString::to_string).collect();
        assert_eq!(
            meant.join(","),
            "file:/a,unix:/b,syslog:/dev/log,syslog:/c,syslog:[::1]:514,\
             journald:/run/systemd/journal/socket,journald:/d"
        );
        for wrong in ["file:", "file:a", "unix:", "syslog:host", "syslog:host:514", "mail:me", ""] {
            let why = parse(&format!("--events-to={wrong}")).unwrap_err();
            assert!(why.contains("--events-to") && !why.contains('\n'), "{wrong}: {why}");
        }
    }
}
