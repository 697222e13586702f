//! The VM's end of the dialogue: a whole connection of an ESXi host's, for tests, simulators and
//! relays (vmware.md §3, vmotion.md §1).

use std::sync::Arc;

use super::code::{Code, VMWARE_TELNET_EXT};
use super::dialogue::KNOWN_SUBOPTIONS;
use super::message::Message;
use super::queues::{Events, TransmitQueue};
use super::uuid::Uuid;
use crate::telnet::{
    Change, Command, Decoder, Item, Negotiator, Opt, OptionPolicy, Side, Verb, escape_into, put_command,
    put_negotiation,
};

/// Who opens option 232.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opens {
    /// The VM waits for the proxy's DO 232, as hosts on the wire do.
    #[default]
    WaitsForDo,
    /// The VM opens with WILL 232, as the documents show it.
    WillFirst,
}

/// How a VM answers when it is asked for a UUID that it does not have. Both exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoUuid {
    /// With an empty one.
    #[default]
    Empty,
    /// With UNKNOWN-SUBOPTION-RCVD-1.
    Unknown,
}

/// What makes a session the target of a vMotion: what the source was told in VMOTION-GOAHEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The sequence of the source's VMOTION-BEGIN.
    pub sequence: Vec<u8>,
    /// The proxy's secret.
    pub secret: Vec<u8>,
}

/// What a VM says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmConfig {
    /// Display name.
    pub name: String,
    /// UUID in vCenter; `None` without one.
    pub vc_uuid: Option<Uuid>,
    /// SMBIOS UUID.
    pub bios_uuid: Option<Uuid>,
    /// Location UUID.
    pub location_uuid: Option<Uuid>,
    /// How a missing UUID is answered.
    pub no_uuid: NoUuid,
    /// Service URI.
    pub uri: String,
    /// `b'S'` or `b'C'`.
    pub direction: u8,
    /// Who opens option 232.
    pub opens: Opens,
    /// Whether the first thing said is WILL 37, the offer of in-band TLS.
    pub offers_auth: bool,
    /// Whether WILL 44 follows the name.
    pub offers_com_port: bool,
    /// A vMotion target: VMOTION-PEER right behind the known suboptions, and no DO-PROXY.
    pub resume: Option<Resume>,
}

/// An unnamed VM without any UUID that does what hosts on the wire do, service `vSPC.py`, direction
/// `S`.
impl Default for VmConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            vc_uuid: None,
            bios_uuid: None,
            location_uuid: None,
            no_uuid: NoUuid::default(),
            uri: String::from("vSPC.py"),
            direction: b'S',
            opens: Opens::default(),
            offers_auth: false,
            offers_com_port: false,
            resume: None,
        }
    }
}

/// What the proxy did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VmEvent {
    /// Option 232 is on; the session start is on its way.
    Ready,
    /// It refused option 232, so that it is no concentrator, or has switched it off.
    NotProxy,
    /// WILL-PROXY.
    ProxyAgreed,
    /// WONT-PROXY: a host closes now.
    Refused,
    /// It answered an offer of ours other than 232 (WILL 37, WILL 44).
    Offer {
        /// Which.
        opt: Opt,
        /// DO or DONT.
        agreed: bool,
    },
    /// VMOTION-GOAHEAD to our VMOTION-BEGIN.
    Goahead {
        /// Ours.
        sequence: Vec<u8>,
        /// The proxy's, for the target's [`Resume`].
        secret: Vec<u8>,
    },
    /// VMOTION-NOTNOW to our VMOTION-BEGIN.
    Notnow {
        /// Ours.
        sequence: Vec<u8>,
    },
    /// VMOTION-PEER-OK to our VMOTION-PEER, with the secret behind the sequence or without.
    PeerOk {
        /// Ours.
        sequence: Vec<u8>,
    },
    /// BRK from a client.
    Break,
    /// It does not support a code we sent.
    UnknownToProxy(Code),
    /// It said something about a vMotion that we have not begun.
    Unexpected(Code),
}

