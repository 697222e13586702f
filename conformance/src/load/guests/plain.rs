//! Plain bulk: what the server costs that passes a VM's bytes on to a client, and knows of no guest.

use super::stage::Stage;
use super::{Figures, GuestsArgs, LONGEST, Shares};
use crate::load::LoadError;
use crate::load::bulk::{Plan, carry};
use crate::load::link::{ClientKind, VmLink, meet, numbered_vm};
use crate::load::pattern::{Content, Pattern};
use crate::load::process::{Launch, Meter};
use crate::load::subject::Subject;
use crate::tunnel::Dial;

/// A VM prints so many random bytes by TCP, as a host says them, and one telnet client reads them.
pub(super) fn copy(args: &GuestsArgs, stage: &Stage) -> Result<Figures, LoadError> {
    let launch = Launch {
        command: &args.spawn,
        ports: 4,
        is_bound: true,
        options: vec!["--no-banner".to_owned()],
        ..Launch::default()
    };
    let (server, vms, first) = launch.start()?;
    let subject = Subject::Server { vms, first, dial: Dial::default() };
    let mut vm = VmLink::open(&subject, numbered_vm(0))?;
    let clients = meet(&mut vm, &subject, ClientKind::Telnet, 1)?;
    let (received, streams) = clients.into_iter().map(|client| (client.received, client.stream)).unzip();
    let pattern = Pattern::wire(Content::Binary);
    let plan = Plan { periods: stage.length.div_ceil(pattern.period()), until: LONGEST, rate: None };
    let meter = Meter::start(server.pid())?;
    let carried = carry((&mut vm.stream, &pattern), (streams, &pattern), received, plan)?;
    let cost = meter.read()?;
    let end = &carried.ends[0];
    if !end.totals.clean() {
        let what = format!("plain bulk: {} bytes are lost; does a slow client wait?", end.totals.lost);
        return Err(LoadError::Violation(what));
    }
    let bytes = pattern.guest_bytes(end.matched);
    let gigabytes = bytes as f64 / 1e9;
    Ok(Figures {
        megabytes_per_second: gigabytes * 1e3 / carried.seconds,
        cpu: Some(Shares { server: cost.cpu() / gigabytes, agent: None }),
    })
}
