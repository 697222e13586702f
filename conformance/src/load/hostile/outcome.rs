//! What a drill gave, and whether that is good enough.

use std::time::Duration;

use serde_json::{Value, json};

use super::attack::Effort;
use super::drill::Drill;
use super::watch::{Newcomers, Seen};
use crate::load::process::Cost;
use crate::load::report::Report;
use crate::load::stats::{Samples, median, millis, round};

/// Everything that was measured in one drill at one server.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) drill: Drill,
    pub(super) seen: Seen,
    /// What a key took before.
    pub(super) before: Samples,
    /// Keys through the raw relay under the same attack, if the server's took long.
    pub(super) relay: Option<Samples>,
    /// Newcomers at the bare server under the same attack, if the server's took long.
    pub(super) bare: Option<Newcomers>,
    /// The one thing that is timed, here and at the bare server.
    pub(super) took: Option<Took>,
    pub(super) effort: Effort,
    /// What the attack itself tells.
    pub(super) facts: Report,
    pub(super) server: Server,
    /// What was found when all was over.
    pub(super) afterwards: Vec<String>,
}

/// How long the one thing took that is timed, in each of some runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Took {
    pub(super) here: Vec<Duration>,
    pub(super) bare: Vec<Duration>,
}

impl Took {
    /// The medians.
    fn medians(&self) -> [Duration; 2] {
        [&self.here, &self.bare].map(|times| {
            let seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
            Duration::from_secs_f64(median(&seconds))
        })
    }
}

/// What the server spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) cost: Cost,
    /// Its connections before, and after it had time to close what was left.
    pub(super) connections: (usize, usize),
    /// Bytes and lines of its log, per second.
    pub(super) log: (f64, f64),
    /// What the kernel held for all TCP sockets of the machine, before and at most, in KiB.
    pub(super) kernel_kib: (u64, u64),
}

impl Outcome {
    /// What is not as it must be.
    pub(super) fn problems(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        self.judge_keys(&mut problems);
        self.judge_newcomers(&mut problems);
        self.judge_residents(&mut problems);
        self.judge_server(&mut problems);
        problems.extend(self.facts.problems().iter().cloned());
        problems.extend(self.afterwards.iter().cloned());
        problems
    }

    fn judge_keys(&mut self, problems: &mut Vec<String>) {
        match &mut self.seen.keys {
            Ok(keys) => {
                let p99 = keys.percentile(99.0);
                let relay = self.relay.as_mut().map(|relay| relay.percentile(99.0));
                let allowed = KEY_P99.max(relay.unwrap_or_default() * KEY_BESIDE_RELAY);
                if p99 > allowed {
                    let beside = relay.map_or("not measured".into(), |p99| format!("{} ms", millis(p99)));
                    let (p99, allowed) = (millis(p99), millis(allowed));
                    problems.push(format!(
                        "another console's key: p99 {p99} ms, {allowed} allowed (the raw relay: {beside})"
                    ));
                }
            }
            Err(error) => problems.push(format!("another console's key: {error}")),
        }
    }

    fn judge_newcomers(&mut self, problems: &mut Vec<String>) {
        let newcomers = &mut self.seen.newcomers;
        if newcomers.missing > 0 {
            let all = newcomers.missing + newcomers.whole.len() as u64;
            let why = newcomers.why.as_deref().unwrap_or_default();
            problems.push(format!("{} of {all} new VMs not served: {why}", newcomers.missing));
        }
        let accepted = newcomers.accepted.percentile(99.0);
        if accepted > SERVED_P99 {
            problems.push(format!("a new VM is served {} ms (p99) after it was accepted", millis(accepted)));
        }
        let whole = newcomers.whole.percentile(99.0);
        let bare = self.bare.as_mut().map(|bare| bare.whole.percentile(99.0));
        // In a storm, a newcomer is one more of the fleet.
        let [took, bare_took] = self.took.as_ref().map(Took::medians).unwrap_or_default();
        let allowed = SERVED_P99.max(bare.unwrap_or_default().max(bare_took).mul_f64(BESIDE_BARE));
        if whole > allowed {
            let bare = bare.map_or("not measured".into(), |p99| format!("{} ms", millis(p99)));
            let (whole, allowed) = (millis(whole), millis(allowed));
            problems
                .push(format!("a new VM is served after {whole} ms (p99), {allowed} allowed (bare {bare})"));
        }
        if took > bare_took.mul_f64(BESIDE_BARE) {
            let (took, bare) = (millis(took), millis(bare_took));
            problems.push(format!(
                "took {took} ms, {BESIDE_BARE} times the {bare} ms of the bare server allowed"
            ));
        }
    }

