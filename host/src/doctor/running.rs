//! The server that runs already, if one does: what it has is not in anybody's way.
//!
//! It is known by its `--pidfile`, by whom the kernel names at the other end of `--admin-socket`, or as the
//! process of one of the servers' names that has the port for VMs.

use std::fs;
use std::os::unix::net::UnixStream;

use rustix::net::sockopt::socket_peercred;
use vspc_core::concentrator::Address;

use super::Finding;
use super::holders::{Holder, Holders, name};
use crate::options::Options;

/// A server that runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Running {
    pub(super) pid: u32,
    /// What it is known by.
    by: String,
}

impl Running {
    pub(super) fn find(options: &Options, holders: &Holders) -> Option<Self> {
        Self::by_pid_file(options).or_else(|| Self::by_socket(options)).or_else(|| {
            options.vm_addresses().iter().find_map(|address| {
                let Address::Ip(address) = *address else { return None };
                let pid = holders.of(address)?.pid.filter(|&pid| is_server(pid))?;
                Some(Self { pid, by: format!("it has {address}") })
            })
        })
    }

    fn by_pid_file(options: &Options) -> Option<Self> {
        let path = options.pidfile.as_ref()?;
        let pid = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        // A number that a server has left there may be anybody's by now.
        is_server(pid).then(|| Self { pid, by: format!("it is in {}", path.display()) })
    }

    fn by_socket(options: &Options) -> Option<Self> {
        options.admin_addresses().iter().find_map(|address| {
            let Address::Unix(file) = address else { return None };
            let socket = UnixStream::connect(&file.path).ok()?;
            let pid = socket_peercred(&socket).ok()?.pid.as_raw_nonzero().get();
            let pid = u32::try_from(pid).ok()?;
            Some(Self { pid, by: format!("it listens at {}", file.path.display()) })
        })
    }

    /// Whether a port is this server's. One whose process is not shown is taken to be.
    pub(super) fn has(&self, holder: &Holder) -> bool {
        holder.pid.is_none_or(|pid| pid == self.pid)
    }
}

/// That there is one, or none.
pub(super) fn told(running: Option<&Running>) -> Finding {
    match running {
        Some(Running { pid, by }) => Finding::ok(
            "server",
            format!("{} runs, pid {pid} ({by}); what it has counts as free", name(*pid)),
        ),
        None => Finding::ok("server", "none of these options runs"),
    }
}

/// Whether a process that runs has the name of one of the servers.
fn is_server(pid: u32) -> bool {
    let name = name(pid);
    SERVERS.contains(&name.as_str())
}

const SERVERS: [&str; 2] = ["vspc-mio", "vspc-smol"];
