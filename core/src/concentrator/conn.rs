//! What the engine keeps per connection: plain data, about 250 bytes for an idle VM.
//!
//! `conn/role.rs` has what it is, and what is kept of that alone.

mod role;

use std::time::Duration;

use crate::mux::StreamId;
use crate::telnet::{Decoder, Negotiator, Opt, OptionPolicy, Side};
use crate::transport::Tls;
use crate::vmware::VMWARE_TELNET_EXT;

use super::address::Address;
use super::admission::{Heard, Kind, Source};
use super::control::Control;
use super::effects::Effects;
use super::event::CloseReason;
use super::fanout::Seat;
use super::id::{ConnId, ConsoleId};
use super::output::Sent;
use super::timers::Timer;
use super::upgrade::Upgrade;

pub(super) use role::{Announced, Client, Dialled, Early, Ended, Local, Place, Role, Vm, Wire};

/// What we are willing to have switched on towards a client (telnet.md §4).
pub(super) const CLIENT_POLICY: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::BINARY, us: true, him: true },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::ECHO, us: true, him: false },
    OptionPolicy { opt: Opt::COM_PORT, us: false, him: true },
];

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) peer: Address,
    pub(super) transport: Transport,
    pub(super) control: Control,
    pub(super) decoder: Decoder,
    pub(super) negotiator: Negotiator,
    /// It is being closed: nothing it says counts any more.
    pub(super) closing: Option<Closing>,
    pub(super) malformed_told: bool,
    /// It has sent something.
    pub(super) spoken: bool,
    /// That this VM's connection speaks is news to its console: somebody else wants the input, or took it.
    pub(super) is_watched: bool,
    /// Reads until it is read in large pieces again: one of the last was little but commands.
    noisy: u8,
    /// Commands it has sent, as far as that is counted.
    pub(super) commands: u16,
    pub(super) role: Role,
}

/// Whether a read of so many bytes was little but commands. A command costs as much as a kibibyte of data.
pub(super) fn is_noise(commands: usize, bytes: usize) -> bool {
    commands > QUIET && commands * COMMAND_BYTES > bytes
}

/// Reads in small pieces after one that was noise. One large read of noise costs as much as so many of those:
/// who sends both in turn gains nothing.
pub(super) const NOISY_READS: u8 = u8::MAX;

/// Commands in one read that are always heard: hosts and clients make a handful at a time.
const QUIET: usize = 8;

/// A command for each so many bytes is noise: a guest that prints has none, and a message of a move is
/// shorter.
const COMMAND_BYTES: usize = 512;

/// How far a closing connection is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closing {
    /// It is about to become a `Farewell`, before the present call returns.
    Doomed,
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
    /// Nothing yet; it may go over to TLS. Input is parsed; output waits until that is decided.
    Upgradable(Box<Upgrade>),
    /// TLS.
    Tls(Box<Tls>),
    /// A stream of a guest's, of the console that has the guest: there is no socket.
    Stream(Box<(ConsoleId, StreamId)>),
}

impl Transport {
    /// Bytes for the socket that are not the connection's own. `None`: it has only its own.
    pub(super) fn pending(&self) -> Option<&[u8]> {
        match self {
            Self::Plain | Self::Stream(_) => None,
            Self::Upgradable(upgrade) => Some(upgrade.pending()),
            Self::Tls(tls) => Some(tls.pending()),
        }
    }

    /// Nothing of what the connection says can reach the peer, now or later.
    pub(super) fn is_mute(&self) -> bool {
        matches!(self, Self::Tls(tls) if !tls.is_up())
    }

