//! Keys there and back while copies go on: at another VM's console, and in a shell of the same guest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use vspc_core::mux::StreamId;
use vspc_guest::{Header, Pty, Shell, answer};

use super::copies::{go, key, refused};
use super::rig::{GUEST, Rig};
use super::stage::Stage;
use super::{GuestsArgs, Way};
use crate::load::LoadError;
use crate::load::operator::Connection;
use crate::load::probe::{Probe, type_keys};
use crate::load::report::Report;
use crate::load::stats::{Samples, median, micros, round};

/// What goes on meanwhile.
const BESIDE: [(&str, Option<Way>); 3] =
    [("nothing", None), ("exec-out", Some(Way::ExecOut)), ("exec-in", Some(Way::ExecIn))];

/// Types beside each of them, and tells the medians of the runs' p50 and p99.
pub(super) fn run(args: &GuestsArgs, stage: &Stage, report: &mut Report) -> Result<(), LoadError> {
    let mut all: [Vec<[Samples; 2]>; BESIDE.len()] = Default::default();
    for _ in 0..args.runs {
        for ((_, way), samples) in BESIDE.iter().zip(&mut all) {
            samples.push(type_beside(*way, args, stage)?);
        }
    }
    for ((beside, _), mut samples) in BESIDE.into_iter().zip(all) {
        let mut told = json!({});
        let mut words = Vec::new();
        for (at, place) in PLACES.into_iter().enumerate() {
            let mut middle = |percent| {
                let each = samples.iter_mut().map(|both| micros(both[at].percentile(percent)));
                median(&each.collect::<Vec<_>>())
            };
            let (p50, p99) = (middle(50.0), middle(99.0));
            words.push(format!("{place} p50 {p50:.0} p99 {p99:.0} us"));
            told[place] = json!({ "p50_us": round(p50, 1), "p99_us": round(p99, 1) });
        }
        report.say(format!("keys beside {beside} (medians of the runs): {}", words.join(" ")));
        report.put(&format!("keys_beside_{}", beside.replace('-', "_")), told);
    }
    Ok(())
}

/// Where keys are typed.
const PLACES: [&str; 2] = ["another-vm", "same-guest"];

fn type_beside(way: Option<Way>, args: &GuestsArgs, stage: &Stage) -> Result<[Samples; 2], LoadError> {
    let rig = Rig::start(args, stage)?;
    let mut probe = Probe::open(rig.subject())?;
    let mut typist = Typist::open(&rig)?;
    let time = Duration::from_secs_f64(args.key_seconds);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let copier = way.map(|way| {
            scope.spawn({
                let (rig, stop) = (&rig, &stop);
                move || copy_on(rig, stage, way, stop)
            })
        });
        let inside = scope.spawn(|| type_keys(|| typist.key(), KEY_EVERY, time, &stop));
        let outside = probe.run(KEY_EVERY, time, &stop);
        stop.store(true, Ordering::Relaxed);
        let inside = inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if let Some(copier) = copier {
            copier.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok([outside?, inside?])
    })
}

/// Copies again and again until `stop`; where that fails, nobody types on.
fn copy_on(rig: &Rig, stage: &Stage, way: Way, stop: &AtomicBool) -> Result<(), LoadError> {
    let outcome = Connection::wide(rig.admin()).and_then(|mut connection| {
        while !stop.load(Ordering::Relaxed) {
            go(&mut connection, stage, way)?;
        }
        Ok(())
    });
    stop.store(true, Ordering::Relaxed);
    outcome
}

/// Who types in a shell of the guest.
struct Typist {
    connection: Connection,
    stream: StreamId,
    keys: u64,
}

impl Typist {
    fn open(rig: &Rig) -> Result<Self, LoadError> {
        let mut connection = Connection::wide(rig.admin())?;
        let header = Header::Shell(Shell { key: key(), pty: Pty::default(), with: Vec::new() });
        let (stream, line) = connection.begin(GUEST, &header)?;
        answer::parse::<answer::Done>(&line).map_err(refused)?;
        let mut said = Vec::new();
        while said.last() != Some(&b'\n') {
            said.extend(connection.await_bytes(stream, 1)?);
        }
        Ok(Self { connection, stream, keys: 0 })
    }

    /// Types a key, and waits for it to come back.
    fn key(&mut self) -> Result<Duration, LoadError> {
        let key = b'a' + (self.keys % 26) as u8;
        self.keys += 1;
        let pressed = Instant::now();
        self.connection.say_now(self.stream, &[key])?;
        let came = self.connection.await_bytes(self.stream, 1)?;
        if came != [key] {
            return Err(LoadError::Violation(format!("key {key} comes back as {came:?} in the guest")));
        }
        Ok(pressed.elapsed())
    }
}

/// Time between two keys.
const KEY_EVERY: Duration = Duration::from_millis(3);
