//! `/api/v1/events`: what the concentrators log.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::App;
use super::asked::Words;
use super::changes::{KEEPALIVE, event};
use super::found::upstream;
use super::piped::piped;
use super::problem::Problem;

pub(super) async fn events(State(app): State<App>, words: Words) -> Result<Response, Problem> {
    let wanted = match words.get("server") {
        Some(name) => std::slice::from_ref(upstream(&app, name)?),
        None => app.upstreams.all(),
    };
    let (sender, body) = piped();
    let (lines, mut all) = mpsc::channel::<String>(1);
    for upstream in wanted {
        let (mut events, name, lines) = (upstream.events(), upstream.server.name.clone(), lines.clone());
        tokio::spawn(async move {
            loop {
                let mut notice = tokio::select! {
                    notice = events.recv() => match notice {
                        Ok(notice) => (*notice).clone(),
                        // As a concentrator says it of itself.
                        Err(RecvError::Lagged(count)) => json!({"event": "log-dropped", "count": count}),
                        Err(RecvError::Closed) => return,
                    },
                    () = lines.closed() => return,
                };
                let kind = notice["event"].take();
                notice["server"] = name.clone().into();
                let kind = kind.as_str().unwrap_or("log");
                if lines.send(event(kind, &notice.to_string(), None)).await.is_err() {
                    return;
                }
            }
        });
    }
    tokio::spawn(async move {
        let mut next = event("begun", "{}", None);
        loop {
            if sender.send(Ok(next.into())).await.is_err() {
                return;
            }
            next = tokio::select! {
                Some(line) = all.recv() => line,
                () = sender.closed() => return,
                () = tokio::time::sleep(KEEPALIVE) => ": still here\n\n".to_owned(),
            };
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response())
}
