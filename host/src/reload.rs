//! Loading files anew while the server runs, from disks that may not answer.
//!
//! **Owns** the thread that starts each load and receives its outcome. A load is a thread of its own: one
//! that hangs (a mount whose server is gone) is told of after [`PATIENCE`], and the next request starts
//! another one.
//! **Refuses to know** what is loaded, and what asks for it.
//!
//! ```text
//! Request::ask ─▶ [ reload ] ─ starts ─▶ [ load 1 ]  … hangs; what it brings in the end counts
//!                  │   ▲  └─── starts ─▶ [ load 2 ]    unless a later one has ended before it
//!          take ◀──┘   └──────────────────────┘
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Asks for a load. Never waits.
#[derive(Debug)]
pub struct Request<T> {
    told: Sender<Told<T>>,
    is_asked: Arc<AtomicBool>,
}

impl<T> Request<T> {
    /// Asks for a load: at once, or when the one that runs has ended or has had its time. Asking twice before
    /// that is asking once.
    pub fn ask(&self) {
        if !self.is_asked.swap(true, Ordering::AcqRel) {
            // Fails when the thread has ended, with the process.
            let _ = self.told.send(Told::Asked);
        }
    }
}

/// Starts the thread. `take` gets what a load brought, in the thread that this starts; an `Err` is a sentence
/// that says why there is nothing.
///
/// # Errors
///
/// There is no thread to be had.
pub fn start<T: Send + 'static>(
    load: impl Fn() -> T + Send + Sync + 'static,
    take: impl FnMut(Result<T, String>) + Send + 'static,
    patience: Duration,
) -> io::Result<Request<T>> {
    let (told, tells) = channel();
    let is_asked = Arc::new(AtomicBool::new(false));
    let request = Request { told: told.clone(), is_asked: Arc::clone(&is_asked) };
    let reload = Reload {
        load: Arc::new(load),
        take,
        patience,
        told,
        is_asked,
        started: 0,
        ended: 0,
        running: None,
        is_due: false,
        hanging: 0,
    };
    thread::Builder::new().name("reload".to_owned()).spawn(move || reload.run(&tells))?;
    Ok(request)
}

/// Runs `load` in a thread of its own; `None` if it has not ended after `patience`, or there is no thread.
pub(crate) fn within<T: Send + 'static>(
    patience: Duration,
    load: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (ended, ends) = channel();
    thread::Builder::new().name("load".to_owned()).spawn(move || ended.send(load())).ok()?;
    ends.recv_timeout(patience).ok()
}

/// What the thread receives.
enum Told<T> {
    /// A load is asked for.
    Asked,
    /// The load of this number has ended.
    Ended(u64, T),
}

/// The thread's state.
struct Reload<T, L, F> {
    load: Arc<L>,
    take: F,
    patience: Duration,
    /// For the loads.
    told: Sender<Told<T>>,
    is_asked: Arc<AtomicBool>,
    /// The number of the load that was started last.
    started: u64,
    /// The highest number of a load that has ended.
    ended: u64,
    /// The load that is waited for, and until when.
    running: Option<(u64, Instant)>,
    /// Another was asked for meanwhile.
    is_due: bool,
    /// Loads that were given up and have not ended; at most [`MOST_HANGING`].
    hanging: usize,
}

