//! Those who have nothing to do with it: a key on another console, VMs that come meanwhile, consoles that
//! talk both ways and whose VMs move.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vspc_core::vmware::{VmEvent, VmSession};

use super::ground::{Ground, NEWCOMERS, RESIDENTS};
use crate::load::LoadError;
use crate::load::link::{is_timeout, numbered_vm, tells_name};
use crate::load::probe::Probe;
use crate::load::stats::Samples;
use crate::load::subject::Subject;
use crate::load::vmotion::console::{Console, Course};
use crate::load::vmotion::stage::{Lines, Stage};
use crate::tunnel::Port;

/// What they noticed.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) keys: Result<Samples, LoadError>,
    pub(super) newcomers: Newcomers,
    pub(super) residents: Residents,
}

/// VMs that came while it went on.
#[derive(Clone, Debug, Default)]
pub(super) struct Newcomers {
    /// From the attempt to connect until served.
    pub(super) whole: Samples,
    /// From the server's first byte, which it sends when it has accepted, until served.
    pub(super) accepted: Samples,
    /// Not served.
    pub(super) missing: u64,
    /// Why the first of them was not.
    pub(super) why: Option<String>,
}

/// Consoles that talked all the time.
#[derive(Clone, Debug, Default)]
pub(super) struct Residents {
    pub(super) lines: Lines,
    /// Bytes that went to a connection that had no right to them.
    pub(super) misdirected: u64,
    pub(super) moves: u64,
    /// GOAHEAD of those moves.
    pub(super) goahead: Samples,
    pub(super) problems: Vec<String>,
}

/// Bystanders that are connected and talk.
#[derive(Debug)]
pub(super) struct Bystanders {
    probe: Probe,
    stage: Option<Stage>,
    moves: bool,
}

impl Bystanders {
    /// They connect; what goes through a relay has no residents.
    pub(super) fn meet(ground: &Ground, moves: bool) -> Result<Self, LoadError> {
        let probe = Probe::open(&ground.subject)?;
        let stage = ground.is_server.then(|| settle_in(&ground.subject)).transpose()?;
        Ok(Self { probe, stage, moves })
    }

    /// What a key takes while nothing goes on.
    pub(super) fn undisturbed(&mut self) -> Result<Samples, LoadError> {
        self.probe.run(KEY_EVERY, WARM_UP, &AtomicBool::new(false))
    }

    /// How many connections of theirs end when it is over.
    pub(super) fn will_leave(&self) -> usize {
        self.stage.as_ref().map_or(0, |stage| 2 * stage.consoles.len())
    }

    /// One more key.
    pub(super) fn key(&mut self) -> Result<Duration, LoadError> {
        self.probe.key()
    }

    /// Lets them go on until `disturb` returns. It sees a flag that is true until the time is over or one of
    /// them cannot go on.
    pub(super) fn watch<T: Send>(
        &mut self,
        ground: &Ground,
        disturb: impl FnOnce(&AtomicBool) -> T + Send,
    ) -> (Seen, T) {
        let began = Instant::now();
        let (stop, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let Self { probe, stage, moves } = self;
        thread::scope(|scope| {
            let (stop, over) = (&stop, &over);
            let disturbance = scope.spawn(move || {
                let done = disturb(stop);
                over.store(true, Ordering::Relaxed);
                done
            });
            let newcomers = scope.spawn(move || Newcomers::arrive(&ground.subject, over));
            let residents = stage.take().map(|stage| scope.spawn(move || live(stage, *moves, over)));
            let keys = type_on(probe, over);
            // A key that never came back ends the drill; one that took long does not.
            if let Err(error) = &keys {
                eprintln!("hostile: {:.1} s: another console's key: {error}", began.elapsed().as_secs_f64());
            }
            stop.store(true, Ordering::Relaxed);
            let done = disturbance.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let residents = residents.map(|thread| thread.join().unwrap_or_default());
            let newcomers = newcomers.join().unwrap_or_default();
            (Seen { keys, newcomers, residents: residents.unwrap_or_default() }, done)
        })
    }
}

/// Only newcomers: what stands beside a bare server.
pub(super) fn watch_newcomers<T: Send>(
    ground: &Ground,
    disturb: impl FnOnce(&AtomicBool) -> T + Send,
) -> (Newcomers, T) {
    let (stop, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let newcomers = scope.spawn(|| Newcomers::arrive(&ground.subject, &over));
        let done = disturb(&stop);
        over.store(true, Ordering::Relaxed);
        (newcomers.join().unwrap_or_default(), done)
    })
}

/// Types until it is over, and tells from time to time how that goes.
fn type_on(probe: &mut Probe, over: &AtomicBool) -> Result<Samples, LoadError> {
    let (mut samples, mut lately) = (Samples::default(), Samples::default());
    let began = Instant::now();
    let mut tell_at = TELL_EVERY;
    while !over.load(Ordering::Relaxed) {
        let latency = probe.key()?;
        samples.push(latency);
        lately.push(latency);
        if began.elapsed() >= tell_at {
            let words = std::mem::take(&mut lately).words();
            eprintln!("hostile: {} s: another console's key {words}", tell_at.as_secs());
            tell_at += TELL_EVERY;
        }
        thread::sleep(KEY_EVERY.saturating_sub(latency));
    }
    Ok(samples)
}

