//! What a connection is to the engine: a VM's, a client's, an operator's; and what is kept of each.

use super::super::desk::Desk;
use super::super::dials::DialKey;
use super::super::fanout::Seat;
use super::super::id::{ConsoleId, MoveId};
use super::super::speech::{Mode, Speech};
use super::super::unshown::Unshown;
use super::super::visitor::{Asking, Attach, Visit};
use crate::proxy_protocol;
use crate::telnet::com_port;
use crate::vmware::{Dialogue, Uuid};

#[derive(Debug)]
pub(in crate::concentrator) enum Role {
    Vm(Vm),
    /// Boxed: an idle VM must not cost what a client does.
    Client(Box<Client>),
    /// A client of this console whose TLS is not up: nobody yet.
    Arriving(ConsoleId),
    /// A proxy's connection that has not said whom it is from.
    Announced(Box<Announced>),
    /// A connection of ours that is not there yet, or whose TLS is not up.
    Dialled(Box<Dialled>),
    /// A reader inside the process.
    Local(Local),
    /// A connection on the admin listener that is attached to nothing.
    Asking(Box<Asking>),
    /// An operator's connection.
    Operator(Box<Desk>),
    /// Someone at a console by way of an operator's connection.
    Attach(Box<Attach>),
}

/// A connection of which a proxy has to say whom it is from.
#[derive(Debug)]
pub(in crate::concentrator) struct Announced {
    pub(in crate::concentrator) header: proxy_protocol::Decoder,
    /// The console whose client port it came to. `None`: it came where hosts connect.
    pub(in crate::concentrator) console: Option<ConsoleId>,
}

/// A connection that we make for a console.
#[derive(Debug)]
pub(in crate::concentrator) struct Dialled {
    pub(in crate::concentrator) key: DialKey,
    /// It is there; its handshake may go on.
    pub(in crate::concentrator) is_connected: bool,
}

/// The connection of a host, for one serial port of one VM.
#[derive(Debug)]
pub(in crate::concentrator) struct Vm {
    pub(in crate::concentrator) dialogue: Dialogue,
    pub(in crate::concentrator) place: Place,
    /// The move it is the source or the target of.
    pub(in crate::concentrator) moving: Option<MoveId>,
    /// What it has said that belongs to no console yet.
    pub(in crate::concentrator) early: Option<Box<Early>>,
    /// CR NUL is folded to CR, and whether the last byte was a CR. `None`: BINARY was not refused.
    pub(in crate::concentrator) fold: Option<bool>,
    /// Its identification has been told as an event.
    pub(in crate::concentrator) told: bool,
    /// What is spoken on it.
    pub(in crate::concentrator) wire: Wire,
}

impl Vm {
    /// One that has said nothing.
    pub(in crate::concentrator) fn new(wire: Wire) -> Self {
        Self {
            dialogue: Dialogue::new(),
            place: Place::Unidentified,
            moving: None,
            early: None,
            fold: None,
            told: false,
            wire,
        }
    }
}

/// What a VM's connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::concentrator) enum Wire {
    /// Telnet with VMware's option: it is a host's.
    Vmware,
    /// The same, while TLS that began on a telnet connection is not up yet.
    Upgrading,
    /// Telnet alone: it is a serial line's, of which all is known.
    Telnet,
    /// The same, of a serial port that can be set (RFC 2217).
    Port,
    /// What the guest of a serial line prints, and nothing else.
    Raw,
    /// The same, of a stream on the line of a guest with an agent: it has no socket.
    Stream,
}

impl Wire {
    /// It is a serial line's that says nothing of itself.
    pub(in crate::concentrator) fn is_lines(self) -> bool {
        matches!(self, Self::Telnet | Self::Port | Self::Raw | Self::Stream)
    }

    /// Nothing goes over it but a guest's bytes.
    pub(in crate::concentrator) fn is_raw(self) -> bool {
        matches!(self, Self::Raw | Self::Stream)
    }
}

/// Where a VM connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::concentrator) enum Place {
    /// It has not said which VM it is.
    Unidentified,
    /// It said it is the target of a move that has ended since, or that never was: it joins no console.
    Rejected,
    /// This console, which is its own, has as many legs as it may have: it is read and dropped, and takes no
    /// part before one of those has ended.
    Aside(ConsoleId),
    /// It is the accepted target of a move.
    Target,
    /// It feeds this console.
    Console(ConsoleId),
    /// Its VM has moved away.
    MovedAway(ConsoleId),
    /// It has part in nothing any more.
    Detached,
}

impl Place {
    /// It may be a stranger for all we know.
    pub(in crate::concentrator) fn is_unidentified(self) -> bool {
        matches!(self, Self::Unidentified | Self::Rejected | Self::Aside(_))
    }
}

/// What a VM connection says before it has a console.
#[derive(Debug, Default)]
pub(in crate::concentrator) struct Early {
    pub(in crate::concentrator) unshown: Unshown,
    pub(in crate::concentrator) uuid: Option<Uuid>,
    pub(in crate::concentrator) name: Option<String>,
    /// The `_<uri>` suffix, once DO-PROXY was accepted.
    pub(in crate::concentrator) suffix: Option<String>,
    /// It carries streams, and is a console of its own, whatever is so of the VM's other ports.
    pub(in crate::concentrator) is_apart: bool,
    /// Which console is its depends on its name, for which it is given time.
    pub(in crate::concentrator) awaits_name: bool,
}

/// A connection on a client port: someone who reads a console, and may type.
#[derive(Debug)]
pub(in crate::concentrator) struct Client {
    pub(in crate::concentrator) console: ConsoleId,
    pub(in crate::concentrator) seat: Seat,
    /// What it is.
    pub(in crate::concentrator) mode: Mode,
    /// While that may change: what it has said that cannot be told yet.
    pub(in crate::concentrator) speech: Option<Box<Speech>>,
    /// Of the uplink, when it last sent something.
    pub(in crate::concentrator) epoch: u32,
    pub(in crate::concentrator) after_cr: bool,
    /// It speaks telnet and has not been greeted: it may be another server's port.
    pub(in crate::concentrator) ungreeted: bool,
    /// It will send no more.
    pub(in crate::concentrator) ended: Option<Ended>,
    /// It takes the console for a serial port: COM-PORT is on.
    pub(in crate::concentrator) serial: Option<Box<com_port::Session>>,
    pub(in crate::concentrator) visit: Visit,
    /// We have connected to it, for this.
    pub(in crate::concentrator) forward: Option<DialKey>,
    /// It has not shown yet that it has read what it was told when it was let in: output waits (admin.md §5).
    pub(in crate::concentrator) is_seeded: bool,
}

impl Client {
    /// It has ordered that nothing be sent to it now.
    pub(in crate::concentrator) fn is_suspended(&self) -> bool {
        self.serial.as_ref().is_some_and(|session| session.is_suspended())
    }
}

/// How a client that will send no more takes what it is shown, since its clock was last set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::concentrator) struct Ended {
    /// There was something to take.
    pub(in crate::concentrator) owed: bool,
    /// It has taken something.
    pub(in crate::concentrator) took: bool,
    /// What it sent before its end is not all read: its VM takes nothing.
    pub(in crate::concentrator) unread: bool,
}

/// A reader inside the process.
#[derive(Debug)]
pub(in crate::concentrator) struct Local {
    pub(in crate::concentrator) console: ConsoleId,
    pub(in crate::concentrator) seat: Seat,
    /// Of the uplink, when it last sent something.
    pub(in crate::concentrator) epoch: u32,
    /// It may type; witnesses may not.
    pub(in crate::concentrator) may_type: bool,
}
