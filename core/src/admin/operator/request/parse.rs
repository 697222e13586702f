//! Reads a request from its line: the fields of each operation, and what is said of those that are wrong.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::answer::{Code, Failure, parse_id};
use super::super::log::LogQuery;
use super::{Behalf, Extras, LIST_DEFAULT, LIST_MOST, Op, ParseError, Request};

impl Request {
    /// Reads a line, without its LF. Costs a pass over it and memory in proportion to it.
    ///
    /// # Errors
    ///
    /// It is no JSON object with `id` and `op`; or it is one that cannot be carried out.
    pub fn parse(line: &[u8]) -> Result<Self, ParseError> {
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| ParseError::Broken(format!("this is no JSON: {error}")))?;
        let Value::Object(object) = value else {
            return Err(ParseError::Broken("a request is a JSON object".into()));
        };
        let id = object.get("id").and_then(Value::as_u64).filter(|&id| id <= ID_MOST);
        let Some(id) = id else {
            return Err(ParseError::Broken("a request has an id, a number from 0 to 2^53 - 1".into()));
        };
        let Some(op) = object.get("op").and_then(Value::as_str) else {
            return Err(ParseError::Broken("a request has an op, a string".into()));
        };
        let op = Op::read(op, &Fields(&object)).map_err(|failure| ParseError::Refused(id, failure))?;
        Ok(Self { id, op })
    }
}

impl Op {
    fn read(op: &str, fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(match op {
            "hello" => Self::Hello {
                v: fields.number("v")?.and_then(|v| u32::try_from(v).ok()).ok_or_else(|| missing("v"))?,
                client: fields.text("client")?.unwrap_or_default(),
                behalf: fields.behalf()?,
            },
            "list" => Self::List {
                matching: fields.text("match")?.unwrap_or_default(),
                after: fields.id("after")?,
                limit: match fields.number("limit")? {
                    None => LIST_DEFAULT,
                    Some(limit) => usize::try_from(limit)
                        .ok()
                        .filter(|limit| (1..=LIST_MOST).contains(limit))
                        .ok_or_else(|| bad(format!("limit is a number from 1 to {LIST_MOST}")))?,
                },
                with: fields.extras()?,
            },
            "show" => Self::Show { console: fields.needed("console")?, with: fields.extras()? },
            "who" => Self::Who(fields.needed("console")?),
            "subscribe" => Self::Subscribe {
                to: fields.word("to")?.ok_or_else(|| missing("to"))?,
                matching: fields.text("match")?.unwrap_or_default(),
            },
            "unsubscribe" => Self::Unsubscribe(fields.word("to")?.ok_or_else(|| missing("to"))?),
            "attach" => Self::Attach {
                console: fields.needed("console")?,
                stream: fields.stream()?,
                lock: fields.word("lock")?,
                scrollback: fields.number("scrollback")?.unwrap_or_default(),
                from: fields.word("from")?,
                size: fields.word("size")?,
            },
            "resize" => Self::Resize {
                stream: fields.stream()?,
                size: fields.word("size")?.ok_or_else(|| missing("size"))?,
            },
            "log" => Self::Log {
                console: fields.needed("console")?,
                stream: fields.stream()?,
                query: LogQuery {
                    since: fields.word("since")?,
                    until: fields.word("until")?,
                    lines: fields.number("lines")?,
                    after: fields.text("after")?,
                    follow: fields.word("follow")?.unwrap_or_default(),
                },
            },
            "lock" => Self::Lock {
                stream: fields.stream()?,
                mode: fields.word("mode")?.ok_or_else(|| missing("mode"))?,
            },
            "break" => match fields.number("stream")? {
                Some(stream) => Self::BreakAt { stream, reason: fields.text("reason")?.unwrap_or_default() },
                None => Self::Break {
                    console: fields.needed("console")?,
                    reason: fields.text("reason")?.unwrap_or_default(),
                },
            },
            "bump" => Self::Bump {
                console: fields.needed("console")?,
                client: fields.id("client")?,
                reason: fields.text("reason")?.unwrap_or_default(),
            },
            "kick" => Self::Kick {
                client: fields.id("client")?.ok_or_else(|| missing("client"))?,
                reason: fields.text("reason")?.unwrap_or_default(),
            },
            "give-input" => Self::GiveInput {
                console: fields.needed("console")?,
                leg: fields.id("leg")?.ok_or_else(|| missing("leg"))?,
            },
            "streams" => Self::Streams(fields.needed("console")?),
            "open" => Self::Open { console: fields.needed("console")?, stream: fields.stream()? },
            "facts" => Self::Facts {
                console: fields.needed("console")?,
                stream: fields.stream()?,
                of: fields.word("of")?.unwrap_or_default(),
            },
            "set-fact" => Self::SetFact {
                console: fields.needed("console")?,
                key: fields.needed("key")?,
                value: fields.text("value")?,
            },
            "accept" => Self::Accept { console: fields.needed("console")?, name: fields.needed("name")? },
            "take" => Self::Take {
                console: fields.needed("console")?,
                number: fields.number("number")?.ok_or_else(|| missing("number"))?,
                stream: fields.stream()?,
            },
            "stats" => Self::Stats,
            "reload" => Self::Reload,
            "drain" => Self::Drain,
            unknown => {
                let shown: String = unknown.chars().take(64).collect();
                return Err(Failure::new(Code::UnknownOp, format!("there is no operation {shown:?}")));
            }
        })
    }
}