    fn judge_residents(&self, problems: &mut Vec<String>) {
        let residents = &self.seen.residents;
        let lines = residents.lines;
        if lines.lost + lines.repeated + lines.foreign > 0 {
            problems.push(format!(
                "of {} lines of others {} lost, {} repeated, {} foreign",
                lines.said, lines.lost, lines.repeated, lines.foreign
            ));
        }
        if residents.misdirected > 0 {
            problems.push(format!("{} bytes to a connection with no right to them", residents.misdirected));
        }
        problems.extend(residents.problems.iter().cloned());
    }

    fn judge_server(&self, problems: &mut Vec<String>) {
        let (server, drill) = (&self.server, &self.drill);
        let grown = server.cost.rss_after.saturating_sub(server.cost.rss_before);
        if grown > drill.keeps_kib {
            problems.push(format!("RSS has grown by {grown} KiB, {} allowed", drill.keeps_kib));
        }
        let peak = server.cost.rss_peak.saturating_sub(server.cost.rss_before);
        if let Some(limit) = drill.takes_kib.filter(|&limit| peak > limit) {
            problems.push(format!("RSS grew by {peak} KiB while it went on, {limit} allowed"));
        }
        let (before, after) = server.connections;
        if after > before + CONNECTIONS_LEFT {
            problems.push(format!("{after} connections left of those who have gone, {before} before"));
        }
        let logged = server.log.0 * server.cost.elapsed;
        if logged > LOG_BURST + drill.logs as f64 * server.cost.elapsed {
            problems.push(format!(
                "{logged:.0} bytes of log, {} allowed per second and {LOG_BURST:.0} at once",
                drill.logs
            ));
        }
    }

    /// One line for people, without the verdict.
    pub(super) fn words(&mut self) -> String {
        let mut words = vec![match &mut self.seen.keys {
            Ok(keys) => format!("key {}", short(keys)),
            Err(_) => "key lost".into(),
        }];
        words.extend(self.relay.as_mut().map(|relay| format!("raw relay {}", short(relay))));
        let newcomers = &mut self.seen.newcomers;
        words.push(format!(
            "new VM {} (accepted {})",
            short(&mut newcomers.whole),
            short(&mut newcomers.accepted)
        ));
        words.extend(self.bare.as_mut().map(|bare| format!("bare {}", short(&mut bare.whole))));
        if let Some(took) = &self.took {
            let [here, bare] = took.medians().map(millis);
            words.push(format!("took {here} ms (bare {bare} ms; medians of {})", took.here.len()));
        }
        let residents = &self.seen.residents;
        words.push(format!(
            "{} of {} lines lost, {} moves",
            residents.lines.lost, residents.lines.said, residents.moves
        ));
        let Server { cost, connections, log, kernel_kib } = &self.server;
        words.push(format!("RSS {} -> {} KiB (peak {})", cost.rss_before, cost.rss_after, cost.rss_peak));
        words.push(format!("connections {} -> {}", connections.0, connections.1));
        words.push(format!("log {:.1} KB/s", log.0 / 1e3));
        words.push(format!("kernel {} -> {} KiB", kernel_kib.0, kernel_kib.1));
        words.push(format!("server CPU {:.0} %", cost.percent()));
        let effort = &self.effort;
        words.push(format!(
            "attackers {} connections {:.1} MB, CPU {:.0} %",
            effort.connections,
            effort.bytes as f64 / 1e6,
            effort.percent()
        ));
        words.extend(self.facts.words().map(str::to_owned));
        words.join(", ")
    }

