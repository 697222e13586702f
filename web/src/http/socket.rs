//! A console as a websocket (docs/web.md): opened, and ended with a code.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::App;
use super::asked::{Named, Words, bad};
use super::found::find;
use super::handshake::{Handshake, Socket, Speech};
use super::problem::Problem;
use super::session::{Ending, LOST, NOT_ALLOWED, Session};
use crate::auth::audit::Entry;

pub(super) async fn open(
    State(app): State<App>,
    named: Named,
    words: Words,
    request: Request,
) -> Result<Response, Problem> {
    let entry = request.extensions().get::<Arc<Entry>>().cloned();
    let (handshake, speech, response) = Handshake::of(request)?;
    let fields = asked(&words)?;
    tokio::spawn(async move {
        let Some(mut socket) = handshake.done().await else { return };
        // A browser tells its page nothing of an answer that is no websocket, so faults are told here.
        let granted = match find(&app, named.get("name"), &words) {
            Ok(found) => {
                entry.iter().for_each(|entry| found.note(entry));
                found.open("attach", fields).await
            }
            Err(problem) => Err(problem),
        };
        if let Some(entry) = entry {
            match &granted {
                Ok(attach) => entry.ends(&attach.answer["access"].as_str().unwrap_or("attached")),
                Err(problem) => entry.ends(&problem.code()),
            }
        }
        let ending = match granted {
            Ok(attach) => Session::new(&mut socket, attach, speech).serve().await,
            Err(problem) => refuse(&mut socket, speech, &problem).await,
        };
        if let Ending::Close(code, why) = ending {
            let _ = timeout(PARTING, part(&mut socket, code, &why)).await;
        }
    });
    Ok(response)
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

async fn refuse(socket: &mut Socket, speech: Speech, problem: &Problem) -> Ending {
    let is_away = problem.code() == "not-connected";
    if speech == Speech::V1 && !is_away {
        let _ = timeout(PARTING, socket.send(Message::text(problem.notice().to_string()))).await;
    }
    Ending::Close(if is_away { LOST } else { NOT_ALLOWED }, problem.detail().to_owned())
}

/// Says why it ends, and waits until the client has seen it: it closes.
async fn part(socket: &mut Socket, code: u16, why: &str) {
    // A close frame has room for so much.
    let mut end = why.len().min(123);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    let last = CloseFrame { code: code.into(), reason: why[..end].into() };
    if socket.close(Some(last)).await.is_err() {
        // The client has closed before; the answer to that is ready.
        let _ = socket.flush().await;
    }
    let stream = socket.get_mut();
    if stream.shutdown().await.is_ok() {
        let mut rest = [0; 512];
        while matches!(stream.read(&mut rest).await, Ok(n) if n > 0) {}
    }
}

const PARTING: Duration = Duration::from_secs(3);
