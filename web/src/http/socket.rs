//! A console as a websocket (docs/web.md).
//!
//! Owns the two subprotocols. What comes from the concentrator is pulled when the socket has taken what was
//! pulled before: one that stalls holds a piece of output here, and its own stream's credit there.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::BytesMut;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::App;
use super::asked::{Words, bad};
use super::found::find;
use super::problem::Problem;
use crate::upstream::attach::{Attach, Next};
use crate::websocket::{self, BINARY, Fault, Frame, PING, PONG, Reader, TEXT};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// Guest bytes and nothing else.
    Binary,
    /// And notices and requests in text.
    V1,
}

pub(super) async fn open(
    State(app): State<App>,
    Path(name): Path<String>,
    words: Words,
    mut request: Request,
) -> Result<Response, Problem> {
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
        .header(header::SEC_WEBSOCKET_ACCEPT, websocket::accept(key));
    if offered {
        let name = if speech == Speech::V1 { "vspc.v1" } else { "binary" };
        response = response.header(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    let fields = asked(&words)?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        // A browser tells its page nothing of an answer that is no websocket, so faults are told here.
        let granted = match find(&app, &name, &words) {
            Ok(found) => found.open("attach", fields).await,
            Err(problem) => Err(problem),
        };
        let mut last = Vec::new();
        let (code, why) = match granted {
            Ok(attach) => {
                let mut session = Session::new(attach, speech);
                session.serve(&mut reader, &mut writer).await
            }
            Err(problem) => {
                if speech == Speech::V1 && problem.code() != "not-connected" {
                    websocket::put(&mut last, TEXT, problem.notice().to_string().as_bytes());
                }
                let code = if problem.code() == "not-connected" { LOST } else { NOT_ALLOWED };
                (code, problem.detail().to_owned())
            }
        };
        if code != GONE {
            websocket::close(&mut last, code, &why);
            let _ = timeout(PARTING, part(&last, &mut reader, &mut writer)).await;
        }
    });
    response.body(Body::empty()).map_err(|error| bad(&error.to_string()))
}

/// Sends the last words and waits until the client has seen them: it closes.
async fn part(last: &[u8], reader: &mut (impl AsyncRead + Unpin), writer: &mut (impl AsyncWrite + Unpin)) {
    if writer.write_all(last).await.is_ok() && writer.shutdown().await.is_ok() {
        let mut rest = [0; 512];
        while matches!(reader.read(&mut rest).await, Ok(n) if n > 0) {}
    }
}

/// The fields of `attach`.
fn asked(words: &Words) -> Result<Value, Problem> {
    let number = |name: &str| match words.get(name).map(str::parse::<u64>) {
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(bad(&format!("{name} is a number"))),
        None => Ok(None),
    };
    let mut fields = json!({});
    if let Some(lock) = words.get("lock") {
        fields["lock"] = lock.into();
    }
    match (words.get("epoch"), number("offset")?) {
        (Some(epoch), Some(offset)) => fields["from"] = json!({"epoch": epoch, "offset": offset}),
        (None, None) => fields["scrollback"] = number("scrollback")?.unwrap_or(0).into(),
        _ => return Err(bad("epoch and offset go together")),
    }
    Ok(fields)
}

/// Whether a word stands in a header's list.
fn has(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
}

struct Session {
    attach: Attach,
    speech: Speech,
    frames: Reader,
    input: BytesMut,
    /// Typed, and not taken yet: nothing more is read meanwhile.
    typed: Vec<u8>,
    /// For the socket.
    out: Vec<u8>,
    sent: usize,
    /// Output that the page has not said it has shown; `None`: it does not say.
    ahead: Option<usize>,
    shown: usize,
    heard: Instant,
    pinged: Instant,
}

/// How a socket is closed, and in which words.
type Ending = (u16, String);

impl Session {
    fn new(attach: Attach, speech: Speech) -> Self {
        let mut out = Vec::new();
        if speech == Speech::V1 {
            let mut notice = attach.answer.clone();
            notice["event"] = "attached".into();
            websocket::put(&mut out, TEXT, notice.to_string().as_bytes());
        }
        let now = Instant::now();
        Self {
            attach,
            speech,
            frames: Reader::default(),
            input: BytesMut::new(),
            typed: Vec::new(),
            out,
            sent: 0,
            ahead: None,
            shown: 0,
            heard: now,
            pinged: now,
        }
    }

