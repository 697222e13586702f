//! What the kernel's network is set to, and a firewall that may be in the way.

use std::fs;

use super::Finding;
use crate::local_ports;
use crate::options::Options;
use crate::sockets::{BACKLOG, short_backlog};

pub(super) fn check(options: &Options) -> Vec<Finding> {
    let mut findings = vec![backlog(short_backlog())];
    if !options.no_vm_ports && options.port_range_start != 0 && options.interface.ip().is_some() {
        findings.push(local(local_ports::overlap(options.port_range())));
    }
    let tracked = read("/proc/sys/net/netfilter/nf_conntrack_max").and_then(|text| text.trim().parse().ok());
    if let Some(most) = tracked {
        findings.push(conntrack(most, options.doctor.doctor_vms));
    }
    findings.push(firewall(options, Firewall::of_machine()));
    findings
}

fn backlog(short: Option<i32>) -> Finding {
    match short {
        None => Finding::ok("backlog", "net.core.somaxconn lets a fleet connect at one moment"),
        Some(limit) => Finding::warn(
            "backlog",
            format!(
                "net.core.somaxconn is {limit}: part of a fleet that connects at one moment waits for seconds"
            ),
            sysctl(&format!("net.core.somaxconn = {BACKLOG}")),
        ),
    }
}

fn local(overlap: Option<local_ports::Overlap>) -> Finding {
    match overlap {
        None => Finding::ok("local-ports", "no outgoing connection of this machine takes a client port"),
        Some(overlap) => Finding::warn(
            "local-ports",
            format!("client ports {} may be taken by this machine's outgoing connections", overlap.ports),
            sysctl(&overlap.setting),
        ),
    }
}

fn conntrack(most: u64, vms: Option<u32>) -> Finding {
    const CHECK: &str = "conntrack";
    let text = format!("net.netfilter.nf_conntrack_max is {most}");
    match vms.map(|vms| 2 * u64::from(vms)) {
        Some(wanted) if most < wanted => Finding::warn(
            CHECK,
            format!("{text}, less than connections of that many VMs and their clients"),
            sysctl(&format!("net.netfilter.nf_conntrack_max = {}", (2 * wanted).next_power_of_two())),
        ),
        _ => Finding::ok(CHECK, text),
    }
}

/// The lines that set something of the kernel's now and after each start.
fn sysctl(setting: &str) -> String {
    format!("echo '{setting}' >> /etc/sysctl.d/50-vspc.conf && sysctl --system")
}

/// Who filters packets on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Firewall {
    Firewalld,
    Ufw,
    /// Rules of whatever origin may be loaded.
    Kernel,
    None,
}

impl Firewall {
    fn of_machine() -> Self {
        let is_on = |path: &str| fs::exists(path).unwrap_or(false);
        let ufw = read("/etc/ufw/ufw.conf").unwrap_or_default();
        let modules = read("/proc/modules").unwrap_or_default();
        let filters = |line: &str| line.starts_with("nf_tables ") || line.starts_with("iptable_filter ");
        match () {
            () if is_on("/run/firewalld") => Self::Firewalld,
            () if ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes")) => Self::Ufw,
            () if modules.lines().any(filters) => Self::Kernel,
            () => Self::None,
        }
    }
}

/// A hint, and no fault: what a firewall lets through is its own business.
fn firewall(options: &Options, firewall: Firewall) -> Finding {
    const CHECK: &str = "firewall";
    let (from, range) = ("HOSTS", options.port_range());
    let vms = options.vm_port();
    let clients = (options.exposed().is_some() && range.first != 0).then_some((range.first, range.last));
    let (who, rules) = match firewall {
        Firewall::None => {
            let text = "none is seen on this machine; there may be one on the way, and ESXi has its own";
            return Finding::ok(CHECK, text).with_remedy(ESXI);
        }
        Firewall::Firewalld => (
            "firewalld runs",
            [
                Some(format!(
                    "firewall-cmd --permanent --add-rich-rule='rule family=ipv4 source address={from} port \
                     port={vms} protocol=tcp accept'"
                )),
                clients
                    .map(|(first, last)| format!("firewall-cmd --permanent --add-port={first}-{last}/tcp")),
                Some("firewall-cmd --reload".to_owned()),
            ],
        ),
        Firewall::Ufw => (
            "ufw is on",
            [
                Some(format!("ufw allow proto tcp from {from} to any port {vms}")),
                clients.map(|(first, last)| format!("ufw allow {first}:{last}/tcp")),
                None,
            ],
        ),
        Firewall::Kernel => (
            "the kernel may filter packets",
            [
                Some(format!("nft add rule inet filter input ip saddr {from} tcp dport {vms} accept")),
                clients.map(|(first, last)| {
                    format!("nft add rule inet filter input tcp dport {first}-{last} accept")
                }),
                None,
            ],
        ),
    };
    let rules: Vec<String> = rules.into_iter().flatten().chain([ESXI.to_owned()]).collect();
    let text = format!("{who}; hosts that cannot connect need it open, for their addresses ({from}) alone");
    Finding::ok(CHECK, text).with_remedy(rules.join("\n"))
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// What a host's own firewall needs (esxi.md).
const ESXI: &str = "on each ESXi host: esxcli network firewall ruleset set -r vSPC -e true";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;
    use crate::options::tests::parse;

    #[test]
    fn settings_that_cost_a_fleet_something_are_told_with_the_line_that_mends_them() {
        assert_eq!(backlog(None).level, Level::Ok);
        let found = backlog(Some(128));
        assert_eq!(found.level, Level::Warn);
        assert!(found.remedy.unwrap().contains("'net.core.somaxconn = 4096'"));
        assert_eq!(local(None).level, Level::Ok);
        let overlap = local_ports::Overlap { ports: "50000".to_owned(), setting: "a = 50000".to_owned() };
        let found = local(Some(overlap));
        assert_eq!(found.level, Level::Warn);
        assert!(found.remedy.unwrap().contains("echo 'a = 50000' >> /etc/sysctl.d/"));
        assert_eq!(conntrack(65_536, None).level, Level::Ok);
        assert_eq!(conntrack(65_536, Some(9000)).level, Level::Ok);
        assert_eq!(conntrack(4096, Some(9000)).level, Level::Warn);
    }

    #[test]
    fn each_firewall_is_told_in_its_own_words_which_ports_are_meant() {
        let exposed = parse("--interface 0.0.0.0 --port-range-end 50100 --proxy-port 1234").unwrap();
        let local = parse("").unwrap();
        for (who, words) in [
            (Firewall::Firewalld, "port=1234"),
            (Firewall::Firewalld, "--add-port=50000-50100/tcp"),
            (Firewall::Ufw, "port 1234"),
            (Firewall::Ufw, "50000:50100/tcp"),
            (Firewall::Kernel, "dport 1234"),
            (Firewall::None, "esxcli"),
        ] {
            let remedy = firewall(&exposed, who).remedy.unwrap();
            assert!(remedy.contains(words), "{remedy}");
            assert!(!firewall(&local, who).remedy.unwrap().contains("50000"));
        }
    }
}
