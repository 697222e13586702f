//! Consoles: the list, one of them, and what is done with it.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::asked::{Asked, Words, bad};
use super::found::{Found, upstream};
use super::problem::Problem;
use super::tag::tagged;
use super::{App, json_of};
use crate::fleet::{Interest, LAST_LINE};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/consoles", get(list))
        .route("/api/v1/consoles/{name}", get(show))
        .route("/api/v1/consoles/{name}/clients", get(clients))
        .route("/api/v1/consoles/{name}/bump", post(bump))
        .route("/api/v1/consoles/{name}/kick", post(kick))
        .route("/api/v1/consoles/{name}/break", post(send_break))
}

pub(super) async fn list(
    State(app): State<App>,
    words: Words,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let has_lines = words.has(LAST_LINE);
    app.upstreams.look(&app.fleet, if has_lines { Interest::Lines } else { Interest::Counts }).await;
    let server = words.get("server");
    if let Some(name) = server {
        upstream(&app, name)?;
    }
    let limit = match words.get("limit").map(str::parse) {
        None => 200,
        Some(Ok(limit @ 1..=1000)) => limit,
        Some(_) => return Err(bad("limit is a number from 1 to 1000")),
    };
    let pattern = Pattern::new(words.get("q").unwrap_or_default())?;
    let is_wanted =
        |console: &Value| server.is_none_or(|name| console["server"] == name) && pattern.fits_one_of(console);
    let after = match words.get("after").map(|after| after.splitn(3, '/').collect::<Vec<_>>()) {
        None => None,
        // The name is last, because there may be a slash in it.
        Some(parts) => match parts[..] {
            [server, id, name] => Some([server, name, id]),
            _ => return Err(bad("after is the `next` of another page")),
        },
    };
    let (mut consoles, has_more) = app.fleet.page(is_wanted, after, limit);
    let next = match consoles.last() {
        Some(last) if has_more => {
            format!("{}/{}/{}", text(&last["server"]), text(&last["id"]), text(&last["name"])).into()
        }
        _ => Value::Null,
    };
    if !has_lines {
        consoles
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .for_each(|console| drop(console.remove(LAST_LINE)));
    }
    let state = state(app.fleet.epoch(), &consoles, &next);
    Ok(tagged(&headers, &state, &json!({"consoles": consoles, "next": next})))
}

/// What tells this page of the list from others. Times that pass change nothing.
fn state(epoch: &str, consoles: &[Value], next: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    for console in consoles {
        for (field, value) in console.as_object().into_iter().flatten() {
            if !field.ends_with("_ms") {
                (field, value.to_string()).hash(&mut hasher);
            }
        }
    }
    next.to_string().hash(&mut hasher);
    format!("{epoch}-{:x}", hasher.finish())
}

pub(super) async fn show(found: Found, words: Words) -> Result<Response, Problem> {
    let with = words.has(LAST_LINE).then(|| json!([LAST_LINE]));
    let mut answer = found.call("show", json!({"with": with})).await?;
    let mut console = answer["console"].take();
    if !found.is_wanted(&console) {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-console", "there is no such console"));
    }
    console["server"] = found.server().into();
    Ok(json_of(&console))
}

async fn clients(found: Found) -> Result<Response, Problem> {
    Ok(json_of(&found.call("who", json!({})).await?))
}

async fn bump(found: Found, Asked(asked): Asked) -> Result<Response, Problem> {
    let fields = json!({"client": asked["client"], "reason": asked["reason"]});
    Ok(json_of(&found.call("bump", fields).await?))
}

async fn kick(found: Found, Asked(asked): Asked) -> Result<Response, Problem> {
    // The path names the console: a client of another is none of its.
    let who = found.call("who", json!({})).await?;
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
    found.call_server("kick", fields).await?;
    Ok(json_of(&json!({})))
}

async fn send_break(found: Found, Asked(asked): Asked) -> Result<Response, Problem> {
    found.call("break", json!({"reason": asked["reason"]})).await?;
    Ok(json_of(&json!({})))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// As `match` in operator.md §5: a part, or with `*` or `?` in it a pattern for the whole. It is held against
/// every console, so that it may not be long.
pub(super) struct Pattern {
    lower: Vec<char>,
    is_whole: bool,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, Problem> {
        if text.len() > PATTERN_MOST {
            return Err(bad(&format!("q has more than {PATTERN_MOST} bytes")));
        }
        Ok(Self { lower: text.to_lowercase().chars().collect(), is_whole: text.contains(['*', '?']) })
    }

    /// Whether it fits the name or the UUID of a console.
    pub(super) fn fits_one_of(&self, console: &Value) -> bool {
        self.fits(text(&console["name"])) || self.fits(text(&console["uuid"]))
    }

    fn fits(&self, text: &str) -> bool {
        let pattern = &self.lower;
        if pattern.is_empty() {
            return true;
        }
        let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
        if !self.is_whole {
            return text.windows(pattern.len()).any(|part| part == pattern);
        }
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
}

/// More than a name or a UUID has.
const PATTERN_MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::Pattern;

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
            assert_eq!(Pattern::new(pattern).unwrap().fits(text), is_fit, "{text} {pattern}");
        }
    }
}
