//! Strangers who make consoles: each says a session that it made up, and goes.

use super::super::attack::{Attack, Visits};
use super::super::drill::Drill;
use super::super::peer::End;
use super::super::wire::{hello, made_up};
use crate::load::LoadError;
use crate::random::Random;

pub(super) const PORTS: Drill = Drill::new(
    "consoles-ports",
    "made-up sessions take all of 300 client ports; real VMs still get a console and a port",
    attack,
)
.ports(300);

pub(super) const DESCRIPTORS: Drill = Drill::new(
    "consoles-descriptors",
    "made-up sessions take all of 256 descriptors; real VMs still get a console and a port",
    attack,
)
.descriptors(256);

pub(super) const MEMORY: Drill = Drill::new(
    "consoles-memory",
    "made-up sessions with long names and URIs, without end; memory has a bound",
    |attack| {
        let served = flood(attack, 2000.0, 128, 1000);
        tell(attack, served);
        Ok(())
    },
)
.options(&["--multi-console"])
.ports(100)
.wants("--max-consoles", "1000");

fn attack(attack: &mut Attack<'_>) -> Result<(), LoadError> {
    // Two halves, and a real VM in the middle of it.
    let end = attack.left() / 2;
    let all = attack.set_end(end);
    let mut served = flood(attack, 1000.0, 8, 8);
    attack.restore_end(all);
    if let Err(error) = attack.victim() {
        attack.facts.problem(format!("in the middle of it a new VM gets no console and port: {error}"));
    }
    served += flood(attack, 1000.0, 8, 8);
    tell(attack, served);
    Ok(())
}

/// Visits by VMs that nobody has, with names and URIs of these lengths; how many were served.
fn flood(attack: &mut Attack<'_>, per_second: f64, name: usize, uri: usize) -> u64 {
    let visits = Visits { to: attack.ground.vms(), per_second, kept: 64, end: Some(End::Reset) };
    let mut served = 0;
    let session = |random: &mut Random, _| {
        let mut vm = made_up(random.next());
        vm.name = format!("{:n<name$}", vm.name);
        vm.uri = format!("{:u<uri$}", vm.uri);
        hello(&vm)
    };
    attack.visits(visits, session, |peer| served += u64::from(peer.is_served));
    served
}

fn tell(attack: &mut Attack<'_>, served: u64) {
    attack.facts.say(format!("{served} made-up sessions served"));
    attack.facts.put("made_up_served", served);
}
