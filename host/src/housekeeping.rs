//! What both servers keep beside the engine and their sockets, and do in the same way: commands from other
//! threads, what is about to end, and when the next of all that is due.
//!
//! **Owns** the watches, the grace of sockets that linger and of connections that have failed, what accept
//! needs, and when the server stops. **Refuses to know** how its runtime waits for a socket.

use std::io::{self, ErrorKind};
use std::time::Duration;

use socket2::Socket;
use vspc_core::concentrator::{Concentrator, ConnId, ListenerId};
use vspc_core::time::Instant;

use crate::accept::Accepting;
use crate::askers::Askers;
use crate::commands::Command;
use crate::departures::Departures;
use crate::dialer::Dialer;
use crate::grace::Grace;
use crate::inherited::Inherited;
use crate::lingering::Lingering;
use crate::log_event;
use crate::logs::Logs;
use crate::outlets::Outlets;
use crate::report::log_counters;
use crate::store::Mirror;
use crate::supervisor::Supervisor;
use crate::unsettled::Unsettled;
use crate::watch::Watches;
use crate::watching::{Sighting, Watching};
use crate::work::Start;

/// What a server keeps beside the engine.
#[derive(Debug)]
pub struct Housekeeping {
    /// Takes connections in.
    pub accepting: Accepting,
    /// Connections whose write failed, with this error, and whose last input has not been read yet.
    pub failed: Grace<ErrorKind>,
    /// Sockets that the engine is done with.
    pub lingering: Lingering,
    /// Ends that were read and wait for their turn.
    pub departures: Departures,
    /// Other threads that read consoles.
    pub watches: Watches,
    /// What is kept over a restart.
    pub(crate) store: Mirror,
    /// The logs of consoles.
    pub logs: Logs,
    /// What is looked for in what consoles print.
    pub watching: Watching,
    /// Operators who wait for what comes of a reload.
    pub askers: Askers,
    /// Connects to what the engine asks for.
    pub(crate) dialer: Dialer,
    /// Who is told what happens.
    pub(crate) outlets: Outlets,
    /// Lines of which the log is told once they have stayed.
    pub(crate) unsettled: Unsettled,
    /// Who is told that the server serves, and that its loop goes round.
    pub(crate) supervisor: Supervisor,
    /// Whether the server has started.
    pub(crate) start: Start,
    /// Without its admin port the server does not start.
    pub(crate) needs_admin: bool,
    /// It was to have one, and could not open it.
    pub(crate) lacks_admin: bool,
    /// Set once the server has been told to stop: when it stops whatever is left.
    stop_at: Option<Instant>,
}

/// What is due in a runtime's own tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// Connections that have failed and whose input nobody has taken in time.
    pub failed: Vec<(ConnId, ErrorKind)>,
    /// Listeners to be asked again.
    pub listeners: Vec<ListenerId>,
}

impl Housekeeping {
    /// Opens the descriptor that accept holds back. `needs_admin`: without its admin port the server does not
    /// start.
    pub fn new(needs_admin: bool) -> io::Result<Self> {
        Ok(Self {
            accepting: Accepting::new()?,
            failed: Grace::default(),
            lingering: Grace::default(),
            departures: Departures::default(),
            watches: Watches::default(),
            store: Mirror::default(),
            logs: Logs::default(),
            watching: Watching::default(),
            askers: Askers::default(),
            dialer: Dialer::default(),
            outlets: Outlets::default(),
            unsettled: Unsettled::default(),
            supervisor: Supervisor::default(),
            start: Start::default(),
            needs_admin,
            lacks_admin: false,
            stop_at: None,
        })
    }

    /// Puts back what a store has kept, and tells it from now on what changes. For an engine that has not
    /// been asked for outputs yet.
    pub(crate) fn restore(&mut self, store: Mirror, engine: &mut Concentrator, now: Instant) {
        self.store = store;
        self.store.restore(engine, now);
    }

