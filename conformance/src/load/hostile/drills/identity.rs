//! Who says that it is a VM that is there: nothing that is typed at that VM is for it, and the VM stays
//! reachable.

use super::super::attack::{Attack, Visits};
use super::super::drill::Drill;
use super::super::ground::RESIDENTS;
use super::super::peer::End;
use super::super::wire::{hello, message};
use crate::load::LoadError;
use crate::load::link::numbered_vm;
use crate::random::Random;
use crate::telnet::names::code;

pub(super) const TAKEOVER: Drill = Drill::new(
    "takeover",
    "who knows a UUID and a name claims them in a loop, also while the VM moves; nothing typed is for him",
    |attack| claim(attack, 50.0, 16, |_| Vec::new()),
)
.moves();

pub(super) const ORPHAN: Drill = Drill::new(
    "orphan",
    "who knows a UUID claims it, begins a move and goes; the VM still gets every key at once",
    |attack| claim(attack, 10.0, 2, |random| message(code::BEGIN, &random.next().to_be_bytes()[..4])),
);

pub(super) const CLONES: Drill = Drill::new(
    "clones",
    "VMs with others' UUIDs and names of their own print all the time; the others' consoles do not show them",
    clones,
);

/// Claims of residents' UUIDs and names, each followed by `more`.
fn claim(
    attack: &mut Attack<'_>,
    per_second: f64,
    kept: usize,
    more: impl Fn(&mut Random) -> Vec<u8>,
) -> Result<(), LoadError> {
    let visits = Visits { to: attack.ground.vms(), per_second, kept, end: Some(End::Close) };
    let session = |random: &mut Random, number: u64| {
        let resident = RESIDENTS.start + number as usize % RESIDENTS.len();
        [hello(&numbered_vm(resident)), more(random)].concat()
    };
    let mut got = Got::default();
    attack.visits(visits, session, |peer| got.add(&peer.typed));
    got.tell(attack);
    Ok(())
}

/// One clone of each resident.
fn clones(attack: &mut Attack<'_>) -> Result<(), LoadError> {
    let vms = attack.ground.vms();
    let session = |number: usize| {
        let mut vm = numbered_vm(RESIDENTS.start + number % RESIDENTS.len());
        vm.name.push_str("-copy");
        hello(&vm)
    };
    let mut peers = attack.gather(vms, RESIDENTS.len(), 100.0, session);
    let mut pace = attack.pace(10.0);
    while attack.is_on() {
        for peer in &mut peers {
            if peer.backlog() == 0 {
                peer.say(b"this is the copy\r\n");
            }
            attack.look(peer);
        }
        attack.keep(&mut pace, 1.0);
    }
    let mut got = Got::default();
    peers.iter().for_each(|peer| got.add(&peer.typed));
    let open = peers.iter().filter(|peer| peer.is_open).count();
    if attack.ground.is_server && open < peers.len() {
        attack.facts.problem(format!("{} of {} copies were closed", peers.len() - open, peers.len()));
    }
    got.tell(attack);
    Ok(())
}

/// What claimants got of what was typed.
#[derive(Default)]
struct Got {
    bytes: usize,
    claimants: usize,
    first: Vec<u8>,
}

impl Got {
    fn add(&mut self, typed: &[u8]) {
        if !typed.is_empty() {
            self.bytes += typed.len();
            self.claimants += 1;
            if self.first.is_empty() {
                self.first = typed.to_vec();
            }
        }
    }

    fn tell(&self, attack: &mut Attack<'_>) {
        attack.facts.put("typed_bytes_to_claimants", self.bytes);
        if self.bytes > 0 {
            let first = String::from_utf8_lossy(&self.first[..self.first.len().min(40)]).into_owned();
            attack.facts.problem(format!(
                "{} claimants got at least {} bytes that were typed at others: {first:?}",
                self.claimants, self.bytes
            ));
        }
    }
}
