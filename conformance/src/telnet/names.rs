//! The names of telnet and of the VMware extension, both ways: telnet.md §1 and vmware.md §2.

pub(crate) const SE: u8 = 240;
pub(crate) const NOP: u8 = 241;
pub(crate) const BRK: u8 = 243;
pub(crate) const SB: u8 = 250;
pub(crate) const WILL: u8 = 251;
pub(crate) const WONT: u8 = 252;
pub(crate) const DO: u8 = 253;
pub(crate) const DONT: u8 = 254;
pub(crate) const IAC: u8 = 255;

/// BINARY (RFC 856).
pub(crate) const BINARY: u8 = 0;
/// ECHO (RFC 857).
pub(crate) const ECHO: u8 = 1;
/// SUPPRESS-GO-AHEAD (RFC 858).
pub(crate) const SGA: u8 = 3;
/// TIMING-MARK (RFC 860), which has no state.
pub(crate) const TIMING_MARK: u8 = 6;
/// AUTHENTICATION (RFC 2941), with which hosts start TLS.
pub(crate) const AUTHENTICATION: u8 = 37;
/// COM-PORT-OPTION (RFC 2217).
pub(crate) const COM_PORT: u8 = 44;
/// The VMware extension.
pub(crate) const VMWARE: u8 = 232;

/// The codes of the VMware extension (vmware.md §2).
pub(crate) mod code {
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

const COMMANDS: &[(u8, &str)] = &[
    (236, "EOF"),
    (237, "SUSP"),
    (238, "ABORT"),
    (239, "EOR"),
    (SE, "SE"),
    (NOP, "NOP"),
    (242, "DM"),
    (BRK, "BRK"),
    (244, "IP"),
    (245, "AO"),
    (246, "AYT"),
    (247, "EC"),
    (248, "EL"),
    (249, "GA"),
    (SB, "SB"),
    (WILL, "WILL"),
    (WONT, "WONT"),
    (DO, "DO"),
    (DONT, "DONT"),
    (IAC, "IAC"),
];

const OPTIONS: &[(u8, &str)] = &[
    (BINARY, "BINARY"),
    (ECHO, "ECHO"),
    (SGA, "SGA"),
    (5, "STATUS"),
    (TIMING_MARK, "TM"),
    (24, "TTYPE"),
    (31, "NAWS"),
    (34, "LINEMODE"),
    (AUTHENTICATION, "AUTH"),
    (39, "NEW-ENVIRON"),
    (COM_PORT, "COM-PORT"),
    (VMWARE, "VMWARE"),
];

const CODES: &[(u8, &str)] = &[
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
    (code::DO_PROXY, "DO-PROXY"),
    (code::WILL_PROXY, "WILL-PROXY"),
    (code::WONT_PROXY, "WONT-PROXY"),
    (code::UUID, "VM-VC-UUID"),
    (code::GET_UUID, "GET-VM-VC-UUID"),
    (code::NAME, "VM-NAME"),
    (code::GET_NAME, "GET-VM-NAME"),
    (code::BIOS_UUID, "VM-BIOS-UUID"),
    (code::GET_BIOS_UUID, "GET-VM-BIOS-UUID"),
    (code::LOCATION_UUID, "VM-LOCATION-UUID"),
    (code::GET_LOCATION_UUID, "GET-VM-LOCATION-UUID"),
];

fn name_of(table: &[(u8, &'static str)], value: u8) -> Option<&'static str> {
    table.iter().find(|(v, _)| *v == value).map(|(_, name)| *name)
}

fn value_of(table: &[(u8, &str)], name: &str) -> Option<u8> {
    table.iter().find(|(_, n)| *n == name).map(|(value, _)| *value)
}

pub(crate) fn command(value: u8) -> String {
    name_of(COMMANDS, value).map_or_else(|| format!("IAC-{value}"), str::to_owned)
}

pub(crate) fn command_value(name: &str) -> Option<u8> {
    value_of(COMMANDS, name)
}

pub(crate) fn option(value: u8) -> String {
    name_of(OPTIONS, value).map_or_else(|| value.to_string(), str::to_owned)
}

pub(crate) fn option_value(name: &str) -> Option<u8> {
    value_of(OPTIONS, name).or_else(|| byte(name))
}

pub(crate) fn code(value: u8) -> String {
    name_of(CODES, value).map_or_else(|| value.to_string(), str::to_owned)
}

/// The code in a sentence that does not say what its number is.
pub(crate) fn message(value: u8) -> String {
    name_of(CODES, value).map_or_else(|| format!("VMWARE code {value}"), str::to_owned)
}

pub(crate) fn code_value(name: &str) -> Option<u8> {
    value_of(CODES, name)
}

/// A byte as a transcript writes it: `232` or `0xe8`.
pub(crate) fn byte(word: &str) -> Option<u8> {
    match word.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16).ok(),
        None if word.bytes().all(|b| b.is_ascii_digit()) => word.parse().ok(),
        None => None,
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    pairs.join(" ")
}

/// Text in quotes, with everything that cannot be read as an escape; long runs are cut in the middle.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    const SHOWN: usize = 96;
    if bytes.len() > 2 * SHOWN {
        let (head, tail) = (&bytes[..SHOWN], &bytes[bytes.len() - SHOWN..]);
        return format!("{} …{} bytes… {}", quoted(head), bytes.len() - 2 * SHOWN, quoted(tail));
    }
    format!("\"{}\"", bytes.escape_ascii())
}

/// Parameters of a subnegotiation: as text where they are text, in hex otherwise.
pub(crate) fn parameters(bytes: &[u8]) -> String {
    if bytes.iter().all(|b| (0x20..0x7f).contains(b)) {
        quoted(bytes)
    } else {
        format!("hex({})", hex_cut(bytes))
    }
}

/// In hex, but for the end of what is long.
pub(crate) fn hex_cut(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    match bytes.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} …{more} bytes", hex(&bytes[..SHOWN])),
        _ => hex(bytes),
    }
}
