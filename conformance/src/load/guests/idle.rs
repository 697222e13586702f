//! What a guest with idle streams costs a server in memory, beside a VM without one.
//!
//! Both are VMs that connect by TCP as a host has them do; the guests' port says that it carries streams.

use std::time::Duration;

use serde_json::json;

use super::GuestsArgs;
use crate::load::LoadError;
use crate::load::fleet::{FLEET_PATIENCE, Fleet};
use crate::load::process::{Launch, require_descriptors, resident_kib};
use crate::load::report::Report;
use crate::load::subject::Subject;
use crate::tunnel::Dial;

/// Tells what each takes.
pub(super) fn run(args: &GuestsArgs, report: &mut Report) -> Result<(), LoadError> {
    require_descriptors(args.guests + WARM)?;
    let plain = measure(args, None)?;
    let guest = measure(args, Some(args.streams))?;
    let [rss, heap] = [0, 1].map(|at| guest[at] - plain[at]);
    report.say(format!(
        "{} guests with {} idle streams: {rss:.0} bytes each beyond a VM ({heap:.0} of heap and stacks), \
         a VM {:.0} ({:.0})",
        args.guests, args.streams, plain[0], plain[1]
    ));
    report.put(
        "idle",
        json!({
            "guests": args.guests, "streams": args.streams,
            "guest_more_bytes": { "rss": rss.round(), "heap": heap.round() },
            "vm_bytes": { "rss": plain[0].round(), "heap": plain[1].round() },
        }),
    );
    Ok(())
}

/// Bytes of each of so many VMs: resident, and on the heap. `streams`: each is a guest that has so many.
fn measure(args: &GuestsArgs, streams: Option<u8>) -> Result<[f64; 2], LoadError> {
    let settles = Duration::from_secs_f64(args.settle);
    let ports = u16::try_from(args.guests + WARM).unwrap_or(u16::MAX);
    let launch = Launch { command: &args.spawn, ports, is_bound: true, ..Launch::default() };
    let (server, vms, first) = launch.start()?;
    let subject = Subject::Server { vms, first, dial: Dial::default() };
    let mut fleet = Fleet::new(&subject, 0, 0)?;
    let mut grow = |first, count| {
        fleet.add(&subject, first, count);
        if let Some(streams) = streams {
            fleet.carry_streams(streams);
        }
        fleet.start(TOGETHER, FLEET_PATIENCE).require_all()?;
        fleet.idle(settles);
        Ok::<_, LoadError>(())
    };
    // What is there for all of them, and not for each.
    let warm = WARM.min(args.guests);
    grow(0, warm)?;
    let before = resident_kib(server.pid())?;
    grow(warm, args.guests)?;
    let after = resident_kib(server.pid())?;
    Ok([0, 1].map(|at| (after[at] as f64 - before[at] as f64) * 1024.0 / args.guests as f64))
}

/// VMs that are there before memory is measured.
const WARM: usize = 100;
/// VMs that come up at a time.
const TOGETHER: usize = 32;
