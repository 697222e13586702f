//! The client's side of vSPC.py's query protocol, version 3 (admin.md): the list of consoles, or one console.
//!
//! Owns the telnet that follows the handshake. It tells its news in the words of the operator protocol, so
//! that commands need not know which of the two is spoken. Bytes go in and out as in `operator`.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use serde_json::{Value, json};
use vspc_core::admin::lock::LockMode;
use vspc_core::admin::v3_client::{V3Answer, V3Client, V3Entry};
use vspc_core::mux::StreamId;
use vspc_core::telnet::{
    Decoder, Item, Negotiator, Opt, OptionPolicy, Side, escape_into, fold, put_negotiation,
};
use vspc_core::time::Instant;

use vspc_operator::{Ending, News, Refusal};

/// One connection's conversation: it asks for one thing.
#[derive(Debug)]
pub(crate) struct V3 {
    client: V3Client,
    asked_for: Option<String>,
    /// How much of what the console printed before is shown, in bytes.
    scrollback: u64,
    /// The user wants to watch, which the protocol has no word for: nothing is typed.
    watch_only: bool,
    entries: Vec<Value>,
    left: u64,
    negotiator: Negotiator,
    decoder: Decoder,
    after_cr: bool,
    /// What is to be sent.
    out: VecDeque<u8>,
    /// What the console printed and nobody has read yet.
    output: VecDeque<u8>,
    news: VecDeque<News>,
    /// Until when typing waits for the answer to the offer of BINARY.
    patient_until: Option<Instant>,
    /// The server has said something.
    heard: bool,
    over: bool,
}

impl V3 {
    /// Asks for the list of consoles. The answer, of the id [`ASKED`], is as that of `list`.
    pub(crate) fn list() -> Self {
        let mut out = Vec::new();
        Self::new(V3Client::list(&mut out), &out)
    }

    /// Asks for a console. The answer, of the id [`ASKED`], is as that of `attach`; its stream is [`STREAM`].
    /// Of earlier output `scrollback` bytes are shown at most: the server sends what it likes.
    pub(crate) fn attach(console: &str, lock: Option<&str>, scrollback: u64) -> Self {
        let mut out = Vec::new();
        let mode = match lock {
            Some("exclusive") => LockMode::Exclusive,
            Some("write") => LockMode::Write,
            Some("free-for-all") => LockMode::FreeForAll,
            _ => LockMode::FreeForAllOrReadonly,
        };
        let client = V3Client::attach(console, mode, &mut out);
        let watch_only = lock == Some("read-only");
        Self { asked_for: Some(console.to_owned()), scrollback, watch_only, ..Self::new(client, &out) }
    }

    fn new(client: V3Client, out: &[u8]) -> Self {
        Self {
            client,
            asked_for: None,
            scrollback: 0,
            watch_only: false,
            entries: Vec::new(),
            left: 0,
            negotiator: Negotiator::new(OPTIONS),
            decoder: Decoder::default(),
            after_cr: false,
            out: out.iter().copied().collect(),
            output: VecDeque::new(),
            news: VecDeque::new(),
            patient_until: None,
            heard: false,
            over: false,
        }
    }

