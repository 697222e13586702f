//! A second reading of telnet and of option 232, for the witness.
//!
//! Replay judges the core, so it must not read with the core's eyes: this is written from the table in
//! telnet.md §2 alone, a byte at a time, with no care for speed. It keeps every item's bytes as
//! they were on the wire, so that what is played is what was captured.

use std::fmt;

/// One thing said on a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// What it says.
    pub said: Said,
    /// Its bytes on the wire.
    pub raw: Vec<u8>,
}

/// What an item says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// Serial data, IAC no longer doubled.
    Data(Vec<u8>),
    /// WILL, WONT, DO or DONT, and the option.
    Verb(Verb, u8),
    /// A subnegotiation: its option and parameters.
    Sub(u8, Vec<u8>),
    /// Another command.
    Command(u8),
    /// Bytes that are no telnet.
    Broken(&'static str),
}

/// The four words of negotiation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(missing_docs, reason = "the words of RFC 854")]
pub enum Verb {
    Will,
    Wont,
    Do,
    Dont,
}

impl Item {
    /// An item of these words.
    #[must_use]
    pub fn new(said: Said) -> Self {
        let raw = match &said {
            Said::Data(data) => doubled(data),
            Said::Verb(verb, option) => vec![IAC, WILL + *verb as u8, *option],
            Said::Sub(option, parameters) => {
                [&[IAC, SB][..], &doubled(&[*option]), &doubled(parameters), &[IAC, SE]].concat()
            }
            Said::Command(code) => vec![IAC, *code],
            Said::Broken(_) => Vec::new(),
        };
        Self { said, raw }
    }

    /// A subnegotiation of the VMware extension.
    #[must_use]
    pub fn vmware(code: u8, parameters: &[u8]) -> Self {
        Self::new(Said::Sub(VMWARE, [&[code], parameters].concat()))
    }

    /// The code and parameters, if this belongs to the VMware extension.
    #[must_use]
    pub fn as_vmware(&self) -> Option<(u8, &[u8])> {
        match &self.said {
            Said::Sub(VMWARE, body) => body.split_first().map(|(code, rest)| (*code, rest)),
            _ => None,
        }
    }
}

fn doubled(bytes: &[u8]) -> Vec<u8> {
    let double = |byte: &u8| std::iter::repeat_n(*byte, 1 + usize::from(*byte == IAC));
    bytes.iter().flat_map(double).collect()
}

/// Reads one direction of a connection.
#[derive(Default, Debug)]
pub struct Reader {
    state: State,
    /// The bytes of the item that is not complete yet.
    raw: Vec<u8>,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Default, Debug)]
enum State {
    #[default]
    Data,
    Iac,
    Option(Verb),
    SubOption,
    Sub,
    SubIac,
}