/// One serial port's connection to a concentrator, VM side: under 200 bytes, and no heap of its own
/// while it is idle (the configuration is shared).
///
/// Bytes read go into [`handle_received`](Self::handle_received); bytes to write are taken by
/// [`transmit`](Self::transmit).
///
/// ```
/// # use vspc_core::vmware::{VmConfig, VmEvent, VmSession};
/// let mut vm = VmSession::new(VmConfig { name: "web01".into(), ..VmConfig::default() });
/// let mut typed = Vec::new();
/// // The proxy says DO 232, and someone types.
/// vm.handle_received(&[255, 253, 232, b'l', b's'], &mut typed);
/// assert_eq!(vm.poll_event(), Some(VmEvent::Ready));
/// assert_eq!(typed, b"ls");
/// // WILL 232 and the session start. A real VM would call `write` here.
/// let mut sent = Vec::new();
/// vm.transmit(|bytes| {
///     sent.extend_from_slice(bytes);
///     bytes.len()
/// });
/// assert_eq!(sent[..3], [255, 251, 232]);
/// ```
#[derive(Debug)]
pub struct VmSession {
    config: Arc<VmConfig>,
    decoder: Decoder,
    negotiator: Negotiator,
    out: TransmitQueue,
    events: Events<VmEvent>,
    /// The sequence of the vMotion we have begun.
    moving: Option<Box<[u8]>>,
    malformed: u32,
    offered_com_port: bool,
}

impl VmSession {
    /// A connection that has just been made. If a host speaks first, that is ready to be sent.
    ///
    /// Many sessions may share one `Arc<VmConfig>`.
    pub fn new(config: impl Into<Arc<VmConfig>>) -> Self {
        let mut session = Self {
            config: config.into(),
            decoder: Decoder::new(),
            negotiator: Negotiator::new(POLICY),
            out: TransmitQueue::default(),
            events: Events::default(),
            moving: None,
            malformed: 0,
            offered_com_port: false,
        };
        if session.config.offers_auth {
            session.offer(Opt::AUTHENTICATION);
        }
        if session.config.opens == Opens::WillFirst {
            session.offer(VMWARE_TELNET_EXT);
        }
        session
    }

    /// Takes bytes read from the proxy. What clients typed is appended to `input`, as the guest reads
    /// it; the rest is answered and turned into events. Cost: one pass and one copy.
    pub fn handle_received(&mut self, data: &[u8], input: &mut Vec<u8>) {
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut rest = data;
        while let Some(item) = decoder.decode(&mut rest) {
            match item {
                Item::Data(data) => input.extend_from_slice(data),
                Item::Command(Command::BRK) => self.events.push(VmEvent::Break),
                Item::Command(_) => {}
                Item::Negotiation(verb, opt) => self.negotiated(verb, opt),
                Item::Subnegotiation(VMWARE_TELNET_EXT, body) => match Message::parse(body) {
                    Ok(message) => self.answer(&message),
                    Err(_) => self.malformed = self.malformed.saturating_add(1),
                },
                Item::Subnegotiation(..) => {}
                Item::Malformed(_) => self.malformed = self.malformed.saturating_add(1),
            }
        }
        self.decoder = decoder;
    }

    /// The next event, oldest first. Constant cost.
    pub fn poll_event(&mut self) -> Option<VmEvent> {
        self.events.poll()
    }

    /// Calls `take` with the bytes to send; `take` returns how many the socket took (any number beyond counts
    /// as all of them), and so does this. The rest is offered again next time. If there is nothing to send,
    /// returns 0 without calling `take`. Moves no more bytes than it has sent.
    pub fn transmit(&mut self, take: impl FnOnce(&[u8]) -> usize) -> usize {
        self.out.transmit(take)
    }

    /// What [`transmit`](Self::transmit) would offer.
    pub fn pending(&self) -> &[u8] {
        self.out.pending()
    }

    /// The guest prints; IAC is doubled. Also before the session is ready: hosts do not wait. Copies `data`
    /// into the transmit queue, which has no limit of its own: call [`transmit`](Self::transmit) between
    /// prints.
    pub fn print(&mut self, data: &[u8]) {
        escape_into(data, self.out.buffer());
    }

    /// Queues a break towards the clients: two bytes.
    pub fn put_break(&mut self) {
        put_command(Command::BRK, self.out.buffer());
    }

    /// Copies bytes into the queue as they are, for bulk that is escaped already and for peers that
    /// misbehave.
    pub fn put_wire(&mut self, wire: &[u8]) {
        self.out.buffer().extend_from_slice(wire);
    }

    /// Queues any message of option 232, in or out of turn; a copy of it.
    pub fn put(&mut self, message: &Message<'_>) {
        message.put(self.out.buffer());
    }

    /// Queues VMOTION-BEGIN. The VM is stopped from here on: a host prints nothing more on this connection
    /// until the proxy refuses or the move is [aborted](Self::abort). A second one replaces the first. Two
    /// copies of `sequence`.
    pub fn begin(&mut self, sequence: &[u8]) {
        self.moving = Some(sequence.into());
        self.put(&Message::VmotionBegin { sequence });
    }

