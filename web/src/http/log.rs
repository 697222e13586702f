//! What a console has printed, from its log, streamed as it is read.
//!
//! Owns the forms: bytes, text, a recording; and lines that have something. A body that is not taken is not
//! read: the concentrator reads one piece ahead.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use memchr::memmem;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use vspc_core::admin::operator::{LogRecord, LogRecords};
use vspc_logs::date;
use vspc_operator::strip::Strip;

use super::App;
use super::asked::{Named, Words, bad};
use super::cast::Cast;
use super::found::{Found, find_by_uuid};
use super::piped::begun;
use super::problem::Problem;
use crate::auth::audit::Entry;
use crate::upstream::attach::{Attach, Next};

pub(super) async fn log(named: Named, found: Found, words: Words) -> Result<Response, Problem> {
    serve(&found, named.get("name"), &words).await
}

/// As OpenStack's vmware-vspc tells it. The UUID is one, in any case; the bytes are as they were printed, and
/// no file is named by who asks.
pub(super) async fn by_uuid(
    State(app): State<App>,
    named: Result<Named, Problem>,
    entry: Option<Extension<Arc<Entry>>>,
    words: Words,
) -> Result<Response, Problem> {
    let uuid = named.as_ref().map_or("", |named| named.get("uuid"));
    let digits = uuid.chars().filter(|&c| c != '-');
    let is_uuid = digits.clone().count() == 32 && digits.clone().all(|c| c.is_ascii_hexdigit());
    if !is_uuid {
        let why = "a UUID has 32 hexadecimal digits";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-console", why));
    }
    let words = words.only("server");
    let found = find_by_uuid(&app, &digits.collect::<String>().to_ascii_lowercase(), &words)?;
    if let Some(Extension(entry)) = entry {
        found.note(&entry);
    }
    serve(&found, uuid, &Words::default()).await
}

async fn serve(found: &Found, name: &str, words: &Words) -> Result<Response, Problem> {
    let mut form = match words.get("format").unwrap_or("raw") {
        "raw" => Form::Raw,
        "text" => Form::Text(Strip::default()),
        "cast" => Form::Cast(Box::new(Cast::new(name))),
        _ => return Err(bad("format is raw, text or cast")),
    };
    let kind = match form {
        Form::Raw => "application/octet-stream",
        Form::Text(_) => "text/plain; charset=utf-8",
        Form::Cast(_) => "application/x-asciicast",
    };
    let grep = words.get("grep").filter(|text| !text.is_empty()).map(Grep::new);
    if grep.is_some() && matches!(form, Form::Cast(_)) {
        return Err(bad("a recording has no lines to look into"));
    }
    let mut fields = json!({});
    for key in ["since", "until"] {
        if let Some(text) = words.get(key) {
            fields[key] = when(text).ok_or_else(|| bad(&format!("{key} is no time")))?;
        }
    }
    if let Some(lines) = words.get("lines") {
        fields["lines"] = lines.parse::<u64>().map_err(|_| bad("lines is a number"))?.into();
    }
    fields["follow"] = match words.get("follow").unwrap_or("false") {
        "true" | "1" | "" => true,
        "false" | "0" => false,
        _ => return Err(bad("follow is true or false")),
    }
    .into();
    let attach = found.open("log", fields).await?;
    let begun = begun(FIRST, |sender| {
        tokio::spawn(async move { read(attach, &mut form, grep, sender).await });
    });
    let body =
        begun.await.map_err(|why| Problem::new(StatusCode::BAD_GATEWAY, "log-failed", &why.to_string()))?;
    // A browser saves it: bytes of a VM are no page.
    let save = (header::CONTENT_DISPOSITION, "attachment; filename=\"console.log\"");
    Ok(([(header::CONTENT_TYPE, kind), save], body).into_response())
}

enum Form {
    Raw,
    Text(Strip),
    Cast(Box<Cast>),
}

impl Form {
    fn take(&mut self, record: LogRecord<'_>, out: &mut Vec<u8>) {
        match (record, self) {
            (LogRecord::Text(bytes) | LogRecord::Stamp(bytes), Self::Raw) => out.extend_from_slice(bytes),
            (LogRecord::Text(bytes) | LogRecord::Stamp(bytes), Self::Text(strip)) => strip.take(bytes, out),
            (LogRecord::Text(bytes), Self::Cast(cast)) => cast.take(bytes, out),
            (LogRecord::Time(millis), Self::Cast(cast)) => cast.time(millis),
            _ => {}
        }
    }
}