/// The fields of a request; null counts as left out.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().filter(|&number| number <= ID_MOST);
        number.map(Some).ok_or_else(|| bad(format!("{name} is a number from 0 to 2^53 - 1")))
    }

    fn stream(&self) -> Result<u64, Failure> {
        self.number("stream")?.ok_or_else(|| missing("stream"))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| bad(format!("{name} is a string")))?;
        if text.len() > TEXT_MOST {
            return Err(bad(format!("{name} is longer than {TEXT_MOST} bytes")));
        }
        Ok(Some(text.to_owned()))
    }

    fn needed(&self, name: &str) -> Result<String, Failure> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| missing(name))
    }

    /// An id that the server gave out.
    fn id(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let id = parse_id(&text);
        id.map(Some).ok_or_else(|| bad(format!("{name} is an id that this server gave out")))
    }

    /// A word out of a closed list, or an object of a fixed form.
    fn word<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        T::deserialize(value).map(Some).map_err(|error| bad(format!("{name}: {error}")))
    }

    /// Words that are not known are passed over.
    fn extras(&self) -> Result<Extras, Failure> {
        let words: Vec<String> = self.word("with")?.unwrap_or_default();
        Ok(Extras { last_line: words.iter().any(|word| word == "last_line") })
    }

    fn behalf(&self) -> Result<Option<Behalf>, Failure> {
        let Some(value) = self.get("for") else { return Ok(None) };
        let object = value.as_object().ok_or_else(|| bad("for is an object".into()))?;
        let fields = Fields(object);
        let rights = fields.needed("rights")?;
        Ok(Some(Behalf {
            user: fields.needed("user")?,
            address: fields.text("address")?,
            rights: rights.parse().map_err(|error| bad(format!("for.rights: {error}")))?,
        }))
    }
}

fn missing(name: &str) -> Failure {
    bad(format!("{name} is missing"))
}

fn bad(message: String) -> Failure {
    Failure::new(Code::BadRequest, message)
}

/// Numbers that every JSON library keeps whole.
const ID_MOST: u64 = (1 << 53) - 1;

