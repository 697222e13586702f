//! `/api/v1/changes`: the list of consoles, live.

use std::fmt::Write;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use serde_json::Value;

use super::App;
use super::asked::Words;
use super::piped::piped;
use crate::fleet::{Interest, LAST_LINE};

pub(super) async fn changes(State(app): State<App>, words: Words, headers: HeaderMap) -> Response {
    let fleet = app.fleet;
    let interest = if words.has(LAST_LINE) { Interest::Lines } else { Interest::Counts };
    let known = headers.get("last-event-id").and_then(|id| {
        let (epoch, seq) = id.to_str().ok()?.split_once('-')?;
        let seq = seq.parse().ok()?;
        (epoch == fleet.epoch() && fleet.knows(seq)).then_some(seq)
    });
    let (sender, body) = piped();
    tokio::spawn(async move {
        let mut changed = fleet.watch();
        let mut at = known.unwrap_or(0);
        // What is there now is the snapshot; then it is complete.
        let now = fleet.seq();
        let mut synced_at = Some(now);
        let began = if known.is_none() { now } else { 0 };
        let mut text = if known.is_none() { event("snapshot", "{}", None) } else { String::new() };
        loop {
            changed.borrow_and_update();
            fleet.ask(interest);
            let (changes, now) = fleet.since(at, BATCH, began);
            let is_all = now == at;
            at = now;
            if !fleet.knows(at) {
                return;
            }
            for mut change in changes {
                if interest < Interest::Lines {
                    without_lines(&mut change.value);
                }
                text.push_str(&event(change.kind, &change.value.to_string(), None));
            }
            if synced_at.is_some_and(|seq| at >= seq || is_all) {
                synced_at = None;
                let id = format!("{}-{at}", fleet.epoch());
                text.push_str(&event("synced", "{}", Some(&id)));
            } else if synced_at.is_none() && !text.is_empty() {
                // The place alone, which makes no event of its own (WHATWG HTML §9.2.6).
                let _ = write!(text, "id: {}-{at}\n\n", fleet.epoch());
            }
            if !text.is_empty() && sender.send(Ok(std::mem::take(&mut text).into())).await.is_err() {
                return;
            }
            if !is_all {
                continue;
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = sender.closed() => return,
                // So that a proxy, and the peer's death, are noticed.
                () = tokio::time::sleep(KEEPALIVE) => text.push_str(": still here\n\n"),
            }
        }
    });
    ([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// Who has not asked for last lines is not sent them.
fn without_lines(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove(LAST_LINE);
        fields.get_mut("counts").and_then(Value::as_array_mut).into_iter().flatten().for_each(without_lines);
    }
}

/// JSON has no line ends, so one line of data holds it.
pub(super) fn event(kind: &str, data: &str, id: Option<&str>) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {kind}\n{id}data: {data}\n\n")
}

/// Changes in one piece of the body.
const BATCH: usize = 256;
pub(super) const KEEPALIVE: Duration = Duration::from_secs(10);