impl Newcomers {
    /// A VM comes, is served and goes, again and again until it is over: another VM each time.
    fn arrive(subject: &Subject, over: &AtomicBool) -> Self {
        let mut newcomers = Self::default();
        let mut number = NEWCOMERS;
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            match arrival(subject, number) {
                Ok((whole, accepted)) => {
                    newcomers.whole.push(whole);
                    newcomers.accepted.push(accepted);
                }
                Err(why) => {
                    newcomers.missing += 1;
                    newcomers.why.get_or_insert(why);
                }
            }
            number += 1;
            thread::sleep(COME_EVERY.saturating_sub(began.elapsed()));
        }
        newcomers
    }
}

/// One session start: how long in all, and how long from the server's first byte.
fn arrival(subject: &Subject, number: usize) -> Result<(Duration, Duration), String> {
    let began = Instant::now();
    let connected = subject.dial().connect(Port::Vm, subject.vms(), SERVED_WITHIN);
    let mut stream = connected.map_err(|error| format!("connect: {error}"))?;
    let prepared = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(LOOK_AROUND)));
    prepared.map_err(|error| error.to_string())?;
    let mut session = VmSession::new(subject.adapt(numbered_vm(number)));
    let (mut first, mut agreed, mut named) = (None, false, false);
    let (mut scratch, mut typed) = ([0; 4096], Vec::new());
    loop {
        named |= tells_name(session.pending());
        stream.write_all(session.pending()).map_err(|error| format!("write: {error}"))?;
        session.transmit(<[u8]>::len);
        if agreed && named {
            let accepted = first.map_or(Duration::ZERO, |first: Instant| first.elapsed());
            return Ok((began.elapsed(), accepted));
        }
        if began.elapsed() > SERVED_WITHIN {
            let how = if first.is_some() { "half served" } else { "not a word" };
            return Err(format!("{how} after {} s", SERVED_WITHIN.as_secs()));
        }
        match stream.read(&mut scratch) {
            Ok(0) => return Err("closed by the server".into()),
            Ok(n) => {
                first.get_or_insert_with(Instant::now);
                session.handle_received(&scratch[..n], &mut typed);
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(format!("read: {error}")),
        }
        while let Some(event) = session.poll_event() {
            match event {
                VmEvent::ProxyAgreed => agreed = true,
                VmEvent::Refused | VmEvent::NotProxy => return Err("refused by the server".into()),
                _ => {}
            }
        }
    }
}

/// The residents connect, and each finds its client.
fn settle_in(subject: &Subject) -> Result<Stage, LoadError> {
    let Subject::Server { first, .. } = *subject else {
        return Err(LoadError::Usage("a relay has no residents".into()));
    };
    let console = |(number, vm)| Console::new(number, subject.clone(), subject.adapt(numbered_vm(vm)));
    let consoles = RESIDENTS.enumerate().map(console).collect();
    let mut stage = Stage::new(consoles, LINE_EVERY)?;
    stage.bring_up(subject.vms())?;
    stage.find_clients(&subject.dial(), first)?;
    Ok(stage)
}

/// They talk, and move if they are to, until it is over; then what was said arrives.
fn live(mut stage: Stage, moves: bool, over: &AtomicBool) -> Residents {
    let mut sequence = u32::MAX;
    let mut round = 0;
    while !over.load(Ordering::Relaxed) && !stage.consoles.iter().all(Console::is_dead) {
        if moves {
            let course = COURSES[round % COURSES.len()];
            let movers: Vec<_> =
                (0..stage.consoles.len()).filter(|n| (n + round) % 2 == 0).map(|n| (n, course)).collect();
            stage.round(&movers, 0, &mut sequence);
            round += 1;
        }
        stage.talk(MOVE_EVERY);
    }
    stage.run_out();
    let lines = stage.finish();
    let tally = &mut stage.tally;
    Residents {
        lines,
        misdirected: tally.misdirected,
        moves: tally.completed,
        goahead: std::mem::take(&mut tally.goahead),
        problems: tally.problems(),
    }
}

/// Time between two keys.
const KEY_EVERY: Duration = Duration::from_millis(3);
/// Time between two lines about the keys: the drills of seconds have none.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// How long keys are typed before anything goes on.
const WARM_UP: Duration = Duration::from_millis(500);
/// Time between two VMs that come: twenty a second are few beside any attack.
const COME_EVERY: Duration = Duration::from_millis(50);
/// A VM that is not served by then is not served.
const SERVED_WITHIN: Duration = Duration::from_secs(5);
/// How often a blocked read looks at the time.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// Time between two lines of each resident, and of its client.
const LINE_EVERY: Duration = Duration::from_millis(20);
/// Time between two rounds of moves.
const MOVE_EVERY: Duration = Duration::from_millis(100);
/// How moves end, in turn.
const COURSES: [Course; 4] = [Course::Plain, Course::SourceDiesFirst, Course::AbortLate, Course::AbortEarly];