impl<T, L, F> Reload<T, L, F>
where
    T: Send + 'static,
    L: Fn() -> T + Send + Sync + 'static,
    F: FnMut(Result<T, String>),
{
    fn run(mut self, tells: &Receiver<Told<T>>) {
        loop {
            let told = match self.running {
                Some((_, until)) => tells.recv_timeout(until.saturating_duration_since(Instant::now())),
                None => tells.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match told {
                Ok(Told::Asked) => {
                    self.is_asked.store(false, Ordering::Release);
                    self.is_due = true;
                }
                Ok(Told::Ended(number, loaded)) => self.end(number, loaded),
                Err(RecvTimeoutError::Timeout) => self.give_up(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.running.is_none() && std::mem::take(&mut self.is_due) {
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        if self.hanging >= MOST_HANGING {
            let why = format!(
                "nothing is loaded: {MOST_HANGING} attempts to read the files hang; does their disk?"
            );
            return (self.take)(Err(why));
        }
        self.started += 1;
        let (number, load, told) = (self.started, Arc::clone(&self.load), self.told.clone());
        let started = thread::Builder::new().name("load".to_owned()).spawn(move || {
            let loaded = load();
            // Fails when the process ends.
            let _ = told.send(Told::Ended(number, loaded));
        });
        match started {
            Ok(_) => self.running = Some((number, Instant::now() + self.patience)),
            Err(error) => (self.take)(Err(format!("nothing is loaded: cannot start a thread: {error}"))),
        }
    }

    fn end(&mut self, number: u64, loaded: T) {
        match self.running {
            Some((running, _)) if running == number => self.running = None,
            _ => self.hanging -= 1,
        }
        // One that comes late knows less than the one that came before it.
        if number < self.ended {
            return;
        }
        self.ended = number;
        (self.take)(Ok(loaded));
    }

    fn give_up(&mut self) {
        self.running = None;
        self.hanging += 1;
        (self.take)(Err(format!(
            "the files have not been read after {} seconds: what is in use stays until they are; does their \
             disk hang? Another SIGHUP tries again",
            self.patience.as_secs()
        )));
    }
}

/// How long a load may take before it is said to hang: a disk that has to spin up takes a few seconds.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How many loads may hang at once, each a thread and a descriptor: more would hang as well.
const MOST_HANGING: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A thread whose loads each wait for what this sends, and what it takes.
    struct Rig {
        request: Request<u32>,
        /// Each load that begins hands over where its outcome goes.
        loads: Receiver<Sender<u32>>,
        taken: Receiver<Result<u32, String>>,
    }

    fn rig(patience: Duration) -> Rig {
        let (begun, loads) = channel();
        let begun = Mutex::new(begun);
        let load = move || {
            let (end, ended) = channel();
            begun.lock().unwrap().send(end).unwrap();
            ended.recv().unwrap()
        };
        let (take, taken) = channel();
        let request = start(load, move |loaded| take.send(loaded).unwrap(), patience).unwrap();
        Rig { request, loads, taken }
    }

    /// More than a test takes.
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn what_is_loaded_is_taken_and_what_is_asked_for_meanwhile_is_one_load_more() {
        let rig = rig(LONG);
        rig.request.ask();
        let first = rig.loads.recv().unwrap();
        rig.request.ask();
        rig.request.ask();
        first.send(1).unwrap();
        assert_eq!(rig.taken.recv(), Ok(Ok(1)));
        let second = rig.loads.recv().unwrap();
        second.send(2).unwrap();
        assert_eq!(rig.taken.recv(), Ok(Ok(2)));
        rig.request.ask();
        rig.loads.recv().unwrap().send(3).unwrap();
        assert_eq!(rig.taken.recv(), Ok(Ok(3)));
    }

    /// The next that a load has brought; those that were given up before are passed over.
    fn brought(rig: &Rig) -> u32 {
        loop {
            match rig.taken.recv().unwrap() {
                Ok(brought) => return brought,
                Err(why) => assert!(why.contains("hang"), "{why}"),
            }
        }
    }

    #[test]
    fn a_load_that_hangs_does_not_silence_the_next() {
        let rig = rig(Duration::ZERO);
        let hanging: Vec<_> = (0..MOST_HANGING)
            .map(|_| {
                rig.request.ask();
                rig.loads.recv().unwrap()
            })
            .collect();
        // The last one ends before those that began earlier, which then know less.
        hanging[3].send(3).unwrap();
        assert_eq!(brought(&rig), 3);
        hanging[1].send(1).unwrap();
        rig.request.ask();
        let late = rig.loads.recv().unwrap();
        hanging[2].send(2).unwrap();
        late.send(4).unwrap();
        assert_eq!(brought(&rig), 4);
    }

    #[test]
    fn what_comes_late_counts_unless_something_newer_has_come() {
        let rig = rig(Duration::ZERO);
        rig.request.ask();
        let first = rig.loads.recv().unwrap();
        rig.request.ask();
        let second = rig.loads.recv().unwrap();
        first.send(1).unwrap();
        assert_eq!(brought(&rig), 1);
        second.send(2).unwrap();
        assert_eq!(brought(&rig), 2);
    }

    #[test]
    fn who_cannot_wait_is_told_so() {
        let (end, ended) = channel::<()>();
        assert_eq!(within(Duration::ZERO, move || ended.recv()), None);
        drop(end);
        assert_eq!(within(LONG, || 5), Some(5));
    }
}
