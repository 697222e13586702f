//! What the engine asks for, and how connections end, as far as both servers do it in the same way: what
//! concerns no socket is done here, the rest is handed to the one who has the sockets.
//!
//! **Owns** which error of a listener keeps a server from starting, and what an ending leads to. **Refuses to
//! know** how a runtime waits for a socket.

use std::io::{self, ErrorKind};
use std::net;
use std::os::fd::AsFd;

use vspc_core::concentrator::{Address, Closed, Concentrator, ConnId, ListenerId, Output, Shutdown};
use vspc_core::time::Instant;

use crate::accept::listen_error;
use crate::connection::Connection;
use crate::fatal::Fatal;
use crate::housekeeping::Housekeeping;
use crate::lingering::LingeringSocket;
use crate::log_event;
use crate::signals;
use crate::tcp_state::tcp_state;
use crate::transfer::Ending;

/// What only the owner of the sockets can do: those of the engine's outputs that name one.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Work {
    /// A connection has bytes for its peer.
    Transmit(ConnId),
    /// A connection's receive window rose from zero.
    Receive(ConnId),
    /// Open this listener, and say what came of it by [`Housekeeping::listened`].
    Listen(ListenerId, Address),
    /// Close this listener.
    Unlisten(ListenerId),
    /// Close this connection.
    Close(ConnId, Shutdown),
    /// Have [`inspect`] look at this connection.
    Inspect(ConnId),
}

/// Whether a server has started, which a listener can keep it from.
#[derive(Debug, Default)]
pub(crate) enum Start {
    /// The engine's first outputs are being carried out.
    #[default]
    Pending,
    /// It will not.
    Failed(Fatal),
    /// It has.
    Done,
}

/// What a failed write leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteFailure {
    /// What the peer sent before is read first: the connection is to be visited, and not written to.
    pub is_read_on: bool,
    /// This connection is gone: itself, or another for which there is no room any more.
    pub gone: Option<(ConnId, ErrorKind)>,
}

impl Housekeeping {
    /// The next of the engine's outputs that needs a socket. Those before it that need none are carried out.
    pub fn next_work(&mut self, engine: &mut Concentrator, now: Instant) -> Option<Work> {
        loop {
            return Some(match engine.poll_output()? {
                Output::Connect(id, target) => {
                    if let Err(error) = self.dialer.dial(id, target) {
                        let _ = engine.handle_connected(id, Err(error.kind()), now);
                    }
                    continue;
                }
                Output::Transmit(id) => Work::Transmit(id),
                Output::Receive(id) => Work::Receive(id),
                Output::Listen(id, address) => Work::Listen(id, address),
                Output::Unlisten(id) => Work::Unlisten(id),
                Output::Close(id, how) => {
                    self.logs.left(id);
                    Work::Close(id, how)
                }
                Output::Inspect(id) => Work::Inspect(id),
                Output::Local(id) => {
                    if !self.logs.carry(engine, id, now) && !self.watching.carry(engine, id, now) {
                        self.watches.carry(engine, id, now);
                    }
                    continue;
                }
                Output::Changed(id) => {
                    self.store.changed(engine, id);
                    self.logs.changed(engine, id, now);
                    self.watching.changed(engine, id, now);
                    self.outlets.changed(engine, id);
                    continue;
                }
                Output::Log(order) => {
                    self.logs.read(engine, order, now);
                    continue;
                }
                Output::Host(order) => {
                    signals::carry_out(order, &self.askers);
                    continue;
                }
                Output::Event(event) => {
                    // A log is nobody who came and left, nor is a watch.
                    if !event.conn.is_some_and(|id| self.logs.has(id) || self.watching.has(id)) {
                        if self.unsettled.is_told(&event, now) {
                            log_event(&event);
                        }
                        self.outlets.event(&event);
                    }
                    continue;
                }
            });
        }
    }