    /// The same for machines.
    pub(super) fn json(&mut self) -> Value {
        let Server { cost, connections, log, kernel_kib } = self.server;
        let ms = |time: Duration| round(time.as_secs_f64() * 1e3, 3);
        let all = |times: &[Duration]| times.iter().copied().map(ms).collect::<Vec<_>>();
        let residents = &mut self.seen.residents;
        let newcomers = &mut self.seen.newcomers;
        json!({
            "key": self.seen.keys.as_mut().ok().map(Samples::json),
            "key_before": self.before.json(),
            "key_relay": self.relay.as_mut().map(Samples::json),
            "new_vm": newcomers.whole.json(),
            "new_vm_accepted": newcomers.accepted.json(),
            "new_vms_missing": newcomers.missing,
            "new_vm_bare": self.bare.as_mut().map(|bare| bare.whole.json()),
            "took_ms": self.took.as_ref().map(|took| all(&took.here)),
            "bare_took_ms": self.took.as_ref().map(|took| all(&took.bare)),
            "lines": residents.lines.said,
            "lines_lost": residents.lines.lost,
            "lines_repeated": residents.lines.repeated,
            "lines_foreign": residents.lines.foreign,
            "misdirected_bytes": residents.misdirected,
            "moves": residents.moves,
            "goahead": residents.goahead.json(),
            "cost": cost.json(),
            "connections_before": connections.0,
            "connections_after": connections.1,
            "log_bytes_per_s": round(log.0, 0),
            "log_lines_per_s": round(log.1, 0),
            "kernel_kib_before": kernel_kib.0,
            "kernel_kib_peak": kernel_kib.1,
            "attackers": {
                "connections": self.effort.connections,
                "bytes": self.effort.bytes,
                "cpu_percent": round(self.effort.percent(), 1),
            },
            "facts": self.facts.fields(),
        })
    }

    /// Its row in the table, behind drill and server: see [`COLUMNS`].
    pub(super) fn row(&mut self) -> Vec<String> {
        let newcomers = &mut self.seen.newcomers;
        let [key, key_max] = match &mut self.seen.keys {
            Ok(keys) => [99.0, 100.0].map(|p| millis(keys.percentile(p))),
            Err(_) => ["lost", ""].map(str::to_owned),
        };
        let Server { cost, connections, log, .. } = &self.server;
        vec![
            key,
            key_max,
            millis(newcomers.whole.percentile(99.0)),
            millis(newcomers.accepted.percentile(99.0)),
            newcomers.missing.to_string(),
            self.seen.residents.lines.lost.to_string(),
            format!("{:+}", cost.rss_after as i64 - cost.rss_before as i64),
            format!("{:+}", connections.1 as i64 - connections.0 as i64),
            format!("{:.1}", log.0 / 1e3),
        ]
    }
}

/// `p50/p99/max` in as few words as may be.
fn short(samples: &mut Samples) -> String {
    let [p50, p99, max] = [50.0, 99.0, 100.0].map(|p| millis(samples.percentile(p)));
    format!("{p50}/{p99}/{max} ms")
}

/// What stands above [`Outcome::row`].
pub(super) const COLUMNS: [&str; 9] =
    ["key p99", "max ms", "VM p99", "accepted", "missing", "lost", "RSS KiB", "conns", "log KB/s"];

/// Another console's key, p99: what a person does not notice.
pub(super) const KEY_P99: Duration = Duration::from_millis(20);
/// Where the machine itself is that busy: so many times what the raw relay takes under the same attack.
const KEY_BESIDE_RELAY: u32 = 2;
/// A new VM, p99.
pub(super) const SERVED_P99: Duration = Duration::from_millis(100);
/// End to end, where the machine itself is that busy: so many times what the bare server takes.
const BESIDE_BARE: f64 = 1.5;
/// The last connections may be on their way: a health check, a VM that has just gone.
const CONNECTIONS_LEFT: usize = 2;

