//! `vspc forward`: connections into a guest, and out of it.
//!
//! Owns the loop over all of them, and what is told of each. Parts: `spec` (what is written), `socket` (this
//! machine's ends), `carried` (one connection).

mod carried;
mod socket;
pub(crate) mod spec;

use std::collections::BTreeMap;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use vspc_core::time::Instant;
use vspc_guest::{Connect, Header, Refusal};
use vspc_operator::News;

use self::carried::{Carried, Over};
use self::socket::{Connecting, Listener};
use self::spec::{Local, Remote};
use crate::args::ForwardArgs;
use crate::attach::reconnect::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::clock;
use crate::connection::Connection;
use crate::endings::describe;
use crate::failure::{Code, Failure};
use crate::guest::{Came, Guest, Joined};
use crate::output;
use crate::printable::printable;
use crate::signals::{self, Asked, Signals};

/// Forwards what the command line says, until a signal ends it.
pub(crate) fn run(mut connection: Connection, args: &ForwardArgs) -> Result<(), Failure> {
    if args.local.is_empty() && args.remote.is_empty() {
        return Err(Failure::usage("say what is to be forwarded: -L PORT:HOST:PORT or -R NAME:HOST:PORT"));
    }
    let guest = Guest::find(&mut connection, &args.console.name)?;
    accept_all(&mut connection, &guest, &args.remote)?;
    let mut listeners = Vec::new();
    let mut lines = Vec::new();
    for local in &args.local {
        let listener = Listener::open(&local.at)
            .map_err(|error| Failure::error(format!("cannot listen at {}: {error}", local.at)))?;
        lines.push(format!("{} -> {} {}", listener.place(), guest.name, local.to));
        listeners.push((listener, local.clone()));
    }
    lines.extend(args.remote.iter().map(|Remote { name, to }| format!("{} {name} -> {to}", guest.name)));
    let mut signals = Signals::take().map_err(|error| Failure::error(error.to_string()))?;
    output::print(lines)?;
    let mut forward = Forward {
        connection,
        guest,
        listeners,
        remotes: args.remote.clone(),
        once: args.once,
        connecting: Vec::new(),
        carried: Vec::new(),
        parting: Vec::new(),
    };
    let outcome = forward.turns(&mut signals);
    // Files of sockets go, whatever ends this.
    forward.listeners.clear();
    match outcome? {
        End::Signal(signal) => signals::end_by(signal),
        End::Once => forward.connection.part(),
    }
    Ok(())
}

/// Says that this connection takes what connects to the guest's listeners.
fn accept_all(connection: &mut Connection, guest: &Guest, remotes: &[Remote]) -> Result<(), Failure> {
    for Remote { name, .. } in remotes {
        let fields = json!({"console": guest.reference, "name": name});
        connection.call("accept", fields)?;
    }
    Ok(())
}

/// All that is forwarded.
struct Forward {
    connection: Connection,
    guest: Guest,
    listeners: Vec<(Listener, Local)>,
    remotes: Vec<Remote>,
    /// The first connection is the only one.
    once: bool,
    connecting: Vec<Wanted>,
    carried: Vec<Carried>,
    /// Streams on which a refusal is on its way.
    parting: Vec<Joined>,
}

/// Somebody who has connected in the guest.
struct Wanted {
    number: Value,
    label: String,
    connecting: Connecting,
}

/// Why there is no more to do.
enum End {
    Signal(i32),
    /// The only connection is over.
    Once,
}

impl Forward {
    fn turns(&mut self, signals: &mut Signals) -> Result<End, Failure> {
        let mut ready = Vec::new();
        loop {
            if let Some(end) = self.turn(&ready, signals)? {
                return Ok(end);
            }
            ready = self.wait(signals)?;
            for asked in signals.pending() {
                match asked {
                    Asked::End(signal) => return Ok(End::Signal(signal)),
                    Asked::Stop => signals::stop(),
                    Asked::Continued | Asked::Resized => {}
                }
            }
        }
    }