    /// A listener was opened at this address, or could not be. Without those that the engine wants open from
    /// the start there is no point in starting, except for an admin port that nobody has asked for: another
    /// server on this machine may have that one.
    pub fn listened(
        &mut self,
        engine: &mut Concentrator,
        id: ListenerId,
        address: Address,
        bound: io::Result<Address>,
        now: Instant,
    ) {
        let is_admin = engine.is_admin_listener(id);
        match (bound, &self.start) {
            // That of a console that was put back: it gets another one.
            (bound @ Err(_), Start::Pending) if engine.is_client_listener(id) => {
                engine.handle_listening(id, bound.map_err(|e| listen_error(&e)), now);
            }
            (Err(error), Start::Pending) if !is_admin => {
                self.start = Start::Failed(Fatal::Listen(address, error));
            }
            (Err(error), Start::Pending) if matches!(address, Address::Unix(_)) => {
                self.start = Start::Failed(Fatal::AdminSocket(address, error));
            }
            (Err(error), Start::Pending) if self.needs_admin => {
                self.start = Start::Failed(Fatal::ListenAdmin(address, error));
            }
            (Err(_), Start::Failed(_)) => {}
            (bound, _) => {
                self.lacks_admin |= is_admin && bound.is_err();
                engine.handle_listening(id, bound.map_err(|e| listen_error(&e)), now);
            }
        }
    }

    /// The engine's first outputs have been carried out: the server has started, unless one of them failed
    /// without which there is no point.
    pub fn started(&mut self) -> Result<(), Fatal> {
        match std::mem::replace(&mut self.start, Start::Done) {
            Start::Failed(why) => Err(why),
            Start::Pending | Start::Done => {
                if self.lacks_admin {
                    log::warn!(
                        "there is no admin port: choose one with --admin-port, or none with --no-admin"
                    );
                }
                self.supervisor.ready();
                Ok(())
            }
        }
    }

    /// Nothing more can be written to a connection. What its peer sent before that (a VM's last words, a
    /// client's last command) is read before the connection is given up, unless nobody takes it for too
    /// long.
    pub fn fail_write(
        &mut self,
        id: ConnId,
        ending: &mut Ending,
        why: ErrorKind,
        now: Instant,
    ) -> WriteFailure {
        if ending.has_ended() {
            return WriteFailure { is_read_on: false, gone: Some((id, why)) };
        }
        if ending.has_failed() {
            return WriteFailure { is_read_on: false, gone: None };
        }
        ending.note(Closed::Failed(why));
        WriteFailure { is_read_on: true, gone: self.failed.insert(id, why, now) }
    }

    /// A connection is gone both ways, and its socket is out of the runtime's table.
    pub fn fail(&mut self, engine: &mut Concentrator, id: ConnId, why: ErrorKind, now: Instant) {
        self.failed.remove(id);
        engine.handle_closed(id, Closed::Failed(why), now);
    }

    /// Closes a connection as the engine asks; `None`: it has no socket. True if its socket lingers, with its
    /// writing shut down: what has arrived by now was told of, and will not be again.
    pub fn close(&mut self, id: ConnId, connection: Option<Connection>, how: Shutdown, now: Instant) -> bool {
        let Some(connection) = connection else {
            self.close_local(id);
            return false;
        };
        self.failed.remove(id);
        // Nothing unread is left once the peer has ended: closing sends what is under way, then the end.
        let is_graceful = how == Shutdown::Graceful && !connection.ending.has_ended();
        let lingers = is_graceful && connection.stream.shutdown(net::Shutdown::Write).is_ok();
        if lingers {
            let (stream, queued) = connection.into_parts();
            drop(self.lingering.insert(id, LingeringSocket::new(stream, queued), now));
        }
        lingers
    }
}

