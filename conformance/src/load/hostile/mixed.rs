//! All attacks that can go on beside each other, on one server, in an order that chance makes.
//!
//! The VMs that others depend on speak TLS from the first byte, the attackers telnet. The upgrade by option
//! 37 would be declined: attackers and VMs share an address here, and a host whose upgrade failed, which
//! garbage can bring about, is served in clear for ten minutes.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::attack::{Attack, Effort, Part};
use super::drill::{Drill, Tls};
use super::drills::DRILLS;
use super::ground::Ground;
use super::play::{Disturb, Disturbed};
use crate::load::report::Report;
use crate::random::{Random, mix};

/// What `--only` calls it.
pub(super) const NAME: &str = "mixed";

pub(super) const DRILL: Drill = Drill::new(
    NAME,
    "the other attacks in random order and overlap, with moves, for as long as --for says",
    |_| Ok(()),
)
.options(&["--max-clients", "none"])
.moves()
.tls(Tls::Vms)
.wants("--max-consoles", "20000")
.keeps_kib(KEEPS_KIB);

/// Two lanes, in each of which one attack follows another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixed;

impl Disturb for Mixed {
    fn disturb(&self, ground: &Ground, seed: u64, time: Duration, stop: &AtomicBool) -> Disturbed {
        let began = Instant::now();
        let lanes: Vec<(Report, Effort)> = thread::scope(|scope| {
            let lane =
                |lane: u64| scope.spawn(move || go_on(ground, lane, mix(seed ^ lane), began, time, stop));
            let lanes: Vec<_> = (0..LANES).map(lane).collect();
            lanes.into_iter().map(|lane| lane.join().unwrap_or_default()).collect()
        });
        let mut disturbed = Disturbed { facts: Report::new(), effort: Effort::default(), took: None };
        for (facts, effort) in lanes {
            disturbed.facts.merge(facts);
            disturbed.effort.add(&effort);
        }
        disturbed.effort.elapsed = began.elapsed();
        disturbed
    }
}

/// One lane: attacks, and sometimes nothing.
fn go_on(
    ground: &Ground,
    lane: u64,
    seed: u64,
    began: Instant,
    time: Duration,
    stop: &AtomicBool,
) -> (Report, Effort) {
    let mix: Vec<&Drill> = DRILLS.iter().filter(|drill| drill.mixes).collect();
    let mut random = Random::new(seed);
    let (mut facts, mut effort, mut played) = (Report::new(), Effort::default(), 0);
    loop {
        let left = time.saturating_sub(began.elapsed());
        if left.is_zero() || stop.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
        let drill = mix[random.below(mix.len())];
        let length = SHORTEST + Duration::from_millis(random.below(LONGER) as u64);
        let (at, length) = (began.elapsed().as_secs_f64(), length.min(left));
        eprintln!("hostile: {at:.1} s: {} for {:.1} s (lane {lane})", drill.name, length.as_secs_f64());
        let (attack, outcome) =
            Attack::run(ground, drill.attack, Part { lane, seed: random.next(), time: length }, stop);
        played += 1;
        effort.add(&attack.effort);
        let problems = attack.facts.problems().iter().cloned();
        for problem in problems.chain(outcome.err().map(|error| error.to_string())) {
            let problem = format!("{} from {at:.1} s on: {problem}", drill.name);
            eprintln!("hostile: {problem}");
            facts.problem(problem);
        }
    }
    facts.say(format!("{played} attacks"));
    (facts, effort)
}

/// As many attacks at a time as a small machine can make.
const LANES: u64 = 2;
/// An attack that is shorter hardly begins.
const SHORTEST: Duration = Duration::from_secs(2);
/// How much longer it may be, in ms.
const LONGER: usize = 8000;
/// Made-up consoles of a whole run stay for a day: as many as a server is told to keep.
const KEEPS_KIB: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_attacks_can_go_on_beside_others() {
        assert!(DRILLS.iter().filter(|drill| drill.mixes).count() >= 10);
    }
}