    /// Does what can be done; `ready` are the connections whose sockets have something to do.
    fn turn(&mut self, ready: &[usize], signals: &mut Signals) -> Result<Option<End>, Failure> {
        self.connection.turn();
        // One of them may be told of twice: refused, and reset.
        let mut over = BTreeMap::new();
        while let Some(news) = self.connection.poll() {
            for (at, carried) in self.carried.iter_mut().enumerate() {
                if let Some(end) = carried.handle(&mut self.connection, &news) {
                    over.entry(at).or_insert(end);
                }
            }
            self.parting.retain_mut(|joined| {
                let is_lost = joined.lost(&news).is_some();
                if is_lost {
                    joined.leave(&mut self.connection);
                }
                !is_lost
            });
            match news {
                News::Over(ending) => return self.come_back(&describe(&ending), signals),
                News::Notice(notice) => self.take_notice(&notice)?,
                _ => {}
            }
        }
        // What has come for these already is not told of again: they are looked after with the others.
        self.take_connected()?;
        for (at, carried) in self.carried.iter_mut().enumerate() {
            if !over.contains_key(&at)
                && let Some(end) = carried.step(&mut self.connection, ready.contains(&at))
            {
                over.insert(at, end);
            }
        }
        // From the last to the first, since another one takes the place of one that is over.
        while let Some((at, end)) = over.pop_last() {
            let label = self.carried.swap_remove(at).label;
            if let Over::Lost(trouble) = end {
                let failure = trouble.failure(&self.guest.name);
                let message = format!("{label}: {failure}");
                if self.once {
                    return Err(Failure::new(failure.code, message));
                }
                output::tell(message);
            }
            if self.once {
                return Ok(Some(End::Once));
            }
        }
        self.accept()?;
        self.parting.retain_mut(|joined| {
            joined.push(&mut self.connection);
            let has_ended = joined.hear(&mut self.connection, <[u8]>::len) == Came::End;
            if has_ended && !joined.has_said_all() {
                joined.leave(&mut self.connection);
            }
            !has_ended
        });
        self.connection.push();
        Ok(None)
    }

    /// Somebody has connected in the guest.
    fn take_notice(&mut self, notice: &Value) -> Result<(), Failure> {
        let name = notice["name"].as_str().unwrap_or_default();
        let is_ours = notice["event"] == "connection" && notice["console"] == self.guest.reference.as_str();
        let Some(remote) = self.remotes.iter().find(|remote| is_ours && remote.name == name) else {
            return Ok(());
        };
        if self.once && !(self.carried.is_empty() && self.connecting.is_empty()) {
            return Ok(());
        }
        let from = printable(notice["from"].as_str().unwrap_or_default());
        let label = format!("{} from {from}, to {}", remote.name, remote.to);
        let connecting =
            Connecting::begin(remote.to.clone()).map_err(|error| Failure::error(error.to_string()))?;
        self.connecting.push(Wanted { number: notice["number"].clone(), label, connecting });
        Ok(())
    }

