//! What the engine keeps per connection: plain data, about 300 bytes for an idle VM.

use crate::telnet::{Decoder, Negotiator, Opt, OptionPolicy, Side};
use crate::transport::Tls;
use crate::vmware::{Dialogue, Uuid, VMWARE_TELNET_EXT};

use super::admission::{Heard, Kind};
use super::control::Control;
use super::event::CloseReason;
use super::id::ConsoleId;
use super::journal::Journal;
use super::outbox::Announced;
use super::output::Address;
use super::upgrade::Upgrade;
use super::vmotion::MoveId;

/// What we are willing to have switched on towards a client (telnet.md §4).
pub(super) const CLIENT_POLICY: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::BINARY, us: true, him: true },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::ECHO, us: true, him: false },
];

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) peer: Address,
    pub(super) transport: Transport,
    pub(super) announced: Announced,
    pub(super) control: Control,
    pub(super) decoder: Decoder,
    pub(super) negotiator: Negotiator,
    /// It is being closed: nothing it says counts any more.
    pub(super) closing: Option<Closing>,
    pub(super) malformed_told: bool,
    pub(super) role: Role,
}

/// How far a closing connection is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closing {
    /// Until its control bytes are taken.
    Farewell,
    /// Until what its console held for it at the time is taken, too.
    Drain(CloseReason),
}

/// What the connection's bytes go through.
#[derive(Debug, Default)]
pub(super) enum Transport {
    /// Nothing.
    #[default]
    Plain,
    /// Nothing yet: what the peer says is heard, and what it is to be told waits for how it will be told.
    Held(Box<Upgrade>),
    /// TLS.
    Tls(Box<Tls>),
}

impl Transport {
    /// Bytes for the socket that are not the connection's own. `None`: it has only its own.
    pub(super) fn pending(&self) -> Option<&[u8]> {
        match self {
            Self::Plain => None,
            Self::Held(upgrade) => Some(upgrade.pending()),
            Self::Tls(tls) => Some(tls.pending()),
        }
    }

    /// Nothing of what the connection says can reach the peer, now or later.
    pub(super) fn is_mute(&self) -> bool {
        matches!(self, Self::Tls(tls) if !tls.is_up())
    }

    /// What is said now may be said by anyone, and TLS is required.
    pub(super) fn is_untrusted(&self) -> bool {
        matches!(self, Self::Held(upgrade) if upgrade.is_required())
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

#[derive(Debug)]
pub(super) enum Role {
    Vm(Vm),
    Client(Client),
    /// A client of this console whose TLS is not up: nobody yet.
    Arriving(ConsoleId),
}

/// The connection of a host, for one serial port of one VM.
#[derive(Debug)]
pub(super) struct Vm {
    pub(super) dialogue: Dialogue,
    pub(super) place: Place,
    /// The move it is the source or the target of.
    pub(super) moving: Option<MoveId>,
    /// What it has said that belongs to no console yet.
    pub(super) early: Option<Box<Early>>,
    /// CR NUL is folded to CR, and whether the last byte was a CR. `None`: BINARY was not refused.
    pub(super) fold: Option<bool>,
    /// Its identification has been told as an event.
    pub(super) told: bool,
    /// Its TLS began on a telnet connection and is not up yet.
    pub(super) upgrading: bool,
}

/// Where a VM connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It has not said which VM it is.
    New,
    /// It said it is the target of a move that has ended since, or that never was: it joins no console.
    Stray,
    /// It is the accepted target of a move.
    Target,
    /// It feeds this console.
    Console(ConsoleId),
    /// Its VM has moved away.
    Left(ConsoleId),
    /// It has part in nothing any more.
    Gone,
}

impl Place {
    /// It may be a stranger for all we know.
    pub(super) fn is_unidentified(self) -> bool {
        matches!(self, Self::New | Self::Stray)
    }
}

/// What a VM connection says before it has a console.
#[derive(Debug, Default)]
pub(super) struct Early {
    pub(super) journal: Journal,
    pub(super) uuid: Option<Uuid>,
    pub(super) name: Option<String>,
    /// The `_<uri>` suffix, once DO-PROXY was accepted.
    pub(super) suffix: Option<String>,
}

/// Someone who reads a console, and may type.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) console: ConsoleId,
    pub(super) mode: Mode,
    /// Its place in the console's journal.
    pub(super) at: u64,
    /// It is being shown older output up to the first offset, and goes on at the second.
    pub(super) jump: Option<(u64, u64)>,
    /// The journal has gone on without it since this many guest bytes had been printed.
    pub(super) overtaken: Option<u64>,
    /// Of the uplink, when it last sent something.
    pub(super) epoch: u32,
    /// Where the journal stood when it came.
    pub(super) attached_at: u64,
    pub(super) after_cr: bool,
    /// It has sent something.
    pub(super) spoken: bool,
    /// It will send no more.
    pub(super) ended: bool,
    /// Bytes of a raw client that may yet turn out to be an answer to our offers.
    pub(super) held: Held,
}

