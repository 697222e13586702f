//! The admin protocol of VMware's own vspc, from the server's side: telnet with an option for picking a port.
//!
//! **Owns** the option's messages, and the telnet around them. **Refuses to know** consoles, locks and
//! clocks: it says what was asked, the engine has the answer put. **Implements** admin.md §8.

use crate::telnet::{
    Change, Command, Decoder, Item, Malformed as NotTelnet, Negotiator, Opt, OptionPolicy, Side, escape_into,
    put_command, put_negotiation, put_subnegotiation,
};

use super::lock::LockMode;

/// The option under which all of this travels, "VMWARE-VSPC-ADMIN".
pub const VSPC_ADMIN: Opt = Opt(233);

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KitRequest<'a> {
    /// Which ports there are: [`KitPortList`].
    PortList,
    /// To be connected: [`put_connected`], or [`put_disconnected`] if it may not be.
    Connect {
        /// How.
        lock: LockMode,
        /// To which port.
        port: KitPort<'a>,
    },
    /// To be connected no longer: [`put_disconnected`].
    Disconnect,
}

/// A port, as clients name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KitPort<'a> {
    /// The VM's UUID in vCenter.
    pub uuid: [u8; 16],
    /// The label that its service URI gives it, as in `?port=label`; empty if it has none.
    pub label: &'a str,
}

/// A message that cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KitMalformed {
    /// A subnegotiation without a command.
    #[error("admin subnegotiation without a command")]
    MissingCommand,
    /// A command that clients do not have; ignored.
    #[error("admin command {0:#04x} is unknown")]
    UnknownCommand(u8),
    /// A lock mode that nobody knows. The client was told that it is not connected.
    #[error("lock mode {0:#04x} is unknown")]
    UnknownLock(u8),
    /// What is not the name of a port. The client was told that it is not connected.
    #[error("not a port's name")]
    NotAPort,
    /// A subnegotiation of another option, or of this one while it is off; ignored.
    #[error("subnegotiation of {0}, which is off")]
    OptionIsOff(Opt),
    /// Bytes that break telnet's rules.
    #[error(transparent)]
    Telnet(NotTelnet),
}

/// What came of a client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KitEvent<'a> {
    /// A request of the option's. It is only to be served while [`KitServer::is_agreed`], which it makes sure
    /// of.
    Request(KitRequest<'a>),
    /// Typed bytes, undoubled: the console's, if the client is connected to one.
    Data(&'a [u8]),
    /// A command, such as BRK.
    Command(Command),
    /// An option was asked for, and answered. [`Change`] says what is on or off now: if that is
    /// [`VSPC_ADMIN`] and off, the client is no client of this protocol.
    Negotiated(Option<Change>),
    /// Noise, to be counted.
    Malformed(KitMalformed),
}

/// One client's telnet: 80 bytes or so, and no heap unless a message comes in pieces.
#[derive(Debug)]
pub struct KitServer {
    decoder: Decoder,
    negotiator: Negotiator,
}

impl KitServer {
    /// Of a connection from which nothing was read. Appends the server's offer, for which the client waits.
    pub fn open(out: &mut Vec<u8>) -> Self {
        let mut negotiator = Negotiator::new(POLICY);
        if let Some((verb, opt)) = negotiator.want(Side::Us, VSPC_ADMIN, true) {
            put_negotiation(verb, opt, out);
        }
        Self { decoder: Decoder::new(), negotiator }
    }

    /// Reads on; call it until it returns `None`, which is when all was taken. Answers to negotiations are
    /// appended to `out`, and so is the refusal of a connection to what is no port.
    pub fn receive<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Option<KitEvent<'s>> {
        Some(match self.decoder.decode(input)? {
            Item::Data(bytes) => KitEvent::Data(bytes),
            Item::Command(command) => KitEvent::Command(command),
            Item::Negotiation(verb, opt) => {
                let outcome = self.negotiator.handle(verb, opt);
                if let Some((verb, opt)) = outcome.send {
                    put_negotiation(verb, opt, out);
                }
                KitEvent::Negotiated(outcome.change)
            }
            Item::Subnegotiation(VSPC_ADMIN, body) if self.negotiator.is_on(Side::Us, VSPC_ADMIN) => {
                match parse(body) {
                    Ok(request) => KitEvent::Request(request),
                    Err(malformed) => {
                        if matches!(malformed, KitMalformed::UnknownLock(_) | KitMalformed::NotAPort) {
                            put_disconnected(out);
                        }
                        KitEvent::Malformed(malformed)
                    }
                }
            }
            Item::Subnegotiation(opt, _) => KitEvent::Malformed(KitMalformed::OptionIsOff(opt)),
            Item::Malformed(malformed) => KitEvent::Malformed(KitMalformed::Telnet(malformed)),
        })
    }

    /// Whether the client has agreed to the option.
    #[must_use]
    pub fn is_agreed(&self) -> bool {
        self.negotiator.is_on(Side::Us, VSPC_ADMIN)
    }

    /// How many bytes of heap it holds: a message that has not ended yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.decoder.held()
    }
}