    /// Tells these from now on what happens. For an engine that has not been asked for outputs yet.
    pub(crate) fn tell(&mut self, outlets: Outlets) {
        self.outlets = outlets;
    }

    /// Connects by this from now on to what the engine asks for.
    pub(crate) fn dial_by(&mut self, dialer: Dialer) {
        self.dialer = dialer;
    }

    /// Takes listeners that the process was started with from among these. For an engine that has not been
    /// asked for outputs yet.
    pub(crate) fn inherit(&mut self, inherited: Inherited) {
        self.accepting.inherit(inherited);
    }

    /// Tells this one from now on that the loop goes round.
    pub(crate) fn supervise(&mut self, supervisor: Supervisor, now: Instant) {
        self.supervisor = supervisor;
        self.supervisor.begin(now);
    }

    /// Another thread has woken the loop: it may have made room for what there was none for.
    pub fn woken(&mut self, engine: &mut Concentrator, now: Instant) {
        self.watches.retry(engine, now);
        self.logs.retry(engine, now);
        self.watching.retry(engine, now);
        self.store.retry(engine);
        self.outlets.retry(engine);
    }

    /// Does what another thread asks for. Returns a connection that the engine has asked for, if one is there
    /// that is to be served from now on.
    pub fn execute(
        &mut self,
        engine: &mut Concentrator,
        command: Command,
        now: Instant,
    ) -> Option<(ConnId, Socket)> {
        match command {
            Command::Connected(id, Ok(socket)) => {
                return engine.handle_connected(id, Ok(()), now).then_some((id, socket));
            }
            Command::Connected(id, Err(error)) => {
                let _ = engine.handle_connected(id, Err(error.kind()), now);
            }
            Command::Report => log_counters(engine),
            Command::Reloaded(reloaded) => {
                let Self { logs, outlets, watching, .. } = self;
                reloaded.take_effect(engine, logs, outlets, watching, now);
            }
            Command::Seen(Sighting { console, watch, line, untold }) => {
                engine.tell_sighting(console, &watch, &line, untold, now);
            }
            Command::Watch { console, options, sink } => {
                self.watches.open(engine, &console, options, sink, now);
            }
            Command::Kept(ports, lag) => {
                if let Some(lag) = lag {
                    engine.note_store_lag(lag);
                }
                for (console, port) in ports {
                    engine.handle_kept(console, port, now);
                }
            }
            Command::Ports(grant) => grant.take_effect(engine, now),
            Command::Reopen => {
                self.logs.reopen();
                self.outlets.reopen();
            }
            Command::Restored { console, output } => {
                engine.restore_output(console, &output, now);
            }
            Command::Log { reader, piece, is_last } => {
                let is_read = engine.handle_log(reader, piece, is_last, now);
                match is_last || !is_read {
                    true => self.logs.stop_reading(reader),
                    false => self.logs.given(reader, now),
                }
            }
            Command::Stop => self.stop(engine, now),
        }
        None
    }

    /// Begins to stop: there is a little time to send what is queued and to close every connection in order.
    fn stop(&mut self, engine: &mut Concentrator, now: Instant) {
        if self.stop_at.is_none() {
            log::info!("stopping");
            self.supervisor.stopping();
            self.stop_at = Some(now + STOP_PATIENCE);
            self.lingering.lift_bound();
            self.store.freeze(engine);
            self.logs.stop(engine, now);
            self.outlets.freeze();
            engine.shut_down(now);
        }
    }

    /// A reader inside the process has ended.
    pub(crate) fn close_local(&mut self, id: ConnId) {
        if !self.logs.close(id) && !self.watching.close(id) {
            self.watches.close(id);
            self.dialer.give_up(id);
        }
    }

