//! Who is at the other end of a connection.

use vspc_core::telnet::{
    Command, Decoder, Item, Negotiator, Opt, OptionPolicy, escape_into, put_command, put_negotiation,
};
use vspc_core::vmware::{VmConfig, VmEvent, VmSession};

/// The other end.
pub(crate) enum Part {
    Host(Host),
    Client(Client),
    /// Says what the test says, and reads nothing.
    Mute,
}

/// A host, for one serial port of one VM.
pub(crate) struct Host {
    pub(crate) session: VmSession,
    /// What the guest got typed.
    pub(crate) typed: Vec<u8>,
    pub(crate) said: Vec<VmEvent>,
    pub(crate) wire: Vec<u8>,
}

/// What a client's program is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Answers negotiations, agrees to BINARY.
    Telnet,
    /// Answers negotiations, refuses BINARY, as busybox does.
    TelnetAscii,
    /// Takes bytes as they come: nc, gdb.
    Raw,
    /// Lives in the process.
    Local,
}

pub(crate) struct Client {
    pub(crate) kind: Kind,
    decoder: Decoder,
    negotiator: Negotiator,
    answers: Vec<u8>,
    /// It has sent AO: a data mark comes.
    pub(crate) ignores_marks: bool,
    /// What its program gets to show.
    pub(crate) seen: Vec<u8>,
    pub(crate) wire: Vec<u8>,
}

const AGREES: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::BINARY, us: true, him: true },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::ECHO, us: false, him: true },
];

const ASCII: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::ECHO, us: false, him: true },
];

impl Host {
    pub(crate) fn new(config: VmConfig) -> Self {
        Self { session: VmSession::new(config), typed: Vec::new(), said: Vec::new(), wire: Vec::new() }
    }

    /// The secret of the last GOAHEAD.
    pub(crate) fn secret(&self) -> Option<Vec<u8>> {
        self.said.iter().rev().find_map(|event| match event {
            VmEvent::Goahead { secret, .. } => Some(secret.clone()),
            _ => None,
        })
    }

    pub(crate) fn was_told(&self, wanted: impl Fn(&VmEvent) -> bool) -> usize {
        self.said.iter().filter(|event| wanted(event)).count()
    }
}

impl Client {
    pub(crate) fn new(kind: Kind) -> Self {
        let policy = if kind == Kind::TelnetAscii { ASCII } else { AGREES };
        Self {
            kind,
            decoder: Decoder::new(),
            negotiator: Negotiator::new(policy),
            answers: Vec::new(),
            ignores_marks: false,
            seen: Vec::new(),
            wire: Vec::new(),
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        self.wire.extend_from_slice(bytes);
        if matches!(self.kind, Kind::Raw | Kind::Local) {
            self.seen.extend_from_slice(bytes);
            return;
        }
        let mut rest = bytes;
        while let Some(item) = self.decoder.decode(&mut rest) {
            match item {
                Item::Data(data) => self.seen.extend_from_slice(data),
                Item::Negotiation(verb, opt) => {
                    if let Some((verb, opt)) = self.negotiator.handle(verb, opt).send {
                        put_negotiation(verb, opt, &mut self.answers);
                    }
                }
                Item::Command(Command::NOP) => {}
                Item::Command(Command::DM) if self.ignores_marks => {}
                item => panic!("a client got {item:?}"),
            }
        }
    }
}

impl Part {
    pub(crate) fn is_vms(&self) -> bool {
        !matches!(self, Self::Client(_))
    }

    pub(crate) fn read(&mut self, bytes: &[u8]) {
        match self {
            Self::Host(host) => {
                host.wire.extend_from_slice(bytes);
                host.session.handle_received(bytes, &mut host.typed);
                host.said.extend(std::iter::from_fn(|| host.session.poll_event()));
            }
            Self::Client(client) => client.read(bytes),
            Self::Mute => {}
        }
    }

    /// What it has to say by itself or in answer.
    pub(crate) fn says(&mut self) -> Vec<u8> {
        match self {
            Self::Host(host) => {
                let said = host.session.pending().to_vec();
                host.session.transmit(<[u8]>::len);
                said
            }
            Self::Client(client) => std::mem::take(&mut client.answers),
            Self::Mute => Vec::new(),
        }
    }
}

/// `guest` as a telnet peer sends it.
pub(crate) fn doubled(guest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    escape_into(guest, &mut out);
    out
}

/// `IAC <command>`.
pub(crate) fn command(command: Command) -> Vec<u8> {
    let mut out = Vec::new();
    put_command(command, &mut out);
    out
}
