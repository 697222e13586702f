//! What is done at a console without a socket: something typed, and locks that are held for a time.
//!
//! Owns the attaches that hold those locks. What their consoles print is dropped as it comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::asked::{Asked, bad};
use super::found::Found;
use super::problem::Problem;
use super::{App, json_of};
use crate::upstream::attach::{Attach, Next};
use crate::upstream::not_connected;

/// Locks that are held here, by server and console.
#[derive(Clone, Default)]
pub(crate) struct Locks(Arc<Mutex<Held>>);

impl Locks {
    /// Whether nobody has these, and nothing is held.
    pub(crate) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What ends each.
type Held = HashMap<(String, String), Arc<Notify>>;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/consoles/{name}/send", post(send))
        .route("/api/v1/consoles/{name}/lock", post(lock))
        .route("/api/v1/consoles/{name}/unlock", post(unlock))
}

async fn attach(found: &Found, mode: &Value) -> Result<Attach, Problem> {
    found.open("attach", json!({"lock": mode, "scrollback": 0})).await
}

async fn send(found: Found, Asked(asked): Asked) -> Result<Response, Problem> {
    let Some(text) = asked["text"].as_str() else { return Err(bad("text is what to type")) };
    let mut attach = attach(&found, &json!("free-for-all-fallback")).await?;
    if attach.answer["access"] != "write" {
        return Err(vspc_operator::Refusal {
            code: "locked".to_owned(),
            message: "nothing can be typed there now".to_owned(),
            details: Value::Null,
        }
        .into());
    }
    let room = attach.room();
    let typing = async {
        let mut rest = text.as_bytes();
        loop {
            rest = &rest[attach.write(rest)..];
            if rest.is_empty() && attach.room() >= room {
                return true;
            }
            if !drain(&mut attach) {
                return false;
            }
            // Nothing tells when room has come back that was not short.
            let _ = timeout(LOOK_AGAIN, attach.woken()).await;
        }
    };
    match timeout(PATIENCE, typing).await {
        Ok(true) => Ok(json_of(&json!({"sent": text.len()}))),
        Ok(false) => Err(match attach.refused() {
            Some(why) => Problem::refused(why),
            None => not_connected(found.server()).into(),
        }),
        Err(_) => Err(Problem::new(
            axum::http::StatusCode::GATEWAY_TIMEOUT,
            "too-slow",
            "the VM does not take what is typed; some of it may have arrived",
        )),
    }
}

async fn lock(State(app): State<App>, found: Found, Asked(asked): Asked) -> Result<Response, Problem> {
    if !matches!(asked["mode"].as_str(), Some("write" | "exclusive")) {
        return Err(bad("mode is write or exclusive"));
    }
    let span = match &asked["for_s"] {
        Value::Null => 3600,
        given => {
            given.as_u64().filter(|s| (1..=86_400).contains(s)).ok_or_else(|| bad("for_s is 1 to 86400"))?
        }
    };
    let mut attach = attach(&found, &asked["mode"]).await?;
    let answer = json!({"access": attach.answer["access"], "lock": attach.answer["lock"]});
    let (key, given_up) = (found.key(), Arc::new(Notify::new()));
    let locks = app.locks.0;
    if let Some(old) =
        locks.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), Arc::clone(&given_up))
    {
        old.notify_one();
    }
    tokio::spawn(async move {
        let hold = async {
            while drain(&mut attach) {
                attach.woken().await;
            }
        };
        tokio::select! {
            () = hold => {}
            () = given_up.notified() => {}
            () = sleep(Duration::from_secs(span)) => {}
        }
        drop(attach);
        let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.get(&key).is_some_and(|now| Arc::ptr_eq(now, &given_up)) {
            locks.remove(&key);
        }
    });
    Ok(json_of(&answer))
}

async fn unlock(State(app): State<App>, found: Found, _: Asked) -> Result<Response, Problem> {
    let held = app.locks.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&found.key());
    if let Some(held) = &held {
        held.notify_one();
    }
    Ok(json_of(&json!({"unlocked": held.is_some()})))
}

/// Drops what there is. Returns whether more may come.
fn drain(attach: &mut Attach) -> bool {
    loop {
        match attach.next(usize::MAX, |_| {}) {
            Next::Bytes => {}
            Next::Notice(notice) if notice["event"] == "detached" => return false,
            Next::Notice(_) => {}
            Next::Nothing => return true,
            Next::End | Next::Refused(_) | Next::Lost => return false,
        }
    }
}

/// How long a VM may take to take what is typed.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
