//! One subnegotiation of option 232, read and written.
//!
//! **Owns** the layout of every message's parameters. **Refuses to know** who may send it and when.
//! **Implements** vmware.md §2.

use super::code::{Code, VMWARE_TELNET_EXT};
use crate::telnet::put_subnegotiation_parts;

/// A suboption with its parameters (vmware.md §2). Opaque parameters stay bytes; nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// 0, VM: the codes it can send or take, a byte each; promises nothing.
    KnownSuboptions1(&'a [u8]),
    /// 1, proxy: likewise.
    KnownSuboptions2(&'a [u8]),
    /// 2, VM: the code it did not know.
    UnknownSuboptionRcvd1(Code),
    /// 3, proxy: the code it does not support.
    UnknownSuboptionRcvd2(Code),
    /// 40, source host: the VM, which is already stopped, is about to move.
    VmotionBegin {
        /// Opaque; 4 bytes seen, any length works.
        sequence: &'a [u8],
    },
    /// 41, proxy: go ahead.
    VmotionGoahead {
        /// The sequence of the VMOTION-BEGIN, then the proxy's secret. They can be told apart only by someone
        /// who knows one of them.
        sequence_and_secret: &'a [u8],
    },
    /// 43, proxy: not now.
    VmotionNotnow {
        /// That of the VMOTION-BEGIN.
        sequence: &'a [u8],
    },
    /// 44, target host, on its new connection.
    VmotionPeer {
        /// As in the VMOTION-GOAHEAD.
        sequence_and_secret: &'a [u8],
    },
    /// 45, proxy: recognised.
    VmotionPeerOk {
        /// The sequence; some servers send the secret behind it.
        sequence: &'a [u8],
    },
    /// 46, target host: the VM now runs here.
    VmotionComplete {
        /// That of the VMOTION-BEGIN.
        sequence: &'a [u8],
    },
    /// 48, source host: the move failed.
    VmotionAbort {
        /// The vendor's table has one, but hosts send none: may be empty.
        sequence: &'a [u8],
    },
    /// 70, VM: how its clients come to it.
    DoProxy {
        /// `b'S'`: clients come to the proxy. `b'C'`: the proxy is to dial the URI.
        direction: u8,
        /// The service URI as the user typed it; may be empty. See [`ServiceUri`](super::ServiceUri).
        uri: &'a [u8],
    },
    /// 71, proxy: agreed.
    WillProxy,
    /// 73, proxy: refused.
    WontProxy,
    /// 80, VM: text for [`Uuid::parse`](super::Uuid::parse); empty where there is no vCenter.
    VmVcUuid(&'a [u8]),
    /// 81, proxy.
    GetVmVcUuid,
    /// 82, VM: the display name, UTF-8 by the document, any bytes in fact.
    VmName(&'a [u8]),
    /// 83, proxy.
    GetVmName,
    /// 84, VM: text as in `VmVcUuid`.
    VmBiosUuid(&'a [u8]),
    /// 85, proxy.
    GetVmBiosUuid,
    /// 86, VM: text as in `VmVcUuid`.
    VmLocationUuid(&'a [u8]),
    /// 87, proxy.
    GetVmLocationUuid,
    /// A code this module does not know; the body as it came.
    Unknown {
        /// The code.
        code: Code,
        /// Its parameters.
        body: &'a [u8],
    },
}

/// A subnegotiation of option 232 that lacks something. Never fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// No byte at all.
    #[error("VMware subnegotiation without a code")]
    MissingCode,
    /// VMOTION-* without a sequence.
    #[error("{0} without a sequence")]
    MissingSequence(Code),
    /// UNKNOWN-SUBOPTION-RCVD-* without the code it is about.
    #[error("{0} without the code it is about")]
    MissingSubject(Code),
    /// DO-PROXY without a direction.
    #[error("{0} without a direction")]
    MissingDirection(Code),
    /// VM-*-UUID whose text is no UUID.
    #[error("{0} with a text that is no UUID")]
    NotAUuid(Code),
}

impl<'a> Message<'a> {
    /// Reads the body of a subnegotiation of option 232, undoubled: a code, then its parameters. Bytes after
    /// the last parameter are ignored. Constant cost.
    ///
    /// # Errors
    ///
    /// There is no code, or a parameter that the code needs is missing.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let (&code, rest) = body.split_first().ok_or(Malformed::MissingCode)?;
        let code = Code(code);
        let sequence = || {
            if rest.is_empty() { Err(Malformed::MissingSequence(code)) } else { Ok(rest) }
        };
        let subject = || rest.first().map(|&byte| Code(byte)).ok_or(Malformed::MissingSubject(code));
        Ok(match code {
            Code::KNOWN_SUBOPTIONS_1 => Self::KnownSuboptions1(rest),
            Code::KNOWN_SUBOPTIONS_2 => Self::KnownSuboptions2(rest),
            Code::UNKNOWN_SUBOPTION_RCVD_1 => Self::UnknownSuboptionRcvd1(subject()?),
            Code::UNKNOWN_SUBOPTION_RCVD_2 => Self::UnknownSuboptionRcvd2(subject()?),
            Code::VMOTION_BEGIN => Self::VmotionBegin { sequence: sequence()? },
            Code::VMOTION_GOAHEAD => Self::VmotionGoahead { sequence_and_secret: sequence()? },
            Code::VMOTION_NOTNOW => Self::VmotionNotnow { sequence: sequence()? },
            Code::VMOTION_PEER => Self::VmotionPeer { sequence_and_secret: sequence()? },
            Code::VMOTION_PEER_OK => Self::VmotionPeerOk { sequence: sequence()? },
            Code::VMOTION_COMPLETE => Self::VmotionComplete { sequence: sequence()? },
            Code::VMOTION_ABORT => Self::VmotionAbort { sequence: rest },
            Code::DO_PROXY => {
                let (&direction, uri) = rest.split_first().ok_or(Malformed::MissingDirection(code))?;
                Self::DoProxy { direction, uri }
            }
            Code::WILL_PROXY => Self::WillProxy,
            Code::WONT_PROXY => Self::WontProxy,
            Code::VM_VC_UUID => Self::VmVcUuid(rest),
            Code::GET_VM_VC_UUID => Self::GetVmVcUuid,
            Code::VM_NAME => Self::VmName(rest),
            Code::GET_VM_NAME => Self::GetVmName,
            Code::VM_BIOS_UUID => Self::VmBiosUuid(rest),
            Code::GET_VM_BIOS_UUID => Self::GetVmBiosUuid,
            Code::VM_LOCATION_UUID => Self::VmLocationUuid(rest),
            Code::GET_VM_LOCATION_UUID => Self::GetVmLocationUuid,
            _ => Self::Unknown { code, body: rest },
        })
    }

    /// The code it travels under.
    pub const fn code(&self) -> Code {
        match *self {
            Self::KnownSuboptions1(_) => Code::KNOWN_SUBOPTIONS_1,
            Self::KnownSuboptions2(_) => Code::KNOWN_SUBOPTIONS_2,
            Self::UnknownSuboptionRcvd1(_) => Code::UNKNOWN_SUBOPTION_RCVD_1,
            Self::UnknownSuboptionRcvd2(_) => Code::UNKNOWN_SUBOPTION_RCVD_2,
            Self::VmotionBegin { .. } => Code::VMOTION_BEGIN,
            Self::VmotionGoahead { .. } => Code::VMOTION_GOAHEAD,
            Self::VmotionNotnow { .. } => Code::VMOTION_NOTNOW,
            Self::VmotionPeer { .. } => Code::VMOTION_PEER,
            Self::VmotionPeerOk { .. } => Code::VMOTION_PEER_OK,
            Self::VmotionComplete { .. } => Code::VMOTION_COMPLETE,
            Self::VmotionAbort { .. } => Code::VMOTION_ABORT,
            Self::DoProxy { .. } => Code::DO_PROXY,
            Self::WillProxy => Code::WILL_PROXY,
            Self::WontProxy => Code::WONT_PROXY,
            Self::VmVcUuid(_) => Code::VM_VC_UUID,
            Self::GetVmVcUuid => Code::GET_VM_VC_UUID,
            Self::VmName(_) => Code::VM_NAME,
            Self::GetVmName => Code::GET_VM_NAME,
            Self::VmBiosUuid(_) => Code::VM_BIOS_UUID,
            Self::GetVmBiosUuid => Code::GET_VM_BIOS_UUID,
            Self::VmLocationUuid(_) => Code::VM_LOCATION_UUID,
            Self::GetVmLocationUuid => Code::GET_VM_LOCATION_UUID,
            Self::Unknown { code, .. } => code,
        }
    }

    /// Appends the whole subnegotiation, `IAC SB 232 <code> <parameters> IAC SE`, every 255 in code
    /// and parameters doubled: a sequence or secret may hold one (vmotion.md §2).
    pub fn put(&self, out: &mut Vec<u8>) {
        put_subnegotiation_parts(VMWARE_TELNET_EXT, &self.parts(&self.bytes()), out);
    }

    /// The bytes of the parameters that are no slices yet: the code, then at most one byte.
    const fn bytes(&self) -> [u8; 2] {
        let second = match *self {
            Self::UnknownSuboptionRcvd1(subject) | Self::UnknownSuboptionRcvd2(subject) => subject.0,
            Self::DoProxy { direction, .. } => direction,
            _ => 0,
        };
        [self.code().0, second]
    }

    fn parts<'b>(&'b self, bytes: &'b [u8; 2]) -> [&'b [u8]; 2] {
        match *self {
            Self::UnknownSuboptionRcvd1(_) | Self::UnknownSuboptionRcvd2(_) => [bytes, &[]],
            Self::DoProxy { uri, .. } => [bytes, uri],
            Self::KnownSuboptions1(rest)
            | Self::KnownSuboptions2(rest)
            | Self::VmotionBegin { sequence: rest }
            | Self::VmotionGoahead { sequence_and_secret: rest }
            | Self::VmotionNotnow { sequence: rest }
            | Self::VmotionPeer { sequence_and_secret: rest }
            | Self::VmotionPeerOk { sequence: rest }
            | Self::VmotionComplete { sequence: rest }
            | Self::VmotionAbort { sequence: rest }
            | Self::VmVcUuid(rest)
            | Self::VmName(rest)
            | Self::VmBiosUuid(rest)
            | Self::VmLocationUuid(rest)
            | Self::Unknown { body: rest, .. } => [&bytes[..1], rest],
            Self::WillProxy
            | Self::WontProxy
            | Self::GetVmVcUuid
            | Self::GetVmName
            | Self::GetVmBiosUuid
            | Self::GetVmLocationUuid => [&bytes[..1], &[]],
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{TestResult, quickcheck};

    use super::*;
    use crate::telnet::{Decoder, Item};

    /// The body of the one subnegotiation in `wire`.
    fn body(wire: &[u8]) -> Vec<u8> {
        let mut decoder = Decoder::new();
        let mut rest = wire;
        let Some(Item::Subnegotiation(VMWARE_TELNET_EXT, body)) = decoder.decode(&mut rest) else {
            panic!("{wire:?}");
        };
        assert!(rest.is_empty());
        body.to_vec()
    }

    fn wire(message: &Message<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        message.put(&mut out);
        out
    }

    #[test]
    fn every_code_is_on_the_wire_as_the_table_has_it() {
        let rows: [(Message<'_>, &[u8]); 23] = [
            (Message::KnownSuboptions1(&[0, 70]), &[0, 0, 70]),
            (Message::KnownSuboptions2(&[1]), &[1, 1]),
            (Message::UnknownSuboptionRcvd1(Code(81)), &[2, 81]),
            (Message::UnknownSuboptionRcvd2(Code(99)), &[3, 99]),
            (Message::VmotionBegin { sequence: b"1234" }, b"\x281234"),
            (Message::VmotionGoahead { sequence_and_secret: b"1234s" }, b"\x291234s"),
            (Message::VmotionNotnow { sequence: b"1" }, b"\x2b1"),
            (Message::VmotionPeer { sequence_and_secret: b"1234s" }, b"\x2c1234s"),
            (Message::VmotionPeerOk { sequence: b"1" }, b"\x2d1"),
            (Message::VmotionComplete { sequence: b"1" }, b"\x2e1"),
            (Message::VmotionAbort { sequence: b"" }, b"\x30"),
            (Message::DoProxy { direction: b'S', uri: b"vSPC.py" }, b"FSvSPC.py"),
            (Message::WillProxy, b"G"),
            (Message::WontProxy, b"I"),
            (Message::VmVcUuid(b"01"), b"P01"),
            (Message::GetVmVcUuid, b"Q"),
            (Message::VmName(b"web01"), b"Rweb01"),
            (Message::GetVmName, b"S"),
            (Message::VmBiosUuid(b""), b"T"),
            (Message::GetVmBiosUuid, b"U"),
            (Message::VmLocationUuid(b"x"), b"Vx"),
            (Message::GetVmLocationUuid, b"W"),
            (Message::Unknown { code: Code(99), body: b"?" }, b"c?"),
        ];
        for (message, expected) in rows {
            let wire = wire(&message);
            assert_eq!(wire, [&[255, 250, 232], expected, &[255, 240]].concat());
            assert_eq!(Message::parse(expected), Ok(message));
            assert_eq!(message.code(), Code(expected[0]));
        }
    }

    #[test]
    fn a_255_is_doubled_in_every_place_it_can_stand() {
        let sequence_and_secret = &[255, 1, 255, 255];
        assert_eq!(
            wire(&Message::VmotionGoahead { sequence_and_secret }),
            [255, 250, 232, 41, 255, 255, 1, 255, 255, 255, 255, 255, 240]
        );
        assert_eq!(wire(&Message::UnknownSuboptionRcvd2(Code(255))), [255, 250, 232, 3, 255, 255, 255, 240]);
        let unknown = Message::Unknown { code: Code(255), body: &[] };
        assert_eq!(wire(&unknown), [255, 250, 232, 255, 255, 255, 240]);
        assert_eq!(
            wire(&Message::DoProxy { direction: 255, uri: &[] }),
            [255, 250, 232, 70, 255, 255, 255, 240]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let rows: [(&[u8], &str); 10] = [
            (&[], "VMware subnegotiation without a code"),
            (&[2], "UNKNOWN-SUBOPTION-RCVD-1 without the code it is about"),
            (&[3], "UNKNOWN-SUBOPTION-RCVD-2 without the code it is about"),
            (&[40], "VMOTION-BEGIN without a sequence"),
            (&[41], "VMOTION-GOAHEAD without a sequence"),
            (&[43], "VMOTION-NOTNOW without a sequence"),
            (&[44], "VMOTION-PEER without a sequence"),
            (&[45], "VMOTION-PEER-OK without a sequence"),
            (&[46], "VMOTION-COMPLETE without a sequence"),
            (&[70], "DO-PROXY without a direction"),
        ];
        for (body, text) in rows {
            assert_eq!(Message::parse(body).unwrap_err().to_string(), text);
        }
    }

    quickcheck! {
        fn what_is_read_is_written_back(code: u8, rest: Vec<u8>) -> TestResult {
            if rest.len() > 1000 {
                return TestResult::discard();
            }
            let sent = [&[code][..], &rest].concat();
            let Ok(message) = Message::parse(&sent) else {
                return TestResult::from_bool(rest.is_empty());
            };
            let back = body(&wire(&message));
            // A code without parameters, or with one byte of them, says no more than that.
            TestResult::from_bool(sent.starts_with(&back) && Message::parse(&back) == Ok(message))
        }

        fn no_body_panics(body: Vec<u8>) -> bool {
            Message::parse(&body).is_ok_and(|message| message.code().0 == body[0])
                || Message::parse(&body).is_err()
        }
    }
}