/// Bytes of a string at most: ten times as long as any name that a VM has.
const TEXT_MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::super::super::log::When;
    use super::super::super::rights::Right;
    use super::super::{FactsOf, Mode, Place, Size, Topic};
    use super::*;

    fn op(text: &str) -> Op {
        Request::parse(text.as_bytes()).unwrap().op
    }

    fn size(rows: u16, cols: u16) -> Size {
        Size { rows: rows.try_into().unwrap(), cols: cols.try_into().unwrap() }
    }

    #[test]
    fn each_operation_is_read() {
        for (text, expected) in [
            (
                r#"{"id":1,"op":"hello","v":1,"client":"x","for":{"user":"ann","rights":"writer"}}"#,
                Op::Hello {
                    v: 1,
                    client: "x".into(),
                    behalf: Some(Behalf { user: "ann".into(), address: None, rights: Right::Writer }),
                },
            ),
            (
                r#"{"id":1,"op":"list"}"#,
                Op::List { matching: String::new(), after: None, limit: 200, with: Extras::default() },
            ),
            (
                r#"{"id":1,"op":"list","match":"web*","after":"3.1","limit":500,"more":[1],"with":["new","last_line"]}"#,
                Op::List {
                    matching: "web*".into(),
                    after: Some(1 << 32 | 3),
                    limit: 500,
                    with: Extras { last_line: true },
                },
            ),
            (
                r#"{"id":1,"op":"show","console":"a b"}"#,
                Op::Show { console: "a b".into(), with: Extras::default() },
            ),
            (r#"{"id":1,"op":"who","console":"a"}"#, Op::Who("a".into())),
            (
                r#"{"id":1,"op":"subscribe","to":"consoles","match":null}"#,
                Op::Subscribe { to: Topic::Consoles, matching: String::new() },
            ),
            (r#"{"id":1,"op":"unsubscribe","to":"events"}"#, Op::Unsubscribe(Topic::Events)),
            (
                r#"{"id":1,"op":"attach","console":"a","stream":7,"lock":"free-for-all-fallback",
                    "scrollback":9,"from":{"epoch":"e","offset":5},"size":{"rows":50,"cols":132}}"#,
                Op::Attach {
                    console: "a".into(),
                    stream: 7,
                    lock: Some(Mode::FreeForAllFallback),
                    scrollback: 9,
                    from: Some(Place { epoch: "e".into(), offset: 5 }),
                    size: Some(size(50, 132)),
                },
            ),
            (
                r#"{"id":1,"op":"resize","stream":7,"size":{"rows":24,"cols":80,"pixels":1}}"#,
                Op::Resize { stream: 7, size: size(24, 80) },
            ),
            (
                r#"{"id":1,"op":"log","console":"a","stream":7,"since":{"ago_ms":5},"until":{"at_ms":6},
                    "lines":3,"after":"x","follow":true}"#,
                Op::Log {
                    console: "a".into(),
                    stream: 7,
                    query: LogQuery {
                        since: Some(When::AgoMs(5)),
                        until: Some(When::AtMs(6)),
                        lines: Some(3),
                        after: Some("x".into()),
                        follow: true,
                    },
                },
            ),
            (r#"{"id":1,"op":"lock","stream":7,"mode":"write"}"#, Op::Lock { stream: 7, mode: Mode::Write }),
            (r#"{"id":1,"op":"break","stream":7}"#, Op::BreakAt { stream: 7, reason: String::new() }),
            (
                r#"{"id":1,"op":"break","console":"a","reason":"hung"}"#,
                Op::Break { console: "a".into(), reason: "hung".into() },
            ),
            (
                r#"{"id":1,"op":"bump","console":"a","reason":"r"}"#,
                Op::Bump { console: "a".into(), client: None, reason: "r".into() },
            ),
            (
                r#"{"id":1,"op":"kick","client":"1.2"}"#,
                Op::Kick { client: 2 << 32 | 1, reason: String::new() },
            ),
            (
                r#"{"id":1,"op":"give-input","console":"a","leg":"1.2"}"#,
                Op::GiveInput { console: "a".into(), leg: 2 << 32 | 1 },
            ),
            (r#"{"id":1,"op":"streams","console":"a"}"#, Op::Streams("a".into())),
            (r#"{"id":1,"op":"open","console":"a","stream":7}"#, Op::Open { console: "a".into(), stream: 7 }),
            (
                r#"{"id":1,"op":"facts","console":"a","stream":7}"#,
                Op::Facts { console: "a".into(), stream: 7, of: FactsOf::Guest },
            ),
            (
                r#"{"id":1,"op":"facts","console":"a","stream":7,"of":"host"}"#,
                Op::Facts { console: "a".into(), stream: 7, of: FactsOf::Host },
            ),
            (
                r#"{"id":1,"op":"set-fact","console":"a","key":"k","value":""}"#,
                Op::SetFact { console: "a".into(), key: "k".into(), value: Some(String::new()) },
            ),
            (
                r#"{"id":1,"op":"set-fact","console":"a","key":"k"}"#,
                Op::SetFact { console: "a".into(), key: "k".into(), value: None },
            ),
            (
                r#"{"id":1,"op":"accept","console":"a","name":"db"}"#,
                Op::Accept { console: "a".into(), name: "db".into() },
            ),
            (
                r#"{"id":1,"op":"take","console":"a","number":4,"stream":7}"#,
                Op::Take { console: "a".into(), number: 4, stream: 7 },
            ),
            (r#"{"id":1,"op":"stats"}"#, Op::Stats),
            (r#"{"id":1,"op":"reload"}"#, Op::Reload),
            (r#"{"id":1,"op":"drain"}"#, Op::Drain),
        ] {
            assert_eq!(op(text), expected, "{text}");
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_told_from_what_is_answered() {
        for text in ["", "nonsense", "[]", "{}", r#"{"id":-1,"op":"list"}"#, r#"{"id":1}"#, "{\"id\":1,"] {
            assert!(matches!(Request::parse(text.as_bytes()), Err(ParseError::Broken(_))), "{text}");
        }
        for (text, code, names) in [
            (r#"{"id":5,"op":"fly"}"#, Code::UnknownOp, "fly"),
            (r#"{"id":5,"op":"show"}"#, Code::BadRequest, "console"),
            (r#"{"id":5,"op":"show","console":7}"#, Code::BadRequest, "console"),
            (r#"{"id":5,"op":"lock","stream":1,"mode":"none"}"#, Code::BadRequest, "read-only"),
            (r#"{"id":5,"op":"log","console":"a","stream":7,"since":5}"#, Code::BadRequest, "since"),
            (r#"{"id":5,"op":"log","console":"a"}"#, Code::BadRequest, "stream"),
            (r#"{"id":5,"op":"list","limit":0}"#, Code::BadRequest, "500"),
            (r#"{"id":5,"op":"resize","stream":7}"#, Code::BadRequest, "size"),
            (r#"{"id":5,"op":"resize","stream":7,"size":{"rows":0,"cols":80}}"#, Code::BadRequest, "size"),
            (
                r#"{"id":5,"op":"resize","stream":7,"size":{"rows":70000,"cols":80}}"#,
                Code::BadRequest,
                "size",
            ),
            (r#"{"id":5,"op":"kick","client":"x"}"#, Code::BadRequest, "client"),
            (r#"{"id":5,"op":"hello","v":1,"for":{"user":"a","rights":"king"}}"#, Code::BadRequest, "king"),
        ] {
            let Err(ParseError::Refused(5, failure)) = Request::parse(text.as_bytes()) else {
                panic!("{text} was not refused");
            };
            assert_eq!(failure.code, code, "{text}");
            assert!(failure.message.contains(names), "{text}: {}", failure.message);
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let deep = format!(r#"{{"id":1,"op":"list","x":{}"#, "[".repeat(60_000));
        assert!(matches!(Request::parse(deep.as_bytes()), Err(ParseError::Broken(_))));
    }
}
