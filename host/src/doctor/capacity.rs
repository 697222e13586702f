//! Whether descriptors and ports are enough for the fleet (sizing.md).

use super::Finding;
use crate::limits::Limits;
use crate::options::Options;

pub(super) fn check(options: &Options) -> Vec<Finding> {
    let mut limits = Limits::raise();
    if options.logs.log_dir.is_some() {
        limits = limits.with_logs();
    }
    let ports = ports(options);
    let asked = options.doctor.doctor_vms.map(|vms| vms as usize);
    let each = if options.no_vm_ports { 1 } else { 2 };
    let mut findings = vec![descriptors(limits, each, asked, ports)];
    if let (Some(ports), Some(vms)) = (ports, asked) {
        findings.push(room_for(vms, ports));
    }
    findings
}

/// How many ports clients are given, where that has a limit.
fn ports(options: &Options) -> Option<usize> {
    let range = options.port_range();
    (!options.no_vm_ports && range.first != 0).then(|| usize::from(range.last - range.first) + 1)
}

/// `asked`: for how many VMs somebody wants the machine to be enough. Without that a fleet that fills the
/// ports is worth a warning.
fn descriptors(limits: Limits, each: usize, asked: Option<usize>, ports: Option<usize>) -> Finding {
    const CHECK: &str = "descriptors";
    let have = limits.descriptors;
    if let Err(fatal) = limits.for_engine() {
        return Finding::error(CHECK, fatal.to_string(), advice(LEAST_LIMIT));
    }
    let room = limits.fleet(each);
    let text = format!("{limits}, enough for {room} VMs without clients");
    let Some(vms) = asked.or(ports) else { return Finding::ok(CHECK, text) };
    let wanted = wanted(vms, each, limits.for_logs > 0);
    let whose = if asked.is_some() { "asked for" } else { "that there are ports for" };
    match () {
        () if room < vms && asked.is_some() => {
            Finding::error(CHECK, format!("{text}, and {vms} are {whose}"), advice(wanted))
        }
        () if room < vms => {
            Finding::warn(CHECK, format!("{text}, fewer than the {vms} {whose}"), advice(wanted))
        }
        // Clients never get the last eighth.
        () if have < wanted && asked.is_some() => {
            let text = format!("{text}; with {vms} of them little is left for clients");
            Finding::warn(CHECK, text, advice(wanted))
        }
        () => Finding::ok(CHECK, text),
    }
}

fn room_for(vms: usize, ports: usize) -> Finding {
    const CHECK: &str = "port-range";
    match ports >= vms {
        true => Finding::ok(CHECK, format!("{ports} client ports for {vms} VMs")),
        false => Finding::error(
            CHECK,
            format!("{ports} client ports for {vms} VMs: the others get none"),
            match vms {
                ..=45_000 => {
                    let first = 65_536 - vms;
                    format!("--port-range-start {first} --port-range-end 65535")
                }
                _ => "--no-vm-ports (people come by vspc), or more than one server".to_owned(),
            },
        ),
    }
}

/// The formula of sizing.md, with a client for each fourth VM.
fn wanted(vms: usize, each: usize, logs: bool) -> usize {
    let all = (each * vms + vms / 4 + 32) * 8 / 7;
    all + if logs { (all / 16).min(1024) } else { 0 }
}

fn advice(wanted: usize) -> String {
    let wanted = wanted.next_power_of_two().max(LEAST_LIMIT);
    format!("LimitNOFILE={wanted} in the unit, or: prlimit --nofile={wanted} before the server's name")
}

/// What is advised at the least.
const LEAST_LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn descriptors_are_held_against_the_fleet() {
        let limits = |descriptors| Limits {
            descriptors,
            before: descriptors,
            for_logs: 0,
            for_lines: 0,
            for_dials: 0,
        };
        for (have, asked, ports, level, words) in [
            (1024, None, None, Level::Ok, "enough for 496 VMs"),
            (1024, Some(100), Some(100), Level::Ok, ""),
            (1024, Some(480), Some(1000), Level::Warn, "little is left"),
            (1024, Some(1000), Some(1000), Level::Error, "1000 are asked for"),
            (1024, None, Some(15_536), Level::Warn, "fewer than the 15536"),
            (65_536, None, Some(15_536), Level::Ok, ""),
            (33, None, None, Level::Error, "too low"),
        ] {
            let found = descriptors(limits(have), 2, asked, ports);
            assert_eq!(found.level, level, "{found:?}");
            assert!(found.text.contains(words), "{found:?}");
            assert_eq!(found.remedy.is_some(), level != Level::Ok);
        }
        let found = descriptors(limits(1024), 2, Some(9000), None);
        assert!(found.remedy.unwrap().contains("LimitNOFILE=32768"));
    }

    #[test]
    fn ports_are_held_against_the_fleet() {
        assert_eq!(room_for(100, 100).level, Level::Ok);
        let found = room_for(20_000, 15_536);
        assert_eq!(found.level, Level::Error);
        assert_eq!(found.remedy.unwrap(), "--port-range-start 45536 --port-range-end 65535");
    }
}
