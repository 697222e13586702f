//! The words of `vspc doctor`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// What an ESXi host finds there, from here, and what to paste into a VM's settings
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with_all = ["config", "vms", "program", "options"])]
    pub(crate) esxi: Option<HostPort>,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// For how many VMs the machine is to be enough; default: as many as there are client ports
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) vms: Option<u32>,

    /// The server's configuration file, if it is not the one that it reads by itself
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The server's program; default: vspc-mio or vspc-smol, beside vspc or in PATH
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,

    /// What else the server is started with
    #[arg(last = true, value_name = "SERVER OPTIONS")]
    pub(crate) options: Vec<OsString>,
}

/// Where hosts connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As it stands in a VM's settings, too.
        let text = text.trim_start_matches("telnets://").trim_start_matches("telnet://");
        let text = text.split(['#', '/']).next().unwrap_or_default();
        let (host, port) = match (text.strip_prefix('['), text.matches(':').count()) {
            (Some(rest), _) => {
                let (host, rest) = rest.split_once(']').ok_or("the ] behind the address is missing")?;
                (host, rest.strip_prefix(':'))
            }
            (None, 1) => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
            (None, _) => (text, None),
        };
        let port = port.map_or(Ok(VM_PORT), str::parse).map_err(|_| "the port is a number up to 65535")?;
        match host.is_empty() || port == 0 {
            true => Err("give a host and a port: vspc.example.com:13370".to_owned()),
            false => Ok(Self { host: host.to_owned(), port }),
        }
    }
}

/// Where servers listen for hosts if nobody says otherwise.
const VM_PORT: u16 = 13370;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_a_port_in_each_way_in_which_people_write_them() {
        let place = |text: &str| text.parse().map(|HostPort { host, port }| (host, port));
        for (text, host, port) in [
            ("h", "h", 13370),
            ("h:1", "h", 1),
            ("[::1]:2", "::1", 2),
            ("::1", "::1", 13370),
            ("[::1]", "::1", 13370),
            ("telnets://h:3#thumbprint=AA", "h", 3),
        ] {
            assert_eq!(place(text), Ok((host.to_owned(), port)), "{text}");
        }
        for text in ["", ":1", "h:", "h:0", "h:65536", "[::1", "telnet://"] {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
