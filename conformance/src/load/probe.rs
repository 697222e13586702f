//! A keystroke's way: client, server, VM, and its echo back. One key at a time, each checked.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::LoadError;
use super::link::{ClientKind, ClientLink, PATIENCE, VmLink, meet, numbered_vm, read_some};
use super::stats::Samples;
use super::subject::Subject;

/// A client and its echoing VM (number 0).
#[derive(Debug)]
pub(super) struct Probe {
    vm: VmLink,
    client: ClientLink,
    keys: u64,
}

impl Probe {
    /// Connects both.
    pub(super) fn open(subject: &Subject) -> Result<Self, LoadError> {
        let mut vm = VmLink::open(subject, numbered_vm(0))?;
        let mut clients = meet(&mut vm, subject, ClientKind::Telnet, 1)?;
        let client = clients.remove(0);
        Ok(Self { vm, client, keys: 0 })
    }

    /// Types one key and waits for its echo.
    pub(super) fn key(&mut self) -> Result<Duration, LoadError> {
        let key = b'a' + (self.keys % 26) as u8;
        self.keys += 1;
        let pressed = Instant::now();
        let refused = |error| LoadError::Violation(format!("the server takes no key: {error}"));
        self.client.stream.write_all(&[key]).map_err(refused)?;
        while self.vm.typed.is_empty() {
            self.vm.receive()?;
            self.in_time(pressed, "did not reach its VM")?;
        }
        let typed = std::mem::take(&mut self.vm.typed);
        self.vm.print(&typed)?;
        let mut echo = [0; 256];
        let mut n = std::mem::take(&mut self.client.received).len();
        while n == 0 {
            n = read_some(&mut self.client.stream, &mut echo, "the typing client")?;
            self.in_time(pressed, "was not echoed")?;
        }
        if typed != [key] || echo[..n] != [key] {
            return Err(LoadError::Violation(format!(
                "key {:?} arrived as {:?} and came back as {:?}",
                char::from(key),
                String::from_utf8_lossy(&typed),
                String::from_utf8_lossy(&echo[..n])
            )));
        }
        Ok(pressed.elapsed())
    }

    /// Types a key each `interval` until `stop` or the time is over.
    pub(super) fn run(
        &mut self,
        interval: Duration,
        time: Duration,
        stop: &AtomicBool,
    ) -> Result<Samples, LoadError> {
        type_keys(|| self.key(), interval, time, stop)
    }

    fn in_time(&self, pressed: Instant, what: &str) -> Result<(), LoadError> {
        if pressed.elapsed() > PATIENCE {
            return Err(LoadError::Violation(format!("key {} {what} within 10 s", self.keys)));
        }
        Ok(())
    }
}

/// Types a key each `interval` until `stop` or the time is over; `key` types one and returns when it has come
/// back, and after how long.
pub(super) fn type_keys(
    mut key: impl FnMut() -> Result<Duration, LoadError>,
    interval: Duration,
    time: Duration,
    stop: &AtomicBool,
) -> Result<Samples, LoadError> {
    let mut samples = Samples::default();
    let until = Instant::now() + time;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        let latency = key()?;
        samples.push(latency);
        std::thread::sleep(interval.saturating_sub(latency));
    }
    Ok(samples)
}
