//! Strangers who take all descriptors and keep them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::attack::{Attack, Visits};
use super::super::drill::{Drill, Tls};
use super::super::peer::{End, From, Peer};
use super::super::wire::{hello, made_up};
use crate::load::LoadError;
use crate::load::link::ANSWERS;
use crate::random::Random;

pub(super) const STRANGERS: Drill = Drill::new(
    "descriptors-strangers",
    "690 strangers with invented UUIDs stay, the server has 1024 descriptors; new VMs are served",
    |attack| crowd(attack, 690, To::Vms, |number| hello(&made_up(number as u64))),
)
.descriptors(1024);

pub(super) const CLIENTS: Drill = Drill::new(
    "descriptors-clients",
    "989 clients of one console stay, of 1024 descriptors in all; new VMs and others' clients are served",
    |attack| crowd(attack, 989, To::Console, |_| ANSWERS.to_vec()),
)
.options(&["--max-clients", "none"])
.descriptors(1024);

pub(super) const HANDSHAKES: Drill = Drill::new(
    "descriptors-handshakes",
    "1100 TLS connections to one console never shake hands, of 1024 descriptors in all; new VMs are served",
    |attack| crowd(attack, 1100, To::Console, |_| Vec::new()),
)
.options(&["--max-clients", "2"])
.descriptors(1024)
.tls(Tls::Clients);

pub(super) const SLOW: Drill = Drill::new(
    "descriptors-slow",
    "VMs that take 3 s to say who they are, beside a busy source of silent connections; all are served",
    slow,
)
.descriptors(1024);

#[derive(Clone, Copy)]
enum To {
    Vms,
    Console,
}

/// So many connect and stay; whoever is turned away comes back.
fn crowd(
    attack: &mut Attack<'_>,
    count: usize,
    to: To,
    say: impl Fn(usize) -> Vec<u8>,
) -> Result<(), LoadError> {
    let mut victim = match to {
        To::Vms => None,
        To::Console => Some(attack.victim()?),
    };
    let at = victim.as_ref().map_or(attack.ground.vms(), |victim| victim.at);
    let mut peers = attack.gather(at, count, 2000.0, &say);
    let returned = attack.stay(&mut peers, at, &say);
    let here = peers.iter().filter(|peer| peer.is_open).count();
    attack.facts.say(format!("{here} of {count} there at the end, {returned} came back"));
    attack.facts.put("there_at_the_end", here);
    attack.facts.put("came_back", returned);
    let Some(victim) = &mut victim else { return Ok(()) };
    drop(peers);
    // The console they crowd round is a VM's like any other.
    if !victim.print_some() {
        attack.facts.problem("the VM whose console they crowd round lost its connection");
    }
    Ok(())
}

/// Silent ones from one address, as fast as may be, and slow VMs from another.
fn slow(attack: &mut Attack<'_>) -> Result<(), LoadError> {
    let vms = attack.ground.vms();
    let mut slow: Vec<SlowVm> = Vec::new();
    let visits = Visits { to: vms, per_second: 1000.0, kept: 1200, end: Some(End::Reset) };
    let (mut served, mut begun) = (0, 0);
    let mut lost = Vec::new();
    let says_in = SAYS_IN.min(attack.left() / 2);
    let last = Instant::now() + (attack.left() - says_in) / 2;
    let mut scratch = vec![0; 4096];
    let silent = |_: &mut Random, number: u64| {
        // Ten of them at a time, each from its first word on.
        if number.is_multiple_of(100) && Instant::now() < last && slow.len() < 10 {
            slow.extend(SlowVm::connect(vms, begun, says_in));
            begun += 1;
        }
        slow.retain_mut(|vm| match vm.turn(&mut scratch) {
            None => true,
            Some(true) => {
                served += 1;
                false
            }
            Some(false) => {
                lost.push(vm.began.elapsed());
                false
            }
        });
        Vec::new()
    };
    attack.visits(visits, silent, |_| {});
    let still = slow.len();
    attack.facts.say(format!("{served} of {begun} slow VMs served"));
    attack.facts.put("slow_vms", begun);
    attack.facts.put("slow_vms_served", served);
    if let Some(first) = lost.first() {
        attack.facts.problem(format!(
            "{} of {begun} slow VMs were turned away, the first after {:.1} s",
            lost.len(),
            first.as_secs_f64()
        ));
    }
    if still > 0 {
        attack.facts.problem(format!("{still} slow VMs have said all and are not served"));
    }
    Ok(())
}

/// A VM whose session start takes long.
struct SlowVm {
    peer: Peer,
    words: Vec<u8>,
    said: usize,
    began: Instant,
    says_in: Duration,
}

impl SlowVm {
    fn connect(vms: SocketAddr, number: u64, says_in: Duration) -> Option<Self> {
        let from = From { address: Some(ELSEWHERE), ..From::default() };
        let peer = Peer::connect(vms, from, Vec::new()).ok()?;
        let words = hello(&made_up(u64::MAX - number));
        Some(Self { peer, words, said: 0, began: Instant::now(), says_in })
    }

    /// Says what is due by now; whether it was served, once that is known.
    fn turn(&mut self, scratch: &mut [u8]) -> Option<bool> {
        let share = self.began.elapsed().as_secs_f64() / self.says_in.as_secs_f64();
        let due = ((share * self.words.len() as f64) as usize).min(self.words.len());
        if due >= self.said + PIECE || due == self.words.len() {
            self.peer.say(&self.words[self.said..due]);
            self.said = due;
        }
        self.peer.write();
        self.peer.read(scratch);
        match (self.peer.is_served, self.peer.is_open) {
            (_, false) => Some(false),
            (true, true) if self.said == self.words.len() => Some(true),
            _ => None,
        }
    }
}

/// How long a slow VM takes to say who it is, if the attack is not shorter than two of that.
const SAYS_IN: Duration = Duration::from_secs(3);
/// In pieces of so many bytes.
const PIECE: usize = 16;
/// Where slow VMs come from.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 9);
