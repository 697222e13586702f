//! The concentrator's end of one VM's dialogue.
//!
//! **Owns** what it has asked for and what it knows of the VM: five bits. **Refuses to know** which console
//! the VM belongs to, and keeps no bytes: it answers into the caller's buffer, whose bound is the caller's
//! affair. **Implements** vmware.md §3.

use super::code::{Code, VMWARE_TELNET_EXT};
use super::message::{Malformed, Message};
use super::uuid::{Uuid, UuidError};
use crate::telnet::{Change, Negotiator, Opt, OptionPolicy, Side, put_negotiation};

/// What a VM said that the caller has to act on. The bytes in it are borrowed from the message, or owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Said<B = Vec<u8>> {
    /// Which VM it is: its UUID in vCenter or, if it has none, its BIOS UUID. Never nil. May come again, and
    /// a VM that at first had no vCenter UUID may still send one.
    Uuid(Uuid),
    /// Its location UUID, unasked.
    LocationUuid(Uuid),
    /// Its BIOS UUID, unasked.
    BiosUuid(Uuid),
    /// Its display name, any bytes.
    Name(B),
    /// DO-PROXY: to be answered [`Message::WillProxy`] or [`Message::WontProxy`].
    Proxy {
        /// `b'S'` or `b'C'`; any byte.
        direction: u8,
        /// For [`ServiceUri`](super::ServiceUri).
        uri: B,
    },
    /// To be answered [`Message::VmotionGoahead`] or [`Message::VmotionNotnow`].
    VmotionBegin {
        /// Opaque.
        sequence: B,
    },
    /// To be answered [`Message::VmotionPeerOk`] or not at all.
    VmotionPeer {
        /// As it stood in a VMOTION-GOAHEAD, if the peer is honest.
        sequence_and_secret: B,
    },
    /// The VM has moved here.
    VmotionComplete {
        /// Opaque.
        sequence: B,
    },
    /// The VM stays.
    VmotionAbort {
        /// Opaque, usually empty.
        sequence: B,
    },
    /// The VM did not know a code of ours.
    UnknownToVm(Code),
    /// The peer refused option 232: it is no VM.
    NotVm,
}

/// One VM's dialogue: a few bytes, no heap. A host may say things in any order.
///
/// It asks which VM it is, once, as soon as the VM has sent any of the messages that a VM sends first. It
/// answers what has only one answer, and reports what needs a decision as [`Said`].
///
/// ```text
/// VM                                   Dialogue
/// WILL 232 (asked or not)              KNOWN-SUBOPTIONS-2 at once
/// WONT 232                             Said::NotVm
/// KNOWN-SUBOPTIONS-1, DO-PROXY or      GET-VM-VC-UUID and GET-VM-NAME, unless asked before
///   VMOTION-PEER, the first of them      (or unless already told)
/// VM-VC-UUID with a UUID               Said::Uuid
/// VM-VC-UUID without one, or           GET-VM-BIOS-UUID, once
///   "unknown" to GET-VM-VC-UUID
/// VM-BIOS-UUID                         Said::Uuid if that is all there is, else Said::BiosUuid
/// a code only a proxy sends, or        UNKNOWN-SUBOPTION-RCVD-2
///   one nobody knows
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialogue {
    greeted: bool,
    asked: bool,
    asked_bios: bool,
    vc_known: bool,
    named: bool,
}

