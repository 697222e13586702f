//! What is spoken on a console's websocket.
//!
//! Owns the two subprotocols. What comes from the concentrator is pulled when the socket has taken what was
//! pulled before: one that stalls holds a piece of output here, and its own stream's credit there. What is
//! typed is read when what was typed before has been taken.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use axum::body::Bytes;
use bytes::Buf;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::handshake::{Socket, Speech};
use super::problem::Problem;
use super::pulse::Pulse;
use crate::upstream::attach::{Attach, Next};

pub(super) struct Session<'a> {
    socket: &'a mut Socket,
    /// There is something that the socket has not taken.
    unsent: bool,
    attach: Attach,
    speech: Speech,
    /// Typed, and not taken yet: nothing more is read meanwhile.
    typed: Bytes,
    /// Output that the page has not said it has shown; `None`: it does not say.
    ahead: Option<usize>,
    shown: usize,
    pulse: Pulse,
}

/// How it ended.
pub(super) enum Ending {
    /// With this code, in these words.
    Close(u16, String),
    /// The socket has gone.
    Gone,
}

/// What a turn did.
enum Moved {
    Sent,
    Came(Message),
    Nothing,
}

impl<'a> Session<'a> {
    pub(super) fn new(socket: &'a mut Socket, attach: Attach, speech: Speech) -> Self {
        Self {
            socket,
            unsent: false,
            attach,
            speech,
            typed: Bytes::new(),
            ahead: None,
            shown: 0,
            pulse: Pulse::new(Instant::now()),
        }
    }

    pub(super) async fn serve(mut self) -> Ending {
        match self.go_on().await {
            Ok(never) => match never {},
            Err(ending) => ending,
        }
    }

    async fn go_on(&mut self) -> Result<std::convert::Infallible, Ending> {
        if self.speech == Speech::V1 {
            let mut notice = self.attach.answer.clone();
            notice["event"] = "attached".into();
            self.tell(&notice)?;
        }
        loop {
            // Whoever does not read is told nothing, and must not type on.
            if let Some(why) = self.attach.refused() {
                return Err(close(NOT_ALLOWED, why));
            }
            if !self.unsent {
                self.pull()?;
            }
            self.push();
            match self.turn().await.map_err(ending)? {
                Moved::Nothing => {}
                Moved::Sent => self.unsent = false,
                Moved::Came(message) => {
                    self.pulse.heard(Instant::now());
                    self.take(message).await?;
                }
            }
            let now = Instant::now();
            if !self.typed.is_empty() {
                self.pulse.heard(now);
            }
            if self.pulse.is_lost(now) {
                return Err(Ending::Gone);
            }
            if self.pulse.asks(now) && !self.unsent {
                self.put(Message::Ping(Bytes::new()))?;
            }
        }
    }

    /// Waits until the socket or the console have something.
    async fn turn(&mut self) -> Result<Moved, Error> {
        let (reads, writes) = (self.typed.is_empty(), self.unsent);
        let socket = &mut *self.socket;
        let moved = poll_fn(|context| {
            if writes && let Poll::Ready(sent) = socket.poll_flush_unpin(context) {
                return Poll::Ready(sent.map(|()| Moved::Sent));
            }
            if reads && let Poll::Ready(came) = socket.poll_next_unpin(context) {
                return Poll::Ready(came.unwrap_or(Err(Error::ConnectionClosed)).map(Moved::Came));
            }
            Poll::Pending
        });
        let woken = pin!(self.attach.woken());
        tokio::select! {
            moved = moved, if reads || writes => moved,
            () = woken, if !writes || !reads => Ok(Moved::Nothing),
            () = sleep_until(self.pulse.due()) => Ok(Moved::Nothing),
        }
    }

    /// Takes the next of what the console has for the socket.
    fn pull(&mut self) -> Result<(), Ending> {
        loop {
            let most = PIECE.min(self.ahead.map_or(PIECE, |ahead| WINDOW.saturating_sub(ahead)));
            let mut piece = Vec::new();
            match self.attach.next(most, |bytes| piece.extend_from_slice(bytes)) {
                Next::Bytes => {
                    self.shown += piece.len();
                    if let Some(ahead) = &mut self.ahead {
                        *ahead += piece.len();
                    }
                    return self.put(Message::binary(piece));
                }
                Next::Notice(mut notice) if self.speech == Speech::V1 => {
                    if let Some(fields) = notice.as_object_mut() {
                        fields.remove("stream");
                    }
                    return self.tell(&notice);
                }
                // A gap among pure bytes would be corruption that nobody sees.
                Next::Notice(notice) if notice["event"] == "missed" => {
                    return Err(close(LOST, "output was skipped: the client did not keep up"));
                }
                Next::Notice(_) => {}
                Next::Nothing => return Ok(()),
                Next::End => return Err(close(OVER, "")),
                Next::Refused(why) => return Err(close(NOT_ALLOWED, why)),
                Next::Lost => return Err(close(LOST, "the connection to the concentrator was lost")),
            }
        }
    }

