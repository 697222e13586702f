//! The facts of an event, each a variable of a program's environment or a field of the journal (hooks.md §2).
//!
//! **Owns** the names, by one rule: `VSPC_` and the field's name in capitals; those of `console` without it.
//! Names and reasons are what VMs and people say. What controls a terminal, and NUL, which no variable can
//! hold, become U+FFFD, and what is very long is cut; the JSON has all of it.

use std::env;
use std::ffi::OsString;

use serde_json::{Map, Value};

use super::entry::Entry;

/// The variables of an event.
pub(crate) fn variables(entry: &Entry) -> Vec<(String, String)> {
    let fields: Map<String, Value> = serde_json::from_slice(&entry.line).unwrap_or_default();
    let mut variables = Vec::new();
    if let Some(kind) = entry.kind {
        variables.push((format!("{PREFIX}EVENT"), kind.word().to_owned()));
    }
    for (name, value) in &fields {
        match (name.as_str(), value) {
            // That word says for the JSON what sort of notice it is.
            ("event", _) => {}
            ("console", Value::Object(console)) => {
                for (name, value) in console {
                    let name = if name == "id" { "console" } else { name };
                    push(name, value, &mut variables);
                }
            }
            (name, value) => push(name, value, &mut variables),
        }
    }
    variables
}

/// The variables of the server's own environment that an event's could be taken for.
pub(crate) fn foreign() -> impl Iterator<Item = OsString> {
    let all = env::vars_os().map(|(name, _)| name);
    all.filter(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
}

fn push(name: &str, value: &Value, variables: &mut Vec<(String, String)>) {
    let text = match value {
        Value::String(text) => {
            let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
            text.chars().take(LONGEST).map(visible).collect()
        }
        Value::Null | Value::Array(_) | Value::Object(_) => return,
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    variables.push((format!("{PREFIX}{}", name.to_ascii_uppercase()), text));
}

const PREFIX: &str = "VSPC_";

/// Characters of a variable: far more than a name has, and far less than the kernel takes (128 KiB).
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlets::Kind;
    use vspc_core::concentrator::Severity;

    #[test]
    fn each_fact_is_a_variable_that_a_shell_can_hold() {
        let long = "x".repeat(LONGEST + 1);
        let line = format!(
            "{{\"time\":\"t\",\"event\":\"log\",\"kind\":\"left\",\"after_ms\":3,\"error\":null,\"who\":\
             \"a\\u0000\\u001b[2J'\",\"reason\":\"{long}\",\"same_address\":true,\"console\":{{\"id\":\"c1\",\
             \"name\":\"vm 1\",\"uuid\":\"u\",\"port\":null}},\"from\":\"10.0.0.1:2\"}}\n"
        );
        let entry = Entry {
            kind: Some(Kind::ClientLeft),
            console: None,
            severity: Severity::Info,
            time: "t".to_owned(),
            sentence: String::new(),
            line: line.into_bytes(),
        };
        let variables = variables(&entry);
        let of =
            |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        for (name, value) in [
            ("VSPC_EVENT", Some("client-left")),
            ("VSPC_KIND", Some("left")),
            ("VSPC_TIME", Some("t")),
            ("VSPC_AFTER_MS", Some("3")),
            ("VSPC_SAME_ADDRESS", Some("true")),
            ("VSPC_ERROR", None),
            ("VSPC_WHO", Some("a\u{fffd}\u{fffd}[2J'")),
            ("VSPC_CONSOLE", Some("c1")),
            ("VSPC_NAME", Some("vm 1")),
            ("VSPC_UUID", Some("u")),
            ("VSPC_PORT", None),
            ("VSPC_FROM", Some("10.0.0.1:2")),
            ("VSPC_REASON", Some(&long[1..])),
        ] {
            assert_eq!(of(name), value, "{name}");
        }
    }
}