    /// The server has been told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop_at.is_some()
    }

    /// The server has been told to stop, and either nothing is left or its time is over.
    #[must_use]
    pub fn is_done(&self, engine: &Concentrator, now: Instant) -> bool {
        self.stop_at.is_some_and(|at| at <= now || (engine.is_empty() && self.lingering.is_empty()))
    }

    /// The next deadline of all this and of the engine.
    #[must_use]
    pub fn deadline(&self, engine: &Concentrator) -> Option<Instant> {
        let deadlines = [
            engine.poll_timeout(),
            self.accepting.deadline(),
            self.failed.deadline(),
            self.lingering.deadline(),
            self.logs.deadline(),
            self.unsettled.deadline(),
            self.supervisor.deadline(),
            self.stop_at,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Lets all timers fire that are due at this time: when the sockets were polled last, because bytes that
    /// have arrived since then are not read yet, and must not be too late on the server's account. Returns
    /// what the runtime has to do about that. In proportion to what is due.
    pub fn fire_timers(&mut self, engine: &mut Concentrator, at: Instant) -> Due {
        if engine.poll_timeout().is_some_and(|due| due <= at) {
            engine.handle_timeout(at);
        }
        self.logs.fire(engine, at);
        self.unsettled.settle(at).iter().for_each(log_event);
        while self.lingering.take_due(at).is_some() {}
        let failed = std::iter::from_fn(|| self.failed.take_due(at)).collect();
        self.accepting.log_burst(at);
        self.supervisor.feed(at);
        Due { failed, listeners: self.accepting.take_to_retry(at) }
    }
}

/// How long a server that was told to stop may take to send what is queued and to say goodbye.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use socket2::{Domain, Type};
    use vspc_core::concentrator::{Address, Config, Output};

    use crate::lingering::LingeringSocket;

    fn engine() -> Concentrator {
        let config = Config { vm_listen: vec![Address::Ip(([127, 0, 0, 1], 0).into())], ..Config::default() };
        Concentrator::new(Arc::new(config), [1; 32], Instant::ZERO)
    }

    #[test]
    fn a_server_that_stops_waits_for_what_lingers_but_not_for_ever() {
        let (mut engine, mut house) = (engine(), Housekeeping::new(true).unwrap());
        let now = Instant::from_millis(1);
        assert!(!house.is_done(&engine, now));
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        house.lingering.insert(ConnId::from_bits(1), LingeringSocket::new(socket, false), now);
        house.execute(&mut engine, Command::Stop, now);
        assert!(house.is_stopping() && !house.is_done(&engine, now));
        house.execute(&mut engine, Command::Stop, now + Duration::from_secs(1));
        assert!(house.is_done(&engine, now + STOP_PATIENCE), "asking twice is asking once");
        house.lingering.remove(ConnId::from_bits(1));
        assert!(house.is_done(&engine, now));
    }

    #[test]
    fn what_is_due_fires_once_and_the_rest_is_the_next_deadline() {
        let (mut engine, mut house) = (engine(), Housekeeping::new(true).unwrap());
        let Some(Output::Listen(listener, address)) = engine.poll_output() else { panic!("no listener") };
        engine.handle_listening(listener, Ok::<Address, _>(address), Instant::ZERO);
        assert_eq!(house.deadline(&engine), None);
        let (early, late) = (ConnId::from_bits(1), ConnId::from_bits(2));
        house.failed.insert(early, ErrorKind::BrokenPipe, Instant::ZERO);
        let first = house.deadline(&engine).unwrap();
        house.failed.insert(late, ErrorKind::BrokenPipe, Instant::from_millis(1));
        let due = house.fire_timers(&mut engine, first);
        assert_eq!(due, Due { failed: vec![(early, ErrorKind::BrokenPipe)], listeners: vec![] });
        house.accepting.retry_later(listener, first);
        assert!(house.deadline(&engine).is_some_and(|next| next > first));
        let due = house.fire_timers(&mut engine, first + Duration::from_secs(1));
        assert_eq!(due, Due { failed: vec![(late, ErrorKind::BrokenPipe)], listeners: vec![listener] });
        assert_eq!(house.deadline(&engine), None);
    }
}