/// Tells the engine how the TCP of a connection's peer does, if the kernel says.
pub fn inspect(engine: &mut Concentrator, id: ConnId, socket: &impl AsFd, now: Instant) {
    if let Some(tcp) = tcp_state(socket) {
        engine.handle_tcp_state(id, tcp, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::Arc;

    use vspc_core::concentrator::Config;

    fn two_listeners() -> (Concentrator, Housekeeping) {
        let config = Config {
            vm_listen: [1, 2].map(|port| Address::Ip(([127, 0, 0, 1], port).into())).into(),
            ..Config::default()
        };
        (Concentrator::new(Arc::new(config), [1; 32], Instant::ZERO), Housekeeping::new(true).unwrap())
    }

    /// A server for VMs whose admin port is in use.
    fn start_without_admin(needs_admin: bool) -> Result<(), Fatal> {
        let config = Config {
            vm_listen: vec![Address::Ip(([127, 0, 0, 1], 1).into())],
            admin_listen: vec![Address::Ip(([127, 0, 0, 1], 2).into())],
            ..Config::default()
        };
        let mut engine = Concentrator::new(Arc::new(config), [1; 32], Instant::ZERO);
        let mut house = Housekeeping::new(needs_admin).unwrap();
        let in_use = |at: SocketAddr| if at.port() == 2 { Err(ErrorKind::AddrInUse.into()) } else { Ok(at) };
        assert_eq!(answer(&mut engine, &mut house, in_use), 2);
        house.started()
    }

    /// Answers what is asked for, until nothing is.
    fn answer(
        engine: &mut Concentrator,
        house: &mut Housekeeping,
        open: impl Fn(SocketAddr) -> io::Result<SocketAddr>,
    ) -> usize {
        let mut asked = 0;
        while let Some(work) = house.next_work(engine, Instant::ZERO) {
            let Work::Listen(id, Address::Ip(address)) = work else { panic!("{work:?}") };
            let bound = open(address).map(Address::Ip);
            house.listened(engine, id, Address::Ip(address), bound, Instant::ZERO);
            asked += 1;
        }
        asked
    }

    #[test]
    fn a_server_starts_when_all_its_listeners_are_open() {
        let (mut engine, mut house) = two_listeners();
        assert_eq!(answer(&mut engine, &mut house, Ok), 2);
        house.started().unwrap();
    }

    #[test]
    fn the_first_listener_that_fails_keeps_a_server_from_starting() {
        let (mut engine, mut house) = two_listeners();
        let in_use = |_| Err(ErrorKind::AddrInUse.into());
        answer(&mut engine, &mut house, in_use);
        let why = house.started().unwrap_err().to_string();
        assert!(why.contains("127.0.0.1:1"), "{why}");
    }

    #[test]
    fn an_admin_port_that_nobody_has_asked_for_keeps_no_server_from_starting() {
        start_without_admin(false).unwrap();
        let why = start_without_admin(true).unwrap_err().to_string();
        assert!(why.contains("127.0.0.1:2") && why.contains("--admin-port"), "{why}");
    }

    #[test]
    fn a_failed_write_leaves_what_was_sent_before_to_be_read() {
        let (_, mut house) = two_listeners();
        let (id, mut ending, why) = (ConnId::from_bits(1), Ending::default(), ErrorKind::BrokenPipe);
        let mut fail = |ending: &mut Ending| house.fail_write(id, ending, why, Instant::ZERO);
        assert_eq!(fail(&mut ending), WriteFailure { is_read_on: true, gone: None });
        assert!(ending.has_failed());
        assert_eq!(fail(&mut ending), WriteFailure { is_read_on: false, gone: None });
        let mut ended = Ending::default();
        ended.note(Closed::Input);
        assert_eq!(fail(&mut ended), WriteFailure { is_read_on: false, gone: Some((id, why)) });
    }

    #[test]
    fn a_socket_lingers_only_if_its_peer_may_still_send() {
        let (_, mut house) = two_listeners();
        let id = ConnId::from_bits(1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let socket = listener.accept().unwrap().0;
            socket.set_nonblocking(true).unwrap();
            (peer, Connection::new(socket.into()))
        };
        let mut close = |connection, how| house.close(id, Some(connection), how, Instant::ZERO);
        assert!(!close(connect().1, Shutdown::Abort));
        let mut ended = connect().1;
        ended.ending.note(Closed::Input);
        assert!(!close(ended, Shutdown::Graceful));
        let (mut peer, open) = connect();
        assert!(close(open, Shutdown::Graceful));
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "the peer sees the end");
        peer.write_all(b"more").unwrap();
        assert!(house.lingering.enqueue(id) && !house.lingering.enqueue(id), "one visit at a time");
        while house.lingering.visit(id, &mut [0; 16]) {}
        drop(peer);
        while house.lingering.get(id).is_some() {
            house.lingering.visit(id, &mut [0; 16]);
        }
    }
}
