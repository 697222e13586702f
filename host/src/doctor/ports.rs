//! Whether the ports are free: those for VMs, the admin port, and those for clients.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use vspc_core::concentrator::Address;

use super::Finding;
use super::holders::Holders;
use super::running::Running;
use crate::options::Options;
use crate::sockets::{check_address, check_place, listen_vsock};

pub(super) fn check(options: &Options, holders: &Holders, running: Option<&Running>) -> Vec<Finding> {
    let look = Look { holders, running };
    let mut findings = Vec::new();
    for address in options.vm_addresses() {
        findings.extend(match address {
            Address::Ip(address) if options.proxy_addresses().any(|proxy| proxy == address) => {
                Some(look.at("vm-port", address, "--proxy-port", "--proxy-iface", true))
            }
            Address::Ip(address) => Some(look.at("vm-port", address, "--vm-listen", "--vm-listen", true)),
            other => elsewhere("vm-port", &other, "--vm-listen", running),
        });
    }
    for address in options.admin_addresses() {
        let needed = options.needs_admin();
        findings.extend(match address {
            Address::Ip(address) if options.admin_address() == Some(address) => {
                Some(look.at("admin-port", address, "--admin-port", "--admin-iface", needed))
            }
            Address::Ip(address) => {
                Some(look.at("admin-port", address, "--admin-listen", "--admin-listen", true))
            }
            other => elsewhere("admin-port", &other, "--admin-listen", running),
        });
    }
    if !options.no_vm_ports {
        findings.push(look.at_clients(options));
    }
    if let Some(ip) = options.exposed().filter(|_| !options.config(0).client_tls) {
        findings.push(Finding::warn(
            "exposure",
            format!("client ports on {ip} will be open to the network without TLS"),
            crate::tls::CLEAR_ADVICE,
        ));
    }
    if let (Some(ip), Some(risk)) = (options.exposed_admin(), options.tls.admin_risk()) {
        let text = format!("the admin port on {ip} will be open to the network {risk}");
        findings.push(Finding::warn("exposure", text, "--admin-iface 127.0.0.1"));
    }
    findings
}

/// An address that is none of TCP's. `None`: a unix socket, which is a matter of files.
fn elsewhere(
    check: &'static str,
    address: &Address,
    option: &str,
    running: Option<&Running>,
) -> Option<Finding> {
    match address {
        Address::Vsock { cid, port } => Some(match listen_vsock(*cid, *port) {
            Ok(_) => Finding::ok(check, format!("{address} is free")),
            // Nobody says who has it.
            Err(error) if running.is_some() && error.kind() == ErrorKind::AddrInUse => {
                Finding::ok(check, format!("{address} is in use, as it seems by the server that runs"))
            }
            Err(error) => Finding::error(
                check,
                format!("{address} cannot be listened on: {error}"),
                format!("modprobe vhost_vsock (in a guest: vsock), or choose another {option}"),
            ),
        }),
        Address::Inherited(_) => {
            Some(Finding::ok(check, format!("{address} is for the service manager to open and hand over")))
        }
        _ => None,
    }
}

struct Look<'a> {
    holders: &'a Holders,
    running: Option<&'a Running>,
}

/// What stands between a server and a port.
enum Obstacle {
    /// The server that runs.
    Own,
    /// A connection that has ended: it is free within a minute.
    Passing,
    /// Somebody, in words, if that is known.
    Other(Option<String>),
    Refused(io::Error),
}

