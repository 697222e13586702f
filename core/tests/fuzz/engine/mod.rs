//! The body of the fuzz target `engine`: any sequence of calls against the whole engine, as a runtime with
//! any network, any peers and any operator may make them. The fuzz crate includes this file.
//!
//! Checked after each call: the engine's own invariants, and its contract. Ids are named while they live and
//! not after; each connection is closed once, for one reason; nothing is said twice before it was acted on;
//! outputs do not pile up; bytes not taken are offered again; nothing is due after `handle_timeout`; a VM is
//! always read where nobody may wait; what goes to a VM is whole telnet; a stale id is a no-op everywhere. In
//! the end the server is shut down, and everything ends.

mod agent;
mod operator;
mod runtime;
mod words;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use vspc_core::concentrator::{Address, Closed, ListenError, LocalOptions, Peer};

use runtime::{Kind, Runtime};

/// `data` is a configuration of three bytes, then a program. Returns the names of what has happened.
pub(crate) fn engine(data: &[u8]) -> BTreeSet<String> {
    let mut program = Program { bytes: data };
    let shape = [program.byte(), program.byte(), program.byte()];
    let mut runtime = Runtime::new(shape);
    while !program.bytes.is_empty() {
        let op = Op::read(&mut program);
        runtime.run(&op);
    }
    runtime.finish()
}

/// One call, or a few that belong together. `u8`s that name something count the things there are, around.
#[derive(Debug)]
enum Op {
    /// A socket of a listener has a connection.
    Accept(u8, Peer),
    /// What came of opening a listener.
    Listened(u8, Result<(), ListenError>),
    /// A connection's socket has bytes, as far as its window lets them in.
    Receive(u8, Words),
    /// Its peer has ended, or it broke.
    Closed(u8, Closed),
    /// Its socket takes up to so many bytes.
    Transmit(u8, usize),
    /// So many outputs are polled.
    Poll(u8),
    /// Time passes.
    Pass(Duration),
    /// `handle_timeout`, due or not.
    Timeout,
    /// A reader inside the process.
    OpenLocal(u8, LocalOptions),
    /// An operator closes a connection.
    Kick(u8),
    /// An operator puts back a console.
    Restore { uuid: u8, port: Option<u16>, idle_for: Duration },
    /// Everything one can say to an id that is dead.
    Stale(u8),
    /// The operator looks around.
    Look,
    /// More guests than are kept awake come and go.
    Crowd,
    /// The server goes down.
    ShutDown,
}

/// What a peer says.
#[derive(Debug)]
enum Words {
    /// Something that a peer of this kind says, by its number, with an argument.
    Of(u8, u8),
    /// Bytes as they are.
    Bytes(Vec<u8>),
}

impl Op {
    fn read(program: &mut Program<'_>) -> Self {
        let (op, which) = (program.byte(), program.byte());
        match op % 24 {
            0..=2 => {
                let from = Ipv4Addr::new(192, 0, 2, program.byte() & 3);
                Self::Accept(which, Peer::new(Address::Ip(SocketAddr::new(from.into(), 1024))))
            }
            3 | 4 => {
                let outcome = match program.byte() & 15 {
                    0 => Err(ListenError::InUse),
                    1 => Err(ListenError::Denied),
                    2 => Err(ListenError::Exhausted),
                    3 => Err(ListenError::Other(ErrorKind::Other)),
                    _ => Ok(()),
                };
                Self::Listened(which, outcome)
            }
            5..=9 => Self::Receive(which, Words::Of(program.byte(), program.byte())),
            10 => {
                let len = program.byte() & 31;
                Self::Receive(which, Words::Bytes((0..len).map(|_| program.byte()).collect()))
            }
            11 => match program.byte() & 1 {
                0 => Self::Closed(which, Closed::Input),
                _ => Self::Closed(which, Closed::Failed(ErrorKind::ConnectionReset)),
            },
            12..=14 => Self::Transmit(which, program.len()),
            15 | 16 => Self::Poll(which),
            17 => Self::Pass(Duration::from_millis(u64::from(which) * u64::from(which))),
            18 => Self::Timeout,
            19 => {
                let options = if op & 0x80 == 0 { LocalOptions::person() } else { LocalOptions::witness() };
                Self::OpenLocal(which, options.scrollback(program.len()))
            }
            20 => Self::Kick(which),
            21 => Self::Restore {
                uuid: which & 3,
                port: (op & 0x80 == 0).then_some(runtime::FIRST_PORT + u16::from(program.byte() & 7)),
                idle_for: Duration::from_secs(program.byte().into()),
            },
            22 => Self::Stale(which),
            _ if which == 0xff => Self::ShutDown,
            _ if which == 0xfe => Self::Crowd,
            _ => Self::Look,
        }
    }
}

/// Bytes, and zeros behind them.
struct Program<'a> {
    bytes: &'a [u8],
}

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        byte
    }

    /// Small numbers as they are, the others far apart.
    fn len(&mut self) -> usize {
        let byte = usize::from(self.byte());
        if byte < 0xc0 { byte } else { (byte - 0xbf) << 12 }
    }
}

impl Words {
    fn wire(&self, kind: Kind, secrets: &[Vec<u8>], has_agents: bool) -> Vec<u8> {
        match (self, kind) {
            (Self::Bytes(bytes), _) => bytes.clone(),
            (&Self::Of(_, arg), Kind::Vm) if has_agents && arg & 0x88 == 0x88 => {
                words::vm_with_agent(arg & 3, words::mux(arg))
            }
            (&Self::Of(word, arg), Kind::Vm) => words::of_vm(word, arg, secrets),
            // What its guest prints beside streams.
            (&Self::Of(_, arg), Kind::Line) => vec![arg; usize::from(arg)],
            (&Self::Of(word, arg), Kind::Client | Kind::Local | Kind::Operator) => {
                words::of_client(word, arg)
            }
        }
    }
}