async fn read(
    mut attach: Attach,
    form: &mut Form,
    mut grep: Option<Grep>,
    sender: Sender<io::Result<Bytes>>,
) {
    let mut records = LogRecords::default();
    loop {
        // No more than copied here: others of the connection wait meanwhile.
        let mut came = Vec::new();
        let next = attach.next(PIECE, |bytes| came.extend_from_slice(bytes));
        let (mut out, mut fault) = (Vec::new(), None);
        let taken = records.take(&came, |record| match record {
            LogRecord::Failed(why) => fault = Some(why.to_owned()),
            record => form.take(record, &mut out),
        });
        if let Err(broken) = taken {
            fault = Some(broken.to_string());
        }
        let is_end = matches!(next, Next::End | Next::Lost);
        if let (Form::Cast(cast), true) = (&mut *form, is_end) {
            cast.finish(&mut out);
        }
        if let Some(grep) = &mut grep {
            out = grep.take(&out, is_end);
        }
        if !out.is_empty() && sender.send(Ok(out.into())).await.is_err() {
            return;
        }
        match next {
            Next::Lost => fault = Some("the connection to the concentrator was lost".to_owned()),
            Next::Refused(why) => fault = Some(why.to_owned()),
            _ => {}
        }
        if let Some(why) = fault {
            // The body is cut short, which whoever reads it notices.
            let _ = sender.send(Err(io::Error::other(why))).await;
            return;
        }
        match next {
            Next::End => return,
            Next::Nothing => tokio::select! {
                () = attach.woken() => {}
                () = sender.closed() => return,
            },
            _ => {}
        }
    }
}

/// Lines that have something.
struct Grep {
    wanted: String,
    line: Vec<u8>,
}

impl Grep {
    fn new(wanted: &str) -> Self {
        Self { wanted: wanted.to_owned(), line: Vec::new() }
    }

    fn take(&mut self, bytes: &[u8], is_end: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() > LINE_MOST {
                self.put(&mut out);
            }
        }
        if is_end {
            self.put(&mut out);
        }
        out
    }

    fn put(&mut self, out: &mut Vec<u8>) {
        if memmem::find(&self.line, self.wanted.as_bytes()).is_some() {
            out.append(&mut self.line);
        }
        self.line.clear();
    }
}

/// `10min` and the like before now, `@` and milliseconds since 1970, or a time in UTC.
fn when(text: &str) -> Option<Value> {
    if let Some(millis) = text.strip_prefix('@') {
        return Some(json!({"at_ms": millis.parse::<u64>().ok()?}));
    }
    if let Some(seconds) = date::read(text) {
        return Some(json!({"at_ms": seconds.checked_mul(1000)?}));
    }
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let each: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(json!({"ago_ms": number.parse::<u64>().ok()?.checked_mul(each)?}))
}

/// How long it is waited for why nothing comes, before it is said that something does.
const FIRST: Duration = Duration::from_secs(1);
/// Read at a time.
const PIECE: usize = 16 * 1024;
/// A line that is longer is looked into in pieces.
const LINE_MOST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_before_now_or_in_utc() {
        assert_eq!(when("10min"), Some(json!({"ago_ms": 600_000})));
        assert_eq!(when("@1796000000000"), Some(json!({"at_ms": 1_796_000_000_000_u64})));
        assert_eq!(when("1970-01-02T00:00:00Z"), Some(json!({"at_ms": 86_400_000})));
        for wrong in ["", "soon", "10", "@x", "10 lightyears", "99999999999999999999d"] {
            assert_eq!(when(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lines_are_looked_into_as_a_whole_whatever_the_cuts() {
        let mut grep = Grep::new("panic");
        let mut out = grep.take(b"fine\nkernel pa", false);
        out.extend(grep.take(b"nic\nfine\nlast panic", false));
        out.extend(grep.take(b"", true));
        assert_eq!(out, b"kernel panic\nlast panic");
    }
}
