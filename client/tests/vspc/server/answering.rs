//! What the scripted server answers to requests (operator.md §5).

use serde_json::{Value, json};
use vspc_core::mux::StreamId;

use super::guest::Joint;
use super::serving::{Attach, Peer};
use super::{Console, State};

impl Peer {
    /// The answer to a request, or the error.
    pub(super) fn answer(&mut self, request: &Value, state: &mut State) -> Result<Value, Value> {
        let console = || {
            let reference = request["console"].as_str().unwrap_or_default();
            match state.find(reference)[..] {
                [at] => Ok(at),
                [] => Err(json!({"code": "no-such-console", "message": "no such console", "candidates": []})),
                ref several => {
                    let candidates: Vec<Value> = several
                        .iter()
                        .map(|&at| json!({"id": state.consoles[at].id, "name": state.consoles[at].name}))
                        .collect();
                    Err(json!({"code": "ambiguous", "message": "several have it", "candidates": candidates}))
                }
            }
        };
        let rights = state.rights.unwrap_or("operator");
        let need = |right: &str| match rights == "operator" || rights == right {
            true => Ok(()),
            false => Err(json!({"code": "not-allowed", "message": "you may not do this", "needs": right})),
        };
        match request["op"].as_str().unwrap() {
            "hello" => {
                let features: &[&str] = if state.knows_no_guests { &[] } else { &["guests", "resize"] };
                Ok(json!({"v": 1, "server": "fake 1", "rights": rights, "as": "test", "features": features}))
            }
            "list" => {
                let pattern = request["match"].as_str().unwrap_or("").to_lowercase();
                let after = request["after"].as_str().map_or(0, |after| after.parse().unwrap());
                let limit = usize::try_from(request["limit"].as_u64().unwrap_or(200)).unwrap().min(PAGE);
                let matching: Vec<Value> = state
                    .consoles
                    .iter()
                    .filter(|console| {
                        [&console.name, &console.uuid].iter().any(|text| matches(text, &pattern))
                    })
                    .map(Console::describe)
                    .collect();
                let page: Vec<Value> = matching.iter().skip(after).take(limit).cloned().collect();
                let next = after + page.len();
                let next = (next < matching.len()).then(|| next.to_string());
                Ok(json!({"consoles": page, "next": next}))
            }
            "show" => Ok(json!({"console": state.consoles[console()?].describe()})),
            "who" => {
                console()?;
                Ok(json!({
                    "clients": [
                        {"id": "7.1", "who": "ann", "from": "192.0.2.7:4000", "speaks": "operator",
                            "access": "write", "lock": null, "since_ms": 5000, "you": true},
                        {"id": "8.1", "who": "bob\u{1b}[31m", "from": "192.0.2.9:4001", "speaks": "telnet",
                            "access": "write", "lock": "write", "since_ms": 65_000, "you": false},
                    ],
                    "legs": [{"id": "5.1", "from": "192.0.2.10:1000", "holds_input": true}],
                }))
            }
            "subscribe" => {
                match request["to"].as_str() {
                    Some("consoles") => self.to_consoles = true,
                    _ => self.to_events = true,
                }
                Ok(json!({}))
            }
            "attach" => {
                let at = console()?;
                let console = &mut state.consoles[at];
                let mode = request["lock"].as_str().unwrap_or("free-for-all-fallback");
                let access = grant(console, mode, self.number)?;
                let at = match &request["from"] {
                    Value::Null => {
                        console.end()
                            - request["scrollback"].as_u64().unwrap_or(0).min(console.output.len() as u64)
                    }
                    from => {
                        let offset = from["offset"].as_u64().unwrap();
                        if from["epoch"] != console.epoch
                            || offset < console.kept_from
                            || offset > console.end()
                        {
                            return Err(json!({"code": "gone", "message": "this is no longer kept"}));
                        }
                        offset
                    }
                };
                let stream = StreamId(request["stream"].as_u64().unwrap());
                self.attaches.push(Attach { stream, console: console.name.clone(), at, access });
                let lock = if access == "read" { "read-only" } else { mode };
                Ok(json!({"console": console.describe(), "access": access, "lock": lock,
                    "epoch": console.epoch, "offset": at}))
            }
            "log" if state.consoles.iter().any(|console| console.log.is_some()) => {
                let log = state.consoles[console()?].log.clone().unwrap_or_default();
                self.logs.push((StreamId(request["stream"].as_u64().unwrap()), log));
                Ok(json!({}))
            }
            "resize" => Ok(json!({})),
            "lock" => {
                let number = self.number;
                let stream = request["stream"].as_u64().unwrap();
                let attach = self.attaches.iter_mut().find(|attach| attach.stream.0 == stream);
                let attach = attach.ok_or(json!({"code": "no-such-stream", "message": "no such stream"}))?;
                let console = state.console(&attach.console);
                console.lock.take_if(|(_, by)| *by == number);
                attach.access = grant(console, request["mode"].as_str().unwrap(), number)?;
                Ok(json!({"access": attach.access, "lock": request["mode"]}))
            }
            "open" | "accept" | "streams" if state.guest.is_away => {
                if request["op"] == "open" {
                    let stream = StreamId(request["stream"].as_u64().unwrap());
                    self.joints.push(Joint::new(stream, json!({"op": "refused"})));
                    if state.guest.resets_refused {
                        let _ = self.session.reset(stream);
                    }
                }
                Err(json!({"code": "no-agent", "message": "no agent has answered"}))
            }
            "open" | "take" => {
                console()?;
                let header = if request["op"] == "take" { json!({"op": "taken"}) } else { Value::Null };
                let stream = StreamId(request["stream"].as_u64().unwrap());
                self.joints.push(Joint::new(stream, header));
                Ok(json!({}))
            }
            "accept" => {
                self.accepts = true;
                Ok(json!({}))
            }
            "facts" => {
                let stream = StreamId(request["stream"].as_u64().unwrap());
                let mut joint = Joint::new(stream, json!({"op": "facts"}));
                for (key, value) in &state.guest.facts {
                    joint.say(&json!({"set": key, "to": value}));
                }
                joint.say(&json!({"all": true}));
                self.joints.push(joint);
                Ok(json!({}))
            }
            "set-fact" => Ok(json!({})),
            "streams" => Ok(json!({
                "agent": "vspc-agent 0.1.0", "may": ["exec", "put"],
                "streams": [
                    {"kind": "shell", "name": "shell", "console": "1.2"},
                    {"kind": "exec", "who": "ann@192.0.2.7", "detail": "/bin/true\u{1b}[31m"},
                ],
            })),
            "break" => need("writer").map(|()| json!({})),
            "bump" => need("operator").map(|()| json!({"bumped": 2})),
            "kick" | "give-input" | "reload" | "drain" => need("operator").map(|()| json!({})),
            "stats" => Ok(json!({
                "counters": {"connections": 3, "consoles": state.consoles.len()},
                "typing_us": {"count": 9, "p50": 40, "p99": 90, "max": 120, "steps": [[64, 8], [128, 1]]},
            })),
            _ => Err(json!({"code": "unknown-op", "message": "unknown"})),
        }
    }
}

/// What the mode allows beside the lock that is there.
fn grant(console: &mut Console, mode: &str, by: u64) -> Result<&'static str, Value> {
    let locked = console.lock.as_ref().map(|(mode, _)| mode.clone());
    let refused = || json!({"code": "locked", "message": "somebody has it locked", "by": "bob@192.0.2.9"});
    match (mode, locked.as_deref()) {
        (_, Some("exclusive")) => Err(refused()),
        ("read-only", _) | ("free-for-all-fallback", Some(_)) => Ok("read"),
        (_, Some(_)) => Err(refused()),
        ("write" | "exclusive", None) => {
            console.lock = Some((mode.to_owned(), by));
            Ok("write")
        }
        (_, None) => Ok("write"),
    }
}

fn matches(text: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => text.to_lowercase().starts_with(beginning),
        None => text.to_lowercase().contains(pattern),
    }
}

/// A small page, so that a list of a few consoles has several.
const PAGE: usize = 3;
