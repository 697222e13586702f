//! The suite: which transcripts a server can be asked to play, and what came of each.

use crate::drive::{ClientPort, Failure, Live, LiveOptions, Options, Outcome, Played, Values, play};
use crate::transcript::{Action, Scope, Section, Setting, Transcript};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A server, as far as the suite needs to know it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it is.
    pub live: LiveOptions,
    /// What it was started with, of that which transcripts ask for.
    pub config: Vec<Setting>,
    /// The service URI that it serves.
    pub service_uri: String,
    /// How often the time is allowed that a transcript gives to what must come: 1, if nothing else keeps
    /// the machines busy.
    pub slack: u32,
    /// With one client port for one VM: that VM's UUID.
    pub uuid: [u8; 16],
}

/// What to play.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only ids that contain one of these, and sections of these names; empty: all.
    pub only: Vec<String>,
    /// Also what binds this project's servers only.
    pub own: bool,
    /// Also what takes long.
    pub slow: bool,
}

/// A transcript that was played, or not.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// Which.
    pub transcript: &'a Transcript,
    /// What came of it.
    pub verdict: Verdict,
    /// Who said what.
    pub log: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// What came of a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As expected.
    Pass,
    /// Not as expected.
    Fail(Failure),
    /// The server offers no way to tell; why.
    NotOffered(String),
    /// The server had stopped taking connections before.
    NotRun,
}

impl Selection {
    /// The transcripts that are meant, by section.
    #[must_use]
    pub fn choose<'a>(&self, corpus: &'a [Transcript]) -> Vec<&'a Transcript> {
        let wanted = |t: &Transcript| {
            self.only.is_empty()
                || self.only.iter().any(|only| t.id.contains(only.as_str()) || t.section.word() == only)
        };
        let mut chosen: Vec<&Transcript> = corpus
            .iter()
            .filter(|t| wanted(t) && (self.own || t.scope == Scope::Any) && (self.slow || !t.is_slow()))
            .collect();
        chosen.sort_by_key(|t| t.section);
        chosen
    }
}

impl Server {
    /// Plays all of `transcripts`, at most `jobs` at a time. `seen` is told of each as it ends. It always
    /// ends: every case is bounded, and when the server is gone the rest is not run.
    pub fn check<'a>(
        &self,
        transcripts: &[&'a Transcript],
        jobs: usize,
        seed: u64,
        mut seen: impl FnMut(&Case<'a>),
    ) -> Vec<Case<'a>> {
        // What takes longest begins first, so that no straggler is left at the end.
        let mut order: Vec<usize> = (0..transcripts.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(transcripts[*index].waits()));
        let jobs = match self.live.clients {
            // All cases are about the same VM: one at a time.
            ClientPort::Fixed(_) => 1,
            _ => jobs.max(1),
        };
        let (next, hint, gone) = (AtomicUsize::new(0), AtomicU16::new(0), AtomicBool::new(false));
        let (sender, results) = mpsc::channel();
        let mut cases: Vec<Option<Case<'a>>> = transcripts.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                let (sender, order, next, hint, gone) = (sender.clone(), &order, &next, &hint, &gone);
                scope.spawn(move || {
                    while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let case = self.case(transcripts[index], seed, hint, gone);
                        // The receiver outlives this scope.
                        let _ = sender.send((index, case));
                    }
                });
            }
            drop(sender);
            for (index, case) in results {
                seen(&case);
                cases[index] = Some(case);
            }
        });
        cases.into_iter().flatten().collect()
    }

    fn case<'a>(
        &self,
        transcript: &'a Transcript,
        seed: u64,
        hint: &AtomicU16,
        gone: &AtomicBool,
    ) -> Case<'a> {
        let begun = Instant::now();
        let done = |verdict, log| Case { transcript, verdict, log, took: begun.elapsed() };
        if gone.load(Ordering::Relaxed) {
            return done(Verdict::NotRun, Vec::new());
        }
        if let Some(why) = self.cannot(transcript) {
            return done(Verdict::NotOffered(why), Vec::new());
        }
        let mut network = match Live::new(self.live, hint.load(Ordering::Relaxed)) {
            Ok(network) => network,
            Err(error) => {
                let why = format!("this machine cannot do it: {error}");
                return done(Verdict::NotOffered(why), Vec::new());
            }
        };
        let options = Options { slack: self.slack, ..Options::default() };
        let played = play(transcript, &mut network, &self.values(transcript, seed), options);
        hint.fetch_max(network.hint(), Ordering::Relaxed);
        drop(network);
        if matches!(self.live.clients, ClientPort::Fixed(_)) {
            // The same VM comes again at once: let the server see the last of this one.
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = played.log.clone();
        let verdict = judge(transcript, played);
        if matches!(verdict, Verdict::Fail(_)) && !self.is_there() {
            gone.store(true, Ordering::Relaxed);
        }
        done(verdict, log)
    }

    /// Why this server cannot be asked.
    fn cannot(&self, transcript: &Transcript) -> Option<String> {
        let same = transcript.config.iter().all(|setting| self.config.contains(setting))
            && self.config.iter().all(|setting| transcript.config.contains(setting));
        if !same {
            let needs: Vec<String> = transcript.config.iter().map(ToString::to_string).collect();
            return Some(match needs.as_slice() {
                [] => "needs a server without special settings".to_owned(),
                needs => format!("needs a server with {}", needs.join(" and ")),
            });
        }
        if !transcript.needs_client_port() {
            return None;
        }
        match self.live.clients {
            ClientPort::Unknown => {
                Some("no client port is known (--client-port-base, --client-port)".to_owned())
            }
            ClientPort::Fixed(_) if consoles(transcript) > 1 => {
                Some("needs the client ports of two VMs, and one is known".to_owned())
            }
            _ => None,
        }
    }

    fn values(&self, transcript: &Transcript, seed: u64) -> Values {
        let seed = transcript
            .id
            .bytes()
            .fold(seed, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut values = Values::new(seed);
        values.set("uri", self.service_uri.as_bytes());
        if let (ClientPort::Fixed(_), Some(id)) = (self.live.clients, transcript.identities().first()) {
            values.set_uuid(id, self.uuid);
        }
        values
    }

    /// Does it take connections?
    #[must_use]
    pub fn is_there(&self) -> bool {
        (0..3).any(|again| {
            std::thread::sleep(Duration::from_millis(300 * again));
            TcpStream::connect_timeout(&self.live.target, Duration::from_secs(2)).is_ok()
        })
    }
}

/// How many consoles have clients in this dialogue.
fn consoles(transcript: &Transcript) -> usize {
    let mut vms: Vec<&str> = transcript
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::ConnectClient { of, .. } => Some(of.as_str()),
            _ => None,
        })
        .collect();
    vms.sort_unstable();
    vms.dedup();
    vms.len()
}

/// The verdict on a transcript that was played.
#[must_use]
pub fn judge(transcript: &Transcript, played: Played) -> Verdict {
    let moves = [40, 41, 44, 45, 46];
    match (played.outcome, played.known) {
        (Outcome::Pass, _) => Verdict::Pass,
        (Outcome::NotOffered(why), _) => Verdict::NotOffered(why),
        (Outcome::Fail(_), Some(known))
            if transcript.section == Section::Vmotion && !moves.iter().any(|code| known.contains(code)) =>
        {
            Verdict::NotOffered("its KNOWN-SUBOPTIONS-2 names no vMotion command".to_owned())
        }
        (Outcome::Fail(failure), _) => Verdict::Fail(failure),
    }
}
