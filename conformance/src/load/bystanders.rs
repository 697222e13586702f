//! Those who have nothing to do with it, and must not notice: a client that types at a VM of its own while
//! something goes on, a new VM afterwards, and the server's memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::LoadError;
use super::link::{ClientKind, VmLink, meet, numbered_vm};
use super::probe::Probe;
use super::process::Meter;
use super::report::Report;
use super::stats::Samples;
use super::subject::{Opened, read};

/// The bystanders of one run.
#[derive(Debug)]
pub(super) struct Bystanders<'a> {
    opened: &'a Opened,
    probe: Probe,
    meter: Option<Meter>,
    before: Samples,
    keys: Option<Result<Samples, LoadError>>,
}

impl<'a> Bystanders<'a> {
    /// Connects a VM and its client, and lets that type undisturbed for a second.
    pub(super) fn meet(opened: &'a Opened) -> Result<Self, LoadError> {
        let mut probe = Probe::open(&opened.subject)?;
        let before = probe.run(KEY_EVERY, WARM_UP, &AtomicBool::new(false))?;
        Ok(Self { opened, probe, meter: opened.meter()?, before, keys: None })
    }

    /// Types for `time` while `disturb` goes on, which is to return soon after its argument has become true.
    pub(super) fn watch<T: Send>(
        &mut self,
        time: Duration,
        disturb: impl FnOnce(&AtomicBool) -> T + Send,
    ) -> T {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let disturbance = scope.spawn(|| disturb(&stop));
            self.keys = Some(self.probe.run(KEY_EVERY, time, &stop));
            stop.store(true, Ordering::Relaxed);
            disturbance.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Tells what the keys took, whether the server is well after `settle`, and what it costs.
    pub(super) fn conclude(&mut self, report: &mut Report, settle: Duration) -> Result<(), LoadError> {
        match &mut self.keys {
            Some(Ok(keys)) => {
                report.say(format!("another VM's key {}", keys.words()));
                report.say(format!("before {}", self.before.words()));
                report.put("key", keys.json());
                report.put("key_before", self.before.json());
            }
            Some(Err(error)) => report.problem(format!("another VM noticed: {error}")),
            None => {}
        }
        thread::sleep(settle);
        if let Err(error) = self.probe.key() {
            report.problem(format!("afterwards: {error}"));
        }
        let subject = &self.opened.subject;
        let newcomer = VmLink::open(subject, numbered_vm(2));
        match newcomer.and_then(|mut vm| meet(&mut vm, subject, ClientKind::Telnet, 1).map(drop)) {
            Ok(()) => report.say("a new VM is served afterwards"),
            Err(error) => report.problem(format!("a new VM is not served afterwards: {error}")),
        }
        if let Some(cost) = read(self.meter.as_ref())? {
            report.say(cost.words());
            report.put("cost", cost.json());
        }
        Ok(())
    }
}

/// Time between two keys of the probe.
const KEY_EVERY: Duration = Duration::from_millis(3);
/// How long the probe types before the disturbance.
const WARM_UP: Duration = Duration::from_secs(1);