    /// Queues VMOTION-ABORT, as the source; without a parameter, as hosts do.
    pub fn abort(&mut self) {
        self.moving = None;
        self.put(&Message::VmotionAbort { sequence: &[] });
    }

    /// Queues VMOTION-COMPLETE, as the target. Does nothing on a session that is not a target.
    pub fn complete(&mut self) {
        let config = Arc::clone(&self.config);
        if let Some(resume) = &config.resume {
            self.put(&Message::VmotionComplete { sequence: &resume.sequence });
        }
    }

    /// Whether option 232 is on.
    pub fn is_ready(&self) -> bool {
        self.negotiator.is_on(Side::Us, VMWARE_TELNET_EXT)
    }

    /// What it says about itself.
    pub fn config(&self) -> &Arc<VmConfig> {
        &self.config
    }

    /// The options of the connection.
    pub fn negotiator(&self) -> &Negotiator {
        &self.negotiator
    }

    /// How many malformed things the proxy has sent.
    pub fn malformed(&self) -> u32 {
        self.malformed
    }

    /// How many events and answers were dropped at [`EVENT_LIMIT`](super::EVENT_LIMIT) and
    /// [`ANSWER_LIMIT`](super::ANSWER_LIMIT).
    pub fn dropped(&self) -> u32 {
        self.events.dropped().saturating_add(self.out.dropped())
    }

    fn offer(&mut self, opt: Opt) {
        if let Some((verb, opt)) = self.negotiator.want(Side::Us, opt, true) {
            put_negotiation(verb, opt, self.out.buffer());
        }
    }

    fn negotiated(&mut self, verb: Verb, opt: Opt) {
        let outcome = self.negotiator.handle(verb, opt);
        if let Some((verb, opt)) = outcome.send {
            self.out.answer(|out| put_negotiation(verb, opt, out));
        }
        let Some(Change { side: Side::Us, opt, on }) = outcome.change else {
            return;
        };
        match (opt, on) {
            (VMWARE_TELNET_EXT, true) => self.start(),
            (VMWARE_TELNET_EXT, false) => self.events.push(VmEvent::NotProxy),
            (Opt::AUTHENTICATION | Opt::COM_PORT, agreed) => self.events.push(VmEvent::Offer { opt, agreed }),
            _ => {}
        }
    }

    /// Option 232 is on: what a host says now, in one go (vmware.md §3, vmotion.md §1).
    fn start(&mut self) {
        self.events.push(VmEvent::Ready);
        let config = Arc::clone(&self.config);
        self.out.answer(|out| {
            Message::KnownSuboptions1(KNOWN_SUBOPTIONS).put(out);
            match &config.resume {
                Some(Resume { sequence, secret }) => {
                    let sequence_and_secret = &[&sequence[..], secret].concat();
                    Message::VmotionPeer { sequence_and_secret }.put(out);
                }
                None => {
                    Message::DoProxy { direction: config.direction, uri: config.uri.as_bytes() }.put(out);
                }
            }
        });
    }

