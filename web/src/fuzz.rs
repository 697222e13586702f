//! The body of the fuzz target `web_gateway`: a gateway between a concentrator and a browser of which neither
//! keeps to anything. fuzz/ has it with the feature `fuzzing`; the tests replay its corpus.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use vspc_core::mux::{
    Carrier, Config, Event, Features, Received, Role, Session, Start, StreamError, StreamId,
};
use vspc_core::time::Instant;

use crate::auth::{self, Auth};
use crate::connections::{Peer, converse};
use crate::entrance::Entrance;
use crate::fleet::Fleet;
use crate::http::{self, Locks};
use crate::options::{Address, Server};
use crate::upstream::Upstreams;
use crate::views::{View, Views};

/// Plays a script, a line a step; the first byte of each says what:
///
/// | | |
/// |---|---|
/// | `h` | the browser sends this line, with CR and LF |
/// | `b` | the browser sends these bytes |
/// | `w` | the browser sends a message on its websocket: its kind, and what is in it |
/// | `n` | the browser opens another connection |
/// | `a` | the concentrator answers the next request by this: what stands behind its number |
/// | `e` | the concentrator says this line |
/// | `d`, `f`, `r` | the concentrator sends bytes on the newest stream, ends it, takes it away |
/// | `l` | the concentrator says this line on the newest stream |
/// | `g` | as the first step: the concentrator knows of guests |
/// | `x` | the concentrator sends bytes that are no frame |
/// | `t` | so many seconds pass |
///
/// Checked: nothing panics, no answer is 500, and afterwards others are answered still.
#[doc(hidden)]
pub fn web_gateway(script: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    drop(runtime.expect("it takes no system's help").block_on(play(script)));
}

/// Returns what the last of the browser's connections was sent.
async fn play(script: &[u8]) -> Vec<u8> {
    let (ours, theirs) = duplex(PIPE);
    let fleet = Arc::new(Fleet::new(vec!["lab".to_owned()]));
    let (name, written) = ("lab".to_owned(), "lab".to_owned());
    let server = Server { name, written, address: Address::Unix("/nowhere".into()), tls: None };
    let upstreams = Upstreams::on(theirs, server, &fleet);
    let own = Arc::new(View::over(upstreams, fleet, http::router, Locks::default()));
    let auth = Auth::new(auth::Config::default()).expect("it has no files");
    let views = Views::new(Vec::new(), http::router, http::router_of_share);
    let entrance = Arc::new(Entrance::with(auth, views, own, Vec::new()));
    let mut concentrator = Concentrator::new(ours, script.starts_with(b"g"));
    let mut browser = Browser::new(&entrance);
    settle(&mut concentrator, &mut browser).await;
    for step in script.split(|&byte| byte == b'\n').take(STEPS) {
        let Some((&what, rest)) = step.split_first() else { continue };
        match what {
            b'h' => browser.send(&[rest, b"\r\n"].concat()),
            b'b' => browser.send(rest),
            b'w' => browser.send(&message(rest)),
            b'n' => {
                browser.check();
                browser = Browser::new(&entrance);
            }
            b'a' => concentrator.answers.push_back(rest.to_vec()),
            b'e' => concentrator.say(&[rest, b"\n"].concat()),
            b'd' => concentrator.on_stream(|session, stream| session.write(stream, rest).map(drop)),
            b'l' => {
                let line = [rest, b"\n"].concat();
                concentrator.on_stream(|session, stream| session.write(stream, &line).map(drop));
            }
            b'f' => concentrator.on_stream(Session::finish),
            b'r' => concentrator.on_stream(Session::reset),
            b'x' => concentrator.unsent.extend_from_slice(rest),
            b't' => {
                let seconds = rest.iter().take(4).fold(0, |all, &byte| all * 10 + u64::from(byte % 10));
                tokio::time::advance(Duration::from_secs(seconds)).await;
            }
            _ => continue,
        }
        settle(&mut concentrator, &mut browser).await;
    }
    browser.check();
    let mut other = Browser::new(&entrance);
    other.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    settle(&mut concentrator, &mut other).await;
    assert!(other.received.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&other.received));
    std::mem::take(&mut browser.received)
}