    /// What is said now may be said by anyone, and TLS is required.
    pub(super) fn is_untrusted(&self) -> bool {
        matches!(self, Self::Upgradable(upgrade) if upgrade.is_required())
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl Conn {
    pub(super) fn new(
        peer: Address,
        transport: Transport,
        policy: &'static [OptionPolicy],
        role: Role,
    ) -> Self {
        Self {
            peer,
            transport,
            control: Control::default(),
            decoder: Decoder::new(),
            negotiator: Negotiator::new(policy),
            closing: None,
            malformed_told: false,
            spoken: false,
            is_watched: false,
            noisy: 0,
            commands: 0,
            role,
        }
    }

    /// It is read in small pieces: it sends, or has lately sent, little but commands.
    pub(super) fn is_noisy(&self) -> bool {
        self.noisy > 0
    }

    /// It was read. If that was noise, it is read in small pieces so many times.
    pub(super) fn heard_noise(&mut self, is_noise: bool, times: u8) {
        self.noisy = if is_noise { self.noisy.max(times) } else { self.noisy.saturating_sub(1) };
    }

    pub(super) fn vm(&self) -> Option<&Vm> {
        match &self.role {
            Role::Vm(vm) => Some(vm),
            _ => None,
        }
    }

    pub(super) fn vm_mut(&mut self) -> Option<&mut Vm> {
        match &mut self.role {
            Role::Vm(vm) => Some(vm),
            _ => None,
        }
    }

    pub(super) fn client(&self) -> Option<&Client> {
        match &self.role {
            Role::Client(client) => Some(client),
            _ => None,
        }
    }

    pub(super) fn client_mut(&mut self) -> Option<&mut Client> {
        match &mut self.role {
            Role::Client(client) => Some(client),
            _ => None,
        }
    }

    /// Where it sits as a reader.
    pub(super) fn seat(&self) -> Option<(ConsoleId, Seat)> {
        match &self.role {
            Role::Client(client) => Some((client.console, client.seat)),
            Role::Local(local) => Some((local.console, local.seat)),
            Role::Attach(attach) => Some((attach.console, attach.seat)),
            Role::Vm(_)
            | Role::Arriving(_)
            | Role::Announced(_)
            | Role::Dialled(_)
            | Role::Asking(_)
            | Role::Operator(_) => None,
        }
    }

    /// The console that it types at, and of that one's uplink the epoch in which it last did.
    pub(super) fn types_at(&self) -> Option<(ConsoleId, u32)> {
        match &self.role {
            Role::Client(client) => Some((client.console, client.epoch)),
            Role::Local(local) => Some((local.console, local.epoch)),
            Role::Attach(attach) => Some((attach.console, attach.epoch)),
            Role::Vm(_)
            | Role::Arriving(_)
            | Role::Announced(_)
            | Role::Dialled(_)
            | Role::Asking(_)
            | Role::Operator(_) => None,
        }
    }

    /// It has typed in this epoch.
    pub(super) fn set_epoch(&mut self, now: u32) {
        match &mut self.role {
            Role::Client(client) => client.epoch = now,
            Role::Local(local) => local.epoch = now,
            Role::Attach(attach) => attach.epoch = now,
            Role::Vm(_)
            | Role::Arriving(_)
            | Role::Announced(_)
            | Role::Dialled(_)
            | Role::Asking(_)
            | Role::Operator(_) => {}
        }
    }

    /// It feeds a console, or is at one by a client port: what it is sent is that console's.
    pub(super) fn is_of_console(&self) -> bool {
        matches!(self.role, Role::Vm(_) | Role::Client(_))
    }

    /// The console it has to do with.
    pub(super) fn console(&self) -> Option<ConsoleId> {
        match &self.role {
            Role::Client(client) => Some(client.console),
            Role::Local(local) => Some(local.console),
            Role::Arriving(console) => Some(*console),
            Role::Announced(announced) => announced.console,
            Role::Dialled(dialled) => dialled.key.console(),
            Role::Attach(attach) => Some(attach.console),
            Role::Asking(_) | Role::Operator(_) => None,
            Role::Vm(vm) => match vm.place {
                Place::Console(console) | Place::MovedAway(console) => Some(console),
                Place::Unidentified | Place::Rejected | Place::Aside(_) | Place::Target | Place::Detached => {
                    None
                }
            },
        }
    }

    /// Which stream of a guest's it is.
    pub(super) fn stream(&self) -> Option<(ConsoleId, StreamId)> {
        match &self.transport {
            Transport::Stream(stream) => Some(**stream),
            Transport::Plain | Transport::Upgradable(_) | Transport::Tls(_) => None,
        }
    }

    /// It is that stream no more.
    pub(super) fn take_stream(&mut self) -> Option<(ConsoleId, StreamId)> {
        let stream = self.stream()?;
        self.transport = Transport::Plain;
        Some(stream)
    }

    /// The console that shows what this VM prints, as it comes: nearly always there is nothing more to it.
    pub(super) fn prints_at(&self) -> Option<ConsoleId> {
        let vm = self.vm().filter(|vm| vm.fold.is_none() && vm.early.is_none() && vm.moving.is_none())?;
        match vm.place {
            Place::Console(console) if !self.transport.is_untrusted() => Some(console),
            _ => None,
        }
    }

    /// Whose connections are counted together when descriptors run short.
    pub(super) fn source(&self) -> Source {
        Source::of(&self.peer)
    }

    /// It has not said which VM it is, or its handshake is not done.
    pub(super) fn is_nobody(&self) -> bool {
        match &self.role {
            Role::Vm(vm) => vm.place.is_unidentified(),
            Role::Arriving(_) | Role::Announced(_) => true,
            Role::Asking(asking) => asking.kit().is_none_or(|kit| !kit.is_agreed()),
            Role::Operator(desk) => !desk.standing.is_known,
            Role::Client(_) | Role::Dialled(_) | Role::Local(_) | Role::Attach(_) => false,
        }
    }

    /// The class of what it has sent, for [`Admission`](super::admission::Admission). To be called after its
    /// first byte only.
    pub(super) fn heard(&self) -> Heard {
        match self.vm() {
            // It takes part in nothing.
            Some(vm) if matches!(vm.place, Place::Rejected | Place::Aside(_)) => Heard::Noise,
            Some(vm) if vm.early.as_ref().is_some_and(|early| early.uuid.is_some()) => Heard::Dialogue,
            _ if self.transport.is_tls() => Heard::Dialogue,
            _ if self.negotiator.is_on(Side::Him, VMWARE_TELNET_EXT) => Heard::Dialogue,
            _ => Heard::Noise,
        }
    }

    /// Its socket has taken all that it was to be told by now.
    pub(super) fn has_been_told_all(&self) -> bool {
        match &self.transport {
            Transport::Plain | Transport::Stream(_) => self.control.is_empty(),
            Transport::Upgradable(upgrade) => upgrade.pending().is_empty(),
            Transport::Tls(_) => true,
        }
    }

    /// On which side it holds a descriptor; a reader inside the process holds none.
    pub(super) fn side(&self) -> Option<Kind> {
        match &self.role {
            Role::Vm(vm) if vm.wire == Wire::Stream => None,
            Role::Vm(_) => Some(Kind::Vm),
            Role::Announced(announced) if announced.console.is_none() => Some(Kind::Vm),
            Role::Client(_)
            | Role::Arriving(_)
            | Role::Announced(_)
            | Role::Dialled(_)
            | Role::Asking(_)
            | Role::Operator(_) => Some(Kind::Client),
            Role::Local(_) | Role::Attach(_) => None,
        }
    }

    /// How much it holds of a message that has not ended: a subnegotiation of a host's, a handshake's. What a
    /// client may hold of the first is as little as anyone may.
    pub(super) fn unfinished(&self) -> usize {
        let handshake = match &self.transport {
            Transport::Tls(tls) => tls.unfinished(),
            Transport::Plain | Transport::Upgradable(_) | Transport::Stream(_) => 0,
        };
        handshake + if self.vm().is_some() { self.decoder.held() } else { 0 }
    }

    /// Queues bytes for the peer beside its data, and says so. For what the engine's own states bound.
    pub(super) fn queue_control(&mut self, id: ConnId, fx: &mut Effects, put: impl FnOnce(&mut Vec<u8>)) {
        put(self.control.buffer());
        fx.outbox.transmit(id);
    }

    /// As [`queue_control`](Self::queue_control), in answer to what a peer may send without end: bounded.
    /// Clients that do not read are not read either; VMs always are, so what they do not take is dropped.
    /// Returns whether it was queued.
    #[must_use]
    pub(super) fn queue_reply(
        &mut self,
        id: ConnId,
        fx: &mut Effects,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let has_room = !self.control.is_over_limit();
        if has_room {
            self.queue_control(id, fx, put);
        }
        has_room
    }

    /// The socket of a client that will send no more was offered bytes. What it leaves it has to take in
    /// time.
    pub(super) fn note_half_closed(&mut self, id: ConnId, sent: Sent, fx: &mut Effects) {
        let Some(ended) = self.client_mut().and_then(|client| client.ended.as_mut()) else { return };
        ended.took |= sent.taken > 0;
        if sent.is_short() && (sent.taken > 0 || !ended.owed) {
            *ended = Ended { owed: true, took: false, unread: ended.unread };
            fx.timers.set(Timer::HalfClosed(id), fx.now + HALF_CLOSED_PATIENCE);
        }
    }

    /// Ends this connection, with what it still has to be told, before the present call returns. Nothing it
    /// says from now on counts.
    pub(super) fn doom(&mut self, id: ConnId, why: CloseReason, fx: &mut Effects) {
        if self.closing.is_none() {
            self.closing = Some(Closing::Doomed);
        }
        fx.doom(id, why);
    }
}

/// How long a client that will send no more may take nothing of what it is shown. Also how often a telnet
/// client of that kind is sent something.
pub(super) const HALF_CLOSED_PATIENCE: Duration = Duration::from_secs(10);