    fn answer(&mut self, message: &Message<'_>) {
        match *message {
            Message::KnownSuboptions2(_) => {}
            Message::UnknownSuboptionRcvd2(code) => self.events.push(VmEvent::UnknownToProxy(code)),
            Message::VmotionGoahead { sequence_and_secret } => {
                match self.moving.as_deref().and_then(|ours| sequence_and_secret.strip_prefix(ours)) {
                    Some(secret) => {
                        let sequence = &sequence_and_secret[..sequence_and_secret.len() - secret.len()];
                        self.events
                            .push(VmEvent::Goahead { sequence: sequence.into(), secret: secret.into() });
                    }
                    None => self.events.push(VmEvent::Unexpected(message.code())),
                }
            }
            Message::VmotionNotnow { sequence } => {
                if self.moving.as_deref() == Some(sequence) {
                    self.moving = None;
                    self.events.push(VmEvent::Notnow { sequence: sequence.into() });
                } else {
                    self.events.push(VmEvent::Unexpected(message.code()));
                }
            }
            Message::VmotionPeerOk { sequence } => {
                let ours = self.config.resume.as_ref().filter(|ours| {
                    // The sequence alone or, from some servers, the sequence and the secret.
                    sequence
                        .strip_prefix(&ours.sequence[..])
                        .is_some_and(|rest| rest.is_empty() || *rest == ours.secret)
                });
                let event = match ours {
                    Some(ours) => VmEvent::PeerOk { sequence: ours.sequence.clone() },
                    None => VmEvent::Unexpected(message.code()),
                };
                self.events.push(event);
            }
            Message::WillProxy => self.events.push(VmEvent::ProxyAgreed),
            Message::WontProxy => self.events.push(VmEvent::Refused),
            Message::GetVmVcUuid => {
                self.put_uuid(self.config.vc_uuid, message.code(), |text| Message::VmVcUuid(text));
            }
            Message::GetVmBiosUuid => {
                self.put_uuid(self.config.bios_uuid, message.code(), |text| Message::VmBiosUuid(text));
            }
            Message::GetVmLocationUuid => {
                self.put_uuid(self.config.location_uuid, message.code(), |text| {
                    Message::VmLocationUuid(text)
                });
            }
            Message::GetVmName => {
                let config = Arc::clone(&self.config);
                self.out.answer(|out| Message::VmName(config.name.as_bytes()).put(out));
                if config.offers_com_port && !std::mem::replace(&mut self.offered_com_port, true) {
                    self.offer(Opt::COM_PORT);
                }
            }
            // Never answer a complaint with a complaint.
            Message::UnknownSuboptionRcvd1(_) => {}
            Message::KnownSuboptions1(_)
            | Message::VmotionBegin { .. }
            | Message::VmotionPeer { .. }
            | Message::VmotionComplete { .. }
            | Message::VmotionAbort { .. }
            | Message::DoProxy { .. }
            | Message::VmVcUuid(_)
            | Message::VmName(_)
            | Message::VmBiosUuid(_)
            | Message::VmLocationUuid(_)
            | Message::Unknown { .. } => {
                self.out.answer(|out| Message::UnknownSuboptionRcvd1(message.code()).put(out));
            }
        }
    }

    fn put_uuid(&mut self, uuid: Option<Uuid>, asked: Code, message: fn(&[u8]) -> Message<'_>) {
        let no_uuid = self.config.no_uuid;
        self.out.answer(|out| match (uuid, no_uuid) {
            (Some(uuid), _) => {
                let mut text = Vec::new();
                uuid.put_vmware(&mut text);
                message(&text).put(out);
            }
            (None, NoUuid::Empty) => message(&[]).put(out),
            (None, NoUuid::Unknown) => Message::UnknownSuboptionRcvd1(asked).put(out),
        });
    }
}

