//! Who comes by the admin port, as its connection: what it speaks, whom it is at a console as, and for how
//! long.
//!
//! Plain data; the protocols are `admin`'s, the operations `visits`' and those of each protocol.

use crate::admin::openstack::OpenStackLine;
use crate::admin::operator::{Caller, Right, Rules};
use crate::admin::v3::V3Server;
use crate::admin::vmware_kit::KitServer;
use crate::time::Instant;

use super::conn::{Conn, Role};
use super::desk::Desk;
use super::event::Stay;
use super::fanout::Seat;
use super::id::{ConnId, ConsoleId};
use super::kit::Kit;
use super::standing::Standing;
use super::visits::Told;

/// A connection on the admin listener: which protocol it speaks, and what it has asked.
#[derive(Debug)]
pub(super) struct Asking {
    /// Who asks, and what it may do.
    pub(super) standing: Standing,
    pub(super) dialogue: Asks,
}

impl Asking {
    /// What it may do by a protocol that is older than ours.
    pub(super) fn of_older(&self, rules: &Rules) -> Right {
        rules.of_older(&self.standing.caller)
    }
}

/// What an admin connection speaks.
#[derive(Debug)]
pub(super) enum Asks {
    /// That is not known.
    Undecided {
        /// What it has said so far.
        begun: Vec<u8>,
        /// It was silent, and was offered VMware's option.
        offered: Option<KitServer>,
    },
    /// VMware's protocol.
    Kit(Box<Kit>),
    /// vSPC.py's protocol; while it is told of all consoles, the slot of the next.
    V3 {
        /// Where its dialogue stands.
        server: V3Server,
        /// The slot of the next console it is to be told of.
        next: u32,
    },
    /// OpenStack's lines; while it is told of all consoles, the slot of the next.
    Lines {
        /// The one line that it says.
        line: OpenStackLine,
        /// The slot of the next console it is to be told of.
        next: Option<u32>,
    },
    /// Nothing of use.
    Nothing,
}

/// Someone at a console by way of an operator's connection: a connection without a socket.
#[derive(Debug)]
pub(super) struct Attach {
    pub(super) console: ConsoleId,
    pub(super) seat: Seat,
    /// Of the uplink, when it last sent something.
    pub(super) epoch: u32,
    /// The connection it came by.
    pub(super) operator: ConnId,
    /// The stream of that which carries it.
    pub(super) stream: u64,
    pub(super) visit: Visit,
    /// What it was last told of its console.
    pub(super) told: Told,
}

/// Someone at a console, for logs and for others there.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// Who it is, of one that came by the admin port.
    pub(super) who: Option<Box<str>>,
    /// The same for rules, of one whose connection became a client's.
    pub(super) caller: Option<Box<Caller>>,
    /// When it came.
    pub(super) since: Instant,
    /// Guest bytes it has typed.
    pub(super) typed: u64,
    /// Bytes it was shown.
    pub(super) shown: u64,
}

impl Visit {
    /// At a console's port.
    pub(super) fn new(now: Instant) -> Self {
        Self { who: None, caller: None, since: now, typed: 0, shown: 0 }
    }

    /// By the admin port.
    pub(super) fn of(who: &str, now: Instant) -> Self {
        Self { who: Some(who.into()), ..Self::new(now) }
    }

    /// How long it was, and what went each way.
    pub(super) fn stay(&self, now: Instant) -> Stay {
        Stay { after: now.duration_since(self.since), typed: self.typed, shown: self.shown }
    }
}

impl Asking {
    /// What speaks VMware's protocol.
    pub(super) fn kit(&self) -> Option<&Kit> {
        match &self.dialogue {
            Asks::Kit(kit) => Some(kit),
            _ => None,
        }
    }
}

impl Conn {
    /// Whether it came by the admin port.
    pub(super) fn is_visitor(&self) -> bool {
        self.visit().is_some_and(|visit| visit.who.is_some())
    }

    /// Of someone at a console.
    pub(super) fn visit(&self) -> Option<&Visit> {
        match &self.role {
            Role::Client(client) => Some(&client.visit),
            Role::Attach(attach) => Some(&attach.visit),
            _ => None,
        }
    }

    /// The same, to count in it.
    pub(super) fn visit_mut(&mut self) -> Option<&mut Visit> {
        match &mut self.role {
            Role::Client(client) => Some(&mut client.visit),
            Role::Attach(attach) => Some(&mut attach.visit),
            _ => None,
        }
    }

    /// A connection that speaks VMware's protocol.
    pub(super) fn kit(&self) -> Option<&Kit> {
        match &self.role {
            Role::Asking(asking) => asking.kit(),
            _ => None,
        }
    }

    /// The same, to use it.
    pub(super) fn kit_mut(&mut self) -> Option<&mut Kit> {
        match &mut self.role {
            Role::Asking(asking) => match &mut asking.dialogue {
                Asks::Kit(kit) => Some(kit),
                _ => None,
            },
            _ => None,
        }
    }

    /// The port that a connection which speaks VMware's protocol was connected to is not its any more, though
    /// it has not asked for that.
    pub(super) fn disconnect_kit(&mut self, attach: ConnId) -> bool {
        let Role::Asking(asking) = &mut self.role else { return false };
        let Asks::Kit(kit) = &mut asking.dialogue else { return false };
        if kit.attach == Some(attach) {
            kit.disconnected(&mut self.control);
        }
        true
    }

    /// An operator's connection's session.
    pub(super) fn desk(&self) -> Option<&Desk> {
        match &self.role {
            Role::Operator(desk) => Some(desk),
            _ => None,
        }
    }

    /// The same, to use it.
    pub(super) fn desk_mut(&mut self) -> Option<&mut Desk> {
        match &mut self.role {
            Role::Operator(desk) => Some(desk),
            _ => None,
        }
    }
}
