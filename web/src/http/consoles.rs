//! Consoles: the list, one of them, and what is done with it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::problem::Problem;
use super::{App, json_of};
use crate::upstream::{Upstream, not_connected};

/// What stands behind `?`.
pub(super) type Words = Query<HashMap<String, String>>;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/consoles", get(list))
        .route("/api/v1/consoles/{name}", get(show))
        .route("/api/v1/consoles/{name}/clients", get(clients))
        .route("/api/v1/consoles/{name}/bump", post(bump))
        .route("/api/v1/consoles/{name}/kick", post(kick))
        .route("/api/v1/consoles/{name}/break", post(send_break))
}

async fn list(State(app): State<App>, Query(words): Words, headers: HeaderMap) -> Result<Response, Problem> {
    app.fleet.ask();
    let server = words.get("server").map(String::as_str);
    if let Some(name) = server {
        upstream(&app, name)?;
    }
    let limit = match words.get("limit").map(|text| text.parse()) {
        None => 200,
        Some(Ok(limit @ 1..=1000)) => limit,
        Some(_) => return Err(bad("limit is a number from 1 to 1000")),
    };
    let pattern = words.get("q").map(|q| q.to_lowercase()).unwrap_or_default();
    let mut consoles = app.fleet.consoles(|console| {
        server.is_none_or(|name| console["server"] == name)
            && (fits(text(&console["name"]), &pattern) || fits(text(&console["uuid"]), &pattern))
    });
    // By server and name; the id makes the order one.
    let key = |console: &Value| ["server", "name", "id"].map(|field| text(&console[field]).to_owned());
    consoles.sort_by_cached_key(key);
    if let Some(after) = words.get("after") {
        let mut parts = after.splitn(3, '/');
        let (Some(server), Some(id), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("after is the `next` of another page"));
        };
        let after = [server, name, id].map(str::to_owned);
        consoles.retain(|console| key(console) > after);
    }
    let is_last = consoles.len() <= limit;
    consoles.truncate(limit);
    let next = match consoles.last() {
        Some(last) if !is_last => {
            format!("{}/{}/{}", text(&last["server"]), text(&last["id"]), text(&last["name"])).into()
        }
        _ => Value::Null,
    };
    let tag = tag(app.fleet.epoch(), &consoles, &next);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let mut response = json_of(&json!({"consoles": consoles, "next": next}));
    if let Ok(tag) = tag.parse() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    // It may be kept, and is to be asked for again.
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Times that pass change nothing.
fn tag(epoch: &str, consoles: &[Value], next: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    for console in consoles {
        for (field, value) in console.as_object().into_iter().flatten() {
            if !field.ends_with("_ms") {
                (field, value.to_string()).hash(&mut hasher);
            }
        }
    }
    next.to_string().hash(&mut hasher);
    format!("W/\"{epoch}-{:x}\"", hasher.finish())
}

async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(words): Words,
) -> Result<Response, Problem> {
    let found = find(&app, &name, &words)?;
    let mut answer = found.upstream.call("show", json!({"console": found.id})).await?;
    let mut console = answer["console"].take();
    console["server"] = found.upstream.server.name.clone().into();
    Ok(json_of(&console))
}

async fn clients(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(words): Words,
) -> Result<Response, Problem> {
    let found = find(&app, &name, &words)?;
    Ok(json_of(&found.upstream.call("who", json!({"console": found.id})).await?))
}

async fn bump(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(words): Words,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let asked = body_of(&headers, &body)?;
    let found = find(&app, &name, &words)?;
    let fields = json!({"console": found.id, "client": asked["client"], "reason": asked["reason"]});
    Ok(json_of(&found.upstream.call("bump", fields).await?))
}

async fn kick(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(words): Words,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let asked = body_of(&headers, &body)?;
    let found = find(&app, &name, &words)?;
    // The path names the console: a client of another is none of its.
    let who = found.upstream.call("who", json!({"console": found.id})).await?;
    let is_there = ["clients", "legs"].iter().any(|list| {
        who[list].as_array().is_some_and(|all| all.iter().any(|one| one["id"] == asked["client"]))
    });
    if !is_there {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no-such-client",
            "nobody at this console has this id",
        ));
    }
    let fields = json!({"client": asked["client"], "reason": asked["reason"]});
    found.upstream.call("kick", fields).await?;
    Ok(json_of(&json!({})))
}