    async fn serve(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Ending {
        let mut ending = None;
        loop {
            if ending.is_none() && self.out.is_empty() {
                ending = self.pull();
            }
            if self.out.is_empty()
                && let Some(ending) = ending.take()
            {
                return ending;
            }
            self.push();
            let due = (self.heard + SILENCE).min(self.pinged + PING_EVERY);
            let reads = self.typed.is_empty();
            if reads {
                self.input.reserve(INPUT);
            }
            let writes = !self.out.is_empty();
            let done: io::Result<Option<usize>> = {
                let woken = pin!(self.attach.woken());
                tokio::select! {
                    n = writer.write(&self.out[self.sent..]), if writes => {
                        n.map(|n| { self.sent += n; None })
                    }
                    n = reader.read_buf(&mut self.input), if reads => n.map(Some),
                    () = woken, if !writes || !reads => Ok(None),
                    () = sleep_until(due) => Ok(None),
                }
            };
            if self.sent == self.out.len() {
                // Most sockets are silent most of the time: they keep no room.
                (self.out, self.sent) = (Vec::new(), 0);
            }
            match done {
                Ok(Some(0)) | Err(_) => return (GONE, String::new()),
                Ok(Some(_)) => {
                    self.heard = Instant::now();
                    match self.take().await {
                        Ok(()) => {}
                        Err(ending) => return ending,
                    }
                }
                Ok(None) => {}
            }
            let now = Instant::now();
            if now >= self.heard + SILENCE {
                return (GONE, String::new());
            }
            if now >= self.pinged + PING_EVERY {
                self.pinged = now;
                websocket::put(&mut self.out, PING, b"");
            }
        }
    }

    /// Takes the next of what the console has for the socket. Returns the end of it.
    fn pull(&mut self) -> Option<Ending> {
        loop {
            let most = PIECE.min(self.ahead.map_or(PIECE, |ahead| WINDOW.saturating_sub(ahead)));
            let mut piece = Vec::new();
            match self.attach.next(most, |bytes| piece.extend_from_slice(bytes)) {
                Next::Bytes => {
                    self.shown += piece.len();
                    if let Some(ahead) = &mut self.ahead {
                        *ahead += piece.len();
                    }
                    websocket::put(&mut self.out, BINARY, &piece);
                    return None;
                }
                Next::Notice(mut notice) if self.speech == Speech::V1 => {
                    if let Some(fields) = notice.as_object_mut() {
                        fields.remove("stream");
                    }
                    websocket::put(&mut self.out, TEXT, notice.to_string().as_bytes());
                    return None;
                }
                // A gap among pure bytes would be corruption that nobody sees.
                Next::Notice(notice) if notice["event"] == "missed" => {
                    return Some((LOST, "output was skipped: the client did not keep up".to_owned()));
                }
                Next::Notice(_) => {}
                Next::Nothing => return None,
                Next::End => return Some((OVER, String::new())),
                Next::Lost => return Some((LOST, "the connection to the concentrator was lost".to_owned())),
            }
        }
    }

    /// Types what the console takes.
    fn push(&mut self) {
        if !self.typed.is_empty() {
            let n = self.attach.write(&self.typed);
            self.typed.drain(..n);
            if self.typed.is_empty() {
                self.typed = Vec::new();
            }
        }
    }

    /// Takes what the client has sent.
    async fn take(&mut self) -> Result<(), Ending> {
        loop {
            match self.frames.next(&mut self.input) {
                Ok(None) => break,
                Ok(Some(Frame::Binary(bytes))) => self.typed.extend_from_slice(&bytes),
                Ok(Some(Frame::Text(text))) if self.speech == Speech::Binary => {
                    self.typed.extend_from_slice(text.as_bytes());
                }
                Ok(Some(Frame::Text(text))) => self.asked(&text).await?,
                Ok(Some(Frame::Ping(content))) => websocket::put(&mut self.out, PONG, &content),
                Ok(Some(Frame::Pong)) => {}
                Ok(Some(Frame::Close)) => return Err((OVER, String::new())),
                Err(Fault(code)) => return Err((code, String::new())),
            }
            // Answers that the client does not take are not added to.
            if self.out.len() > OUT_MOST {
                return Err((NOT_ALLOWED, "what was sent is not read".to_owned()));
            }
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        Ok(())
    }

    async fn asked(&mut self, text: &str) -> Result<(), Ending> {
        let no_request = || (1003, "a text frame has to be a request in JSON".to_owned());
        let asked: Value = serde_json::from_str(text).map_err(|_| no_request())?;
        let outcome = match asked["op"].as_str() {
            Some("consumed") => {
                let n = asked["bytes"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                self.ahead = Some(self.ahead.unwrap_or(self.shown).saturating_sub(n));
                return Ok(());
            }
            Some("lock") => self.attach.call("lock", json!({"mode": asked["mode"]})).await.map(Some),
            Some("break") => self.attach.call("break", json!({})).await.map(|_| None),
            Some(op) => {
                let notice =
                    json!({"event": "error", "code": "unknown-op", "message": format!("{op} is not known")});
                websocket::put(&mut self.out, TEXT, notice.to_string().as_bytes());
                return Ok(());
            }
            None => return Err(no_request()),
        };
        let notice = match outcome {
            Ok(Some(mut access)) => {
                access["event"] = "access".into();
                access
            }
            Ok(None) => return Ok(()),
            Err(refusal) => Problem::from(refusal).notice(),
        };
        websocket::put(&mut self.out, TEXT, notice.to_string().as_bytes());
        Ok(())
    }
}

/// Output that is pulled at a time.
const PIECE: usize = 8 * 1024;
/// Output that is sent to a page beyond what it has shown.
const WINDOW: usize = 64 * 1024;
/// Room for what is read of a socket at a time.
const INPUT: usize = 2 * 1024;
const OUT_MOST: usize = 64 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(90);
const PARTING: Duration = Duration::from_secs(3);

// Close codes (RFC 6455 §7.4.1).
const OVER: u16 = 1000;
const NOT_ALLOWED: u16 = 1008;
const LOST: u16 = 1011;
/// None at all: the socket has gone.
const GONE: u16 = 0;