impl Look<'_> {
    fn obstacle(&self, address: SocketAddr) -> Option<Obstacle> {
        let error = check_address(address).err()?;
        if error.kind() != ErrorKind::AddrInUse {
            return Some(Obstacle::Refused(error));
        }
        let holder = self.holders.of(address);
        let is_own = |running: &Running| holder.as_ref().is_some_and(|holder| running.has(holder));
        if holder.as_ref().is_some_and(|holder| holder.is_passing) {
            return Some(Obstacle::Passing);
        }
        Some(match self.running {
            Some(running) if is_own(running) => Obstacle::Own,
            _ => Obstacle::Other(holder.map(|holder| holder.to_string())),
        })
    }

    /// One address; `port` and `iface` are the options that say it.
    fn at(&self, check: &'static str, address: SocketAddr, port: &str, iface: &str, needed: bool) -> Finding {
        let (text, remedy) = match self.obstacle(address) {
            None if address.port() == 0 => {
                return Finding::ok(check, format!("the system chooses one on {}", address.ip()));
            }
            None => return Finding::ok(check, format!("{address} is free")),
            Some(Obstacle::Own) => {
                return Finding::ok(check, format!("{address} is served by the server that runs"));
            }
            Some(Obstacle::Passing) => {
                let text = format!("{address} is kept by the kernel for a connection that has ended");
                return Finding::warn(check, text, format!("wait a minute, or choose another {port}"));
            }
            Some(Obstacle::Other(holder)) => {
                let holder = holder.unwrap_or_else(|| "a process that is not seen from here".to_owned());
                (format!("{address} is taken: {holder}"), format!("stop that, or choose another {port}"))
            }
            Some(Obstacle::Refused(error)) => refused(address, &error, port, iface),
        };
        match needed {
            true => Finding::error(check, text, remedy),
            false => Finding::warn(check, format!("{text}; the server starts without this port"), remedy),
        }
    }

    fn at_clients(&self, options: &Options) -> Finding {
        let check = "client-ports";
        let range = options.port_range();
        let Some(ip) = options.interface.ip() else {
            let place = &options.interface;
            return match check_place(place) {
                Ok(()) => Finding::ok(check, format!("they are opened at {place}")),
                Err(error) => {
                    let remedy =
                        "make the folder writable for the server's user, or choose another --interface";
                    Finding::error(check, format!("{place}: {error}"), remedy)
                }
            };
        };
        if range.first == 0 {
            return match check_address(SocketAddr::new(ip, 0)) {
                Ok(()) => Finding::ok(check, format!("the system chooses them on {ip}")),
                Err(error) => {
                    let (text, remedy) =
                        refused(SocketAddr::new(ip, 0), &error, "--port-range-start", "--interface");
                    Finding::error(check, text, remedy)
                }
            };
        }
        let all = usize::from(range.last - range.first) + 1;
        let (mut own, mut passing, mut others, mut shown) = (0, 0, 0, Vec::new());
        for port in range.first..=range.last {
            match self.obstacle(SocketAddr::new(ip, port)) {
                None => {}
                Some(Obstacle::Own) => own += 1,
                Some(Obstacle::Passing) => passing += 1,
                Some(Obstacle::Other(holder)) => {
                    others += 1;
                    if shown.len() < MOST_SHOWN {
                        let holder = holder.map_or(String::new(), |holder| format!(": {holder}"));
                        shown.push(format!("{port}{holder}"));
                    }
                }
                // One that is refused is no sign for the others, unless the address is.
                Some(Obstacle::Refused(error)) => {
                    let (text, remedy) =
                        refused(SocketAddr::new(ip, port), &error, "--port-range-start", "--interface");
                    return Finding::error(check, text, remedy);
                }
            }
        }
        let mut text = format!("{} of {all} on {ip} are free", all - own - passing - others);
        if own > 0 {
            text += &format!(", {own} are open at the server that runs");
        }
        if passing > 0 {
            text += &format!(", {passing} will be within a minute (connections that have ended)");
        }
        if others == 0 {
            return Finding::ok(check, text);
        }
        text += &format!(", {others} are taken ({})", shown.join("; "));
        if others > shown.len() {
            text.truncate(text.len() - 1);
            text += "; …)";
        }
        match others == all {
            true => Finding::error(check, text, "choose another --port-range-start and --port-range-end"),
            false => Finding::warn(
                check,
                text,
                "VMs get others; a VM whose port is among them loses it. Stop what has them, or choose \
                 another range",
            ),
        }
    }
}

/// Why the system lets nobody have an address, and what to do.
fn refused(address: SocketAddr, error: &io::Error, port: &str, iface: &str) -> (String, String) {
    match error.kind() {
        ErrorKind::PermissionDenied => (
            format!("{address} is not for this user: ports below 1024 need a capability"),
            format!("AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or a {port} from 1024 on"),
        ),
        ErrorKind::AddrNotAvailable => (
            format!("no interface of this machine has {}", address.ip()),
            format!("choose another {iface}; this machine has {}", addresses()),
        ),
        _ => (format!("{address} cannot be had: {error}"), format!("check {iface} and {port}")),
    }
}

/// The addresses of this machine that /proc tells of, for a hint.
fn addresses() -> String {
    let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let (mut found, mut last): (Vec<IpAddr>, Option<IpAddr>) = (Vec::new(), None);
    for line in table.lines() {
        if let Some(ip) = line.trim().strip_prefix("|-- ") {
            last = ip.parse().ok();
        } else if line.trim() == "/32 host LOCAL"
            && let Some(ip) = last
            && !found.contains(&ip)
        {
            found.push(ip);
        }
    }
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    if found.is_empty() { "others (ip address)".to_owned() } else { found.join(", ") }
}

/// How many ports that others have are named.
const MOST_SHOWN: usize = 4;
