//! Guests with an agent: what they tell of themselves, what is set for them, and which streams they have
//! (operator.md §11).
//!
//! Owns how facts that come one by one on a stream become one answer, and how many are read at a time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, put};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use vspc_guest::{FactLine, Facts, LineBuffer, MAX_FACT_LINE};

use super::asked::{Asked, bad};
use super::found::Found;
use super::problem::Problem;
use super::tag::tagged;
use super::{App, json_of};
use crate::upstream::attach::{Attach, Next};
use crate::upstream::not_connected;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/consoles/{name}/facts", get(facts))
        .route("/api/v1/consoles/{name}/facts/{key}", put(set).delete(unset))
        .route("/api/v1/consoles/{name}/streams", get(streams))
}

/// Those that may read facts now: a concentrator tells of so many on a connection.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS)))
    }
}

async fn facts(State(app): State<App>, found: Found, headers: HeaderMap) -> Result<Response, Problem> {
    found.needs_guests()?;
    let reading = async {
        let _seat = app.readers.0.acquire().await;
        Ok::<_, Problem>((read(&found, "guest").await?, read(&found, "host").await?))
    };
    let (guest, host) = match timeout(PATIENCE, reading).await {
        Ok(read) => read?,
        Err(_) => {
            let why = "the concentrator does not tell the facts";
            return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "too-slow", why));
        }
    };
    let mut hasher = DefaultHasher::new();
    for facts in [&guest, &host] {
        facts.iter().for_each(|fact| fact.hash(&mut hasher));
        hasher.write_u8(0);
    }
    let answer = json!({"facts": {"guest": object_of(&guest), "host": object_of(&host)}});
    Ok(tagged(&headers, &format!("{:x}", hasher.finish()), &answer))
}

async fn set(
    Path((_, key)): Path<(String, String)>,
    found: Found,
    Asked(asked): Asked,
) -> Result<Response, Problem> {
    let Some(value) = asked["value"].as_str() else { return Err(bad("value is a text")) };
    change(&found, &key, &json!(value)).await
}

async fn unset(Path((_, key)): Path<(String, String)>, found: Found) -> Result<Response, Problem> {
    change(&found, &key, &Value::Null).await
}

async fn change(found: &Found, key: &str, value: &Value) -> Result<Response, Problem> {
    found.needs_guests()?;
    found.call("set-fact", json!({"key": key, "value": value})).await?;
    Ok(json_of(&json!({})))
}

async fn streams(found: Found) -> Result<Response, Problem> {
    found.needs_guests()?;
    Ok(json_of(&found.call("streams", json!({})).await?))
}

/// All facts that are known of a guest, or that are set for it. Where there never was an agent are none.
async fn read(found: &Found, of: &str) -> Result<Facts, Problem> {
    match found.open("facts", json!({"of": of})).await {
        Ok(mut telling) => match hear(&mut telling).await {
            Some(facts) => Ok(facts),
            None => Err(not_connected(found.server()).into()),
        },
        Err(problem) if problem.code() == "no-agent" => Ok(Facts::default()),
        Err(problem) => Err(problem),
    }
}

/// What is told until all was told; `None`: it ended before.
async fn hear(telling: &mut Attach) -> Option<Facts> {
    let mut facts = Facts::default();
    let mut line = LineBuffer::new(MAX_FACT_LINE);
    loop {
        let mut came = Vec::new();
        match telling.next(READ, |bytes| came.extend_from_slice(bytes)) {
            Next::Bytes | Next::Notice(_) => {}
            Next::Nothing => telling.woken().await,
            Next::End | Next::Refused(_) | Next::Lost => return None,
        }
        let mut rest = &came[..];
        while !rest.is_empty() {
            rest = &rest[line.take(rest)..];
            let Some(told) = line.line() else { break };
            match FactLine::parse(told.ok()?).ok()? {
                // There is room for all that a concentrator knows.
                FactLine::Set(key, value) => drop(facts.set(&key, &value)),
                FactLine::Unset(key) => drop(facts.unset(&key)),
                FactLine::All => return Some(facts),
                FactLine::Unknown => {}
            }
            line.clear();
        }
    }
}

fn object_of(facts: &Facts) -> Map<String, Value> {
    facts.iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// A connection may have 16 streams that tell of facts. Of each reader there may be two: the end of one is
/// sent behind the request for the next, which is more urgent.
const READERS: usize = 7;
/// How long reading may take: a concentrator tells from memory.
const PATIENCE: Duration = Duration::from_secs(15);
const READ: usize = 32 * 1024;
