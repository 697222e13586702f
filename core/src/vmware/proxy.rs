//! The concentrator's end of one VM's dialogue (PROTOCOL §3.1).

use super::code::{Code, VMWARE_TELNET_EXT};
use super::message::{Malformed, Message};
use super::uuid::{Uuid, UuidError};
use crate::telnet::{Change, Negotiator, Opt, OptionPolicy, Side, put_negotiation};

/// What a concentrator is willing to have switched on towards a VM: BINARY and SGA both ways, our
/// ECHO, the VM's option 232 (PROTOCOL §2). In-band TLS (37) and COM-PORT (44) are not in it and so are
/// answered DONT.
pub const POLICY: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::BINARY, us: true, him: true },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::ECHO, us: true, him: false },
    OptionPolicy { opt: VMWARE_TELNET_EXT, us: false, him: true },
];

/// Every code a concentrator can send or take, as KNOWN-SUBOPTIONS-2 lists them.
pub const KNOWN_SUBOPTIONS: &[u8] = &[
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

/// UNKNOWN-SUBOPTION-RCVD-2 is no longer put once `out` holds so many bytes.
///
/// Reading a VM never stops, so a peer that sends codes we do not know and never reads would
/// otherwise grow its reply buffer without end. 4096 bytes are some 580 such answers, more than there
/// are codes.
pub const REPLY_LIMIT: usize = 4096;

/// What a VM said that somebody has to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// Who it is: its UUID in vCenter or, when it has none, its BIOS UUID. Never nil. May be said
    /// again, and a VM that first denied having a vCenter UUID may still send one.
    Uuid(Uuid),
    /// Its location UUID, unasked.
    LocationUuid(Uuid),
    /// Its BIOS UUID, unasked.
    BiosUuid(Uuid),
    /// Its display name, any bytes.
    Name(&'a [u8]),
    /// DO-PROXY: to be answered [`Message::WillProxy`] or [`Message::WontProxy`].
    Proxy {
        /// `b'S'` or `b'C'`; any byte.
        direction: u8,
        /// For [`ServiceUri`](super::ServiceUri).
        uri: &'a [u8],
    },
    /// To be answered [`Message::VmotionGoahead`] or [`Message::VmotionNotnow`].
    VmotionBegin {
        /// Opaque.
        sequence: &'a [u8],
    },
    /// To be answered [`Message::VmotionPeerOk`] or not at all.
    VmotionPeer {
        /// As it stood in a VMOTION-GOAHEAD, if the peer is honest.
        sequence_and_secret: &'a [u8],
    },
    /// The VM has moved here.
    VmotionComplete {
        /// Opaque.
        sequence: &'a [u8],
    },
    /// The VM stays.
    VmotionAbort {
        /// Opaque, usually empty.
        sequence: &'a [u8],
    },
    /// The VM did not know a code of ours.
    UnknownToVm(Code),
    /// The peer refused option 232: it is no VM.
    NotVm,
}

/// One VM's dialogue: a few bytes, no heap, whatever the order in which a host says things.
///
/// It asks who the VM is, once, as soon as the VM has said anything that a VM says first; it answers
/// what has only one answer; everything that needs a decision it reports as [`Said`].
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
    /// The [`POLICY`] its negotiator is to be made with.
    pub const POLICY: &'static [OptionPolicy] = POLICY;

    /// A dialogue in which nobody has spoken.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens: WILL BINARY, WILL SGA, WILL ECHO, DO BINARY, DO SGA, DO 232 (PROTOCOL §2), at once and
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

    /// Takes a change of an option; all but option 232 at the VM's side leave it cold.
    ///
    /// When 232 comes on, KNOWN-SUBOPTIONS-2 is put at once: never held back as the answer to
    /// KNOWN-SUBOPTIONS-1, for which some hosts wait until it has come (PROTOCOL §3.1).
    pub fn changed(&mut self, change: &Change, out: &mut Vec<u8>) -> Option<Said<'static>> {
        if change.side != Side::Him || change.opt != VMWARE_TELNET_EXT {
            return None;
        }
        if change.on {
            self.greeted = true;
            Message::KnownSuboptions2(KNOWN_SUBOPTIONS).put(out);
            None
        } else {
            // Switched off later it stays the VM it was.
            (!self.greeted).then_some(Said::NotVm)
        }
    }

    /// Takes the body of a subnegotiation of option 232, undoubled, and puts what it must answer:
    /// at most two messages. `Ok(None)`: dealt with, nothing to report. Constant cost but for a UUID,
    /// which is read to its end.
    ///
    /// # Errors
    ///
    /// The VM left something out, or its UUID is none. To be counted; the dialogue goes on.
    pub fn received<'a>(&mut self, body: &'a [u8], out: &mut Vec<u8>) -> Result<Option<Said<'a>>, Malformed> {
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
            // A complaint is never answered with a complaint: two proxies would not end.
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
                if out.len() < REPLY_LIMIT {
                    Message::UnknownSuboptionRcvd2(message.code()).put(out);
                }
                return Ok(None);
            }
        }))
    }

    /// Asks for UUID and name, unless that was done before, and neither for what the VM has told
    /// unasked. The caller's timer calls it for a VM that agreed to option 232 and then says nothing.
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

    fn vc_uuid<'a>(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<Option<Said<'a>>, Malformed> {
        let uuid = uuid(text, Code::VM_VC_UUID);
        if let Ok(Some(uuid)) = uuid {
            self.vc_known = true;
            return Ok(Some(Said::Uuid(uuid)));
        }
        self.ask_bios(out);
        uuid.map(|_| None)
    }

    /// A VM without vCenter: the BIOS UUID will have to do (PROTOCOL §3).
    fn ask_bios(&mut self, out: &mut Vec<u8>) {
        if self.vc_known {
            return;
        }
        if !std::mem::replace(&mut self.asked_bios, true) {
            Message::GetVmBiosUuid.put(out);
        }
    }

    fn bios_uuid<'a>(&mut self, text: &[u8]) -> Result<Option<Said<'a>>, Malformed> {
        let is_identity = self.asked_bios && !self.vc_known;
        Ok(uuid(text, Code::VM_BIOS_UUID)?
            .map(|uuid| if is_identity { Said::Uuid(uuid) } else { Said::BiosUuid(uuid) }))
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
