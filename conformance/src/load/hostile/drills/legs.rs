//! Many connections under one UUID.

use super::super::attack::Attack;
use super::super::drill::Drill;
use super::super::wire::{hello, made_up};
use crate::load::LoadError;

pub(super) const LEGS: Drill = Drill::new(
    "legs",
    "8000 connections say one UUID and stay; each arrival costs the same, and nobody else waits",
    |attack| many(attack, 8000, 4000.0).map(drop),
)
.alone();

pub(super) const TEMPLATE: Drill = Drill::new(
    "template",
    "500 VMs from one template, with its UUID and name, at one moment; each is answered and none is closed",
    |attack| {
        let (served, open) = many(attack, TEMPLATE_VMS, f64::INFINITY)?;
        if attack.ground.is_server && (served, open) != (TEMPLATE_VMS, TEMPLATE_VMS) {
            attack.facts.problem(format!("of {TEMPLATE_VMS} VMs {served} were served and {open} are left"));
        }
        Ok(())
    },
);

/// So many with one UUID and name stay; how many were served, and are still there.
fn many(attack: &mut Attack<'_>, count: usize, per_second: f64) -> Result<(usize, usize), LoadError> {
    let vms = attack.ground.vms();
    let session = hello(&made_up(attack.random.next()));
    let mut peers = attack.gather(vms, count, per_second, |_| session.clone());
    while attack.is_on() {
        attack.look_at(&mut peers);
        attack.rest(std::time::Duration::from_millis(100));
    }
    let served = peers.iter().filter(|peer| peer.is_served).count();
    let open = peers.iter().filter(|peer| peer.is_open).count();
    attack.facts.say(format!("{} connected, {served} served, {open} left", peers.len()));
    attack.facts.put("served", served);
    attack.facts.put("left", open);
    Ok((served, open))
}

/// As many VMs as are deployed at once somewhere.
const TEMPLATE_VMS: usize = 500;