    /// As [`Operator::read`](vspc_operator::Operator::read).
    pub(crate) fn read(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> bool {
        let mut left = most;
        while left > 0 && !self.output.is_empty() {
            let front = self.output.as_slices().0;
            let n = front.len().min(left);
            take(&front[..n]);
            self.output.drain(..n);
            left -= n;
        }
        false
    }

    /// Types what there is room for.
    pub(crate) fn write(&mut self, bytes: &[u8], now: Instant) -> usize {
        let undecided = self.negotiator.state(Side::Us, Opt::BINARY).is_open();
        if self.watch_only || undecided && self.patient_until.is_some_and(|until| now < until) {
            return 0;
        }
        let bytes = &bytes[..bytes.len().min(self.room())];
        let mut wire = Vec::new();
        escape_into(bytes, &mut wire);
        if !self.negotiator.is_on(Side::Us, Opt::BINARY) {
            // RFC 854: without BINARY a CR alone is CR NUL.
            wire = wire.split_inclusive(|&byte| byte == b'\r').fold(Vec::new(), |mut folded, line| {
                folded.extend_from_slice(line);
                if line.ends_with(b"\r") {
                    folded.push(0);
                }
                folded
            });
        }
        self.out.extend(wire);
        bytes.len()
    }

    /// How much may be typed now.
    pub(crate) fn room(&self) -> usize {
        WINDOW.saturating_sub(self.out.len())
    }

    /// Bytes came from the server.
    pub(crate) fn handle_received(&mut self, mut data: &[u8], now: Instant) {
        let mut out = Vec::new();
        self.heard |= !data.is_empty();
        while !self.over
            && let Some(step) = self.client.receive(&mut data, &mut out)
        {
            match step {
                Ok(answer) => self.take(answer, now),
                Err(error) => self.end(Ending::Broken(error.to_string())),
            }
        }
        self.out.extend(out);
        if self.client.is_attached() {
            self.decode(data);
        }
    }

    fn take(&mut self, answer: V3Answer, now: Instant) {
        let refusal = |code: &str, message: &str| {
            Err(Refusal { code: code.to_owned(), message: message.to_owned(), details: Value::Null })
        };
        match answer {
            V3Answer::Attached { applied, seed } => {
                self.output.extend(last(&seed, self.scrollback).bytes());
                let read = self.watch_only || applied == Some(LockMode::FreeForAllOrReadonly);
                let access = if read { "read" } else { "write" };
                let lock = match applied {
                    Some(LockMode::Exclusive) => "exclusive",
                    Some(LockMode::Write) => "write",
                    _ if read => "read-only",
                    _ => "free-for-all",
                };
                let answer = json!({"access": access, "lock": lock, "offset": 0});
                self.news.push_back(News::Answer(ASKED, Ok(answer)));
                self.news.push_back(News::Readable(STREAM));
                // As the real client does, and at once: the server is silent until it has seen this.
                for (side, opt) in [
                    (Side::Us, Opt::BINARY),
                    (Side::Us, Opt::SGA),
                    (Side::Him, Opt::BINARY),
                    (Side::Him, Opt::SGA),
                ] {
                    if let Some((verb, opt)) = self.negotiator.want(side, opt, true) {
                        self.say(|out| put_negotiation(verb, opt, out));
                    }
                }
                self.patient_until = Some(now + PATIENCE);
            }
            V3Answer::Count(count) => {
                self.left = count;
                self.finish_list();
            }
            V3Answer::Entry(entry) => {
                self.entries.push(describe(&entry));
                self.left -= 1;
                self.finish_list();
            }
            V3Answer::LockInvalid => {
                let answer = refusal("unsupported", "the server does not know this kind of lock");
                self.news.push_back(News::Answer(ASKED, answer));
            }
            V3Answer::LockFailed => {
                let answer = refusal("locked", "somebody else is there, or has it locked");
                self.news.push_back(News::Answer(ASKED, answer));
            }
        }
    }

    fn finish_list(&mut self) {
        if self.left > 0 {
            return;
        }
        let entries = std::mem::take(&mut self.entries);
        let answer = match &self.asked_for {
            None => Ok(json!({"consoles": entries})),
            Some(name) => Err(Refusal {
                code: "no-such-console".to_owned(),
                message: format!("there is no console {name}"),
                details: Value::Null,
            }),
        };
        self.news.push_back(News::Answer(ASKED, answer));
    }

    fn decode(&mut self, mut data: &[u8]) {
        let mut said = Vec::new();
        let mut printed = false;
        while let Some(item) = self.decoder.decode(&mut data) {
            match item {
                Item::Data(bytes) if self.negotiator.is_on(Side::Him, Opt::BINARY) => {
                    self.output.extend(bytes);
                    printed = true;
                }
                Item::Data(mut bytes) => {
                    while let Some(folded) = fold(&mut self.after_cr, &mut bytes, false) {
                        self.output.extend(folded);
                        printed = true;
                    }
                }
                Item::Negotiation(verb, opt) => {
                    if let Some((verb, opt)) = self.negotiator.handle(verb, opt).send {
                        put_negotiation(verb, opt, &mut said);
                    }
                }
                Item::Command(_) | Item::Subnegotiation(..) | Item::Malformed(_) => {}
            }
        }
        self.out.extend(said);
        if printed {
            self.news.push_back(News::Readable(STREAM));
        }
    }

    fn say(&mut self, what: impl FnOnce(&mut Vec<u8>)) {
        let mut said = Vec::new();
        what(&mut said);
        self.out.extend(said);
    }

    /// The server closed the connection; `why`, where more is known.
    pub(crate) fn handle_closed(&mut self, why: Option<String>) {
        if !self.client.is_ended() {
            self.end(match why {
                None if !self.heard => Ending::NotOurs(None),
                None => Ending::Broken("the server closed the connection".to_owned()),
                Some(why) => Ending::Broken(why),
            });
        }
    }

    /// When typing need not wait any longer.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.patient_until.filter(|until| now < *until)
    }

    /// How much more is read from the server before what was printed is taken.
    pub(crate) fn receive_window(&self) -> usize {
        WINDOW.saturating_sub(self.output.len())
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Offers what is to be sent, and counts as sent what `take` says that it took.
    pub(crate) fn transmit(&mut self, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> usize {
        let (front, back) = self.out.as_slices();
        let n = take(&[IoSlice::new(front), IoSlice::new(back)]);
        self.out.drain(..n);
        n
    }

    pub(crate) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    fn end(&mut self, ending: Ending) {
        if !self.over {
            self.over = true;
            self.news.push_back(News::Over(ending));
        }
    }
}

/// The end of a text: so many bytes at most.
fn last(text: &str, bytes: u64) -> &str {
    let from = text.len().saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
    (from..=text.len()).find_map(|from| text.get(from..)).unwrap_or_default()
}

/// An entry of the list, with the fields of operator.md §4 that it has.
fn describe(entry: &V3Entry) -> Value {
    json!({"name": entry.name, "uuid": entry.uuid, "port": entry.port})
}

/// The id of the one answer.
pub(crate) const ASKED: u64 = 1;
/// The stream of the one console.
pub(crate) const STREAM: StreamId = StreamId(2);

const OPTIONS: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::BINARY, us: true, him: true },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::ECHO, us: false, him: true },
];
/// What may be under way in either direction, as in the operator protocol.
const WINDOW: usize = 64 * 1024;
/// vSPC.py itself waits half a second for answers.
const PATIENCE: Duration = Duration::from_secs(1);