    /// Takes over what has been connected here.
    fn take_connected(&mut self) -> Result<(), Failure> {
        let mut at = 0;
        while let Some(Wanted { connecting, .. }) = self.connecting.get(at) {
            let Some(outcome) = connecting.outcome() else {
                at += 1;
                continue;
            };
            let Wanted { number, label, .. } = self.connecting.swap_remove(at);
            match outcome {
                Ok(socket) => {
                    let joined = Joined::take(&mut self.connection, &self.guest, &number, &Ok(()))?;
                    self.carried.push(Carried::new(label, joined, socket));
                }
                Err(error) => {
                    output::tell(format_args!("{label}: {error}"));
                    let refusal = Refusal::system("where it leads", &error);
                    let joined = Joined::take(&mut self.connection, &self.guest, &number, &Err(refusal))?;
                    self.parting.push(joined);
                    if self.once {
                        return Err(Failure::error(format!("{label}: {error}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes those who have connected here.
    fn accept(&mut self) -> Result<(), Failure> {
        for (listener, Local { to, .. }) in &self.listeners {
            loop {
                let is_taken = self.carried.len() >= MOST || self.once && !self.carried.is_empty();
                if is_taken {
                    return Ok(());
                }
                let socket = match listener.accept() {
                    Ok(Some(socket)) => socket,
                    Ok(None) => break,
                    Err(error) => return Err(Failure::error(format!("{}: {error}", listener.place()))),
                };
                let header = Header::Connect(Connect { to: to.clone() });
                let joined = Joined::open(&mut self.connection, &self.guest, &header)?;
                self.carried.push(Carried::new(to.clone(), joined, socket));
            }
        }
        Ok(())
    }

    /// Waits for something to do; the connections whose sockets have it.
    fn wait(&self, signals: &Signals) -> Result<Vec<usize>, Failure> {
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        let interest = self.connection.interest();
        if !interest.is_empty() {
            fds.push(PollFd::new(&self.connection, interest));
        }
        let is_full = self.carried.len() >= MOST || self.once && !self.carried.is_empty();
        let open = self.listeners.iter().filter(|_| !is_full);
        fds.extend(open.map(|(listener, _)| PollFd::new(listener, PollFlags::IN)));
        fds.extend(self.connecting.iter().map(|wanted| PollFd::new(&wanted.connecting, PollFlags::IN)));
        let mut sockets = Vec::new();
        for (at, carried) in self.carried.iter().enumerate() {
            if let Some((socket, flags)) = carried.interest() {
                sockets.push((at, fds.len()));
                fds.push(PollFd::new(socket, flags));
            }
        }
        match poll(&mut fds, clock::until(self.connection.deadline()).as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(Failure::error(format!("poll: {error}"))),
        }
        let is_ready = |&(_, fd): &(usize, usize)| !fds[fd].revents().is_empty();
        Ok(sockets.into_iter().filter(is_ready).map(|(at, _)| at).collect())
    }

    /// The server went away: what was carried is given up, and those who connect wait until it is there
    /// again.
    fn come_back(&mut self, why: &str, signals: &mut Signals) -> Result<Option<End>, Failure> {
        let had_some = !self.carried.is_empty();
        self.carried.drain(..).for_each(|mut carried| carried.abort());
        self.connecting.clear();
        self.parting.clear();
        if self.once && had_some {
            return Err(Failure::no_connection(why));
        }
        output::tell(format_args!("{why}; reconnecting"));
        let mut pause = FIRST_PAUSE;
        loop {
            let back = Connection::open(self.connection.server()).and_then(|mut connection| {
                self.guest.find_again(&mut connection)?;
                accept_all(&mut connection, &self.guest, &self.remotes)?;
                Ok(connection)
            });
            match back {
                Ok(connection) => {
                    self.connection = connection;
                    output::tell("connected again");
                    return Ok(None);
                }
                Err(failure) if failure.code == Code::Refused => return Err(failure),
                Err(_) => {}
            }
            if let Some(signal) = pause_for(clock::now() + pause, signals)? {
                return Ok(Some(End::Signal(signal)));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Waits until then; a signal that ends this ends that.
fn pause_for(until: Instant, signals: &mut Signals) -> Result<Option<i32>, Failure> {
    while clock::now() < until {
        let mut fds = [PollFd::new(&*signals, PollFlags::IN)];
        match poll(&mut fds, clock::until(Some(until)).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::error(format!("poll: {error}"))),
        }
        for asked in signals.pending() {
            match asked {
                Asked::End(signal) => return Ok(Some(signal)),
                Asked::Stop => signals::stop(),
                Asked::Continued | Asked::Resized => {}
            }
        }
    }
    Ok(None)
}

/// Connections at a time: an agent takes 256 streams.
const MOST: usize = 256;
