//! Frames of a websocket, the server's side (RFC 6455).
//!
//! Owns the form of frames and of the handshake's answer. Knows no socket, and what frames carry.

use bytes::{Buf, BytesMut};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What a client sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Frame {
    /// A piece of a binary message: where messages begin and end means nothing here.
    Binary(Vec<u8>),
    /// A whole text message.
    Text(String),
    Ping(Vec<u8>),
    Pong,
    Close,
}

/// What a client did wrong, as a close code (§7.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault(pub(crate) u16);

/// Takes frames off what was received.
#[derive(Default)]
pub(crate) struct Reader {
    /// The kind of the message that is under way, and what of it came, if it is text.
    message: Option<(u8, Vec<u8>)>,
}

impl Reader {
    /// The next frame, if all of it is there.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Fault> {
        loop {
            let Some((header, len, at)) = header(input)? else { return Ok(None) };
            if input.len() < at + len {
                return Ok(None);
            }
            let mask: [u8; 4] = std::array::from_fn(|i| input[at - 4 + i]);
            input.advance(at);
            let mut content = input.split_to(len).to_vec();
            for (i, byte) in content.iter_mut().enumerate() {
                *byte ^= mask[i % 4];
            }
            let is_last = header & 0x80 != 0;
            match header & 0x0f {
                CLOSE => return Ok(Some(Frame::Close)),
                PING => return Ok(Some(Frame::Ping(content))),
                PONG => return Ok(Some(Frame::Pong)),
                kind @ (TEXT | BINARY) if self.message.is_none() => self.message = Some((kind, Vec::new())),
                CONTINUED if self.message.is_some() => {}
                _ => return Err(PROTOCOL),
            }
            let Some((kind, so_far)) = &mut self.message else { return Err(PROTOCOL) };
            if *kind == BINARY {
                if is_last {
                    self.message = None;
                }
                return Ok(Some(Frame::Binary(content)));
            }
            so_far.append(&mut content);
            if so_far.len() > TEXT_MOST {
                return Err(TOO_BIG);
            }
            if is_last && let Some((_, text)) = self.message.take() {
                return String::from_utf8(text).map(|text| Some(Frame::Text(text))).map_err(|_| NOT_TEXT);
            }
        }
    }
}

/// The first byte, the length of the content, and where it begins.
fn header(input: &[u8]) -> Result<Option<(u8, usize, usize)>, Fault> {
    let Some((&[first, second], rest)) = input.split_first_chunk() else { return Ok(None) };
    let is_control = first & 0x08 != 0;
    // Extensions were not agreed on, clients mask, and what controls is in one short frame (§5.2, §5.5).
    if first & 0x70 != 0 || second & 0x80 == 0 || (is_control && (first & 0x80 == 0 || second & 0x7f > 125)) {
        return Err(PROTOCOL);
    }
    let (len, at) = match second & 0x7f {
        126 => match rest.first_chunk() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 10),
            None => return Ok(None),
        },
        len => (u64::from(len), 2),
    };
    match usize::try_from(len) {
        Ok(len) if len <= FRAME_MOST && input.len() >= at + 4 => Ok(Some((first, len, at + 4))),
        Ok(len) if len <= FRAME_MOST => Ok(None),
        _ => Err(TOO_BIG),
    }
}

/// Puts a frame behind what is in `out`; its content is what `put` puts there.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    out.push(0x80 | kind);
    match content.len() {
        len @ 0..=125 => out.push(len as u8),
        len @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(content);
}

/// A close frame. Its text is cut to what fits.
pub(crate) fn close(out: &mut Vec<u8>, code: u16, why: &str) {
    let mut end = why.len().min(123);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    put(out, CLOSE, &[&code.to_be_bytes(), &why.as_bytes()[..end]].concat());
}

/// What the handshake is answered with (§4.2.2).
pub(crate) fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let all = three.iter().fold(0, |all, &byte| all << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = DIGITS[(all >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

const CONTINUED: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const PROTOCOL: Fault = Fault(1002);
const NOT_TEXT: Fault = Fault(1007);
const TOO_BIG: Fault = Fault(1009);
/// A whole frame is waited for: what is typed comes in small ones, and pastes in pieces.
pub(crate) const FRAME_MOST: usize = 128 * 1024;
/// Requests are short.
const TEXT_MOST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it.
    fn masked(first: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![first, 0x80 | content.len() as u8, 1, 2, 3, 4];
        out.extend(content.iter().enumerate().map(|(i, byte)| byte ^ (i as u8 % 4 + 1)));
        out
    }

    #[test]
    fn the_handshake_is_answered_as_in_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_are_found_whatever_the_cuts() {
        let wire = [
            masked(0x82, b"ls\r"),
            masked(0x01, b"{\"op\":"),
            masked(0x89, b"ping"),
            masked(0x80, b"\"break\"}"),
            masked(0x88, b""),
        ]
        .concat();
        for cut in 0..wire.len() {
            let (mut reader, mut input, mut frames) = (Reader::default(), BytesMut::new(), Vec::new());
            for piece in [&wire[..cut], &wire[cut..]] {
                input.extend_from_slice(piece);
                while let Some(frame) = reader.next(&mut input).unwrap() {
                    frames.push(frame);
                }
            }
            let text = Frame::Text("{\"op\":\"break\"}".into());
            let all = [Frame::Binary(b"ls\r".into()), Frame::Ping(b"ping".into()), text, Frame::Close];
            assert_eq!(frames, all, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_frame_of_a_client_is_refused() {
        for (wire, code) in [
            (&b"\x82\x02ab"[..], 1002),
            (b"\xc2\x80abcd", 1002),
            (b"\x80\x80abcd", 1002),
            (b"\x09\x80abcd", 1002),
            (b"\x82\xff\x00\x00\x00\x00\x10\x00\x00\x00abcd", 1009),
            (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffabcd", 1009),
        ] {
            let mut input = BytesMut::from(wire);
            assert_eq!(Reader::default().next(&mut input), Err(Fault(code)), "{wire:?}");
        }
        let wire = masked(0x81, b"\xff");
        assert_eq!(Reader::default().next(&mut BytesMut::from(&wire[..])), Err(Fault(1007)));
    }
}
