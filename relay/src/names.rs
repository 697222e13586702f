//! Names of hosts, looked up by a thread, because that may take its time.
//!
//! **Owns** what was found, for a moment: a fleet that connects asks once. **Refuses to know** who dials. A
//! name that cannot be found any more has the addresses that it had before.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use mio::Waker;
use vspc_core::time::Instant;

/// A host and a port.
type Name = (String, u16);

/// The loop's end.
#[derive(Debug)]
pub(crate) struct Names {
    known: HashMap<Name, Known>,
    questions: Sender<Name>,
    answers: Receiver<(Name, Result<Vec<SocketAddr>, String>)>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// Why there are none.
    fault: String,
    /// When it was found out; `None`: it was not yet.
    at: Option<Instant>,
    is_asked: bool,
    waiting: BTreeSet<usize>,
}

impl Names {
    /// Starts the thread. The waker is woken when there are answers.
    pub(crate) fn start(waker: Arc<Waker>) -> io::Result<Self> {
        let (questions, asked) = channel::<Name>();
        let (found, answers) = channel();
        thread::Builder::new().name("names".to_owned()).spawn(move || {
            for name in asked {
                let outcome = (name.0.as_str(), name.1).to_socket_addrs();
                let outcome = outcome.map(Iterator::collect).map_err(|error| error.to_string());
                if found.send((name, outcome)).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { known: HashMap::new(), questions, answers })
    }

    /// The addresses of a host, or why there are none. `None`: it is being asked, and `member` will be
    /// visited when that is over.
    pub(crate) fn addresses(
        &mut self,
        host: &str,
        port: u16,
        member: usize,
        now: Instant,
    ) -> Option<Result<Vec<SocketAddr>, String>> {
        if let Ok(ip) = host.parse() {
            return Some(Ok(vec![SocketAddr::new(ip, port)]));
        }
        let name = (host.to_owned(), port);
        let known = self.known.entry(name.clone()).or_default();
        if known.at.is_some_and(|at| now.duration_since(at) < FRESH) {
            if known.addresses.is_empty() {
                return Some(Err(known.fault.clone()));
            }
            return Some(Ok(known.addresses.clone()));
        }
        known.waiting.insert(member);
        if !known.is_asked {
            known.is_asked = self.questions.send(name).is_ok();
        }
        None
    }

    /// Takes in what was found, and returns who waits for it.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<usize> {
        let mut waiting = Vec::new();
        while let Ok((name, outcome)) = self.answers.try_recv() {
            let known = self.known.entry(name).or_default();
            match outcome {
                Ok(addresses) => known.addresses = addresses,
                Err(fault) => known.fault = fault,
            }
            known.at = Some(now);
            known.is_asked = false;
            waiting.extend(std::mem::take(&mut known.waiting));
        }
        waiting
    }
}

/// For how long what was found is not asked again.
const FRESH: Duration = Duration::from_secs(5);