/// Appends the answer to [`KitRequest::Connect`]: it is.
pub fn put_connected(out: &mut Vec<u8>) {
    put_subnegotiation(VSPC_ADMIN, &[CONNECTED], out);
}

/// Appends the answer to [`KitRequest::Connect`] if there is no such port or others stand in the way, and to
/// [`KitRequest::Disconnect`]: it is not. Also what a client is told whose console has gone.
pub fn put_disconnected(out: &mut Vec<u8>) {
    put_subnegotiation(VSPC_ADMIN, &[DISCONNECTED], out);
}

/// The answer to [`KitRequest::PortList`], written piece by piece: one subnegotiation, however long.
///
/// Until [`KitPortList::end`] nothing else may be sent to the client.
#[derive(Debug)]
#[must_use]
pub struct KitPortList {
    is_first: bool,
}

impl KitPortList {
    /// Appends the beginning.
    pub fn begin(out: &mut Vec<u8>) -> Self {
        put_command(Command::SB, out);
        out.extend_from_slice(&[VSPC_ADMIN.0, PORT_LIST]);
        Self { is_first: true }
    }

    /// Appends a port: what it is called, the VM's name, and the service URI. NULs in those separate and are
    /// left out.
    pub fn port(&mut self, port: KitPort<'_>, name: &str, uri: &str, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.is_first) {
            out.push(0);
        }
        for byte in port.uuid {
            out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        if !port.label.is_empty() {
            out.push(b'.');
            put_text(port.label, out);
        }
        for text in [name, uri] {
            out.push(0);
            put_text(text, out);
        }
    }

    /// Appends the end.
    pub fn end(self, out: &mut Vec<u8>) {
        put_command(Command::SE, out);
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    // UTF-8 has no 255; escaped all the same, by whom it is due.
    text.split('\0').for_each(|part| escape_into(part.as_bytes(), out));
}

/// Reads the body of a subnegotiation, undoubled. Constant cost.
fn parse(body: &[u8]) -> Result<KitRequest<'_>, KitMalformed> {
    let (&command, rest) = body.split_first().ok_or(KitMalformed::MissingCommand)?;
    match command {
        GET_PORT_LIST => Ok(KitRequest::PortList),
        SET_CONNECTION => {
            let Some((&lock, port)) = rest.split_first() else { return Ok(KitRequest::Disconnect) };
            let lock = lock_mode(lock).ok_or(KitMalformed::UnknownLock(lock))?;
            Ok(KitRequest::Connect { lock, port: KitPort::parse(port).ok_or(KitMalformed::NotAPort)? })
        }
        _ => Err(KitMalformed::UnknownCommand(command)),
    }
}