/// Up to two bytes that began like an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) bytes: [u8; 2],
    pub(super) len: u8,
}

/// What a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// It may be telnet: IAC is parsed and doubled.
    Undecided,
    /// It has answered a negotiation.
    Telnet,
    /// It has not: nothing but the VM's bytes, unparsed. `last`: whatever it sends, it stays so.
    Raw {
        /// Not even an answer to our offers changes it any more.
        last: bool,
    },
    /// It lives in this process and gets guest bytes.
    Local,
}

impl Mode {
    /// It reads guest bytes, IAC undoubled.
    pub(super) fn is_guest(self) -> bool {
        matches!(self, Self::Raw { .. } | Self::Local)
    }
}

impl Client {
    /// The oldest byte it still has to be given.
    pub(super) fn needs(&self) -> u64 {
        self.jump.map_or(self.at, |(_, resume)| self.at.min(resume))
    }
}

impl Conn {
    pub(super) fn vm(&self) -> Option<&Vm> {
        match &self.role {
            Role::Vm(vm) => Some(vm),
            Role::Client(_) | Role::Arriving(_) => None,
        }
    }

    pub(super) fn vm_mut(&mut self) -> Option<&mut Vm> {
        match &mut self.role {
            Role::Vm(vm) => Some(vm),
            Role::Client(_) | Role::Arriving(_) => None,
        }
    }

    pub(super) fn client(&self) -> Option<&Client> {
        match &self.role {
            Role::Client(client) => Some(client),
            Role::Vm(_) | Role::Arriving(_) => None,
        }
    }

    pub(super) fn client_mut(&mut self) -> Option<&mut Client> {
        match &mut self.role {
            Role::Client(client) => Some(client),
            Role::Vm(_) | Role::Arriving(_) => None,
        }
    }

    /// It has not said which VM it is, or its handshake is not done.
    pub(super) fn is_nobody(&self) -> bool {
        match &self.role {
            Role::Vm(vm) => vm.place.is_unidentified(),
            Role::Arriving(_) => true,
            Role::Client(_) => false,
        }
    }

    /// What it has sent so far, having sent something.
    pub(super) fn heard(&self) -> Heard {
        let has_begun = |opt| self.negotiator.is_on(Side::Him, opt);
        match self.vm() {
            // It will never say which VM it is.
            Some(vm) if vm.place == Place::Stray => Heard::Noise,
            Some(vm) if vm.early.as_ref().is_some_and(|early| early.uuid.is_some()) => Heard::Dialogue,
            _ if self.transport.is_tls() => Heard::Dialogue,
            _ if has_begun(VMWARE_TELNET_EXT) || has_begun(Opt::AUTHENTICATION) => Heard::Dialogue,
            _ => Heard::Noise,
        }
    }

    /// Its socket has taken all that it was to be told by now.
    pub(super) fn has_been_told_all(&self) -> bool {
        match &self.transport {
            Transport::Plain => self.control.is_empty(),
            Transport::Held(upgrade) => upgrade.pending().is_empty(),
            Transport::Tls(_) => true,
        }
    }

    /// On which side it holds a descriptor; a reader inside the process holds none.
    pub(super) fn kind(&self) -> Option<Kind> {
        match (&self.peer, &self.role) {
            (Address::Local, _) => None,
            (Address::Ip(_), Role::Vm(_)) => Some(Kind::Vm),
            (Address::Ip(_), Role::Client(_) | Role::Arriving(_)) => Some(Kind::Client),
        }
    }

    /// The console it has to do with.
    pub(super) fn console(&self) -> Option<ConsoleId> {
        match &self.role {
            Role::Client(client) => Some(client.console),
            Role::Arriving(console) => Some(*console),
            Role::Vm(vm) => match vm.place {
                Place::Console(console) | Place::Left(console) => Some(console),
                Place::New | Place::Stray | Place::Target | Place::Gone => None,
            },
        }
    }
}
