//! Share links: made, listed, revoked.

use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::asked::{Asked, Named, bad};
use super::found::Found;
use super::problem::Problem;
use super::{App, json_of};
use crate::auth::role::Role;
use crate::auth::shares::{self, Revoked, Share, Shares};
use crate::auth::{By, Who, audit};
use crate::links;

/// The shares, and who asks for them; absent where there are none.
type Desk = Option<Extension<(Arc<Shares>, Who)>>;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/shares", get(list))
        .route("/api/v1/shares/{id}/revoke", post(revoke))
        .route("/api/v1/consoles/{name}/shares", get(of_console).post(make))
}

async fn make(desk: Desk, found: Found, Asked(asked): Asked) -> Result<Response, Problem> {
    let (shares, who) = at(desk)?;
    let role = match asked["rights"].as_str() {
        Some("spectator") => Role::Read,
        Some("writer") => Role::Write,
        _ => return Err(bad("rights is spectator or writer")),
    };
    let span = asked["expires_in_s"].as_u64().filter(|span| (1..=LONGEST).contains(span));
    let Some(span) = span else { return Err(bad(&format!("expires_in_s is 1 to {LONGEST}"))) };
    let console = show(&found).await?;
    if console["shared"] == true {
        let why = "another VM has the same UUID, so a link could not tell the two apart";
        return Err(Problem::new(StatusCode::CONFLICT, "ambiguous", why));
    }
    let made = shares::now();
    let share = Share {
        id: shares::new_id(),
        by: who.name.clone(),
        is_listed: matches!(who.by, By::Session(_) | By::Password),
        server: found.server().to_owned(),
        uuid: text(&console, "uuid"),
        suffix: text(&console, "suffix"),
        console: text(&console, "name"),
        role,
        made,
        expires: made + span,
    };
    let word = shares.add(share.clone()).await.map_err(fault)?;
    let what = format!("share {} of {:?} for {span} s, {role}", share.id, share.console);
    audit::note(&who.name, who.from, &what, &"made");
    let mut answer = told(&share);
    answer["url"] = links::of(&word).into();
    Ok(json_of(&answer))
}

async fn list(desk: Desk) -> Result<Response, Problem> {
    let (shares, who) = at(desk)?;
    let all: Vec<_> = shares.list().iter().filter(|share| is_his(share, &who)).map(told).collect();
    Ok(json_of(&json!({"shares": all})))
}

async fn of_console(desk: Desk, found: Found) -> Result<Response, Problem> {
    let (shares, who) = at(desk)?;
    let console = show(&found).await?;
    let (server, uuid, suffix) = (found.server(), text(&console, "uuid"), text(&console, "suffix"));
    let is_of_it = |share: &&Share| share.server == server && share.uuid == uuid && share.suffix == suffix;
    let all = shares.list();
    let all: Vec<_> = all.iter().filter(is_of_it).filter(|share| is_his(share, &who)).map(told).collect();
    Ok(json_of(&json!({"shares": all})))
}

async fn revoke(desk: Desk, named: Named, Asked(_): Asked) -> Result<Response, Problem> {
    let (shares, who) = at(desk)?;
    let none = || Problem::new(StatusCode::NOT_FOUND, "no-such-share", "there is no such share");
    let share = shares.get(named.get("id")).filter(|share| is_his(share, &who)).ok_or_else(none)?;
    let (is_kept, outcome) = match shares.revoke(&share.id).await {
        Revoked::WasNone => return Err(none()),
        Revoked::Kept => (true, "revoked"),
        Revoked::NotKept => (false, "revoked, and not on the disk yet"),
    };
    let what = format!("share {} of {:?}", share.id, share.console);
    audit::note(&who.name, who.from, &what, &outcome);
    Ok(json_of(&json!({"kept": is_kept})))
}

/// Who may make shares: who may type himself.
fn at(desk: Desk) -> Result<(Arc<Shares>, Who), Problem> {
    let Some(Extension((shares, who))) = desk else {
        let why = "there are no shares here: they take people who are known, and --state-dir";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "unsupported", why));
    };
    if who.role < Role::Write {
        let why = "this needs the role write";
        return Err(Problem::new(StatusCode::FORBIDDEN, "not-allowed", why));
    }
    Ok((shares, who))
}

/// Whether this is for him to see and to revoke.
fn is_his(share: &Share, who: &Who) -> bool {
    share.by == who.name || who.role == Role::Admin
}

async fn show(found: &Found) -> Result<Value, Problem> {
    Ok(found.call("show", json!({})).await?["console"].take())
}

/// What is told of one. Its link is told once, to who makes it.
fn told(share: &Share) -> Value {
    json!({
        "id": share.id, "by": share.by, "server": share.server, "uuid": share.uuid,
        "console": share.console, "rights": share.role.rights(),
        "made_ms": share.made * 1000, "expires_ms": share.expires * 1000,
    })
}

fn text(console: &Value, field: &str) -> String {
    console[field].as_str().unwrap_or_default().to_owned()
}

fn fault(fault: shares::Fault) -> Problem {
    match fault {
        shares::Fault::TooMany => {
            Problem::new(StatusCode::CONFLICT, "too-many", "there are too many shares: revoke some")
        }
        shares::Fault::Disk => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", "the share could not be kept")
        }
    }
}

/// Seconds: thirty days.
const LONGEST: u64 = 30 * 86_400;