impl<'a> KitPort<'a> {
    fn parse(id: &'a [u8]) -> Option<Self> {
        let (digits, label) = std::str::from_utf8(id).ok()?.split_at_checked(32)?;
        let mut uuid = [0; 16];
        for (byte, pair) in uuid.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = (digit(0)? << 4 | digit(1)?) as u8;
        }
        let label = if label.is_empty() { label } else { label.strip_prefix('.')? };
        Some(Self { uuid, label })
    }
}

/// A lock's byte (admin.md §8).
const fn lock_mode(byte: u8) -> Option<LockMode> {
    Some(match byte {
        0x00 => LockMode::FreeForAll,
        0x01 => LockMode::Readonly,
        0x10 => LockMode::Exclusive,
        0x11 => LockMode::Write,
        0x20 => LockMode::FreeForAllOrReadonly,
        _ => return None,
    })
}

/// Client: which ports are there?
const GET_PORT_LIST: u8 = 0x10;
/// Server: these.
const PORT_LIST: u8 = 0x11;
/// Client: connect me, or do not any longer.
const SET_CONNECTION: u8 = 0x20;
/// Server: you are connected.
const CONNECTED: u8 = 0x21;
/// Server: you are not.
const DISCONNECTED: u8 = 0x22;

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// What is agreed to: the option itself, and what a console is used with (telnet.md §4).
const POLICY: &[OptionPolicy] = &[
    OptionPolicy { opt: VSPC_ADMIN, us: true, him: false },
    OptionPolicy { opt: Opt::BINARY, us: true, him: true },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::ECHO, us: true, him: false },
];

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: [u8; 16] =
        [0x50, 0x31, 0x23, 0x24, 0x5f, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdf, 0xca, 0xfe, 0x98, 0];
    const ID: &[u8] = b"503123245F6789ABCDEFFEDFCAFE9800";

    fn agreed() -> KitServer {
        let mut out = Vec::new();
        let mut server = KitServer::open(&mut out);
        assert_eq!(out, b"\xff\xfb\xe9");
        out.clear();
        let event = server.receive(&mut &b"\xff\xfd\xe9"[..], &mut out);
        let on = Change { side: Side::Us, opt: VSPC_ADMIN, on: true };
        assert_eq!((event, out), (Some(KitEvent::Negotiated(Some(on))), Vec::new()));
        assert!(server.is_agreed());
        server
    }

    fn subnegotiation(body: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        put_subnegotiation(VSPC_ADMIN, body, &mut wire);
        wire
    }

    #[test]
    fn requests_are_read_and_refused_ones_answered() {
        let connect = |lock| KitRequest::Connect { lock, port: KitPort { uuid: UUID, label: "" } };
        let set = |lock: u8, id: &[u8]| [&[SET_CONNECTION, lock][..], id].concat();
        for (body, expected) in [
            (vec![GET_PORT_LIST], Ok(KitRequest::PortList)),
            (vec![SET_CONNECTION], Ok(KitRequest::Disconnect)),
            (set(0x00, ID), Ok(connect(LockMode::FreeForAll))),
            (set(0x01, ID), Ok(connect(LockMode::Readonly))),
            (set(0x10, ID), Ok(connect(LockMode::Exclusive))),
            (set(0x11, ID), Ok(connect(LockMode::Write))),
            (set(0x20, ID), Ok(connect(LockMode::FreeForAllOrReadonly))),
            (set(0x02, ID), Err(KitMalformed::UnknownLock(2))),
            (set(0x00, b""), Err(KitMalformed::NotAPort)),
            (set(0x00, &ID[1..]), Err(KitMalformed::NotAPort)),
            (set(0x00, b"503123245F6789ABCDEFFEDFCAFE980Z"), Err(KitMalformed::NotAPort)),
            (set(0x00, &[ID, b"x"].concat()), Err(KitMalformed::NotAPort)),
            (set(0x00, &[&ID[..31], b"\xff"].concat()), Err(KitMalformed::NotAPort)),
            (vec![CONNECTED], Err(KitMalformed::UnknownCommand(CONNECTED))),
            (vec![], Err(KitMalformed::MissingCommand)),
        ] {
            let (mut server, mut out) = (agreed(), Vec::new());
            let wire = subnegotiation(&body);
            let expected_event = expected.map_or_else(KitEvent::Malformed, KitEvent::Request);
            assert_eq!(server.receive(&mut &wire[..], &mut out), Some(expected_event), "{body:02x?}");
            let is_refused = matches!(expected, Err(KitMalformed::UnknownLock(_) | KitMalformed::NotAPort));
            assert_eq!(out, if is_refused { subnegotiation(&[DISCONNECTED]) } else { Vec::new() });
        }
        assert_eq!(subnegotiation(&[GET_PORT_LIST]), b"\xff\xfa\xe9\x10\xff\xf0");
    }

    #[test]
    fn a_label_follows_the_uuid() {
        let id = [ID, b".com1.x"].concat();
        assert_eq!(KitPort::parse(&id), Some(KitPort { uuid: UUID, label: "com1.x" }));
        assert_eq!(KitPort::parse(&ID.to_ascii_lowercase()), Some(KitPort { uuid: UUID, label: "" }));
    }

    #[test]
    fn what_is_outside_messages_is_the_consoles_and_cuts_change_nothing() {
        let mut wire = b"ls\xff\xff\r".to_vec();
        wire.extend(subnegotiation(&[GET_PORT_LIST]));
        wire.extend(b"\xff\xf3\xff\xfd\x2c\xff\xfa\x1f\x01\xff\xf0z");
        for size in 1..=wire.len() {
            let (mut server, mut out) = (agreed(), Vec::new());
            let (mut data, mut others) = (Vec::new(), Vec::new());
            for mut piece in wire.chunks(size) {
                while let Some(event) = server.receive(&mut piece, &mut out) {
                    match event {
                        KitEvent::Data(bytes) => data.extend_from_slice(bytes),
                        event => others.push(format!("{event:?}")),
                    }
                }
            }
            assert_eq!(data, b"ls\xff\rz");
            assert_eq!(
                others,
                ["Request(PortList)", "Command(BRK)", "Negotiated(None)", "Malformed(OptionIsOff(NAWS))"]
            );
            assert_eq!(out, b"\xff\xfc\x2c");
        }
    }

    #[test]
    fn nothing_is_served_to_who_has_not_agreed() {
        let mut out = Vec::new();
        let mut server = KitServer::open(&mut out);
        out.clear();
        let wire = subnegotiation(&[GET_PORT_LIST]);
        let event = server.receive(&mut &wire[..], &mut out);
        assert_eq!(event, Some(KitEvent::Malformed(KitMalformed::OptionIsOff(VSPC_ADMIN))));
        let event = server.receive(&mut &b"\xff\xfe\xe9"[..], &mut out);
        let off = Change { side: Side::Us, opt: VSPC_ADMIN, on: false };
        assert_eq!(event, Some(KitEvent::Negotiated(Some(off))));
        assert!(!server.is_agreed() && out.is_empty());
    }

    #[test]
    fn the_list_is_one_message_of_triples() {
        let mut out = Vec::new();
        KitPortList::begin(&mut out).end(&mut out);
        assert_eq!(out, subnegotiation(&[PORT_LIST]));

        out.clear();
        let mut list = KitPortList::begin(&mut out);
        list.port(KitPort { uuid: UUID, label: "" }, "web\x0001", "vspc", &mut out);
        list.port(KitPort { uuid: [0xff; 16], label: "com2" }, "Büro", "vspc?port=com2", &mut out);
        list.end(&mut out);
        let body = [
            &[PORT_LIST][..],
            ID,
            b"\0web01\0vspc\0FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF.com2\0B\xc3\xbcro\0vspc?port=com2",
        ];
        assert_eq!(out, subnegotiation(&body.concat()));

        out.clear();
        put_connected(&mut out);
        assert_eq!(out, b"\xff\xfa\xe9\x21\xff\xf0");
    }
}
