//! What a VM may have waited for before it went on: the kinds of things that a proxy says.

use crate::telnet::Word;
use crate::telnet::names::{AUTHENTICATION, COM_PORT, DO, DONT, WILL, WONT, code};

/// The kind of a thing said, as far as it makes the VM go on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Cue {
    /// DO or DONT, an option.
    Ask(u8),
    /// WILL or WONT, an option.
    Tell(u8),
    /// A message of the extension; the answers to one question count as one.
    Code(u8),
}

impl Cue {
    pub(super) fn of(word: &Word) -> Option<Self> {
        match (word, word.as_vmware()) {
            (Word::Negotiation(DO | DONT, option), _) => Some(Self::Ask(*option)),
            (Word::Negotiation(WILL | WONT, option), _) => Some(Self::Tell(*option)),
            (_, Some((code::NOTNOW, _))) => Some(Self::Code(code::GOAHEAD)),
            (_, Some((code::WONT_PROXY, _))) => Some(Self::Code(code::WILL_PROXY)),
            (_, Some((what, _))) => Some(Self::Code(what)),
            _ => None,
        }
    }

    /// What the VM may have waited for before it said `word`.
    pub(super) fn before(word: &Word) -> Vec<Self> {
        let code = match (word, word.as_vmware()) {
            (Word::Negotiation(WILL | WONT, COM_PORT), _) => {
                return vec![Self::Ask(COM_PORT), Self::Code(code::WILL_PROXY)];
            }
            (Word::Negotiation(WILL | WONT, option), _) => return vec![Self::Ask(*option)],
            (Word::Negotiation(DO | DONT, option), _) => return vec![Self::Tell(*option)],
            (Word::Sub(option @ (COM_PORT | AUTHENTICATION), _), _) => return vec![Self::Ask(*option)],
            (_, Some((code::KNOWN_1 | code::DO_PROXY, _))) => code::KNOWN_2,
            (_, Some((code::UUID, _))) => code::GET_UUID,
            (_, Some((code::NAME, _))) => code::GET_NAME,
            (_, Some((code::BIOS_UUID, _))) => code::GET_BIOS_UUID,
            (_, Some((code::LOCATION_UUID, _))) => code::GET_LOCATION_UUID,
            (_, Some((code::COMPLETE, _))) => code::PEER_OK,
            (_, Some((code::ABORT | code::BEGIN, _))) => code::GOAHEAD,
            _ => return Vec::new(),
        };
        vec![Self::Code(code)]
    }
}