/// What a host agrees to when the proxy asks first. Hosts offer in-band TLS and COM-PORT but do not grant
/// them.
const POLICY: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::BINARY, us: true, him: true },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::ECHO, us: false, him: true },
    OptionPolicy { opt: Opt::AUTHENTICATION, us: false, him: false },
    OptionPolicy { opt: Opt::COM_PORT, us: false, him: false },
    OptionPolicy { opt: VMWARE_TELNET_EXT, us: true, him: false },
];

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::telnet::IAC;
    use crate::vmware::{ANSWER_LIMIT, EVENT_LIMIT};

    fn web01() -> VmConfig {
        VmConfig { name: "web01".into(), vc_uuid: Some(Uuid::from_bytes([1; 16])), ..VmConfig::default() }
    }

    fn events(vm: &mut VmSession) -> Vec<VmEvent> {
        std::iter::from_fn(|| vm.poll_event()).collect()
    }

    #[test]
    fn peer_ok_counts_with_the_secret_and_without_and_nothing_else_does() {
        let resume = Resume { sequence: b"1234".into(), secret: b"secret".into() };
        let config = Arc::new(VmConfig { resume: Some(resume), ..web01() });
        let ok = VmEvent::PeerOk { sequence: b"1234".into() };
        let no = VmEvent::Unexpected(Code::VMOTION_PEER_OK);
        let rows: [(&[u8], &VmEvent); 5] =
            [(b"1234", &ok), (b"1234secret", &ok), (b"1234sec", &no), (b"123", &no), (b"9", &no)];
        for (sequence, event) in rows {
            let mut vm = VmSession::new(Arc::clone(&config));
            let mut wire = Vec::new();
            Message::VmotionPeerOk { sequence }.put(&mut wire);
            vm.handle_received(&wire, &mut Vec::new());
            assert_eq!(vm.poll_event().as_ref(), Some(event));
        }
    }

    #[test]
    fn only_the_move_that_was_begun_is_answered() {
        let mut vm = VmSession::new(web01());
        let hear = |vm: &mut VmSession, message: Message<'_>| {
            let mut wire = Vec::new();
            message.put(&mut wire);
            vm.handle_received(&wire, &mut Vec::new());
            vm.poll_event()
        };
        let goahead = Message::VmotionGoahead { sequence_and_secret: b"12secret" };
        let notnow = Message::VmotionNotnow { sequence: b"12" };
        let unexpected = |code| Some(VmEvent::Unexpected(code));
        assert_eq!(hear(&mut vm, goahead), unexpected(Code::VMOTION_GOAHEAD));
        assert_eq!(hear(&mut vm, notnow), unexpected(Code::VMOTION_NOTNOW));
        vm.begin(b"12");
        assert_eq!(hear(&mut vm, notnow), Some(VmEvent::Notnow { sequence: b"12".into() }));
        assert_eq!(hear(&mut vm, goahead), unexpected(Code::VMOTION_GOAHEAD));
        vm.begin(b"12");
        vm.abort();
        assert_eq!(hear(&mut vm, goahead), unexpected(Code::VMOTION_GOAHEAD));
    }

    #[test]
    fn breaks_refusals_and_complaints_are_told() {
        let mut vm = VmSession::new(web01());
        let mut wire = vec![255, 243, 255, 254, 232];
        Message::WontProxy.put(&mut wire);
        Message::UnknownSuboptionRcvd2(Code::VM_NAME).put(&mut wire);
        let mut input = Vec::new();
        vm.handle_received(&[255, 253, 232], &mut input);
        vm.handle_received(&wire, &mut input);
        assert_eq!(
            events(&mut vm),
            [
                VmEvent::Ready,
                VmEvent::Break,
                VmEvent::NotProxy,
                VmEvent::Refused,
                VmEvent::UnknownToProxy(Code::VM_NAME),
            ]
        );
        assert_eq!(input, b"");
    }

    #[test]
    fn codes_of_the_wrong_direction_are_answered_with_2() {
        let mut vm = VmSession::new(web01());
        let mut wire = Vec::new();
        Message::VmotionBegin { sequence: b"1" }.put(&mut wire);
        Message::Unknown { code: Code(99), body: b"" }.put(&mut wire);
        vm.handle_received(&wire, &mut Vec::new());
        assert_eq!(vm.pending(), b"\xff\xfa\xe8\x02\x28\xff\xf0\xff\xfa\xe8\x02\x63\xff\xf0");
    }

    #[test]
    fn an_idle_session_is_small_and_holds_no_heap() {
        assert!(size_of::<VmSession>() <= 200, "{}", size_of::<VmSession>());
        let mut vm = VmSession::new(web01());
        vm.handle_received(&[IAC, 253, 232, IAC, 250, 232, 71, IAC, 240, IAC, 250], &mut Vec::new());
        vm.handle_received(&[232, 99, IAC, IAC, IAC, 240], &mut Vec::new());
        events(&mut vm);
        vm.print(&[IAC; 100_000]);
        while vm.transmit(|bytes| bytes.len().min(777)) > 0 {}
        assert!(vm.pending().is_empty() && vm.moving.is_none());
        assert!(vm.decoder.is_idle());
    }

    #[test]
    fn a_proxy_that_asks_for_ever_and_never_reads_is_not_answered_for_ever() {
        let mut vm = VmSession::new(web01());
        let mut wire = Vec::new();
        for _ in 0..10_000 {
            Message::GetVmVcUuid.put(&mut wire);
            Message::WillProxy.put(&mut wire);
        }
        vm.handle_received(&wire, &mut Vec::new());
        assert!(vm.pending().len() < ANSWER_LIMIT + 100);
        assert_eq!(events(&mut vm).len(), EVENT_LIMIT);
        assert!(vm.dropped() > 10_000);
        vm.transmit(<[u8]>::len);
        vm.handle_received(&wire[..6], &mut Vec::new());
        assert!(!vm.pending().is_empty(), "answers again once it is read");
    }

    quickcheck! {
        fn garbage_is_survived(bytes: Vec<u8>) -> bool {
            let noise: Vec<u8> = bytes
                .iter()
                .map(|&b| [IAC, IAC, 250, 240, 251, 253, 232, 81, 83, 41, b][usize::from(b % 11)])
                .collect();
            let mut vm = VmSession::new(web01());
            let mut input = Vec::new();
            vm.handle_received(&noise, &mut input);
            input.len() <= noise.len() && events(&mut vm).len() <= EVENT_LIMIT
        }
    }
}