impl Dialogue {
    /// The options a concentrator agrees to: BINARY and SGA both ways, our ECHO, the VM's option 232
    /// (telnet.md §10). In-band TLS (37) and COM-PORT (44) are missing and so are answered DONT.
    pub const POLICY: &'static [OptionPolicy] = &[
        OptionPolicy { opt: Opt::BINARY, us: true, him: true },
        OptionPolicy { opt: Opt::SGA, us: true, him: true },
        OptionPolicy { opt: Opt::ECHO, us: true, him: false },
        OptionPolicy { opt: VMWARE_TELNET_EXT, us: false, him: true },
    ];

    /// As [`POLICY`](Self::POLICY), for connections that may be upgraded to TLS (tls-in-band.md §2).
    pub const POLICY_WITH_TLS: &'static [OptionPolicy] = &[
        Self::POLICY[0],
        Self::POLICY[1],
        Self::POLICY[2],
        Self::POLICY[3],
        OptionPolicy { opt: Opt::AUTHENTICATION, us: false, him: true },
    ];

    /// A dialogue at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens: WILL BINARY, WILL SGA, WILL ECHO, DO BINARY, DO SGA, DO 232 (telnet.md §10), at once and
    /// without waiting for the VM, because hosts wait for DO 232.
    pub fn open(&mut self, negotiator: &mut Negotiator, out: &mut Vec<u8>) {
        for (side, opt) in [
            (Side::Us, Opt::BINARY),
            (Side::Us, Opt::SGA),
            (Side::Us, Opt::ECHO),
            (Side::Him, Opt::BINARY),
            (Side::Him, Opt::SGA),
            (Side::Him, VMWARE_TELNET_EXT),
        ] {
            if let Some((verb, opt)) = negotiator.want(side, opt, true) {
                put_negotiation(verb, opt, out);
            }
        }
    }

    /// Handles a change of an option; only option 232 on the VM's side matters.
    ///
    /// When it comes on, KNOWN-SUBOPTIONS-2 is put at once and not as the answer to KNOWN-SUBOPTIONS-1: some
    /// hosts wait for it before they send theirs (vmware.md §3).
    pub fn handle_change(&mut self, change: &Change, out: &mut Vec<u8>) -> Option<Said<&'static [u8]>> {
        if change.side != Side::Him || change.opt != VMWARE_TELNET_EXT {
            return None;
        }
        if change.on {
            self.greeted = true;
            Message::KnownSuboptions2(KNOWN_SUBOPTIONS).put(out);
            None
        } else {
            // If it is switched off later, the peer is still a VM.
            (!self.greeted).then_some(Said::NotVm)
        }
    }

    /// Handles the body of a subnegotiation of option 232, undoubled, and appends the answer to `out`: at
    /// most two messages; a VM may ask for answers without end, so the caller bounds its queue. `Ok(None)`:
    /// there is nothing to report. Constant cost, except that a UUID is read to its end.
    ///
    /// # Errors
    ///
    /// The VM left something out, or what it sent is not a UUID. Count it; the dialogue goes on.
    pub fn handle_received<'a>(
        &mut self,
        body: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Said<&'a [u8]>>, Malformed> {
        let message = Message::parse(body)?;
        if matches!(
            message,
            Message::KnownSuboptions1(_) | Message::DoProxy { .. } | Message::VmotionPeer { .. }
        ) {
            self.ask(out);
        }
        Ok(Some(match message {
            Message::KnownSuboptions1(_) => return Ok(None),
            Message::DoProxy { direction, uri } => Said::Proxy { direction, uri },
            Message::VmVcUuid(text) => return self.vc_uuid(text, out),
            Message::VmBiosUuid(text) => return self.bios_uuid(text),
            Message::VmLocationUuid(text) => {
                return Ok(uuid(text, message.code())?.map(Said::LocationUuid));
            }
            Message::VmName(name) => {
                self.named = true;
                Said::Name(name)
            }
            Message::VmotionBegin { sequence } => Said::VmotionBegin { sequence },
            Message::VmotionPeer { sequence_and_secret } => Said::VmotionPeer { sequence_and_secret },
            Message::VmotionComplete { sequence } => Said::VmotionComplete { sequence },
            Message::VmotionAbort { sequence } => Said::VmotionAbort { sequence },
            Message::UnknownSuboptionRcvd1(code) => {
                if code == Code::GET_VM_VC_UUID {
                    self.ask_bios(out);
                }
                Said::UnknownToVm(code)
            }
            // Never answer a complaint with a complaint: two proxies would go on for ever.
            Message::UnknownSuboptionRcvd2(_) => return Ok(None),
            Message::KnownSuboptions2(_)
            | Message::VmotionGoahead { .. }
            | Message::VmotionNotnow { .. }
            | Message::VmotionPeerOk { .. }
            | Message::WillProxy
            | Message::WontProxy
            | Message::GetVmVcUuid
            | Message::GetVmName
            | Message::GetVmBiosUuid
            | Message::GetVmLocationUuid
            | Message::Unknown { .. } => {
                Message::UnknownSuboptionRcvd2(message.code()).put(out);
                return Ok(None);
            }
        }))
    }

    /// Asks for UUID and name, unless it has asked before; does not ask for what the VM has already sent. To
    /// be called by a timer for a VM that agreed to option 232 and then says nothing.
    pub fn ask(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.asked, true) {
            return;
        }
        if !self.vc_known {
            Message::GetVmVcUuid.put(out);
        }
        if !self.named {
            Message::GetVmName.put(out);
        }
    }

    fn vc_uuid<'a>(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<Option<Said<&'a [u8]>>, Malformed> {
        let uuid = uuid(text, Code::VM_VC_UUID);
        if let Ok(Some(uuid)) = uuid {
            self.vc_known = true;
            return Ok(Some(Said::Uuid(uuid)));
        }
        self.ask_bios(out);
        uuid.map(|_| None)
    }

    /// For a VM without a vCenter UUID: its BIOS UUID has to do (vmware.md §5).
    fn ask_bios(&mut self, out: &mut Vec<u8>) {
        if self.vc_known {
            return;
        }
        if !std::mem::replace(&mut self.asked_bios, true) {
            Message::GetVmBiosUuid.put(out);
        }
    }

    fn bios_uuid<'a>(&mut self, text: &[u8]) -> Result<Option<Said<&'a [u8]>>, Malformed> {
        let is_identity = self.asked_bios && !self.vc_known;
        Ok(uuid(text, Code::VM_BIOS_UUID)?
            .map(|uuid| if is_identity { Said::Uuid(uuid) } else { Said::BiosUuid(uuid) }))
    }
}

