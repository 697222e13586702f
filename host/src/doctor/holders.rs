//! Who has which TCP port, from /proc/net/tcp and /proc/PID/fd (proc(5)).
//!
//! **Owns** how those are read. A process of another user shows its descriptors to root alone: then the user
//! is all that is known.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// All TCP sockets of this network namespace, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Holders {
    sockets: Vec<Socket>,
    /// By the number of the socket.
    processes: HashMap<u64, u32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Socket {
    local: SocketAddr,
    listens: bool,
    uid: u32,
    inode: u64,
}

/// Who has a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Holder {
    /// Where that is known.
    pub(super) pid: Option<u32>,
    uid: u32,
    /// It is a listener; otherwise a connection.
    listens: bool,
    /// It is a connection that has ended, and whose port the kernel keeps for a minute.
    pub(super) is_passing: bool,
}

impl Holders {
    pub(super) fn read() -> Self {
        let mut sockets = Vec::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let text = fs::read_to_string(table).unwrap_or_default();
            sockets.extend(text.lines().filter_map(socket));
        }
        Self { sockets, processes: processes() }
    }

    /// Whoever keeps a listener from this address.
    pub(super) fn of(&self, address: SocketAddr) -> Option<Holder> {
        let in_the_way = |socket: &&Socket| {
            let (ours, theirs) = (address.ip().to_canonical(), socket.local.ip().to_canonical());
            socket.local.port() == address.port()
                && (ours == theirs || ours.is_unspecified() || theirs.is_unspecified())
        };
        let mut found: Vec<&Socket> = self.sockets.iter().filter(in_the_way).collect();
        found.sort_by_key(|socket| (!socket.listens, socket.inode == 0));
        let socket = found.first()?;
        let pid = self.processes.get(&socket.inode).copied();
        Some(Holder { pid, uid: socket.uid, listens: socket.listens, is_passing: socket.inode == 0 })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_passing {
            return write!(f, "a connection that has ended, for a minute yet");
        }
        if !self.listens {
            write!(f, "a connection of ")?;
        }
        match self.pid {
            Some(pid) => write!(f, "{} (pid {pid})", name(pid)),
            None => write!(f, "a process of user {} (root can see which)", self.uid),
        }
    }
}

/// What a process is called, with nothing in it that a terminal would act on.
pub(super) fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().escape_debug().to_string()
}

fn processes() -> HashMap<u64, u32> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        for file in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(file.path()) else { continue };
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                processes.insert(inode, pid);
            }
        }
    }
    processes
}

/// A line of /proc/net/tcp or tcp6; `None` for its heading. One that has ended has no number.
fn socket(line: &str) -> Option<Socket> {
    let mut columns = line.split_whitespace();
    let local = columns.nth(1)?;
    let state = columns.nth(1)?;
    let (uid, inode) = (columns.nth(3)?.parse().ok()?, columns.nth(1)?.parse().ok()?);
    let (ip, port) = local.split_once(':')?;
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes())),
        32 => {
            let mut octets = [0; 16];
            for (word, place) in octets.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(
                    &u32::from_str_radix(ip.get(word * 8..word * 8 + 8)?, 16).ok()?.to_ne_bytes(),
                );
            }
            IpAddr::from(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    let local = SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?);
    Some(Socket { local, listens: state == LISTEN, uid, inode })
}

/// TCP_LISTEN of Linux's tcp_states.h.
const LISTEN: &str = "0A";

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process;

    use super::*;

    #[test]
    fn whoever_has_a_port_is_known_by_its_process_in_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let address = listener.local_addr().unwrap();
            let holder = Holders::read().of(address).unwrap();
            assert_eq!((holder.pid, holder.listens), (Some(process::id()), true));
            assert!(holder.to_string().ends_with(&format!("(pid {})", process::id())), "{holder}");
            // Whoever wants the port at every address meets it too.
            let every = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            assert!(Holders::read().of(every).is_some());
            drop(listener);
            assert_eq!(Holders::read().of(address), None);
        }
    }

    #[test]
    fn a_connection_that_has_ended_is_told_from_one_that_is_there() {
        let line = |inode: u32| format!("0: 0100007F:C351 0100007F:01BB 06 0:0 0:0 0 0 0 {inode} 3 ffff");
        for (inode, is_passing) in [(0, true), (77, false)] {
            let sockets = vec![socket(&line(inode)).unwrap()];
            let holders = Holders { sockets, processes: HashMap::new() };
            let holder = holders.of(SocketAddr::from(([127, 0, 0, 1], 0xC351))).unwrap();
            assert_eq!((holder.is_passing, holder.listens), (is_passing, false), "{holder}");
            assert_eq!(holders.of(SocketAddr::from(([127, 0, 0, 2], 0xC351))), None);
        }
    }

    #[test]
    fn what_is_no_line_of_the_table_is_nobody() {
        for line in ["", "  sl  local_address rem_address   st tx_queue", "0: 7F:1 0:0 0A 0:0 0:0 0 0 0 1"] {
            assert_eq!(socket(line), None, "{line}");
        }
    }
}
