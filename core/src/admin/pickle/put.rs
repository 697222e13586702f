//! Writing pickles: byte for byte what Python 3.8 to 3.13 write by default, which is version 4.
//!
//! **Owns** nothing: everything is appended to the caller's buffer. **Refuses to know** what a value is for.
//! **Implements** admin.md §2 and §4.

/// One console in a list, as text: what [`put_entry`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryText<'a> {
    /// The VM's name.
    pub name: &'a str,
    /// Its UUID, in the form in which clients ask for it.
    pub uuid: &'a str,
    /// The port that clients may connect to, if there is one.
    pub port: Option<u16>,
}

/// Appends `None`.
pub fn put_none(out: &mut Vec<u8>) {
    put_framed(out, |out| out.push(b'N'));
}

/// Appends a number.
pub fn put_int(number: i64, out: &mut Vec<u8>) {
    put_framed(out, |out| put_int_opcode(number, out));
}

/// Appends text.
pub fn put_str(text: &str, out: &mut Vec<u8>) {
    if text.len() < FRAME_TARGET {
        return put_framed(out, |out| put_str_opcode(text, out));
    }
    // Python writes a string of such a length past its frames, and has nothing left to frame.
    out.extend_from_slice(&PROTO);
    put_str_opcode(text, out);
    out.push(STOP);
}

/// Appends one entry of a list, `{'name': …, 'uuid': …, 'port': …}`. It is what Python writes as long as the
/// whole has less than 64 KiB, and what Python reads at any length.
pub fn put_entry(entry: EntryText<'_>, out: &mut Vec<u8>) {
    put_framed(out, |out| {
        out.extend_from_slice(&[b'}', MEMOIZE, b'(']);
        put_str_opcode("name", out);
        put_str_opcode(entry.name, out);
        put_str_opcode("uuid", out);
        put_str_opcode(entry.uuid, out);
        put_str_opcode("port", out);
        match entry.port {
            Some(port) => put_int_opcode(port.into(), out),
            None => out.push(b'N'),
        }
        out.push(b'u');
    });
}

/// Appends `Exception(text)`: how vSPC.py says that it gives up. `text` is one line.
pub fn put_exception(text: &str, out: &mut Vec<u8>) {
    put_framed(out, |out| {
        put_str_opcode("builtins", out);
        put_str_opcode("Exception", out);
        out.extend_from_slice(&[0x93, MEMOIZE]);
        put_str_opcode(text, out);
        out.extend_from_slice(&[0x85, MEMOIZE, b'R', MEMOIZE]);
    });
}

/// Appends what `body` does and STOP, behind PROTO and, unless that is too short for one, a FRAME.
fn put_framed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&PROTO);
    let frame = out.len();
    out.push(0x95);
    out.extend_from_slice(&[0; 8]);
    let begin = out.len();
    body(out);
    out.push(STOP);
    let len = out.len() - begin;
    if len < SHORTEST_FRAME {
        out.drain(frame..begin);
    } else {
        out[frame + 1..begin].copy_from_slice(&(len as u64).to_le_bytes());
    }
}

fn put_str_opcode(text: &str, out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(len) => out.extend_from_slice(&[0x8c, len]),
        Err(_) => {
            // No buffer here is anywhere near 4 GiB; text that were would be cut.
            let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
            out.push(b'X');
            out.extend_from_slice(&len.to_le_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
    out.push(MEMOIZE);
}

fn put_int_opcode(number: i64, out: &mut Vec<u8>) {
    if let Ok(byte) = u8::try_from(number) {
        out.extend_from_slice(&[b'K', byte]);
    } else if let Ok(short) = u16::try_from(number) {
        out.push(b'M');
        out.extend_from_slice(&short.to_le_bytes());
    } else if let Ok(int) = i32::try_from(number) {
        out.push(b'J');
        out.extend_from_slice(&int.to_le_bytes());
    } else {
        // As few bytes as leave the sign right.
        let bytes = number.to_le_bytes();
        let len = (5..8).find(|&len| {
            let shift = 64 - 8 * len;
            number << shift >> shift == number
        });
        let len = len.unwrap_or(8);
        out.extend_from_slice(&[0x8a, len as u8]);
        out.extend_from_slice(&bytes[..len]);
    }
}

/// PROTO 4.
const PROTO: [u8; 2] = [0x80, 4];

const MEMOIZE: u8 = 0x94;

const STOP: u8 = b'.';

/// Python writes no frame for less.
const SHORTEST_FRAME: usize = 4;

/// Python writes a string of so many bytes outside frames.
const FRAME_TARGET: usize = 64 << 10;