    /// Types what the console takes.
    fn push(&mut self) {
        if !self.typed.is_empty() {
            let n = self.attach.write(&self.typed);
            self.typed.advance(n);
            if self.typed.is_empty() {
                self.typed = Bytes::new();
            }
        }
    }

    /// Takes what the client has sent.
    async fn take(&mut self, message: Message) -> Result<(), Ending> {
        match message {
            Message::Binary(bytes) => self.typed = bytes,
            Message::Text(text) if self.speech == Speech::Binary => self.typed = text.into(),
            Message::Text(text) if text.len() > REQUEST_MOST => {
                return Err(close(TOO_BIG, "a request is shorter"));
            }
            Message::Text(text) => self.asked(&text).await?,
            // The answer to it is ready to be sent.
            Message::Ping(_) => self.unsent = true,
            Message::Pong(_) | Message::Frame(_) => {}
            Message::Close(_) => return Err(close(OVER, "")),
        }
        Ok(())
    }

    async fn asked(&mut self, text: &Utf8Bytes) -> Result<(), Ending> {
        let no_request = || close(NO_REQUEST, "a text frame has to be a request in JSON");
        let asked: Value = serde_json::from_str(text).map_err(|_| no_request())?;
        let outcome = match asked["op"].as_str() {
            Some("consumed") => {
                let n = asked["bytes"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                self.ahead = Some(self.ahead.unwrap_or(self.shown).saturating_sub(n));
                return Ok(());
            }
            Some("lock") => self.attach.call("lock", json!({"mode": asked["mode"]})).await.map(Some),
            Some("resize") => match self.attach.call("resize", json!({"size": asked["size"]})).await {
                // A concentrator from before that has nothing that could be as large.
                Err(refusal) if refusal.code == "unknown-op" => Ok(None),
                outcome => outcome.map(|_| None),
            },
            Some("break") => self.attach.call("break", json!({})).await.map(|_| None),
            Some(op) => {
                let message = format!("{op} is not known");
                return self.tell(&json!({"event": "error", "code": "unknown-op", "message": message}));
            }
            None => return Err(no_request()),
        };
        match outcome {
            Ok(Some(mut access)) => {
                access["event"] = "access".into();
                self.tell(&access)
            }
            Ok(None) => Ok(()),
            Err(refusal) => self.tell(&Problem::from(refusal).notice()),
        }
    }

    fn tell(&mut self, notice: &Value) -> Result<(), Ending> {
        self.put(Message::text(notice.to_string()))
    }

    /// Hands a message to the socket, which takes it when it can.
    fn put(&mut self, message: Message) -> Result<(), Ending> {
        self.unsent = true;
        self.socket.start_send_unpin(message).map_err(ending)
    }
}

fn close(code: u16, why: &str) -> Ending {
    Ending::Close(code, why.to_owned())
}

/// What a fault of the client's, or of its connection, comes to (RFC 6455 §7.4.1).
fn ending(error: Error) -> Ending {
    match error {
        Error::Capacity(_) => close(TOO_BIG, "the message is too big"),
        Error::Utf8(_) => close(NOT_TEXT, "the text is none"),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ending::Gone,
        Error::Protocol(fault) => close(BROKEN, &fault.to_string()),
        // Answers that the client does not take are not added to.
        Error::WriteBufferFull(_) => close(NOT_ALLOWED, "what was sent is not read"),
        _ => Ending::Gone,
    }
}

/// Output that is pulled at a time.
const PIECE: usize = 8 * 1024;
/// Output that is sent to a page beyond what it has shown.
const WINDOW: usize = 64 * 1024;
/// Requests are short.
const REQUEST_MOST: usize = 16 * 1024;

// Close codes (RFC 6455 §7.4.1).
const OVER: u16 = 1000;
const BROKEN: u16 = 1002;
const NO_REQUEST: u16 = 1003;
const NOT_TEXT: u16 = 1007;
pub(super) const NOT_ALLOWED: u16 = 1008;
const TOO_BIG: u16 = 1009;
pub(super) const LOST: u16 = 1011;
