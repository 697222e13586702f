//! Messages of the control channel: what each is, and how one is taken out of the channel's bytes.
//!
//! Owns hyperstart.md §2. Refuses to know what comes of a message.

use std::fmt;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($name:ident = $number:literal: $doc:literal;)*) => {
        impl Code {
            $(#[doc = $doc] pub const $name: Self = Self($number);)*

            const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}
codes! {
    GETVERSION = 0: "Host: which API; its ACK has the number.";
    STARTPOD = 1: "Host: make the sandbox that containers are in.";
    DESTROYPOD = 4: "Host: end all of it, and the VM.";
    EXECCMD = 6: "Host: run one more process.";
    READY = 8: "Guest: it has begun.";
    ACK = 9: "Guest: a command was done.";
    ERROR = 10: "Guest: it was not.";
    WINSIZE = 11: "Host: a terminal has this size.";
    PING = 12: "Host: answer.";
    NEXT = 14: "Guest: so many bytes were read.";
    NEWCONTAINER = 17: "Host: make a container and run its first process.";
    KILLCONTAINER = 18: "Host: send a signal to a container's first process.";
    ONLINECPUMEM = 19: "Host: use processors and memory that were added.";
    SETUPINTERFACE = 20: "Host: set a network interface up.";
    SETUPROUTE = 21: "Host: set routes.";
    REMOVECONTAINER = 22: "Host: forget a container that has ended.";
    PROCESSASYNCEVENT = 23: "Guest: a process has ended.";
    SIGNALPROCESS = 24: "Host: send a signal to a process' group.";
    DELETEINTERFACE = 25: "Host: take a network interface away.";
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Code({})", self.0),
        }
    }
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// What it is.
    pub code: Code,
    /// What stands behind its header.
    pub payload: Vec<u8>,
}

/// Appends a message.
pub fn put(code: Code, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The length of a message is less than that of its header, or more than any guest's message has: where the
/// next one begins is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongLength(pub u32);

/// Takes messages out of bytes that are cut anywhere. Holds one message that has not ended, and no more than
/// [`MAX_MESSAGE`].
#[derive(Clone, Default, Debug)]
pub struct Decoder {
    held: Vec<u8>,
}

impl Decoder {
    /// The next message; `None`: all of `input` is used up. Work in proportion to what is used up.
    ///
    /// # Errors
    ///
    /// A length that cannot be: nothing behind it can be read.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Message>, WrongLength> {
        loop {
            let needed = match self.held.get(4..HEADER) {
                None => HEADER,
                Some(length) => {
                    let length = read_u32(length);
                    if !(HEADER as u32..=MAX_MESSAGE).contains(&length) {
                        return Err(WrongLength(length));
                    }
                    length as usize
                }
            };
            let missing = needed - self.held.len();
            if missing == 0 {
                let held = std::mem::take(&mut self.held);
                return Ok(Some(Message {
                    code: Code(read_u32(&held[..4])),
                    payload: held[HEADER..].into(),
                }));
            }
            if input.is_empty() {
                return Ok(None);
            }
            let (taken, rest) = input.split_at(input.len().min(missing));
            self.held.extend_from_slice(taken);
            *input = rest;
        }
    }

    /// Bytes of a message that has not ended.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// A number of four bytes.
pub(super) fn read_u32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |all, &byte| all << 8 | u32::from(byte))
}

/// Bytes of a header.
pub const HEADER: usize = 8;

/// The longest message that is taken from a guest. Its answers have a few bytes, and what it tells of a
/// process has the names that it was given.
pub const MAX_MESSAGE: u32 = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], cut: usize) -> Vec<Message> {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for mut piece in bytes.chunks(cut) {
            while let Some(message) = decoder.decode(&mut piece).unwrap() {
                found.push(message);
            }
        }
        assert_eq!(decoder.held(), 0);
        found
    }

    #[test]
    fn messages_are_what_they_are_however_they_are_cut() {
        let mut bytes = Vec::new();
        put(Code::READY, b"", &mut bytes);
        put(Code::NEXT, &8u32.to_be_bytes(), &mut bytes);
        put(Code(4711), &[0; 300], &mut bytes);
        let whole = all(&bytes, usize::MAX);
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[1], Message { code: Code::NEXT, payload: vec![0, 0, 0, 8] });
        assert_eq!(format!("{:?} {:?}", whole[0].code, whole[2].code), "READY Code(4711)");
        for cut in 1..30 {
            assert_eq!(all(&bytes, cut), whole, "{cut}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_told_before_anything_is_held_for_it() {
        for length in [0, 7, MAX_MESSAGE + 1, u32::MAX] {
            let mut decoder = Decoder::default();
            let bytes = [9u32.to_be_bytes(), length.to_be_bytes()].concat();
            assert_eq!(decoder.decode(&mut &bytes[..]), Err(WrongLength(length)));
            assert_eq!(decoder.held(), HEADER);
        }
    }
}
