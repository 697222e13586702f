//! Requests made by the gateway's own document: what it allows, and what it does not. Whatever is asked, the
//! answer is one of those that the document tells, and nobody's session ends.

use serde_json::{Value, json};

use crate::browser::{Answer, Socket, ask, get, until};
use crate::processes::{Gateway, Server};

#[test]
fn whatever_is_asked_the_answer_is_one_that_the_document_tells() {
    let folder = std::env::temp_dir().join(format!("vspc-web-{}-document", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let logs = folder.to_str().unwrap();
    let server = Server::start("document", &["--log-dir", logs]);
    let mut vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let document = get(&gateway, "/api/v1/openapi.json").json();
    let mut made = Made { document: &document, state: 0x2545_f491_4f6c_dd1d };
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        // Streams do not end by themselves.
        if ["/api/v1/changes", "/api/v1/events", "/api/v1/consoles/{name}/socket"].contains(&path.as_str()) {
            continue;
        }
        for method in ["get", "post", "put", "delete"] {
            let operation = &item[method];
            if operation.is_null() {
                continue;
            }
            for _ in 0..ROUNDS {
                let url = made.url(path, item, operation);
                let has_body = !operation["requestBody"].is_null();
                let body = if has_body { made.body(operation) } else { String::new() };
                let answer = ask(&gateway, &method.to_uppercase(), &url, &[], &body);
                check(&document, operation, &answer, &format!("{method} {url} {body}"));
                asked += 1;
            }
        }
    }
    assert!(asked > 15 * ROUNDS, "{asked}");
    // Nothing of it has ended the gateway's session, or the gateway.
    let mut socket = Socket::open(&gateway, "/api/v1/consoles/web1/socket?lock=read-only", "vspc.v1");
    socket.notice("attached");
    vm.print(b"still here");
    socket.expect(b"still here");
    drop(server);
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn what_is_no_path_or_is_asked_in_another_way_is_a_problem_too() {
    let server = Server::start("nowhere", &[]);
    let gateway = Gateway::of(&server);
    for (method, path, status) in [
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/api/v1/nothing", 404),
        ("POST", "/", 404),
        ("DELETE", "/api/v1/consoles", 405),
        ("GET", "/api/v1/consoles/web1/bump", 405),
        ("GET", "/api/v1/consoles/%ff", 400),
    ] {
        let answer = ask(&gateway, method, path, &[], "");
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.json()["status"], status, "{method} {path}");
    }
}

#[test]
fn servers_that_were_never_there_are_told_of_as_the_document_has_it() {
    let gateway = Gateway::with(&["none=/nonexistent/vspc.sock"]);
    let document = get(&gateway, "/api/v1/openapi.json").json();
    for path in ["/api/v1/servers", "/api/v1/consoles", "/api/v1/me", "/readyz"] {
        check(&document, &document["paths"][path]["get"], &get(&gateway, path), path);
    }
}

/// What is told of an answer, and what it is.
pub(crate) fn check(document: &Value, operation: &Value, answer: &Answer, of: &str) {
    let status = answer.status.to_string();
    let told = &operation["responses"][&status];
    // A fault of the server's has to be one that is told of.
    assert!(answer.status < 500 || !told.is_null(), "{of}: {} {}", answer.head, answer.body);
    let told = if told.is_null() { &operation["responses"]["default"] } else { told };
    assert!(!told.is_null(), "{of}: {status} is not told of");
    let Some(content) = told["content"].as_object() else { return };
    let kind = answer.header("content-type").unwrap_or_else(|| panic!("{of}: {}", answer.head));
    let form = content.get(kind).unwrap_or_else(|| panic!("{of}: {status} is not told to be {kind}"));
    if kind.ends_with("json") && answer.header("transfer-encoding").is_none() {
        let value = answer.json();
        fits(document, &form["schema"], &value).unwrap_or_else(|why| panic!("{of}: {why} in {value}"));
        if kind == "application/problem+json" {
            assert_eq!(value["status"], answer.status, "{of}");
            assert!(value["code"].is_string() && value["detail"].is_string(), "{of}: {value}");
        }
    }
}

/// Whether a value is as a schema has it.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(document, document.pointer(&name[1..]).unwrap(), value);
    }
    if let Some(one_of) = schema["oneOf"].as_array() {
        let count = one_of.iter().filter(|schema| fits(document, schema, value).is_ok()).count();
        return if count == 1 { Ok(()) } else { Err(format!("{value} is {count} of {one_of:?}")) };
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{value} is none of {words:?}"));
    }
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_of = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        kind => panic!("{kind}"),
    };
    if !types.is_empty() && !types.iter().any(is_of) {
        return Err(format!("{value} is no {types:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
            return Err(format!("{name} is missing"));
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            fits(document, schema, value)?;
        }
    }
    let named = &schema["properties"];
    for (name, value) in value.as_object().into_iter().flatten() {
        if named.get(name).is_none() {
            fits(document, &schema["additionalProperties"], value)?;
        }
    }
    for value in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], value)?;
    }
    Ok(())
}