impl Said<&[u8]> {
    /// The same with bytes of its own.
    pub fn into_owned(self) -> Said {
        match self {
            Self::Uuid(uuid) => Said::Uuid(uuid),
            Self::LocationUuid(uuid) => Said::LocationUuid(uuid),
            Self::BiosUuid(uuid) => Said::BiosUuid(uuid),
            Self::Name(name) => Said::Name(name.to_vec()),
            Self::Proxy { direction, uri } => Said::Proxy { direction, uri: uri.to_vec() },
            Self::VmotionBegin { sequence } => Said::VmotionBegin { sequence: sequence.to_vec() },
            Self::VmotionPeer { sequence_and_secret } => {
                Said::VmotionPeer { sequence_and_secret: sequence_and_secret.to_vec() }
            }
            Self::VmotionComplete { sequence } => Said::VmotionComplete { sequence: sequence.to_vec() },
            Self::VmotionAbort { sequence } => Said::VmotionAbort { sequence: sequence.to_vec() },
            Self::UnknownToVm(code) => Said::UnknownToVm(code),
            Self::NotVm => Said::NotVm,
        }
    }
}

/// `None` for an empty text and for the nil UUID, which both say "I have none".
fn uuid(text: &[u8], code: Code) -> Result<Option<Uuid>, Malformed> {
    match Uuid::parse(text) {
        Ok(uuid) => Ok((!uuid.is_nil()).then_some(uuid)),
        Err(UuidError::Empty) => Ok(None),
        Err(_) => Err(Malformed::NotAUuid(code)),
    }
}

