//! How a request becomes a websocket (RFC 6455 §4.2).
//!
//! Owns the handshake's answer and what a message may be at most. Frames are tungstenite's.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::asked::bad;
use super::problem::Problem;

/// What is spoken in messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// `binary`: guest bytes and nothing else.
    Binary,
    /// `vspc.v1`: and notices and requests in text.
    V1,
}

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What comes of it once it is answered.
pub(super) struct Handshake(OnUpgrade);

impl Handshake {
    /// Takes a request for what it is; returns what to answer, too.
    pub(super) fn of(mut request: Request) -> Result<(Self, Speech, Response), Problem> {
        let headers = request.headers();
        let is_upgrade =
            has(headers, header::UPGRADE, "websocket") && has(headers, header::CONNECTION, "upgrade");
        let key = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
        let version = headers.get(header::SEC_WEBSOCKET_VERSION).map(header::HeaderValue::as_bytes);
        let (true, Some(key), Some(b"13")) = (is_upgrade, key, version) else {
            return Err(bad("this is a websocket of version 13"));
        };
        let offered = headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
        let of = |name| has(headers, header::SEC_WEBSOCKET_PROTOCOL, name);
        let speech = match (of("vspc.v1"), of("binary"), offered) {
            (true, ..) => Speech::V1,
            (_, true, _) | (.., false) => Speech::Binary,
            _ => return Err(bad("the subprotocols are vspc.v1 and binary")),
        };
        let mut response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, accept(key));
        if offered {
            let name = if speech == Speech::V1 { "vspc.v1" } else { "binary" };
            response = response.header(header::SEC_WEBSOCKET_PROTOCOL, name);
        }
        let response = response.body(Body::empty()).map_err(|error| bad(&error.to_string()))?;
        Ok((Self(hyper::upgrade::on(&mut request)), speech, response))
    }

    /// The websocket, once the answer is sent; `None`: the client has gone.
    pub(super) async fn done(self) -> Option<Socket> {
        let upgraded = TokioIo::new(self.0.await.ok()?);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_write_buffer_size(UNSENT_MOST)
            .max_frame_size(Some(MESSAGE_MOST))
            .max_message_size(Some(MESSAGE_MOST));
        Some(WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await)
    }
}

/// Whether a word stands in a header's list.
fn has(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
}

/// What shows that the key was read.
fn accept(key: &str) -> String {
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

/// Read at a time. Most sockets say little, and each keeps this much.
const READ: usize = 2 * 1024;
/// What is typed comes in small messages, and pastes in pieces.
const MESSAGE_MOST: usize = 128 * 1024;
/// A piece of output and a line of the concentrator's, and some answers.
const UNSENT_MOST: usize = 192 * 1024;

#[cfg(test)]
mod tests {
    #[test]
    fn the_handshake_is_answered_as_in_the_rfc() {
        assert_eq!(super::accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
