//! Guests with an agent: what they tell of themselves, what is set for them, and which streams they have
//! (operator.md §11).
//!
//! Owns how facts that come one by one on a stream become one answer, and how many are read at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, put};
use serde_json::{Value, json};
use tokio::time::timeout;
use vspc_guest::{FACTS, FactLine, LineBuffer, MAX_FACT, MAX_FACT_LINE};

use super::asked::{Asked, Named, bad};
use super::found::Found;
use super::problem::Problem;
use super::tag::{of_bytes, tagged};
use super::{App, json_of};
use crate::upstream::attach::{Attach, Next};
use crate::upstream::not_connected;

/// By their keys.
type Facts = BTreeMap<String, String>;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/consoles/{name}/facts", get(facts))
        .route("/api/v1/consoles/{name}/facts/{key}", put(set).delete(unset))
        .route("/api/v1/consoles/{name}/streams", get(streams))
}

async fn facts(found: Found, headers: HeaderMap) -> Result<Response, Problem> {
    found.needs_guests()?;
    let reading = async {
        let _seat = found.telling().await?;
        Ok::<_, Problem>((read(&found, "guest").await?, read(&found, "host").await?))
    };
    let (guest, host) = match timeout(PATIENCE, reading).await {
        Ok(read) => read?,
        Err(_) => {
            let why = "the concentrator does not tell the facts";
            return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "too-slow", why));
        }
    };
    let answer = json!({"facts": {"guest": guest, "host": host}});
    Ok(tagged(&headers, &of_bytes(answer.to_string().as_bytes()), &answer))
}

async fn set(named: Named, found: Found, Asked(asked): Asked) -> Result<Response, Problem> {
    let Some(value) = asked["value"].as_str() else { return Err(bad("value is a text")) };
    change(&found, &named, &json!(value)).await
}

async fn unset(named: Named, found: Found) -> Result<Response, Problem> {
    change(&found, &named, &Value::Null).await
}

async fn change(found: &Found, named: &Named, value: &Value) -> Result<Response, Problem> {
    found.needs_guests()?;
    found.call("set-fact", json!({"key": named.get("key"), "value": value})).await?;
    Ok(json_of(&json!({})))
}

async fn streams(found: Found) -> Result<Response, Problem> {
    found.needs_guests()?;
    Ok(json_of(&found.call("streams", json!({})).await?))
}

/// All facts that are known of a guest, or that are set for it. Where there never was an agent are none.
///
/// A stream of facts ends without a reason: asked once more, the concentrator refuses with the one it has.
async fn read(found: &Found, of: &str) -> Result<Facts, Problem> {
    for _ in 0..ASKED {
        let mut telling = match found.open("facts", json!({"of": of})).await {
            Ok(telling) => telling,
            Err(problem) if problem.code() == "no-agent" => return Ok(Facts::default()),
            Err(problem) => return Err(problem),
        };
        match hear(&mut telling).await {
            Heard::All(facts) => return Ok(facts),
            Heard::Refused(why) => return Err(Problem::refused(why)),
            Heard::Lost => return Err(not_connected(found.server()).into()),
            Heard::Nonsense => return Err(fault("the concentrator tells what are no facts")),
            Heard::Part => {}
        }
    }
    Err(fault("the concentrator ended the facts before all were told"))
}

/// What is no gateway's fault, and no answer.
fn fault(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "fault", why)
}

/// What came of a stream of facts.
enum Heard {
    All(Facts),
    /// The concentrator ended it before all was told.
    Part,
    /// A line of it says nothing.
    Nonsense,
    /// It is not for its reader any more, for this reason.
    Refused(&'static str),
    /// The connection has ended.
    Lost,
}

/// What is told until all was told.
async fn hear(telling: &mut Attach) -> Heard {
    let mut facts = Facts::new();
    let mut line = LineBuffer::new(MAX_FACT_LINE);
    loop {
        let mut came = Vec::new();
        match telling.next(READ, |bytes| came.extend_from_slice(bytes)) {
            Next::Bytes | Next::Notice(_) => {}
            Next::Nothing => telling.woken().await,
            Next::Refused(why) => return Heard::Refused(why),
            Next::End => return Heard::Part,
            Next::Lost => return Heard::Lost,
        }
        let mut rest = &came[..];
        while !rest.is_empty() {
            rest = &rest[line.take(rest)..];
            let Some(told) = line.line() else { break };
            let Some(told) = told.ok().and_then(|told| FactLine::parse(told).ok()) else {
                return Heard::Nonsense;
            };
            line.clear();
            match told {
                FactLine::Set(key, value) => keep(&mut facts, key, value),
                FactLine::Unset(key) => drop(facts.remove(&key)),
                FactLine::All => return Heard::All(facts),
                FactLine::Unknown => {}
            }
        }
    }
}

/// Keeps what a concentrator may know, and as much beside it: facts may change while they are told, and what
/// is new may be told before what is gone.
fn keep(facts: &mut Facts, key: String, value: String) {
    let has_room = facts.len() < 2 * FACTS || facts.contains_key(&key);
    if has_room && key.len() + value.len() <= MAX_FACT {
        facts.insert(key, value);
    }
}

/// How long reading may take: a concentrator tells from memory.
const PATIENCE: Duration = Duration::from_secs(15);
const READ: usize = 32 * 1024;
/// How often it is asked: again where it has ended what it told, which it does without a reason.
const ASKED: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_that_change_while_they_are_told_are_kept_in_whatever_order_and_no_more_than_twice_as_many() {
        let mut facts = Facts::new();
        let mut set = |key: String, length: usize| keep(&mut facts, key, "v".repeat(length));
        (0..FACTS + 1).for_each(|number| set(format!("k{number}"), 1));
        assert_eq!(facts.len(), FACTS + 1);
        let mut set = |key: String, length: usize| keep(&mut facts, key, "v".repeat(length));
        (0..10 * FACTS).for_each(|number| set(format!("k{number}"), 2));
        set("long".to_owned(), MAX_FACT);
        assert_eq!((facts.len(), facts["k0"].as_str()), (2 * FACTS, "vv"));
    }
}