/// A fleet that comes at once may be told of, VM by VM, and a server cannot tell made-up VMs from those: 9000
/// VMs of 5 lines and 240 bytes each.
const LOG_BURST: f64 = (9000 * 5 * 240) as f64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::LoadError;
    use crate::load::vmotion::stage::Lines;

    fn samples(ms: u64) -> Samples {
        let mut samples = Samples::default();
        samples.push(Duration::from_millis(ms));
        samples
    }

    fn well() -> Outcome {
        let cost =
            Cost { user: 0.1, system: 0.1, elapsed: 1.0, rss_before: 4000, rss_peak: 5000, rss_after: 4500 };
        Outcome {
            drill: Drill::new("drill", "about", |_| Ok(())).logs(1000).takes_kib(2000),
            seen: Seen {
                keys: Ok(samples(1)),
                newcomers: Newcomers { whole: samples(2), accepted: samples(1), ..Newcomers::default() },
                residents: super::super::watch::Residents::default(),
            },
            before: samples(1),
            relay: None,
            bare: None,
            took: None,
            effort: Effort::default(),
            facts: Report::new(),
            server: Server { cost, connections: (9, 11), log: (900.0, 4.0), kernel_kib: (0, 0) },
            afterwards: Vec::new(),
        }
    }

    fn judged(change: impl FnOnce(&mut Outcome)) -> String {
        let mut outcome = well();
        change(&mut outcome);
        outcome.problems().join("; ")
    }

    #[test]
    fn what_is_within_its_limits_is_no_problem() {
        assert_eq!(judged(|_| {}), "");
        assert_eq!(well().row().len(), COLUMNS.len());
    }

    #[test]
    fn a_slow_key_is_a_problem_unless_the_relay_is_half_as_slow() {
        assert!(judged(|o| o.seen.keys = Ok(samples(30))).contains("p99 30.0 ms, 20.0 allowed"));
        let beside = |relay| judged(|o| (o.seen.keys, o.relay) = (Ok(samples(30)), Some(samples(relay))));
        assert!(beside(14).contains("28.0 allowed"));
        assert_eq!(beside(16), "");
        assert!(judged(|o| o.seen.keys = Err(LoadError::Violation("gone".into()))).contains("gone"));
    }

    #[test]
    fn a_slow_newcomer_is_a_problem_unless_the_bare_server_is_nearly_as_slow() {
        assert!(judged(|o| o.seen.newcomers.accepted = samples(101)).contains("after it was accepted"));
        assert!(judged(|o| o.seen.newcomers.missing = 1).contains("1 of 2 new VMs"));
        let beside = |bare| {
            let bare = Newcomers { whole: samples(bare), ..Newcomers::default() };
            judged(|o| (o.seen.newcomers.whole, o.bare) = (samples(300), Some(bare)))
        };
        assert!(beside(199).contains("allowed (bare 199.0 ms)"));
        assert_eq!(beside(201), "");
    }

    #[test]
    fn what_is_timed_beside_the_bare_server_has_half_as_much_again() {
        let times = |times: [u64; 3]| times.map(Duration::from_millis).to_vec();
        let took =
            |ms| judged(|o| o.took = Some(Took { here: times([1, ms, 999]), bare: times([100, 100, 1]) }));
        assert_eq!(took(149), "");
        assert!(took(151).contains("1.5 times"));
    }

    #[test]
    fn what_others_lose_is_a_problem() {
        assert!(
            judged(|o| o.seen.residents.lines = Lines { lost: 1, ..Lines::default() }).contains("1 lost")
        );
        assert!(judged(|o| o.seen.residents.misdirected = 3).contains("3 bytes to"));
    }

    #[test]
    fn what_the_server_keeps_is_a_problem() {
        assert!(judged(|o| o.server.cost.rss_after = 4001 + KEEPS).contains("RSS has grown"));
        assert!(judged(|o| o.server.cost.rss_peak = 6001).contains("while it went on"));
        assert!(judged(|o| o.server.connections.1 = 12).contains("12 connections left"));
        assert_eq!(judged(|o| o.server.log.0 = LOG_BURST + 999.0), "");
        assert!(judged(|o| o.server.log.0 = LOG_BURST + 1001.0).contains("bytes of log"));
        assert!(judged(|o| o.facts.problem("typed")).contains("typed"));
    }

    const KEEPS: u64 = 16 << 10;
}
