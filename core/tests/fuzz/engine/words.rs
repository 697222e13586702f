//! What hosts and clients say.

use vspc_core::telnet::{IAC, escape_into, put_subnegotiation};
use vspc_core::vmware::{Message, Uuid, VMWARE_TELNET_EXT};

/// A UUID by its number.
pub(super) fn uuid(n: u8) -> Uuid {
    let mut bytes = [0x11; 16];
    bytes[15] = n;
    Uuid::from_bytes(bytes)
}

/// A sequence by its number; one holds 255, one is long.
fn sequence(n: u8) -> Vec<u8> {
    match n & 3 {
        3 => vec![0xab; 64],
        n => vec![0x76, IAC, 0x19, n],
    }
}

/// A host, of a VM by its number whose serial port carries streams: the whole session start.
pub(super) fn vm_with_agent(n: u8, mux: &str) -> Vec<u8> {
    let mut text = Vec::new();
    uuid(n).put_vmware(&mut text);
    let mut out = b"\xff\xfd\x00\xff\xfd\x03\xff\xfd\x01\xff\xfb\x00\xff\xfb\x03\xff\xfb\xe8".to_vec();
    Message::KnownSuboptions1(&[0, 70, 80]).put(&mut out);
    Message::DoProxy { direction: b'S', uri: format!("vSPC.py?mux={mux}").as_bytes() }.put(&mut out);
    Message::VmVcUuid(&text).put(&mut out);
    Message::VmName(format!("guest{n}").as_bytes()).put(&mut out);
    out
}

/// How a port carries streams, by a number.
pub(super) fn mux(n: u8) -> &'static str {
    ["s2", "s2", "s2+sl", "s2", "s2+sl", "auto", "v1", "v1-control"][usize::from(n >> 4 & 7)]
}

/// A host; `secrets` are what its like have been told in GOAHEADs, sequence and secret.
pub(super) fn of_vm(word: u8, arg: u8, secrets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    let nth = usize::from(arg);
    let text = {
        let mut text = Vec::new();
        uuid(arg & 3).put_vmware(&mut text);
        text
    };
    let uri: &[u8] = if arg & 4 == 0 { b"vSPC.py" } else { b"vSPC.py?port=com2" };
    match word % 18 {
        // The whole session start in one go, of one of four VMs.
        0 | 1 => {
            out.extend(b"\xff\xfd\x00\xff\xfd\x03\xff\xfd\x01\xff\xfb\x00\xff\xfb\x03\xff\xfb\xe8");
            Message::KnownSuboptions1(&[0, 70, 80]).put(&mut out);
            Message::DoProxy { direction: b'S', uri }.put(&mut out);
            Message::VmVcUuid(&text).put(&mut out);
            Message::VmName(&[b'v', b'm', b'0' + (arg & 3)]).put(&mut out);
        }
        2 => out.extend(b"\xff\xfb\xe8"),
        3 => Message::DoProxy { direction: b'S' - (arg & 0x10), uri }.put(&mut out),
        4 => Message::VmVcUuid(if arg & 8 == 0 { &text } else { b"" }).put(&mut out),
        5 => Message::VmBiosUuid(&text).put(&mut out),
        6 => Message::VmName(&vec![b'n'; nth]).put(&mut out),
        7 | 8 => Message::VmotionBegin { sequence: &sequence(arg) }.put(&mut out),
        9 | 10 => {
            let known = secrets.get(secrets.len().wrapping_sub(1 + (nth & 7)));
            let known = known.map_or(&b"made up by chance"[..], Vec::as_slice);
            out.extend(b"\xff\xfb\xe8");
            Message::VmotionPeer { sequence_and_secret: known }.put(&mut out);
        }
        11 | 12 => Message::VmotionComplete { sequence: &sequence(arg) }.put(&mut out),
        13 => Message::VmotionAbort { sequence: &[] }.put(&mut out),
        // It prints.
        14 => escape_into(&vec![arg; nth + 1], &mut out),
        15 => escape_into(&vec![b'a' + (arg & 15); nth << 10], &mut out),
        // Negotiation of what is negotiated here, and of one option that is not.
        16 => out.extend([IAC, 251 + (arg & 3), [0, 1, 3, 232, 37, 44, 6, 99][usize::from(arg >> 2 & 7)]]),
        _ => put_subnegotiation(VMWARE_TELNET_EXT, &[arg], &mut out),
    }
    out
}

/// A client, or someone at a console inside the process.
pub(super) fn of_client(word: u8, arg: u8) -> Vec<u8> {
    let mut out = Vec::new();
    match word % 8 {
        0 => out.extend(b"\xff\xfd\x00\xff\xfd\x03\xff\xfd\x01\xff\xfb\x00\xff\xfb\x03"),
        1 => out.extend(b"+$qSupported#37"),
        // From EOF to GA, of which some type something.
        2 => out.extend([IAC, 236 + arg % 14]),
        3 => escape_into(&vec![arg; usize::from(arg) + 1], &mut out),
        4 => out.extend(vec![b'x'; usize::from(arg) << 8]),
        5 => out.extend([IAC, 251 + (arg & 3), [0, 1, 3, 31, 6, 99, 24, 255][usize::from(arg >> 2 & 7)]]),
        6 => out.extend([b'\r', arg & 15, IAC]),
        _ => out.push(arg),
    }
    out
}
