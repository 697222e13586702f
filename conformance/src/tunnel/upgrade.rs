//! The host's half of the dialogue by which a telnet connection becomes a TLS one (tls-in-band.md §2).
//!
//! ```text
//!  WILL 37 ─▶ Offered ──SEND [SSL, ..]: IS SSL START──▶ Started ──REPLY SSL ACCEPT──▶ TLS
//!                │ DONT 37, no SSL among the types         │ REJECT
//!                └──────────────────▶ refused ◀────────────┘
//! ```
//!
//! What else the server says meanwhile is handed on as it came: options that are agreed in clear stay agreed.

use crate::telnet::names::{DONT, WILL};
use crate::telnet::{Decoder, Word};

/// An upgrade that is not yet through.
#[derive(Debug)]
pub(super) struct Upgrade {
    decoder: Decoder,
    /// The modifiers that go with START, once it is out.
    started: Option<u8>,
}

/// What a byte led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet, or nothing that has to do with this.
    Wait,
    /// These bytes are to be said.
    Say(Vec<u8>),
    /// The next byte is TLS.
    Tls,
}

impl Upgrade {
    /// An upgrade, and what it begins with.
    pub(super) fn begin() -> (Self, [u8; 3]) {
        (Self { decoder: Decoder::default(), started: None }, [255, WILL, AUTHENTICATION])
    }

    /// Reads one byte; what is none of the upgrade's business is appended to `others`.
    pub(super) fn read(&mut self, byte: u8, others: &mut Vec<u8>) -> Result<Step, String> {
        let mut step = Step::Wait;
        for word in self.decoder.read(&[byte]) {
            match &word {
                Word::Negotiation(DONT, AUTHENTICATION) => {
                    return Err("the server declines TLS in band (DONT AUTHENTICATION)".into());
                }
                Word::Negotiation(_, AUTHENTICATION) => {}
                Word::Sub(AUTHENTICATION, said) => step = self.hear(said)?,
                _ => word.encode(others),
            }
        }
        Ok(step)
    }

    fn hear(&mut self, said: &[u8]) -> Result<Step, String> {
        match (said, self.started) {
            ([SEND, types @ ..], None) => {
                let types = types.chunks_exact(2);
                // As VMware's sample: without modifiers if that is offered, else with any.
                let modifiers = types.filter(|kind| kind[0] == SSL).map(|kind| kind[1]).min();
                let Some(modifiers) = modifiers else {
                    return Err("the server offers AUTHENTICATION, but not by SSL".into());
                };
                self.started = Some(modifiers);
                let start = Word::Sub(AUTHENTICATION, vec![IS, SSL, modifiers, START]);
                let mut wire = Vec::new();
                start.encode(&mut wire);
                Ok(Step::Say(wire))
            }
            (&[REPLY, SSL, modifiers, ACCEPT], Some(started)) if modifiers == started => Ok(Step::Tls),
            ([REPLY, SSL, _, REJECT, ..], _) => Err("the server rejects TLS after START (REJECT)".into()),
            _ => Err(format!(
                "the server says {} during the upgrade",
                Word::Sub(AUTHENTICATION, said.to_vec())
            )),
        }
    }
}

/// RFC 2941's option and commands, and SSL's of tls-in-band.md §1.
const AUTHENTICATION: u8 = 37;
const IS: u8 = 0;
const SEND: u8 = 1;
const REPLY: u8 = 2;
const SSL: u8 = 7;
const START: u8 = 1;
const ACCEPT: u8 = 2;
const REJECT: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn hears(wire: &[u8]) -> (Result<Vec<Step>, String>, Vec<u8>) {
        let (mut upgrade, _) = Upgrade::begin();
        let mut others = Vec::new();
        let steps = wire.iter().map(|byte| upgrade.read(*byte, &mut others));
        let steps: Result<Vec<Step>, String> = steps.filter(|step| *step != Ok(Step::Wait)).collect();
        (steps, others)
    }

    #[test]
    fn the_captured_dialogue_ends_in_tls() {
        let (steps, others) =
            hears(b"\xff\xfd\x25\xff\xfa\x25\x01\x07\x00\xff\xf0\xff\xfa\x25\x02\x07\x00\x02\xff\xf0");
        assert_eq!(steps, Ok(vec![Step::Say(b"\xff\xfa\x25\x00\x07\x00\x01\xff\xf0".to_vec()), Step::Tls]));
        assert!(others.is_empty());
    }

    #[test]
    fn the_pair_without_modifiers_is_preferred_and_another_one_taken() {
        let say = |modifiers| vec![Step::Say(vec![255, 250, 37, 0, 7, modifiers, 1, 255, 240])];
        assert_eq!(hears(b"\xff\xfa\x25\x01\x02\x02\x07\x02\x07\x00\xff\xf0").0, Ok(say(0)));
        assert_eq!(hears(b"\xff\xfa\x25\x01\x07\x06\xff\xf0").0, Ok(say(6)));
    }

    #[test]
    fn offers_that_come_in_between_are_handed_on() {
        let (_, others) = hears(b"\xff\xfd\xe8\xff\xfd\x25hi\xff\xff\xff\xfa\xe8\x01\xff\xf0");
        assert_eq!(others, b"\xff\xfd\xe8hi\xff\xff\xff\xfa\xe8\x01\xff\xf0");
    }

    #[test]
    fn every_refusal_is_told_as_what_it_is() {
        for (wire, why) in [
            (&b"\xff\xfe\x25"[..], "declines"),
            (b"\xff\xfa\x25\x01\x02\x02\xff\xf0", "not by SSL"),
            (b"\xff\xfa\x25\x01\x07\x00\xff\xf0\xff\xfa\x25\x02\x07\x00\x03\xff\xf0", "rejects"),
            // Nothing was started.
            (b"\xff\xfa\x25\x02\x07\x00\x02\xff\xf0", "during the upgrade"),
        ] {
            let (steps, _) = hears(wire);
            assert!(steps.as_ref().is_err_and(|error| error.contains(why)), "{why}: {steps:?}");
        }
    }
}