impl Reader {
    /// Reads some more bytes; the items that they complete. Data is one item per run, at most.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        for byte in bytes {
            self.byte(*byte, &mut items);
        }
        items
    }

    /// Whether the stream stands inside a command.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        !self.raw.is_empty()
    }

    /// The bytes of the command that was never finished.
    pub fn rest(&mut self) -> Vec<u8> {
        self.state = State::Data;
        self.body.clear();
        std::mem::take(&mut self.raw)
    }

    fn byte(&mut self, byte: u8, items: &mut Vec<Item>) {
        self.raw.push(byte);
        match (self.state, byte) {
            (State::Data, IAC) => self.state = State::Iac,
            (State::Data, _) | (State::Iac, IAC) => self.data(byte, items),
            (State::Iac, _) => self.command(byte, items),
            (State::Option(verb), option) => self.end(Said::Verb(verb, option), items),
            (State::SubOption | State::Sub, IAC) => self.state = State::SubIac,
            (State::SubOption | State::Sub, _) | (State::SubIac, IAC) => self.sub(byte),
            (State::SubIac, SE) => {
                let body = std::mem::take(&mut self.body);
                let said = match body.split_first() {
                    Some((option, rest)) if body.len() <= MAX_SUB => Said::Sub(*option, rest.to_vec()),
                    Some(_) => Said::Broken("a subnegotiation that is too long"),
                    None => Said::Broken("a subnegotiation without option"),
                };
                self.end(said, items);
            }
            (State::SubIac, _) => {
                // It ends there, and the byte is a command (§3.2).
                self.body.clear();
                self.raw.truncate(self.raw.len() - 2);
                self.end(Said::Broken("a subnegotiation ended by another command"), items);
                self.raw = vec![IAC, byte];
                self.command(byte, items);
            }
        }
    }

    fn command(&mut self, byte: u8, items: &mut Vec<Item>) {
        match byte {
            SB => self.state = State::SubOption,
            251 => self.state = State::Option(Verb::Will),
            252 => self.state = State::Option(Verb::Wont),
            253 => self.state = State::Option(Verb::Do),
            254 => self.state = State::Option(Verb::Dont),
            SE => self.end(Said::Broken("IAC SE outside a subnegotiation"), items),
            0..=235 => self.end(Said::Broken("an unknown command"), items),
            _ => self.end(Said::Command(byte), items),
        }
    }

    /// A byte of a subnegotiation. Beyond the limit only their number is of interest.
    fn sub(&mut self, byte: u8) {
        self.state = State::Sub;
        if self.body.len() <= MAX_SUB {
            self.body.push(byte);
        }
    }

    fn data(&mut self, byte: u8, items: &mut Vec<Item>) {
        self.state = State::Data;
        let mut raw = std::mem::take(&mut self.raw);
        if let Some(Item { said: Said::Data(data), raw: whole }) = items.last_mut() {
            data.push(byte);
            whole.append(&mut raw);
        } else {
            items.push(Item { said: Said::Data(vec![byte]), raw });
        }
    }

    fn end(&mut self, said: Said, items: &mut Vec<Item>) {
        self.state = State::Data;
        items.push(Item { said, raw: std::mem::take(&mut self.raw) });
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.said {
            Said::Data(data) => write!(f, "{} bytes {}", data.len(), Text(data)),
            Said::Verb(verb, option) => {
                write!(f, "{} {}", format!("{verb:?}").to_uppercase(), OptionName(*option))
            }
            Said::Sub(VMWARE, body) if !body.is_empty() => {
                write!(f, "{}", CodeName(body[0]))?;
                match body[0] {
                    UUID | NAME | BIOS_UUID | LOCATION_UUID | DO_PROXY if body.len() > 1 => {
                        write!(f, " {}", Text(&body[1..]))
                    }
                    _ if body.len() > 1 => write!(f, " {}", Hex(&body[1..])),
                    _ => Ok(()),
                }
            }
            Said::Sub(option, body) => write!(f, "SB {} {}", OptionName(*option), Hex(body)),
            Said::Command(code) => match code {
                241 => f.write_str("NOP"),
                242 => f.write_str("DM"),
                243 => f.write_str("BRK"),
                244 => f.write_str("IP"),
                245 => f.write_str("AO"),
                246 => f.write_str("AYT"),
                247 => f.write_str("EC"),
                248 => f.write_str("EL"),
                249 => f.write_str("GA"),
                other => write!(f, "IAC {other}"),
            },
            Said::Broken(why) => write!(f, "{why}: {}", Hex(&self.raw)),
        }
    }
}

/// An option's name.
struct OptionName(u8);

impl fmt::Display for OptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "BINARY",
            1 => "ECHO",
            3 => "SGA",
            5 => "STATUS",
            6 => "TIMING-MARK",
            24 => "TTYPE",
            31 => "NAWS",
            37 => "AUTHENTICATION",
            39 => "NEW-ENVIRON",
            44 => "COM-PORT",
            46 => "START-TLS",
            VMWARE => "VMWARE-EXT",
            other => return write!(f, "{other}"),
        };
        f.write_str(name)
    }
}