/// Has everybody do what there is to do.
async fn settle(concentrator: &mut Concentrator, browser: &mut Browser) {
    for _ in 0..ROUNDS {
        concentrator.turn();
        browser.turn();
        tokio::task::yield_now().await;
    }
}

/// A message in one frame, as a browser masks it.
fn message(said: &[u8]) -> Vec<u8> {
    let Some((&kind, content)) = said.split_first() else { return Vec::new() };
    let content = &content[..content.len().min(125)];
    [&[0x80 | kind, 0x80 | content.len() as u8, 0, 0, 0, 0], content].concat()
}

/// A connection of a browser's.
struct Browser {
    stream: DuplexStream,
    unsent: Vec<u8>,
    received: Vec<u8>,
    serving: JoinHandle<()>,
}

impl Browser {
    fn new(entrance: &Arc<Entrance>) -> Self {
        let (stream, theirs) = duplex(PIPE);
        let address = ([127, 0, 0, 1], 1).into();
        let peer = Peer { address, local: address, is_tls: false, shown: None };
        let serving = tokio::spawn(converse(theirs, peer, Arc::clone(entrance)));
        Self { stream, unsent: Vec::new(), received: Vec::new(), serving }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    fn turn(&mut self) {
        push(&mut self.stream, &mut self.unsent);
        pull(&mut self.stream, &mut self.received);
    }

    fn check(&self) {
        let text = String::from_utf8_lossy(&self.received);
        assert!(!text.starts_with("HTTP/1.1 500"), "{text}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The other end of the gateway's connection. What it is not told to answer otherwise, it answers well.
struct Concentrator {
    stream: DuplexStream,
    session: Session,
    control: Option<StreamId>,
    newest: Option<StreamId>,
    lines: Vec<u8>,
    answers: VecDeque<Vec<u8>>,
    unsent: Vec<u8>,
    has_guests: bool,
}

impl Concentrator {
    fn new(stream: DuplexStream, has_guests: bool) -> Self {
        let config = Config {
            start: Start::S2Only { within: Duration::ZERO },
            carrier: Carrier::Reliable,
            features: Features(Features::WINDOWED.0 | Features::RESET.0),
            max_frame: 16_384,
            seed: [1, 2],
            ..Config::new(Role::Guest)
        };
        let session = Session::new(config, Instant::ZERO).expect("the constants above make sense");
        let (lines, answers, unsent) = (Vec::new(), VecDeque::new(), Vec::new());
        Self { stream, session, control: None, newest: None, lines, answers, unsent, has_guests }
    }

    fn say(&mut self, line: &[u8]) {
        if let Some(control) = self.control {
            let _ = self.session.write(control, line);
        }
    }

    fn on_stream(&mut self, act: impl FnOnce(&mut Session, StreamId) -> Result<(), StreamError>) {
        if let Some(stream) = self.newest {
            // It may be gone.
            let _ = act(&mut self.session, stream);
        }
    }

    fn turn(&mut self) {
        let mut came = Vec::new();
        pull(&mut self.stream, &mut came);
        self.session.handle_received(&came, Instant::ZERO);
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Opened(stream) if self.control.is_none() => self.control = Some(stream),
                Event::Opened(stream) => self.newest = Some(stream),
                Event::Readable(stream) => self.read(stream),
                _ => {}
            }
        }
        let unsent = &mut self.unsent;
        self.session.transmit_with(Instant::ZERO, |runs| {
            runs.iter().for_each(|run| unsent.extend_from_slice(run));
            runs.iter().map(|run| run.len()).sum()
        });
        push(&mut self.stream, &mut self.unsent);
    }

    fn read(&mut self, stream: StreamId) {
        while let Ok(Received::Bytes(bytes)) = self.session.received(stream) {
            let n = bytes.len();
            if Some(stream) == self.control {
                self.lines.extend_from_slice(bytes);
            }
            let _ = self.session.consume(stream, n);
        }
        while let Some(end) = self.lines.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.lines.drain(..=end).collect();
            let request: Value = serde_json::from_slice(&line).expect("the gateway says JSON");
            self.answer(&request);
        }
    }

    fn answer(&mut self, request: &Value) {
        let is_first = matches!(request["op"].as_str(), Some("hello" | "subscribe"));
        let rest = if is_first { None } else { self.answers.pop_front() };
        let rest = rest.unwrap_or_else(|| usual(request, self.has_guests).as_bytes().to_vec());
        self.say(&[format!("{{\"id\":{},", request["id"]).as_bytes(), &rest, b"}\n"].concat());
        if request["to"] == "consoles" {
            self.say(format!("{{\"event\":\"console\",\"console\":{CONSOLE}}}\n").as_bytes());
            self.say(b"{\"event\":\"synced\"}\n");
        }
    }
}

/// A good answer, behind its number.
fn usual(request: &Value, has_guests: bool) -> String {
    match request["op"].as_str() {
        Some("hello") => {
            let features = if has_guests { "\"log\",\"guests\"" } else { "\"log\"" };
            format!("\"ok\":{{\"v\":1,\"server\":\"x\",\"rights\":\"operator\",\"features\":[{features}]}}")
        }
        Some("attach") => {
            format!(
                "\"ok\":{{\"console\":{CONSOLE},\"access\":\"write\",\"lock\":\"write\",\"epoch\":\"e\",\"offset\":0}}"
            )
        }
        Some("list") => format!("\"ok\":{{\"consoles\":[{CONSOLE}],\"next\":null}}"),
        Some("show") => format!("\"ok\":{{\"console\":{CONSOLE}}}"),
        _ => "\"ok\":{}".to_owned(),
    }
}

/// Sends what the other end takes now.
fn push(stream: &mut DuplexStream, unsent: &mut Vec<u8>) {
    while let (false, Some(Ok(n @ 1..))) = (unsent.is_empty(), stream.write(unsent).now_or_never()) {
        unsent.drain(..n);
    }
}

/// Takes what has come.
fn pull(stream: &mut DuplexStream, received: &mut Vec<u8>) {
    while let Some(Ok(1..)) = stream.read_buf(received).now_or_never() {}
}

const CONSOLE: &str = "{\"id\":\"1.1\",\"name\":\"web1\",\"uuid\":\"00112233445566778899aabbccddee01\",\
                       \"suffix\":\"\",\"state\":\"connected\",\"port\":50000,\"clients\":0,\"legs\":1,\
                       \"lock\":null,\"out\":7,\"in\":0,\"idle_ms\":5,\"epoch\":\"e\",\"offset\":7}";
const STEPS: usize = 48;
/// Turns that a step takes at most until everybody is at rest.
const ROUNDS: usize = 24;
const PIPE: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use super::*;

