//! The paths (web/openapi.json).

pub(crate) mod asked;
mod cast;
mod changes;
mod consoles;
mod counts;
mod events;
mod facts;
mod found;
pub(crate) mod guard;
mod handshake;
mod log;
mod metrics;
mod piped;
pub(crate) mod problem;
mod pulse;
mod session;
mod shares;
mod socket;
pub(crate) mod tag;
mod typing;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::{Value, json};

use self::asked::{Words, bad};
use self::problem::Problem;
pub(crate) use self::typing::Locks;
use crate::assets;
use crate::fleet::Fleet;
use crate::upstream::Upstreams;

/// What every path has at hand.
#[derive(Clone)]
pub(crate) struct App {
    upstreams: Upstreams,
    fleet: Arc<Fleet>,
    locks: Locks,
}

impl App {
    fn new(upstreams: Upstreams, fleet: Arc<Fleet>, locks: Locks) -> Self {
        Self { upstreams, fleet, locks }
    }
}

/// Who asks, as [`me`] tells it.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) role: String,
    /// What shows that our answers were read.
    pub(crate) token: String,
    /// He can log out.
    pub(crate) has_session: bool,
    /// He can make links for others.
    pub(crate) may_share: bool,
    /// He has come by such a link, of this console, until then.
    pub(crate) share: Option<Value>,
    /// A program that need not log in where others have to: what the gateway itself sees is none of theirs.
    pub(crate) is_probe: bool,
}

pub(crate) fn router(upstreams: Upstreams, fleet: Arc<Fleet>, locks: Locks) -> Router {
    let app = App::new(upstreams, fleet, locks);
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/api/v1/openapi.json", get(async || json_text(OPENAPI.to_owned())))
        .route("/api/v1/me", get(me))
        .route("/api/v1/servers", get(servers))
        .route("/api/v1/changes", get(changes::changes))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/stats", get(stats))
        .route("/metrics", get(metrics::metrics))
        .route("/console_log/{uuid}", get(log::by_uuid))
        .route("/api/v1/consoles/{name}/log", get(log::log))
        .merge(consoles::routes())
        .merge(facts::routes())
        .merge(typing::routes())
        .merge(shares::routes())
        .route("/api/v1/consoles/{name}/socket", get(socket::open))
        .fallback(assets::serve)
        .method_not_allowed_fallback(async || {
            let why = "what is here is asked for in another way";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "bad-request", why)
        })
        .with_state(app)
}

/// What whoever has a share's link is served: of all consoles there is one in what it is made over.
pub(crate) fn router_of_share(upstreams: Upstreams, fleet: Arc<Fleet>, locks: Locks) -> Router {
    let app = App::new(upstreams, fleet, locks);
    Router::new()
        .route("/api/v1/me", get(me))
        .route("/api/v1/consoles", get(consoles::list))
        .route("/api/v1/consoles/{name}", get(consoles::show))
        .route("/api/v1/consoles/{name}/socket", get(socket::open))
        .fallback(async || {
            let why = "the link is for one console, and for nothing else";
            Problem::new(StatusCode::FORBIDDEN, "not-allowed", why)
        })
        .with_state(app)
}

async fn me(State(app): State<App>, Extension(known): Extension<Known>) -> Response {
    // What the concentrators let him do, who asks; without users, what they let the gateway do.
    let rights = app.fleet.servers().iter().fold("none", |most, server| {
        let rights = server["rights"].as_str().unwrap_or_default();
        RIGHTS.iter().rev().find(|&&one| one == most || one == rights).copied().unwrap_or(most)
    });
    json_of(&json!({
        "user": known.name, "role": known.role, "rights": rights, "csrf": known.token,
        "session": known.has_session, "shares": known.may_share, "share": known.share,
    }))
}

async fn servers(State(app): State<App>) -> Response {
    json_of(&json!({"servers": app.fleet.servers()}))
}

async fn stats(State(app): State<App>, words: Words) -> Result<Response, Problem> {
    let upstream = match (words.get("server"), app.upstreams.all()) {
        (Some(name), _) => found::upstream(&app, name)?,
        (None, [only]) => only,
        (None, _) => return Err(bad("there are several concentrators: name one with ?server=")),
    };
    Ok(json_of(&upstream.call("stats", json!({})).await?))
}

async fn ready(State(app): State<App>, Extension(known): Extension<Known>) -> Response {
    let mut servers = app.fleet.servers();
    if known.is_probe {
        // Whoever logs in is asked for, and would be shown nothing of these.
        for server in servers.iter_mut().filter(|server| server["delegates"] == false) {
            server["state"] = "down".into();
            server["message"] = "this gateway may not ask it for others: it needs the right delegate".into();
        }
    }
    let is_ready = servers.iter().any(|server| server["state"] == "up");
    let mut response = json_of(&json!({"ready": is_ready, "servers": servers}));
    if !is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn json_of(value: &Value) -> Response {
    json_text(value.to_string())
}

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// From the least to the most (operator.md §3).
const RIGHTS: [&str; 4] = ["none", "spectator", "writer", "operator"];
const OPENAPI: &str = include_str!("../../openapi.json");
