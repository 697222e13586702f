//! The concentrator's end of one VM's connection, whole: for tests, simulators and stand-ins (vmware.md §3,
//! vmotion.md §1). The engine has parts of its own in place of it, because there output goes to many readers
//! and input comes from many.

use super::code::VMWARE_TELNET_EXT;
use super::dialogue::{Dialogue, Said};
use super::message::Message;
use super::message_decoder;
use super::queues::{Events, TransmitQueue};
use crate::telnet::{
    Command, Decoder, Item, Negotiator, Opt, Verb, escape_into, put_command, put_negotiation,
};

/// What the VM did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyEvent {
    /// It said something that the caller has to answer or may want to know.
    Said(Said),
    /// BRK from the guest.
    Break,
}

/// One serial port's connection, proxy side: the mirror of [`VmSession`](super::VmSession).
///
/// It opens, negotiates and asks the VM who it is. What has more than one answer is left to the caller:
/// [`Said::Proxy`], [`Said::VmotionBegin`] and [`Said::VmotionPeer`] are to be answered with
/// [`put`](Self::put).
///
/// ```
/// # use vspc_core::vmware::{Message, ProxyEvent, ProxySession, Said, VmConfig, VmSession};
/// let mut vm = VmSession::new(VmConfig { name: "web01".into(), ..VmConfig::default() });
/// let mut proxy = ProxySession::new();
/// let (mut printed, mut typed, mut name) = (Vec::new(), Vec::new(), Vec::new());
/// vm.print(b"login: ");
/// proxy.type_in(b"root");
/// // Two sockets would be between them; here each takes all that the other has to send.
/// while proxy.transmit(|bytes| { vm.handle_received(bytes, &mut typed); bytes.len() })
///     + vm.transmit(|bytes| { proxy.handle_received(bytes, &mut printed); bytes.len() }) > 0
/// {
///     while let Some(event) = proxy.poll_event() {
///         match event {
///             ProxyEvent::Said(Said::Proxy { .. }) => proxy.put(&Message::WillProxy),
///             ProxyEvent::Said(Said::Name(said)) => name = said,
///             _ => {}
///         }
///     }
/// }
/// assert_eq!((&printed[..], &typed[..], &name[..]), (&b"login: "[..], &b"root"[..], &b"web01"[..]));
/// ```
#[derive(Debug)]
pub struct ProxySession {
    decoder: Decoder,
    negotiator: Negotiator,
    dialogue: Dialogue,
    out: TransmitQueue,
    events: Events<ProxyEvent>,
    malformed: u32,
}

impl ProxySession {
    /// A connection that has just been accepted; the opening is ready to be sent.
    pub fn new() -> Self {
        let mut session = Self {
            decoder: message_decoder(),
            negotiator: Negotiator::new(Dialogue::POLICY),
            dialogue: Dialogue::new(),
            out: TransmitQueue::default(),
            events: Events::default(),
            malformed: 0,
        };
        session.dialogue.open(&mut session.negotiator, session.out.buffer());
        session
    }

    /// Takes bytes read from the VM. What the guest printed is appended to `output`; the rest is answered and
    /// turned into events. Cost: one pass and one copy.
    pub fn handle_received(&mut self, data: &[u8], output: &mut Vec<u8>) {
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut rest = data;
        while let Some(item) = decoder.decode(&mut rest) {
            match item {
                Item::Data(data) => output.extend_from_slice(data),
                Item::Command(Command::BRK) => self.events.push(ProxyEvent::Break),
                Item::Command(_) => {}
                Item::Negotiation(verb, opt) => self.negotiate(verb, opt),
                Item::Subnegotiation(VMWARE_TELNET_EXT, body) => self.converse(body),
                Item::Subnegotiation(..) => {}
                Item::Malformed(_) => self.malformed = self.malformed.saturating_add(1),
            }
        }
        self.decoder = decoder;
    }

    /// The next event, oldest first. Constant cost.
    pub fn poll_event(&mut self) -> Option<ProxyEvent> {
        self.events.poll()
    }

    /// Offers what is to be sent, as [`VmSession::transmit`](super::VmSession::transmit) does, and at its
    /// cost.
    pub fn transmit(&mut self, take: impl FnOnce(&[u8]) -> usize) -> usize {
        self.out.transmit(take)
    }

    /// What [`transmit`](Self::transmit) would offer.
    pub fn pending(&self) -> &[u8] {
        self.out.pending()
    }

    /// A client types; IAC is doubled. Copies `data` into the transmit queue, which has no limit of its own:
    /// call [`transmit`](Self::transmit) in between.
    pub fn type_in(&mut self, data: &[u8]) {
        escape_into(data, self.out.buffer());
    }

    /// Queues a break towards the guest: two bytes.
    pub fn put_break(&mut self) {
        put_command(Command::BRK, self.out.buffer());
    }

    /// Copies bytes into the queue as they are, for bulk that is escaped already and for proxies that
    /// misbehave.
    pub fn put_wire(&mut self, wire: &[u8]) {
        self.out.buffer().extend_from_slice(wire);
    }

