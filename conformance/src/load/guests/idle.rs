//! What a guest with idle streams costs a server in memory, beside a VM without one.
//!
//! Both are VMs that connect by TCP as a host has them do; the guests' port says that it carries streams.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use serde_json::json;
use vspc_core::time;
use vspc_core::vmware::{VmConfig, VmEvent};

use super::idle_guest::IdleGuest;
use super::{GuestsArgs, PATIENCE, broken};
use crate::fake_vm::leg::Leg;
use crate::load::LoadError;
use crate::load::link::{numbered_vm, tells_name};
use crate::load::process::{Launch, require_descriptors, resident_kib};
use crate::load::report::Report;
use crate::tunnel::{Dial, Port};

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
    let (server, vms, _) = launch.start()?;
    let mut fleet = Fleet::new(vms, streams)?;
    // What is there for all of them, and not for each.
    fleet.grow(WARM.min(args.guests))?;
    fleet.stay(settles)?;
    let before = resident_kib(server.pid())?;
    fleet.grow(args.guests)?;
    fleet.stay(settles)?;
    let after = resident_kib(server.pid())?;
    Ok([0, 1].map(|at| (after[at] as f64 - before[at] as f64) * 1024.0 / args.guests as f64))
}

/// VMs on one event loop.
struct Fleet {
    poll: Poll,
    events: Events,
    dial: Dial,
    vms: SocketAddr,
    streams: Option<u8>,
    began: Instant,
    members: Vec<Member>,
    /// Those that are idle.
    idle: usize,
    typed: Vec<u8>,
}

struct Member {
    leg: Leg,
    guest: Option<IdleGuest>,
    agreed: bool,
    named: bool,
    is_idle: bool,
}

impl Fleet {
    fn new(vms: SocketAddr, streams: Option<u8>) -> Result<Self, LoadError> {
        Ok(Self {
            poll: Poll::new().map_err(|error| broken(&error))?,
            events: Events::with_capacity(256),
            dial: Dial::default(),
            vms,
            streams,
            began: Instant::now(),
            members: Vec::new(),
            idle: 0,
            typed: Vec::new(),
        })
    }

    /// Brings up so many more, and waits until all of them are idle.
    fn grow(&mut self, count: usize) -> Result<(), LoadError> {
        let all = self.members.len() + count;
        let mut deadline = Instant::now() + PATIENCE;
        while self.idle < all {
            while self.members.len() < all && self.members.len() - self.idle < TOGETHER {
                self.connect()?;
            }
            let before = self.idle;
            self.turn()?;
            if self.idle > before {
                deadline = Instant::now() + PATIENCE;
            } else if Instant::now() > deadline {
                let idle = self.idle;
                return Err(LoadError::Unreachable(format!("only {idle} of {all} VMs have come up")));
            }
        }
        Ok(())
    }

    /// Lets time pass.
    fn stay(&mut self, time: Duration) -> Result<(), LoadError> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn()?;
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), LoadError> {
        let token = Token(self.members.len());
        let uri = if self.streams.is_some() { "vSPC.py?mux=s2" } else { "vSPC.py" };
        let config = Arc::new(VmConfig { uri: uri.to_owned(), ..numbered_vm(token.0) });
        let stream = self.dial.begin(Port::Vm, self.vms).map_err(|error| broken(&error))?;
        let leg = Leg::over(stream, config, self.poll.registry(), token).map_err(|error| broken(&error))?;
        let guest = self.streams.map(|streams| IdleGuest::new(streams, self.now()));
        self.members.push(Member { leg, guest, agreed: false, named: false, is_idle: false });
        Ok(())
    }

    fn turn(&mut self) -> Result<(), LoadError> {
        match self.poll.poll(&mut self.events, Some(TICK)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(broken(&error)),
            _ => {}
        }
        let now = self.now();
        for event in &self.events {
            let number = event.token().0;
            let member = &mut self.members[number];
            member.leg.wake(event);
            self.typed.clear();
            member
                .serve(&mut self.typed, now)
                .map_err(|why| LoadError::Violation(format!("VM {number}: {why}")))?;
            if !member.is_idle && member.has_come_up() {
                member.is_idle = true;
                self.idle += 1;
            }
        }
        Ok(())
    }

    fn now(&self) -> time::Instant {
        time::Instant::from_micros(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

impl Member {
    fn serve(&mut self, typed: &mut Vec<u8>, now: time::Instant) -> Result<(), String> {
        self.leg.read(typed).map_err(|error| error.to_string())?;
        while let Some(event) = self.leg.poll_event() {
            match event {
                VmEvent::ProxyAgreed => self.agreed = true,
                VmEvent::Refused | VmEvent::NotProxy => return Err("it is refused".to_owned()),
                _ => {}
            }
        }
        if let Some(guest) = &mut self.guest {
            guest.handle_timeout(now);
            guest.handle_received(typed, now)?;
            let mut said = Vec::new();
            guest.transmit(now, &mut said);
            self.leg.session().print(&said);
        }
        self.named |= tells_name(self.leg.session().pending());
        self.leg.flush().map_err(|error| error.to_string())
    }

    fn has_come_up(&self) -> bool {
        self.agreed && self.named && self.guest.as_ref().is_none_or(IdleGuest::is_idle)
    }
}

/// VMs that are there before memory is measured.
const WARM: usize = 100;
/// VMs that come up at a time.
const TOGETHER: usize = 32;
const TICK: Duration = Duration::from_millis(20);