/// The name of a code of the VMware extension.
pub(super) struct CodeName(pub(super) u8);

impl fmt::Display for CodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(code, _)| *code == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "VMWARE-EXT code {}", self.0),
        }
    }
}

/// Bytes in hex; long ones are cut.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..self.0.len().min(SHOWN)] {
            write!(f, "{byte:02x}")?;
        }
        if self.0.len() > SHOWN { write!(f, "… ({} bytes)", self.0.len()) } else { Ok(()) }
    }
}

/// Bytes as text in quotes, control characters escaped; long ones are cut.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0[..self.0.len().min(SHOWN)]))?;
        if self.0.len() > SHOWN { f.write_str("…") } else { Ok(()) }
    }
}

/// TELNET's escape byte.
pub(super) const IAC: u8 = 255;
const SB: u8 = 250;
const SE: u8 = 240;
const WILL: u8 = 251;

/// BINARY (RFC 856).
pub(super) const BINARY: u8 = 0;
/// ECHO (RFC 857).
pub(super) const ECHO: u8 = 1;
/// SUPPRESS-GO-AHEAD (RFC 858).
pub(super) const SGA: u8 = 3;
/// TIMING-MARK (RFC 860), which has no state.
pub(super) const TIMING_MARK: u8 = 6;
/// AUTHENTICATION (RFC 2941), with which hosts start TLS.
pub(super) const AUTHENTICATION: u8 = 37;
/// COM-PORT-OPTION (RFC 2217).
pub(super) const COM_PORT: u8 = 44;
/// The VMware extension.
pub(super) const VMWARE: u8 = 232;

// The codes of the VMware extension (vmware.md §2).
pub(super) mod code {
    pub(crate) const KNOWN_1: u8 = 0;
    pub(crate) const KNOWN_2: u8 = 1;
    pub(crate) const UNKNOWN_1: u8 = 2;
    pub(crate) const UNKNOWN_2: u8 = 3;
    pub(crate) const BEGIN: u8 = 40;
    pub(crate) const GOAHEAD: u8 = 41;
    pub(crate) const NOTNOW: u8 = 43;
    pub(crate) const PEER: u8 = 44;
    pub(crate) const PEER_OK: u8 = 45;
    pub(crate) const COMPLETE: u8 = 46;
    pub(crate) const ABORT: u8 = 48;
    pub(crate) const DO_PROXY: u8 = 70;
    pub(crate) const WILL_PROXY: u8 = 71;
    pub(crate) const WONT_PROXY: u8 = 73;
    pub(crate) const UUID: u8 = 80;
    pub(crate) const GET_UUID: u8 = 81;
    pub(crate) const NAME: u8 = 82;
    pub(crate) const GET_NAME: u8 = 83;
    pub(crate) const BIOS_UUID: u8 = 84;
    pub(crate) const GET_BIOS_UUID: u8 = 85;
    pub(crate) const LOCATION_UUID: u8 = 86;
    pub(crate) const GET_LOCATION_UUID: u8 = 87;
}
use code::{BIOS_UUID, DO_PROXY, LOCATION_UUID, NAME, UUID};

