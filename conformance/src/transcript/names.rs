//! The names of telnet and of the VMware extension, both ways: telnet.md §1 and vmware.md §2.

pub(crate) const SE: u8 = 240;
pub(crate) const NOP: u8 = 241;
pub(crate) const BRK: u8 = 243;
pub(crate) const SB: u8 = 250;
pub(crate) const WILL: u8 = 251;
pub(crate) const DONT: u8 = 254;
pub(crate) const IAC: u8 = 255;

/// The VMware extension's option.
pub(crate) const VMWARE: u8 = 232;

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
    (252, "WONT"),
    (253, "DO"),
    (DONT, "DONT"),
    (IAC, "IAC"),
];

const OPTIONS: &[(u8, &str)] = &[
    (0, "BINARY"),
    (1, "ECHO"),
    (3, "SGA"),
    (5, "STATUS"),
    (6, "TM"),
    (24, "TTYPE"),
    (31, "NAWS"),
    (34, "LINEMODE"),
    (37, "AUTH"),
    (39, "NEW-ENVIRON"),
    (44, "COM-PORT"),
    (VMWARE, "VMWARE"),
];

const CODES: &[(u8, &str)] = &[
    (0, "KNOWN-SUBOPTIONS-1"),
    (1, "KNOWN-SUBOPTIONS-2"),
    (2, "UNKNOWN-SUBOPTION-RCVD-1"),
    (3, "UNKNOWN-SUBOPTION-RCVD-2"),
    (40, "VMOTION-BEGIN"),
    (41, "VMOTION-GOAHEAD"),
    (43, "VMOTION-NOTNOW"),
    (44, "VMOTION-PEER"),
    (45, "VMOTION-PEER-OK"),
    (46, "VMOTION-COMPLETE"),
    (48, "VMOTION-ABORT"),
    (70, "DO-PROXY"),
    (71, "WILL-PROXY"),
    (73, "WONT-PROXY"),
    (80, "VM-VC-UUID"),
    (81, "GET-VM-VC-UUID"),
    (82, "VM-NAME"),
    (83, "GET-VM-NAME"),
    (84, "VM-BIOS-UUID"),
    (85, "GET-VM-BIOS-UUID"),
    (86, "VM-LOCATION-UUID"),
    (87, "GET-VM-LOCATION-UUID"),
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
    } else if bytes.len() > 64 {
        format!("hex({} …{} bytes)", hex(&bytes[..64]), bytes.len() - 64)
    } else {
        format!("hex({})", hex(bytes))
    }
}