    /// Queues any message of option 232, in or out of turn; a copy of it.
    pub fn put(&mut self, message: &Message<'_>) {
        message.put(self.out.buffer());
    }

    /// Asks for UUID and name, unless that was done before. Needed only for a VM that agreed to option 232
    /// and then says nothing for a while.
    pub fn ask(&mut self) {
        self.dialogue.ask(self.out.buffer());
    }

    /// The options of the connection.
    pub fn negotiator(&self) -> &Negotiator {
        &self.negotiator
    }

    /// How many malformed things the VM has sent.
    pub fn malformed(&self) -> u32 {
        self.malformed
    }

    /// How many events and answers were dropped at [`EVENT_LIMIT`](super::EVENT_LIMIT) and
    /// [`ANSWER_LIMIT`](super::ANSWER_LIMIT).
    pub fn dropped(&self) -> u32 {
        self.events.dropped().saturating_add(self.out.dropped())
    }

    fn negotiate(&mut self, verb: Verb, opt: Opt) {
        let outcome = self.negotiator.handle(verb, opt);
        if let Some((verb, opt)) = outcome.send {
            self.out.answer(|out| put_negotiation(verb, opt, out));
        }
        let Some(change) = outcome.change else { return };
        let mut said = None;
        let Self { dialogue, out, .. } = self;
        out.answer(|out| said = dialogue.handle_change(&change, out));
        self.emit(said);
    }

    fn converse(&mut self, body: &[u8]) {
        // Into a buffer of its own: the answer may be dropped, the message may not.
        let mut answer = Vec::new();
        let said = self.dialogue.handle_received(body, &mut answer);
        if !answer.is_empty() {
            self.out.answer(|out| out.extend_from_slice(&answer));
        }
        match said {
            Ok(said) => self.emit(said),
            Err(_) => self.malformed = self.malformed.saturating_add(1),
        }
    }

    fn emit(&mut self, said: Option<Said<&[u8]>>) {
        if let Some(said) = said {
            self.events.push(ProxyEvent::Said(said.into_owned()));
        }
    }
}

impl Default for ProxySession {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::telnet::{IAC, Side};
    use crate::vmware::{ANSWER_LIMIT, Code, EVENT_LIMIT};

    fn events(proxy: &mut ProxySession) -> Vec<ProxyEvent> {
        std::iter::from_fn(|| proxy.poll_event()).collect()
    }

    #[test]
    fn what_a_vm_does_is_told_and_what_it_prints_is_undoubled() {
        let mut proxy = ProxySession::new();
        assert_eq!(proxy.pending().len(), 18, "six offers");
        proxy.transmit(<[u8]>::len);
        let mut output = Vec::new();
        proxy.handle_received(
            b"a\xff\xffb\xff\xf3\xff\xfb\xe8\xff\xfa\xe8\x52web\xff\xff\xff\xf0",
            &mut output,
        );
        assert_eq!(output, b"a\xffb");
        assert!(proxy.negotiator().is_on(Side::Him, VMWARE_TELNET_EXT));
        let name = ProxyEvent::Said(Said::Name(b"web\xff".to_vec()));
        assert_eq!(events(&mut proxy), [ProxyEvent::Break, name]);
        assert_eq!(proxy.pending()[..4], [255, 250, 232, Code::KNOWN_SUBOPTIONS_2.0]);
    }

    #[test]
    fn a_refusal_is_an_event_and_noise_is_counted() {
        let mut proxy = ProxySession::new();
        proxy.handle_received(&[IAC, 252, 232, IAC, 250, 232, IAC, 240, IAC, 7], &mut Vec::new());
        assert_eq!(events(&mut proxy), [ProxyEvent::Said(Said::NotVm)]);
        assert_eq!(proxy.malformed(), 2);
    }

    #[test]
    fn a_vm_that_talks_for_ever_and_never_reads_is_not_answered_for_ever() {
        let mut proxy = ProxySession::new();
        let mut wire = Vec::new();
        for _ in 0..20_000 {
            Message::Unknown { code: Code(99), body: b"" }.put(&mut wire);
            Message::VmName(b"web01").put(&mut wire);
        }
        proxy.handle_received(&wire, &mut Vec::new());
        assert!(proxy.pending().len() < ANSWER_LIMIT + 100);
        assert_eq!(events(&mut proxy).len(), EVENT_LIMIT);
        assert!(proxy.dropped() > 20_000);
    }

    quickcheck! {
        fn garbage_is_survived(bytes: Vec<u8>) -> bool {
            let noise: Vec<u8> = bytes
                .iter()
                .map(|&b| [IAC, IAC, 250, 240, 251, 253, 232, 80, 70, 40, b][usize::from(b % 11)])
                .collect();
            let mut proxy = ProxySession::new();
            let mut output = Vec::new();
            proxy.handle_received(&noise, &mut output);
            output.len() <= noise.len() && events(&mut proxy).len() <= EVENT_LIMIT
        }
    }
}