const NAMES: [(u8, &str); 22] = [
    (code::KNOWN_1, "KNOWN-SUBOPTIONS-1"),
    (code::KNOWN_2, "KNOWN-SUBOPTIONS-2"),
    (code::UNKNOWN_1, "UNKNOWN-SUBOPTION-RCVD-1"),
    (code::UNKNOWN_2, "UNKNOWN-SUBOPTION-RCVD-2"),
    (code::BEGIN, "VMOTION-BEGIN"),
    (code::GOAHEAD, "VMOTION-GOAHEAD"),
    (code::NOTNOW, "VMOTION-NOTNOW"),
    (code::PEER, "VMOTION-PEER"),
    (code::PEER_OK, "VMOTION-PEER-OK"),
    (code::COMPLETE, "VMOTION-COMPLETE"),
    (code::ABORT, "VMOTION-ABORT"),
    (DO_PROXY, "DO-PROXY"),
    (code::WILL_PROXY, "WILL-PROXY"),
    (code::WONT_PROXY, "WONT-PROXY"),
    (UUID, "VM-VC-UUID"),
    (code::GET_UUID, "GET-VM-VC-UUID"),
    (NAME, "VM-NAME"),
    (code::GET_NAME, "GET-VM-NAME"),
    (BIOS_UUID, "VM-BIOS-UUID"),
    (code::GET_BIOS_UUID, "GET-VM-BIOS-UUID"),
    (LOCATION_UUID, "VM-LOCATION-UUID"),
    (code::GET_LOCATION_UUID, "GET-VM-LOCATION-UUID"),
];

/// A subnegotiation longer than this is not believed.
const MAX_SUB: usize = 64 << 10;

/// Bytes shown of one message.
const SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_change_nothing_and_every_byte_is_kept() {
        let wire = b"ab\xff\xff\xff\xfb\xe8\xff\xfa\xe8\x2c\x76\x19\xff\xff\xe9\xff\xf0x\xff\xfa\xe8\x01\xff\xf1\xff\xf0y\xff\xf3\xff\x07z";
        let merged = |items: Vec<Item>| {
            let mut out: Vec<Item> = Vec::new();
            for item in items {
                match (out.last_mut(), &item.said) {
                    (Some(Item { said: Said::Data(a), raw }), Said::Data(b)) => {
                        a.extend(b);
                        raw.extend(&item.raw);
                    }
                    _ => out.push(item),
                }
            }
            out
        };
        let whole = Reader::default().read(wire);
        let said: Vec<_> = whole.iter().map(|item| item.said.clone()).collect();
        let peer = Said::Sub(VMWARE, vec![44, 0x76, 0x19, 0xff, 0xe9]);
        assert_eq!(
            said[..4],
            [Said::Data(b"ab\xff".to_vec()), Said::Verb(Verb::Will, VMWARE), peer, Said::Data(b"x".to_vec()),]
        );
        let broken = said.iter().filter(|said| matches!(said, Said::Broken(_))).count();
        assert_eq!(broken, 3, "{said:?}");
        for first in 0..wire.len() {
            for second in first..wire.len() {
                let mut reader = Reader::default();
                let mut items = reader.read(&wire[..first]);
                items.extend(reader.read(&wire[first..second]));
                items.extend(reader.read(&wire[second..]));
                assert!(!reader.is_inside());
                assert_eq!(items.iter().flat_map(|item| item.raw.clone()).collect::<Vec<_>>(), wire);
                assert_eq!(merged(items), whole);
            }
        }
    }

    #[test]
    fn what_is_built_is_read_back() {
        for item in [
            Item::vmware(44, b"\x76\x19\xff\xe9"),
            Item::new(Said::Data(b"\xff\xff".to_vec())),
            Item::new(Said::Verb(Verb::Dont, 255)),
            Item::new(Said::Sub(255, vec![255, 240])),
            Item::new(Said::Command(243)),
        ] {
            assert_eq!(Reader::default().read(&item.raw), std::slice::from_ref(&item), "{item}");
        }
    }

    #[test]
    fn items_show_as_telnet_words() {
        assert_eq!(Item::new(Said::Verb(Verb::Will, VMWARE)).to_string(), "WILL VMWARE-EXT");
        assert_eq!(Item::vmware(40, b"\x01\xff").to_string(), "VMOTION-BEGIN 01ff");
        assert_eq!(Item::vmware(82, b"web").to_string(), "VM-NAME \"web\"");
        assert_eq!(Item::vmware(99, b"").to_string(), "VMWARE-EXT code 99");
    }
}