/// Requests, by chance that is always the same.
struct Made<'a> {
    document: &'a Value,
    state: u64,
}

impl Made<'_> {
    fn below(&mut self, most: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % most as u64) as usize
    }

    fn any<'b>(&mut self, of: &[&'b str]) -> &'b str {
        of[self.below(of.len())]
    }

    fn resolve(&self, value: &Value) -> Value {
        match value["$ref"].as_str() {
            Some(name) => self.document.pointer(&name[1..]).unwrap().clone(),
            None => value.clone(),
        }
    }

    /// A path with its parameters, and some of its query.
    fn url(&mut self, path: &str, item: &Value, operation: &Value) -> String {
        let mut url = path.to_owned();
        let mut query = Vec::new();
        let lists = [&item["parameters"], &operation["parameters"]];
        let parameters: Vec<Value> =
            lists.into_iter().filter_map(Value::as_array).flatten().map(|one| self.resolve(one)).collect();
        for parameter in parameters {
            let name = parameter["name"].as_str().unwrap();
            let value = self.value(name, &self.resolve(&parameter["schema"]));
            let text = match &value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            match parameter["in"].as_str().unwrap() {
                // A segment that is empty is another path.
                "path" if text.is_empty() => url = url.replace(&format!("{{{name}}}"), "x"),
                "path" => url = url.replace(&format!("{{{name}}}"), &encoded(&text)),
                // A log that goes on does not end.
                "query" if name != "follow" && self.below(3) == 0 => {
                    query.push(format!("{name}={}", encoded(&text)));
                }
                _ => {}
            }
        }
        assert!(!url.contains('{'), "{url} has a parameter that is not told of");
        if query.is_empty() { url } else { format!("{url}?{}", query.join("&")) }
    }

    fn body(&mut self, operation: &Value) -> String {
        let schema = self.resolve(&operation["requestBody"]["content"]["application/json"]["schema"]);
        match self.below(8) {
            0 => self.any(&["{", "[]", "null", "\"x\"", "{\"a\":1}", "\u{0}"]).to_owned(),
            _ => self.object(&schema).to_string(),
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        let mut object = json!({});
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            if self.below(5) > 0 {
                object[name] = self.value(name, &self.resolve(schema));
            }
        }
        object
    }

    /// Mostly what it is to be.
    fn value(&mut self, name: &str, schema: &Value) -> Value {
        if self.below(6) == 0 {
            return match self.below(4) {
                0 => json!(-1),
                1 => json!(["x", null, 1e300]),
                2 => json!("\u{0}\u{1b}[31m\u{e4}%/../\u{1f600}'\"<&;\r\n"),
                _ => json!("x".repeat(3000)),
            };
        }
        if let Some(words) = schema["enum"].as_array() {
            return words[self.below(words.len())].clone();
        }
        match (name, schema["type"].as_str()) {
            ("name" | "console", _) => {
                json!(self.any(&["web1", "web1", "web1", "lab/web1", "WEB1", "nobody"]))
            }
            ("server", _) => json!(self.any(&["lab", "lab", "other", ""])),
            ("uuid", _) => json!("00112233445566778899aabbccddee01"),
            ("since" | "until", _) => json!(self.any(&["10min", "@5", "2026-11-30T07:00:00Z", "soon"])),
            (_, Some("integer")) => json!(self.below(5)),
            (_, Some("boolean")) => json!(self.below(2) == 0),
            _ => json!(self.any(&["", "x", "*", "w?b*", "last_line", "a b"])),
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Requests for each operation.
const ROUNDS: usize = 60;