    thread_local! {
        static PANICS: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn the_corpus_of_the_fuzzer_replays_and_no_task_of_it_panics() {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            others(info);
        }));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/web_gateway");
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            web_gateway(&std::fs::read(&path).unwrap());
            assert_eq!(PANICS.get(), 0, "{}", path.display());
            count += 1;
        }
        assert!(count > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn facts_are_what_a_concentrator_tells_and_where_it_breaks_off_or_tells_none_the_reason() {
        let ask = "g\nhGET /api/v1/consoles/web1/facts HTTP/1.1\nhhost: localhost\nh\n";
        let told = [
            "l{\"set\":\"b\",\"to\":\"1\"}\n",
            "l{\"set\":\"a\",\"to\":\"2\"}\n",
            "l{\"unset\":\"b\"}\nl{\"later\":1}\n",
        ];
        let told = told.concat();
        let all = "l{\"all\":true}\n";
        let one = "{\"facts\":{\"guest\":{\"a\":\"2\"},\"host\":{}}}";
        let long = format!("d{}\n", "x".repeat(40_000));
        let refused = |code: &str| format!("a\"error\":{{\"code\":\"{code}\",\"message\":\"m\"}}\n");
        let first = "a\"ok\":{}\n";
        // What is answered is known before it is asked.
        let ended = |code: &str| format!("{first}{}{ask}{told}f\n", refused(code)).replacen("g\n", "", 1);
        for (said, status, body) in [
            (format!("{ask}{told}{all}{all}"), 200, one),
            (format!("{ask}{told}f\n{told}{all}r\n{all}"), 200, "{\"a\":\"2\"},\"host\":{}"),
            (format!("{ask}{told}f\n{told}r\n"), 502, "\"fault\""),
            (format!("g\n{}", ended("not-allowed")), 403, "\"not-allowed\""),
            (format!("g\n{}", ended("no-such-console")), 404, "\"no-such-console\""),
            (format!("g\n{}", ended("shutting-down")), 503, "\"shutting-down\""),
            (format!("{ask}{told}x{}\n", "x".repeat(64)), 502, "\"not-connected\""),
            (format!("{ask}{told}l[]\n"), 502, "\"fault\""),
            (format!("{ask}{long}"), 502, "\"fault\""),
            (format!("{ask}{told}t16\n"), 504, "\"too-slow\""),
        ] {
            let answered = String::from_utf8(play(said.as_bytes()).await).unwrap();
            assert!(answered.starts_with(&format!("HTTP/1.1 {status} ")), "{said}: {answered}");
            assert!(answered.contains(body), "{said}: {answered}");
        }
    }

    /// Schemathesis takes what is 500 or more and not told of for a fault.
    #[tokio::test(start_paused = true)]
    async fn what_a_concentrator_that_shuts_down_answers_is_told_in_the_document() {
        let document: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
        let shuts = "\"error\":{\"code\":\"shutting-down\",\"message\":\"m\"}";
        let mut asked = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in ["get", "post", "put", "delete"] {
                let told = &item[method]["responses"];
                if told["502"].is_null() {
                    continue;
                }
                let one = path
                    .replace("{name}", "web1")
                    .replace("{key}", "a")
                    .replace("{uuid}", "00112233445566778899aabbccddee01");
                let body = "{\"value\":\"v\",\"mode\":\"write\",\"client\":\"1.1\",\"text\":\"t\"}";
                let method = method.to_uppercase();
                let head =
                    format!("h{method} {one} HTTP/1.1\nhhost: localhost\nhcontent-type: application/json");
                let script =
                    format!("g\na{shuts}\na{shuts}\n{head}\nhcontent-length: {}\nh\nb{body}\n", body.len());
                let answered = String::from_utf8(play(script.as_bytes()).await).unwrap();
                let status = answered.split(' ').nth(1).unwrap_or_default();
                assert!(status == "503" || status == "200", "{method} {path}: {answered}");
                assert!(!told[status].is_null(), "{method} {path}: {status} is not told of");
                asked += usize::from(status == "503");
            }
        }
        assert!(asked > 10, "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_concentrator_that_knows_nothing_of_guests_is_asked_nothing_of_them() {
        for asked in ["GET /api/v1/consoles/web1/facts", "GET /api/v1/consoles/web1/streams"] {
            let answered = play(format!("h{asked} HTTP/1.1\nhhost: localhost\nh\n").as_bytes()).await;
            let answered = String::from_utf8(answered).unwrap();
            assert!(answered.starts_with("HTTP/1.1 501 "), "{answered}");
            assert!(answered.contains("\"code\":\"unsupported\""), "{answered}");
        }
    }
}
