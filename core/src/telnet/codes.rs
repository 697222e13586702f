//! The numbers of telnet, and their names for people.
//!
//! **Owns** the names. **Refuses to know** what is done about a code. **Implements** RFC 854 (commands), RFC
//! 855 (options) and IANA's list of option numbers.
//!
//! Codes are newtypes rather than enums: an unknown number is kept, compared, answered and logged like any
//! other.

use std::fmt;

/// "Interpret as command": the one byte that is not itself in the data stream (RFC 854).
pub const IAC: u8 = 255;

/// A telnet option, by its assigned number (RFC 855).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opt(pub u8);

impl Opt {
    /// Eight-bit data, nothing but IAC special (RFC 856).
    pub const BINARY: Self = Self(0);
    /// The sender of WILL echoes what it receives (RFC 857).
    pub const ECHO: Self = Self(1);
    /// No GA after each turn: with ECHO, character-at-a-time (RFC 858).
    pub const SGA: Self = Self(3);
    /// Asks what is negotiated (RFC 859).
    pub const STATUS: Self = Self(5);
    /// A mark in the stream; it has no state (RFC 860).
    pub const TIMING_MARK: Self = Self(6);
    /// Terminal type (RFC 1091).
    pub const TTYPE: Self = Self(24);
    /// End of record (RFC 885).
    pub const END_OF_RECORD: Self = Self(25);
    /// Window size (RFC 1073).
    pub const NAWS: Self = Self(31);
    /// Terminal speed (RFC 1079).
    pub const TSPEED: Self = Self(32);
    /// Remote flow control (RFC 1372).
    pub const LFLOW: Self = Self(33);
    /// Line mode (RFC 1184).
    pub const LINEMODE: Self = Self(34);
    /// X display location (RFC 1096).
    pub const XDISPLOC: Self = Self(35);
    /// Environment, the first attempt (RFC 1408).
    pub const OLD_ENVIRON: Self = Self(36);
    /// Authentication (RFC 2941).
    pub const AUTHENTICATION: Self = Self(37);
    /// Encryption (RFC 2946).
    pub const ENCRYPT: Self = Self(38);
    /// Environment (RFC 1572).
    pub const NEW_ENVIRON: Self = Self(39);
    /// Serial port control (RFC 2217).
    pub const COM_PORT: Self = Self(44);
    /// TLS in the middle of the stream (draft-altman-telnet-starttls).
    pub const START_TLS: Self = Self(46);

    /// The option's name; `None` if this module has no name for the number.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::BINARY => "BINARY",
            Self::ECHO => "ECHO",
            Self::SGA => "SGA",
            Self::STATUS => "STATUS",
            Self::TIMING_MARK => "TIMING-MARK",
            Self::TTYPE => "TTYPE",
            Self::END_OF_RECORD => "END-OF-RECORD",
            Self::NAWS => "NAWS",
            Self::TSPEED => "TSPEED",
            Self::LFLOW => "LFLOW",
            Self::LINEMODE => "LINEMODE",
            Self::XDISPLOC => "XDISPLOC",
            Self::OLD_ENVIRON => "OLD-ENVIRON",
            Self::AUTHENTICATION => "AUTHENTICATION",
            Self::ENCRYPT => "ENCRYPT",
            Self::NEW_ENVIRON => "NEW-ENVIRON",
            Self::COM_PORT => "COM-PORT",
            Self::START_TLS => "START-TLS",
            _ => return None,
        })
    }
}

impl fmt::Display for Opt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "option {}", self.0),
        }
    }
}

impl fmt::Debug for Opt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The byte after an IAC (RFC 854, "Telnet command structure"; EOF to ABORT from RFC 1184, EOR
/// from RFC 885).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command(pub u8);

impl Command {
    /// End of file.
    pub const EOF: Self = Self(236);
    /// Suspend the process.
    pub const SUSP: Self = Self(237);
    /// Abort the process.
    pub const ABORT: Self = Self(238);
    /// End of record.
    pub const EOR: Self = Self(239);
    /// End of a subnegotiation.
    pub const SE: Self = Self(240);
    /// No operation.
    pub const NOP: Self = Self(241);
    /// Data mark: the end of a Synch.
    pub const DM: Self = Self(242);
    /// Break.
    pub const BRK: Self = Self(243);
    /// Interrupt process.
    pub const IP: Self = Self(244);
    /// Abort output.
    pub const AO: Self = Self(245);
    /// Are you there.
    pub const AYT: Self = Self(246);
    /// Erase character.
    pub const EC: Self = Self(247);
    /// Erase line.
    pub const EL: Self = Self(248);
    /// Go ahead.
    pub const GA: Self = Self(249);
    /// Start of a subnegotiation.
    pub const SB: Self = Self(250);
    /// See [`Verb::Will`].
    pub const WILL: Self = Self(251);
    /// See [`Verb::Wont`].
    pub const WONT: Self = Self(252);
    /// See [`Verb::Do`].
    pub const DO: Self = Self(253);
    /// See [`Verb::Dont`].
    pub const DONT: Self = Self(254);
    /// A literal 255.
    pub const IAC: Self = Self(IAC);

    /// The command's name; `None` for a byte to which RFC 854 and its successors give no meaning.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::EOF => "EOF",
            Self::SUSP => "SUSP",
            Self::ABORT => "ABORT",
            Self::EOR => "EOR",
            Self::SE => "SE",
            Self::NOP => "NOP",
            Self::DM => "DM",
            Self::BRK => "BRK",
            Self::IP => "IP",
            Self::AO => "AO",
            Self::AYT => "AYT",
            Self::EC => "EC",
            Self::EL => "EL",
            Self::GA => "GA",
            Self::SB => "SB",
            Self::WILL => "WILL",
            Self::WONT => "WONT",
            Self::DO => "DO",
            Self::DONT => "DONT",
            Self::IAC => "IAC",
            _ => return None,
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "command {}", self.0),
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The four words of option negotiation (RFC 854, RFC 855).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// "I want to", or "I agree to": about the sender's side.
    Will,
    /// "I do not", or "I refuse to": about the sender's side.
    Wont,
    /// "Please do", or "you may": about the receiver's side.
    Do,
    /// "Stop", or "you may not": about the receiver's side.
    Dont,
}

impl Verb {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        self.command().0
    }

    /// The verb as the command it is.
    pub const fn command(self) -> Command {
        match self {
            Self::Will => Command::WILL,
            Self::Wont => Command::WONT,
            Self::Do => Command::DO,
            Self::Dont => Command::DONT,
        }
    }

    /// The verb a wire byte stands for; `None` for any byte but 251 to 254.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match Command(byte) {
            Command::WILL => Some(Self::Will),
            Command::WONT => Some(Self::Wont),
            Command::DO => Some(Self::Do),
            Command::DONT => Some(Self::Dont),
            _ => None,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.command(), f)
    }
}

impl fmt::Debug for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_print_their_names_and_unknown_ones_their_numbers() {
        assert_eq!(format!("{:?} {:?}", Verb::Will, Opt::BINARY), "WILL BINARY");
        assert_eq!(format!("{} {}", Verb::Dont, Opt(99)), "DONT option 99");
        assert_eq!(format!("{:?}", Command::BRK), "BRK");
        assert_eq!(format!("{}", Command(7)), "command 7");
    }

    #[test]
    fn verbs_and_bytes_round_trip() {
        for byte in 0..=255 {
            match Verb::from_byte(byte) {
                Some(verb) => assert_eq!(verb.byte(), byte),
                None => assert!(!(251..=254).contains(&byte)),
            }
        }
    }
}
