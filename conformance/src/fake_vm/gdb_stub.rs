//! A debugger's other end, as a kernel on a serial console offers it: enough of gdb's remote protocol for
//! `target remote`, registers, and reading and writing memory, in hexadecimal and in binary.
//!
//! It implements the packets of "Debugging with GDB", appendix E, that a stopped single-threaded x86-64
//! target needs. There is no program: continuing stops again at once. Binary writes carry every byte value,
//! so they show whether a console connection really is transparent.

use std::fmt::Write as _;

/// A stopped machine with some memory.
#[derive(Debug)]
pub struct GdbStub {
    memory: Vec<u8>,
    registers: Vec<u8>,
    packet: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Packet,
    /// Behind `#`: the checksum's digits so far.
    Checksum(Option<u8>),
}

impl Default for GdbStub {
    fn default() -> Self {
        Self::new()
    }
}

impl GdbStub {
    /// A machine whose memory is all zero.
    #[must_use]
    pub fn new() -> Self {
        let (memory, registers) = (vec![0; MEMORY], vec![0; REGISTERS]);
        Self { memory, registers, packet: Vec::new(), state: State::Idle }
    }

    /// Starts anew.
    pub fn boot(&mut self) {
        *self = Self::new();
    }

    /// Takes bytes from the debugger and answers it.
    pub fn received(&mut self, input: &[u8], out: &mut Vec<u8>) {
        for &byte in input {
            match (self.state, byte) {
                (State::Idle, b'$') => {
                    self.packet.clear();
                    self.state = State::Packet;
                }
                (State::Idle, 3) => self.interrupt(out),
                (State::Idle, _) => {}
                (State::Packet, b'#') => self.state = State::Checksum(None),
                (State::Packet, _) if self.packet.len() >= PACKET => self.state = State::Idle,
                (State::Packet, _) => self.packet.push(byte),
                (State::Checksum(None), _) => self.state = State::Checksum(Some(byte)),
                (State::Checksum(Some(first)), _) => {
                    self.state = State::Idle;
                    let sum = self.packet.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                    if hex_bytes(&[first, byte]) == Some(vec![sum]) {
                        out.push(b'+');
                        let reply = self.answer();
                        put_packet(&reply, out);
                    } else {
                        out.push(b'-');
                    }
                }
            }
        }
    }

    /// The machine stops, which it always does.
    pub fn interrupt(&mut self, out: &mut Vec<u8>) {
        put_packet("S05", out);
    }

    fn answer(&mut self) -> String {
        let packet = std::mem::take(&mut self.packet);
        let Some((&kind, rest)) = packet.split_first() else { return String::new() };
        match kind {
            b'?' | b'c' | b's' | b'C' | b'S' => "S05".into(),
            b'H' | b'D' => "OK".into(),
            b'g' => hex(&self.registers),
            b'G' => ok(hex_bytes(rest).is_some_and(|new| {
                let n = new.len().min(REGISTERS);
                self.registers[..n].copy_from_slice(&new[..n]);
                true
            })),
            b'm' => self.range(rest).map_or(ERROR.into(), |range| hex(&self.memory[range])),
            b'M' => ok(self.write(rest, hex_bytes)),
            b'X' => ok(self.write(rest, |data| Some(unescape(data)))),
            b'q' if rest.starts_with(b"Supported") => format!("PacketSize={PACKET:x}"),
            b'q' if rest.starts_with(b"Attached") => "1".into(),
            // Empty: not supported, which is an answer.
            _ => String::new(),
        }
    }

    /// `ADDRESS,LENGTH` as a range of the memory; what follows a colon is not looked at.
    fn range(&self, text: &[u8]) -> Option<std::ops::Range<usize>> {
        let text = std::str::from_utf8(text.split(|byte| *byte == b':').next()?).ok()?;
        let (address, length) = text.split_once(',')?;
        let start = usize::from_str_radix(address, 16).ok()?;
        let end = start.checked_add(usize::from_str_radix(length, 16).ok()?)?;
        (end <= self.memory.len()).then_some(start..end)
    }

    fn write(&mut self, text: &[u8], decode: impl Fn(&[u8]) -> Option<Vec<u8>>) -> bool {
        let Some(colon) = text.iter().position(|byte| *byte == b':') else { return false };
        let (Some(range), Some(data)) = (self.range(text), decode(&text[colon + 1..])) else { return false };
        let fits = range.len() == data.len();
        if fits {
            self.memory[range].copy_from_slice(&data);
        }
        fits
    }
}

fn ok(done: bool) -> String {
    if done { "OK" } else { ERROR }.into()
}

fn put_packet(body: &str, out: &mut Vec<u8>) {
    let sum = body.bytes().fold(0u8, u8::wrapping_add);
    out.extend_from_slice(format!("${body}#{sum:02x}").as_bytes());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn hex_bytes(text: &[u8]) -> Option<Vec<u8>> {
    text.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// `}` means that the next byte is meant with bit 5 turned.
fn unescape(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.iter();
    std::iter::from_fn(|| match bytes.next()? {
        b'}' => bytes.next().map(|byte| byte ^ 0x20),
        byte => Some(*byte),
    })
    .collect()
}

/// As much memory as the machine has, from address 0.
const MEMORY: usize = 1 << 20;
/// rax to r15, rip, eflags and six segment registers.
const REGISTERS: usize = 16 * 8 + 8 + 4 + 6 * 4;
/// The longest packet; what is longer is no packet.
const PACKET: usize = 0x4000;
const ERROR: &str = "E01";

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(stub: &mut GdbStub, body: &[u8]) -> String {
        let sum = body.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        let packet = [b"$", body, b"#", format!("{sum:02x}").as_bytes()].concat();
        let mut out = Vec::new();
        for piece in packet.chunks(3) {
            stub.received(piece, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    fn reply(body: &str) -> String {
        let mut out = b"+".to_vec();
        put_packet(body, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn memory_is_read_as_it_was_written_in_hexadecimal_and_in_binary() {
        let mut stub = GdbStub::new();
        assert_eq!(ask(&mut stub, b"M10,2:ff00"), reply("OK"));
        assert_eq!(ask(&mut stub, b"X12,4:\xFF\x00}\x03}]"), reply("OK"));
        assert_eq!(ask(&mut stub, b"m10,6"), reply("ff00ff00237d"));
        assert_eq!(ask(&mut stub, b"mfffff,2"), reply("E01"));
    }

    #[test]
    fn what_is_damaged_is_asked_for_again_and_what_is_unknown_is_said_so() {
        let mut stub = GdbStub::new();
        let mut out = Vec::new();
        stub.received(b"+$?#00$?#3f\x03", &mut out);
        assert_eq!(out, b"-+$S05#b8$S05#b8");
        assert_eq!(ask(&mut stub, b"vMustReplyEmpty"), "+$#00");
    }

    #[test]
    fn noise_is_bounded() {
        let mut stub = GdbStub::new();
        let mut out = Vec::new();
        stub.received(&[b'$'; 100_000], &mut out);
        assert!(stub.packet.len() <= PACKET && out.is_empty());
    }
}
