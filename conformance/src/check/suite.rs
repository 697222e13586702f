//! The suite: which transcripts a server can be asked to play, and what came of each.

use crate::drive::{ClientPort, Failure, Live, LiveOptions, Options, Outcome, Played, Values, play};
use crate::transcript::{Action, Scope, Section, Setting, Transcript};
use crate::tunnel::VmForm;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
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
    /// Only these; empty: all. A section's name means its cases; an id means that one case, whatever else is
    /// chosen; `text*`, `*text` and `*text*` mean the ids that begin, end or go on so; any other text means
    /// the ids that contain it.
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

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Checked<'a> {
    /// The cases, in the order in which they were asked for.
    pub cases: Vec<Case<'a>>,
    /// When the server stopped taking connections: the cases that were being played, or had just ended. One,
    /// if one is played at a time.
    pub died_during: Vec<&'a str>,
}

impl Selection {
    /// The transcripts that are meant, by section.
    #[must_use]
    pub fn choose<'a>(&self, corpus: &'a [Transcript]) -> Vec<&'a Transcript> {
        let named = |t: &Transcript| self.only.contains(&t.id);
        let exact: Vec<bool> = self.only.iter().map(|only| corpus.iter().any(|t| t.id == *only)).collect();
        let wanted = |t: &Transcript| {
            let mut only = self.only.iter().zip(&exact);
            self.only.is_empty() || only.any(|(only, exact)| !exact && is_like(t, only))
        };
        let general = |t: &Transcript| (self.own || t.scope == Scope::Any) && (self.slow || !t.is_slow());
        let mut chosen: Vec<&Transcript> =
            corpus.iter().filter(|t| named(t) || (wanted(t) && general(t))).collect();
        chosen.sort_by_key(|t| t.section);
        chosen
    }
}

/// Is it of this section, or is its id like this?
fn is_like(t: &Transcript, only: &str) -> bool {
    let id = t.id.as_str();
    match (only.strip_prefix('*'), only.strip_suffix('*')) {
        _ if t.section.word() == only => true,
        (Some(end), None) => id.ends_with(end),
        (None, Some(beginning)) => id.starts_with(beginning),
        _ => id.contains(only.trim_matches('*')),
    }
}

/// Who plays when, and when the server was found gone.
#[derive(Default)]
struct Watch<'a> {
    played: Vec<Span<'a>>,
    /// What the server says it knows, as another case heard.
    known: Option<Vec<u8>>,
    died_during: Option<Vec<&'a str>>,
}

struct Span<'a> {
    id: &'a str,
    began: Instant,
    ended: Option<Instant>,
}

/// A case that ended so shortly before may be the one that the server died of.
const JUST_BEFORE: Duration = Duration::from_millis(300);

impl<'a> Watch<'a> {
    fn begins(&mut self, id: &'a str) {
        self.played.push(Span { id, began: Instant::now(), ended: None });
    }

    fn ends(&mut self, id: &str) {
        if let Some(span) = self.played.iter_mut().find(|span| span.id == id) {
            span.ended = Some(Instant::now());
        }
    }

    /// The server is gone, as `finder` noticed. One that got no connection at all did not do it.
    fn gone(&mut self, finder: &str, finder_connected: bool) {
        let Some(began) = self.played.iter().find(|span| span.id == finder).map(|span| span.began) else {
            return;
        };
        let others = || self.played.iter().filter(|span| span.id != finder);
        let from = match finder_connected {
            true => began,
            // One at a time: the last one.
            false if others().all(|span| span.ended.is_some()) => {
                others().filter_map(|span| span.ended).max().unwrap_or(began)
            }
            false => began.checked_sub(JUST_BEFORE).unwrap_or(began),
        };
        let suspects = self.played.iter().filter(|span| {
            (finder_connected || span.id != finder) && span.ended.is_none_or(|ended| ended >= from)
        });
        let suspects = suspects.map(|span| span.id).collect();
        self.died_during.get_or_insert(suspects);
    }
}

/// A thread that panicked has left nothing half done here.
fn locked<'m, 'a>(watch: &'m Mutex<Watch<'a>>) -> MutexGuard<'m, Watch<'a>> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
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
    ) -> Checked<'a> {
        // What takes longest begins first, so that no straggler is left at the end.
        let mut order: Vec<usize> = (0..transcripts.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(transcripts[*index].waits()));
        let jobs = match &self.live.clients {
            // All cases are about the same VM: one at a time.
            ClientPort::Fixed(_) => 1,
            _ => jobs.max(1),
        };
        if let ClientPort::Among(ports) = &self.live.clients
            && transcripts.iter().any(|transcript| transcript.needs_client_port())
        {
            // Without it consoles are found all the same, only later.
            let _ = ports.look();
        }
        let next = AtomicUsize::new(0);
        let watch = Mutex::new(Watch::default());
        let (sender, results) = mpsc::channel();
        let mut cases: Vec<Option<Case<'a>>> = transcripts.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                let (sender, order, next, watch) = (sender.clone(), &order, &next, &watch);
                scope.spawn(move || {
                    while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let case = self.case(transcripts[index], seed, watch);
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
        let died_during = locked(&watch).died_during.take().unwrap_or_default();
        Checked { cases: cases.into_iter().flatten().collect(), died_during }
    }

    fn case<'a>(&self, transcript: &'a Transcript, seed: u64, watch: &Mutex<Watch<'a>>) -> Case<'a> {
        let begun = Instant::now();
        let done = |verdict, log| Case { transcript, verdict, log, took: begun.elapsed() };
        if locked(watch).died_during.is_some() {
            return done(Verdict::NotRun, Vec::new());
        }
        if let Some(why) = self.cannot(transcript) {
            return done(Verdict::NotOffered(why), Vec::new());
        }
        let mut network = match Live::new(self.live.clone()) {
            Ok(network) => network.with_slack(self.slack),
            Err(error) => {
                let why = format!("this machine cannot do it: {error}");
                return done(Verdict::NotOffered(why), Vec::new());
            }
        };
        let options = Options { slack: self.slack, ..Options::default() };
        locked(watch).begins(&transcript.id);
        let mut played = play(transcript, &mut network, &self.values(transcript, seed), options);
        drop(network);
        if matches!(self.live.clients, ClientPort::Fixed(_)) {
            // The same VM comes again at once: let the server see the last of this one.
            std::thread::sleep(Duration::from_millis(100));
        }
        {
            // A case that ended before the server had said what it knows is judged by what others heard.
            let shared = &mut locked(watch).known;
            if shared.is_none() {
                shared.clone_from(&played.known);
            }
            played.known = played.known.take().or_else(|| shared.clone());
        }
        let log = played.log.clone();
        let verdict = judge(transcript, played);
        let gone = matches!(verdict, Verdict::Fail(_)) && !self.is_there();
        let mut watch = locked(watch);
        if gone {
            watch.gone(&transcript.id, !log.is_empty());
        }
        watch.ends(&transcript.id);
        drop(watch);
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
        if self.live.dial.vm_form() == VmForm::InBand && transcript.is_about_upgrade() {
            return Some("the option is on already: TLS came by it".to_owned());
        }
        if transcript.needs_admin() && self.live.admin.is_none() {
            return Some("no admin listener is known (--admin)".to_owned());
        }
        if !transcript.needs_client_port() {
            return None;
        }
        match &self.live.clients {
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
        if let (ClientPort::Fixed(_), Some(id)) = (&self.live.clients, transcript.identities().first()) {
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