async fn send_break(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(words): Words,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    body_of(&headers, &body)?;
    let found = find(&app, &name, &words)?;
    found.upstream.call("break", json!({"console": found.id})).await?;
    Ok(json_of(&json!({})))
}

/// What a request asks, in JSON. Forms of other pages cannot send that type without being asked.
pub(super) fn body_of(headers: &HeaderMap, body: &[u8]) -> Result<Value, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() != "application/json" {
        let why = "the body has to be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad-request", why));
    }
    if body.is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(Value::Object(fields)),
        Ok(_) => Err(bad("the body has to be an object")),
        Err(error) => Err(bad(&format!("the body is no JSON: {error}"))),
    }
}

/// A console, and who has it.
pub(super) struct Found {
    pub(super) upstream: Arc<Upstream>,
    pub(super) id: String,
}

/// The console that is meant: by its id, its name, or its UUID; and `?server=`, or the server before a slash.
pub(super) fn find(app: &App, name: &str, words: &HashMap<String, String>) -> Result<Found, Problem> {
    let mut wanted = name;
    let mut server = words.get("server").map(String::as_str);
    if let Some(name) = server {
        upstream(app, name)?;
    } else if let Some((before, behind)) = name.split_once('/')
        && upstream(app, before).is_ok()
    {
        (server, wanted) = (Some(before), behind);
    }
    let uuid: String = wanted.chars().filter(|c| !" -".contains(*c)).flat_map(char::to_lowercase).collect();
    let found = app.fleet.consoles(|console| {
        server.is_none_or(|name| console["server"] == name)
            && (console["id"] == wanted
                || (!wanted.is_empty() && console["name"] == wanted)
                || (uuid.len() == 32 && console["uuid"] == uuid.as_str()))
    });
    match &found[..] {
        [console] => {
            let upstream = Arc::clone(upstream(app, text(&console["server"]))?);
            if upstream.link().is_none() {
                return Err(not_connected(&upstream.server.name).into());
            }
            Ok(Found { upstream, id: text(&console["id"]).to_owned() })
        }
        [] => {
            let is_up =
                |of: &&Arc<Upstream>| server.is_none_or(|name| of.server.name == name) && of.link().is_none();
            match app.upstreams.all().iter().find(is_up) {
                Some(upstream) => Err(not_connected(&upstream.server.name).into()),
                None => {
                    let why = format!("there is no console {wanted}");
                    Err(Problem::new(StatusCode::NOT_FOUND, "no-such-console", &why))
                }
            }
        }
        several => {
            let candidates = several.iter().map(
                |console| json!({"server": console["server"], "id": console["id"], "name": console["name"]}),
            );
            let why = "several consoles are called so: name one by its server and id";
            Err(Problem::new(StatusCode::CONFLICT, "ambiguous", why).with_candidates(candidates.collect()))
        }
    }
}

/// The concentrator of this name.
pub(super) fn upstream<'a>(app: &'a App, name: &str) -> Result<&'a Arc<Upstream>, Problem> {
    app.upstreams.all().iter().find(|upstream| upstream.server.name == name).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no-such-server", "there is no concentrator of this name")
    })
}

pub(super) fn bad(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", why)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// As `match` in operator.md §5: a part, or with `*` or `?` in it a pattern for the whole. The pattern is in
/// lower case.
fn fits(text: &str, pattern: &str) -> bool {
    let text = text.to_lowercase();
    if !pattern.contains(['*', '?']) {
        return text.contains(pattern);
    }
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut of, mut again) = (0, 0, None);
    while at < text.len() {
        match pattern.get(of) {
            Some('*') => {
                again = Some((at, of));
                of += 1;
            }
            Some(&c) if c == '?' || c == text[at] => (at, of) = (at + 1, of + 1),
            _ => match again {
                Some((begun, star)) => {
                    again = Some((begun + 1, star));
                    (at, of) = (begun + 1, star + 1);
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_are_parts_or_stand_for_the_whole() {
        for (text, pattern, is_fit) in [
            ("Web01", "web", true),
            ("Web01", "", true),
            ("web01", "web*", true),
            ("web01", "w?b*1", true),
            ("aweb01", "web*", false),
            ("web01", "*2", false),
            ("abab", "*ab", true),
            ("", "*", true),
        ] {
            assert_eq!(fits(text, pattern), is_fit, "{text} {pattern}");
        }
    }
}
