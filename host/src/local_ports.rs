//! Client ports that the system may give to somebody else.
//!
//! Linux takes the local ports of outgoing connections from one range (net.ipv4.ip_local_port_range), and a
//! client port in that range may be in use when its VM comes. Ports that are named in
//! net.ipv4.ip_local_reserved_ports are never taken (Documentation/networking/ip-sysctl.rst in Linux). This
//! file only reads these settings, and says what to write.

use std::fs;
use std::ops::RangeInclusive;

use vspc_core::concentrator::PortRange;

/// The line for the log, if the system may take ports of this range: with the setting that keeps it from
/// that. Reads two files of /proc.
pub fn advice(clients: PortRange) -> Option<String> {
    overlap(clients).as_ref().map(advise)
}

/// Client ports that the system may take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Overlap {
    /// The first and the last.
    pub(crate) ports: String,
    /// The setting that keeps them free, as sysctl.conf(5) has it.
    pub(crate) setting: String,
}

/// Those of this range, if there are any. Reads two files of /proc.
pub(crate) fn overlap(clients: PortRange) -> Option<Overlap> {
    let local = fs::read_to_string(LOCAL_RANGE).ok()?;
    let reserved = fs::read_to_string(RESERVED_PORTS).ok()?;
    find(clients, &local, &reserved)
}

fn advise(Overlap { ports, setting }: &Overlap) -> String {
    format!(
        "client ports {ports} may be taken by this machine's outgoing connections; a file in /etc/sysctl.d \
         with this line (then: sysctl --system) keeps them free: {setting}"
    )
}

/// `local` and `reserved` are what the kernel's files say.
fn find(clients: PortRange, local: &str, reserved: &str) -> Option<Overlap> {
    // The system chooses each port, and never one that is in use.
    if clients.first == 0 {
        return None;
    }
    let mut bounds = local.split_whitespace().map(str::parse);
    let (Some(Ok(first)), Some(Ok(last))) = (bounds.next(), bounds.next()) else { return None };
    let mut reserved = ranges(reserved)?;
    let shared = clients.first.max(first)..=clients.last.min(last);
    if shared.clone().all(|port| reserved.iter().any(|range| range.contains(&port))) {
        return None;
    }
    reserved.push(clients.first..=clients.last);
    let all = merged(reserved).iter().map(written).collect::<Vec<_>>().join(",");
    let setting = format!("net.ipv4.ip_local_reserved_ports = {all}");
    Some(Overlap { ports: written(&shared), setting })
}

/// Ports and ranges of ports, with commas in between. `None` if that is not what it is.
fn ranges(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let ranges = text.trim().split(',').filter(|range| !range.is_empty());
    ranges
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .collect()
}

/// The same ports in as few ranges as can be, lowest first.
fn merged(mut ranges: Vec<RangeInclusive<u16>>) -> Vec<RangeInclusive<u16>> {
    ranges.sort_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(before) if *range.start() <= before.end().saturating_add(1) => {
                *before = *before.start()..=*range.end().max(before.end());
            }
            _ => merged.push(range),
        }
    }
    merged
}

fn written(range: &RangeInclusive<u16>) -> String {
    match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

const LOCAL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: PortRange = PortRange { first: 50000, last: 65535 };

    #[test]
    fn ports_that_the_system_may_take_are_told_with_the_setting_that_keeps_them() {
        let (local, all) = ("32768\t60999\n", PortRange { first: 1, last: 65535 });
        for (clients, local, reserved, shared, setting) in [
            (DEFAULT, local, "\n", "50000-60999", "50000-65535"),
            (DEFAULT, local, "8080,9000-9010\n", "50000-60999", "8080,9000-9010,50000-65535"),
            // What is reserved already becomes one range with it where they meet.
            (DEFAULT, local, "40000-49999,50001\n", "50000-60999", "40000-65535"),
            (DEFAULT, local, "60999,1-2,2-5", "50000-60999", "1-5,50000-65535"),
            (DEFAULT, "1024 65535", "50000-65534", "50000-65535", "50000-65535"),
            (DEFAULT, "1024 50000", "", "50000", "50000-65535"),
            (all, local, "", "32768-60999", "1-65535"),
        ] {
            let line = advise(&find(clients, local, reserved).unwrap());
            assert!(line.starts_with(&format!("client ports {shared} ")), "{line}");
            let end = format!(": net.ipv4.ip_local_reserved_ports = {setting}");
            assert!(line.ends_with(&end), "{reserved}: {line}");
        }
    }

    #[test]
    fn ports_that_nobody_takes_are_not_worth_a_line() {
        let local = "32768\t60999\n";
        for (clients, local, reserved) in [
            (PortRange { first: 20000, last: 32767 }, local, ""),
            (PortRange { first: 61000, last: 65535 }, local, ""),
            (PortRange { first: 0, last: 0 }, local, ""),
            (DEFAULT, local, "50000-65535\n"),
            (DEFAULT, local, "50000-60999"),
            (DEFAULT, local, "50000-55000,55001-60999,70"),
            // Not what Linux says: nothing is made of it.
            (DEFAULT, "", ""),
            (DEFAULT, local, "none"),
        ] {
            assert_eq!(find(clients, local, reserved), None, "{clients:?} {local} {reserved}");
        }
    }
}