/// Every code a concentrator can send or take, as KNOWN-SUBOPTIONS-2 lists them.
pub(super) const KNOWN_SUBOPTIONS: &[u8] = &[
    Code::KNOWN_SUBOPTIONS_1.0,
    Code::KNOWN_SUBOPTIONS_2.0,
    Code::UNKNOWN_SUBOPTION_RCVD_1.0,
    Code::UNKNOWN_SUBOPTION_RCVD_2.0,
    Code::VMOTION_BEGIN.0,
    Code::VMOTION_GOAHEAD.0,
    Code::VMOTION_NOTNOW.0,
    Code::VMOTION_PEER.0,
    Code::VMOTION_PEER_OK.0,
    Code::VMOTION_COMPLETE.0,
    Code::VMOTION_ABORT.0,
    Code::DO_PROXY.0,
    Code::WILL_PROXY.0,
    Code::WONT_PROXY.0,
    Code::VM_VC_UUID.0,
    Code::GET_VM_VC_UUID.0,
    Code::VM_NAME.0,
    Code::GET_VM_NAME.0,
    Code::VM_BIOS_UUID.0,
    Code::GET_VM_BIOS_UUID.0,
    Code::VM_LOCATION_UUID.0,
    Code::GET_VM_LOCATION_UUID.0,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telnet::{Decoder, Item, Verb};
    use quickcheck::quickcheck;

    const VC: &[u8] = b"\x5001 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 00";
    const BIOS: &[u8] = b"\x54ff 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 00";
    const LOCATION: &[u8] = b"\x56ee 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 00";
    const NIL: &[u8] = b"\x5000 00 00 00 00 00 00 00-00 00 00 00 00 00 00 00";

    fn parsed(body: &[u8]) -> Uuid {
        Uuid::parse(&body[1..]).unwrap()
    }

    /// The codes of the messages in `out`, which is emptied.
    fn codes(out: &mut Vec<u8>) -> Vec<u8> {
        let wire = std::mem::take(out);
        let mut decoder = Decoder::new();
        let mut rest = &wire[..];
        let mut codes = Vec::new();
        while let Some(item) = decoder.decode(&mut rest) {
            match item {
                Item::Subnegotiation(VMWARE_TELNET_EXT, body) => codes.push(body[0]),
                item => panic!("{item:?}"),
            }
        }
        codes
    }

    /// What a fresh dialogue says and reports when the VM says `bodies`.
    fn after(bodies: &[&'static [u8]]) -> (Vec<u8>, Vec<Said<&'static [u8]>>) {
        let mut dialogue = Dialogue::new();
        let mut out = Vec::new();
        let said =
            bodies.iter().filter_map(|body| dialogue.handle_received(body, &mut out).unwrap()).collect();
        (codes(&mut out), said)
    }

    #[test]
    fn it_opens_with_all_six_offers_at_once() {
        let mut negotiator = Negotiator::new(Dialogue::POLICY);
        let mut out = Vec::new();
        Dialogue::new().open(&mut negotiator, &mut out);
        assert_eq!(out, [255, 251, 0, 255, 251, 3, 255, 251, 1, 255, 253, 0, 255, 253, 3, 255, 253, 232]);
    }

    #[test]
    fn known_suboptions_follow_will_232_at_once_in_both_openings() {
        for open_first in [true, false] {
            let mut negotiator = Negotiator::new(Dialogue::POLICY);
            let mut dialogue = Dialogue::new();
            let mut out = Vec::new();
            if open_first {
                dialogue.open(&mut negotiator, &mut out);
            }
            let outcome = negotiator.handle(Verb::Will, VMWARE_TELNET_EXT);
            assert_eq!(outcome.send.is_some(), !open_first, "asked for already, or agreed to now");
            out.clear();
            assert_eq!(dialogue.handle_change(&outcome.change.unwrap(), &mut out), None);
            assert_eq!(out, [&[255, 250, 232, 1], KNOWN_SUBOPTIONS, &[255, 240]].concat());
            // Not again as the answer to the VM's list.
            out.clear();
            assert_eq!(dialogue.handle_received(&[0, 70, 80], &mut out), Ok(None));
            assert_eq!(codes(&mut out), [81, 83]);
        }
    }

    #[test]
    fn a_peer_that_refuses_232_is_no_vm_but_one_that_ends_it_later_was() {
        let mut negotiator = Negotiator::new(Dialogue::POLICY);
        let mut dialogue = Dialogue::new();
        let mut out = Vec::new();
        dialogue.open(&mut negotiator, &mut out);
        out.clear();
        let refusal = negotiator.handle(Verb::Wont, VMWARE_TELNET_EXT);
        assert_eq!(dialogue.handle_change(&refusal.change.unwrap(), &mut out), Some(Said::NotVm));

        let late = negotiator.handle(Verb::Will, VMWARE_TELNET_EXT);
        assert_eq!(dialogue.handle_change(&late.change.unwrap(), &mut out), None);
        let end = negotiator.handle(Verb::Wont, VMWARE_TELNET_EXT);
        assert_eq!(dialogue.handle_change(&end.change.unwrap(), &mut out), None);
        let other = Change { side: Side::Us, opt: VMWARE_TELNET_EXT, on: false };
        assert_eq!(dialogue.handle_change(&other, &mut out), None);
    }

    #[test]
    fn in_band_tls_and_com_port_are_declined() {
        let mut negotiator = Negotiator::new(Dialogue::POLICY);
        for opt in [Opt::AUTHENTICATION, Opt::COM_PORT] {
            assert_eq!(negotiator.handle(Verb::Will, opt).send, Some((Verb::Dont, opt)));
        }
    }

    #[test]
    fn it_asks_once_whatever_the_vm_says_first() {
        for first in [&[0, 70][..], b"\x46SvSPC.py", b"\x2c1234secret"] {
            assert_eq!(after(&[first, &[0, 70], b"\x46Sagain", b"\x2c1234secret"]).0, [81, 83]);
        }
        // What does not come first does not set it off; the timer does.
        assert!(after(&[b"\x281234", b"\x30", LOCATION]).0.is_empty());
        let mut dialogue = Dialogue::new();
        let mut out = Vec::new();
        dialogue.ask(&mut out);
        dialogue.ask(&mut out);
        let _ = dialogue.handle_received(&[0], &mut out);
        assert_eq!(codes(&mut out), [81, 83]);
    }

    #[test]
    fn what_the_vm_has_told_unasked_is_not_asked() {
        assert!(after(&[VC, b"\x52web01", &[0]]).0.is_empty());
        assert_eq!(after(&[VC, &[0]]).0, [83]);
        assert_eq!(after(&[b"\x52web01", &[0]]).0, [81]);
    }

    #[test]
    fn the_session_start_is_understood_in_any_order() {
        let mut orders = Vec::new();
        permute(&mut [&[0, 70][..], b"\x46SvSPC.py", VC, b"\x52web01"], 0, &mut orders);
        assert_eq!(orders.len(), 24);
        for order in orders {
            let (_, said) = after(&order);
            assert_eq!(said.len(), 3);
            assert!(said.contains(&Said::Proxy { direction: b'S', uri: b"vSPC.py" }));
            assert!(said.contains(&Said::Uuid(parsed(VC))));
            assert!(said.contains(&Said::Name(b"web01")));
        }
    }

    fn permute(bodies: &mut [&'static [u8]; 4], from: usize, orders: &mut Vec<[&'static [u8]; 4]>) {
        if from == bodies.len() {
            return orders.push(*bodies);
        }
        for at in from..bodies.len() {
            bodies.swap(from, at);
            permute(bodies, from + 1, orders);
            bodies.swap(from, at);
        }
    }

    #[test]
    fn a_vm_without_vcenter_is_known_by_its_bios_uuid() {
        // Empty, nil, unknown: each asks once for the BIOS UUID, which then is the identity.
        for none in [&b"\x50"[..], NIL, &[2, 81]] {
            let (asked, said) = after(&[none, none, BIOS]);
            assert_eq!(asked, [85], "{none:?}");
            assert_eq!(said.last(), Some(&Said::Uuid(parsed(BIOS))));
        }
        // A BIOS UUID nobody needs is only reported, and one that is none says nothing.
        assert_eq!(after(&[BIOS]).1, [Said::BiosUuid(parsed(BIOS))]);
        assert_eq!(after(&[VC, BIOS]).1[1], Said::BiosUuid(parsed(BIOS)));
        assert!(after(&[VC, b"\x50", BIOS]).0.is_empty());
        // Once there is a VC UUID, a BIOS UUID asked for before is no identity any more.
        assert_eq!(after(&[b"\x50", VC, BIOS]).1, [Said::Uuid(parsed(VC)), Said::BiosUuid(parsed(BIOS))]);
        assert_eq!(after(&[b"\x50", b"\x54"]), (vec![85], vec![]));
        assert_eq!(after(&[LOCATION]).1, [Said::LocationUuid(parsed(LOCATION))]);
    }

    #[test]
    fn a_uuid_that_cannot_be_read_counts_as_none_and_as_malformed() {
        let mut dialogue = Dialogue::new();
        let mut out = Vec::new();
        let noise = dialogue.handle_received(b"\x50not hex", &mut out);
        assert_eq!(noise, Err(Malformed::NotAUuid(Code::VM_VC_UUID)));
        assert_eq!(codes(&mut out), [85]);
        assert_eq!(dialogue.handle_received(BIOS, &mut out), Ok(Some(Said::Uuid(parsed(BIOS)))));
    }

    #[test]
    fn every_code_a_vm_has_no_business_with_is_answered_with_3() {
        for code in 0..=255 {
            let vm_may = matches!(code, 0 | 2 | 40 | 44 | 46 | 48 | 70 | 80 | 82 | 84 | 86);
            let mut dialogue = Dialogue { asked: true, asked_bios: true, ..Dialogue::new() };
            let mut out = Vec::new();
            let body = [code, b'S'];
            let said = dialogue.handle_received(&body, &mut out);
            if vm_may || code == 3 {
                assert!(out.is_empty(), "code {code}");
            } else {
                assert_eq!(said, Ok(None), "code {code}");
                let mut complaint = Vec::new();
                Message::UnknownSuboptionRcvd2(Code(code)).put(&mut complaint);
                assert_eq!(out, complaint);
            }
        }
    }

    #[test]
    fn vmotion_is_reported_and_never_answered() {
        let (asked, said) = after(&[b"\x281234", b"\x2c1234s", b"\x2e1234", b"\x30"]);
        assert_eq!(asked, [81, 83]);
        assert_eq!(
            said,
            [
                Said::VmotionBegin { sequence: &b"1234"[..] },
                Said::VmotionPeer { sequence_and_secret: b"1234s" },
                Said::VmotionComplete { sequence: b"1234" },
                Said::VmotionAbort { sequence: b"" },
            ]
        );
    }

    #[test]
    fn a_dialogue_is_eight_bytes_at_most() {
        assert!(size_of::<Dialogue>() <= 8, "{}", size_of::<Dialogue>());
    }

    quickcheck! {
        fn no_sequence_of_bodies_panics_or_says_much(bodies: Vec<Vec<u8>>) -> bool {
            let mut dialogue = Dialogue::new();
            let mut out = Vec::new();
            bodies.iter().all(|body| {
                let before = out.len();
                let _ = dialogue.handle_received(body, &mut out);
                out.len() - before <= 16
            })
        }
    }
}
