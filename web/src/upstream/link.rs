//! One connection to a concentrator: calls, attaches, and what it tells.
//!
//! Owns the conversation, under a lock that is held for no longer than a copy of 32 KiB takes, and the task
//! that moves bytes. Nothing is queued for a reader: it pulls from its stream under that lock, so a stalled
//! one costs its stream's credit and nothing else.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, broadcast, oneshot};
use tokio::time::Instant;
use vspc_core::admin::operator::LINE_MAX;
use vspc_core::mux::StreamId;
use vspc_core::time::Instant as CoreInstant;
use vspc_operator::{Ending, HELLO_ID, News, Operator, Refusal};

use super::attach::{Attach, Stream};
use super::carrier::Carry;
use crate::chance;
use crate::fleet::Fleet;

type Outcome = Result<Value, Refusal>;

/// See above.
pub(crate) struct Link {
    state: Mutex<State>,
    /// There may be something to send, or more room to receive.
    wake: Notify,
    began: Instant,
}

pub(super) struct State {
    pub(super) operator: Operator,
    answers: HashMap<u64, oneshot::Sender<Outcome>>,
    pub(super) streams: HashMap<StreamId, Stream>,
    hello: Option<oneshot::Receiver<Outcome>>,
    /// Why it has ended.
    over: Option<String>,
    /// Why those whose it was may not be here any more.
    dismissed: Option<&'static str>,
}

impl Link {
    /// A conversation at its start, for whom is asked.
    pub(super) fn new(behalf: &Value) -> Self {
        let began = Instant::now();
        let seed = chance::bytes::<16>();
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| seed[at + i]));
        let hello = json!({"v": 1, "client": CLIENT, "for": behalf});
        let operator = Operator::new(&hello, [half(0), half(8)], CoreInstant::ZERO);
        let (sender, receiver) = oneshot::channel();
        let state = State {
            operator,
            answers: HashMap::from([(HELLO_ID, sender)]),
            streams: HashMap::new(),
            hello: Some(receiver),
            over: None,
            dismissed: None,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), began }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// What the server says to `hello`.
    pub(super) async fn hello(&self) -> Outcome {
        let receiver = self.lock().hello.take();
        match receiver {
            Some(mut receiver) => wait(&mut receiver).await,
            None => Err(lost("hello was said already")),
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn call(&self, op: &str, fields: Value) -> Outcome {
        fits(&fields)?;
        let call = {
            let mut state = self.lock();
            state.takes_more()?;
            self.ask(&mut state, op, fields)
        };
        self.wake();
        call.answer().await
    }

    fn ask<'a>(&'a self, state: &mut State, op: &str, fields: Value) -> Call<'a> {
        let (sender, receiver) = oneshot::channel();
        let id = state.operator.request(op, fields);
        state.answers.insert(id, sender);
        Call { link: self, id, receiver }
    }

    /// Opens a stream for `op`, `attach` or `log`, and waits until it is granted.
    pub(crate) async fn open(self: &Arc<Self>, op: &str, mut fields: Value) -> Result<Attach, Refusal> {
        fits(&fields)?;
        let (attach, call) = {
            let mut state = self.lock();
            state.takes_more()?;
            let Some(stream) = state.operator.open() else {
                return Err(lost("no more consoles can be attached to on one connection"));
            };
            fields["stream"] = stream.number().into();
            let console = fields["console"].as_str().unwrap_or_default().to_owned();
            let call = self.ask(&mut state, op, fields);
            let woken = Arc::new(Notify::new());
            state.streams.insert(stream, Stream::new(Arc::clone(&woken), console));
            (Attach::new(Arc::clone(self), stream, woken), call)
        };
        self.wake();
        // Dropped on refusal, the attach lets go of its stream.
        let answer = call.answer().await?;
        Ok(attach.granted(answer))
    }

    /// Whether a console is open on it. What is asked does not count: the gateway asks by itself.
    pub(super) fn is_used(&self) -> bool {
        !self.lock().streams.is_empty()
    }

    /// Ends the connection.
    pub(super) fn end(&self, why: &str) {
        self.lock().end(why);
        self.wake();
    }

    /// Ends the connection of somebody who may not be here any more: whoever reads from it is told so.
    pub(super) fn dismiss(&self, why: &'static str) {
        let mut state = self.lock();
        state.dismissed = Some(why);
        state.streams.values_mut().for_each(|stream| stream.refuse(why));
        state.end(why);
        drop(state);
        self.wake();
    }

    /// Why it has ended.
    pub(super) fn why(&self) -> String {
        self.lock().over.clone().unwrap_or_default()
    }

    /// Moves bytes until the connection ends.
    pub(super) async fn run(
        self: Arc<Self>,
        carrier: Box<dyn Carry>,
        fleet: Arc<Fleet>,
        place: usize,
        events: broadcast::Sender<Arc<Value>>,
    ) {
        let (mut reader, mut writer) = tokio::io::split(carrier);
        let mut unsent: Vec<u8> = Vec::with_capacity(READ);
        let mut sent = 0;
        let mut unflushed = false;
        let mut buf = vec![0; READ];
        loop {
            let (window, deadline) = {
                let mut state = self.lock();
                if state.over.is_some() {
                    break;
                }
                let now = self.now();
                state.operator.handle_timeout(now);
                if sent == unsent.len() {
                    unsent.clear();
                    sent = 0;
                    state.operator.transmit(now, |runs| take(runs, &mut unsent));
                }
                self.settle(&mut state, &fleet, place, &events);
                (state.operator.receive_window().min(READ), state.operator.poll_timeout())
            };
            let due = self.until(deadline);
            let sends = sent < unsent.len();
            let send = async {
                if sends { writer.write(&unsent[sent..]).await } else { writer.flush().await.map(|()| 0) }
            };
            let outcome = tokio::select! {
                n = reader.read(&mut buf[..window]), if window > 0 => n.map(Moved::In),
                n = send, if sends || unflushed => n.map(Moved::Out),
                () = self.wake.notified() => Ok(Moved::Nothing),
                () = tokio::time::sleep_until(due) => Ok(Moved::Nothing),
            };
            match outcome {
                Ok(Moved::Nothing) => {}
                Ok(Moved::Out(n)) => {
                    sent += n;
                    unflushed = sends;
                }
                Ok(Moved::In(0)) => self.lock().operator.handle_closed(None),
                Ok(Moved::In(n)) => self.lock().operator.handle_received(&buf[..n], self.now()),
                Err(error) => self.lock().operator.handle_closed(said(&error)),
            }
            let mut state = self.lock();
            self.settle(&mut state, &fleet, place, &events);
        }
        let _ = writer.shutdown().await;
    }

    /// Hands on what has happened.
    fn settle(&self, state: &mut State, fleet: &Fleet, place: usize, events: &broadcast::Sender<Arc<Value>>) {
        while let Some(news) = state.operator.poll_news() {
            match news {
                News::Answer(id, outcome) => {
                    let outcome = outcome.and_then(fields_of);
                    if let Some(sender) = state.answers.remove(&id) {
                        let _ = sender.send(outcome);
                    }
                }
                News::Readable(stream) | News::Writable(stream) => {
                    if let Some(stream) = state.streams.get(&stream) {
                        stream.woken.notify_one();
                    }
                }
                News::Reset(stream) => {
                    if let Some(stream) = state.streams.get_mut(&stream) {
                        stream.is_gone = true;
                        stream.woken.notify_one();
                    }
                }
                News::Notice(notice) => state.notice(notice, fleet, place, events),
                News::Over(Ending::NotOurs(_)) => state.end("it does not speak the operator protocol"),
                News::Over(Ending::Broken(why)) => state.end(&why),
            }
        }
    }

    fn now(&self) -> CoreInstant {
        CoreInstant::from_micros(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn until(&self, deadline: Option<CoreInstant>) -> Instant {
        let idle = Instant::now() + IDLE;
        deadline.map_or(idle, |at| (self.began + Duration::from_micros(at.as_micros())).min(idle))
    }
}

/// Something that was asked. Nobody waits for its answer any more when this is dropped.
struct Call<'a> {
    link: &'a Link,
    id: u64,
    receiver: oneshot::Receiver<Outcome>,
}

impl Call<'_> {
    async fn answer(mut self) -> Outcome {
        wait(&mut self.receiver).await
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.link.lock().answers.remove(&self.id);
    }
}

impl State {
    /// Whether more can be asked. A server that takes nothing has this wait here.
    fn takes_more(&self) -> Result<(), Refusal> {
        if let Some(why) = self.dismissed {
            let code = "not-allowed".to_owned();
            return Err(Refusal { code, message: why.to_owned(), details: Value::Null });
        }
        if let Some(why) = &self.over {
            return Err(lost(why));
        }
        if self.operator.unsent() < UNSENT_MOST {
            return Ok(());
        }
        let message = "the concentrator does not take what is asked, and too much waits already".to_owned();
        Err(Refusal { code: "too-many".to_owned(), message, details: Value::Null })
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over.is_some()
    }

    fn notice(
        &mut self,
        mut notice: Value,
        fleet: &Fleet,
        place: usize,
        events: &broadcast::Sender<Arc<Value>>,
    ) {
        match notice["event"].as_str().unwrap_or_default() {
            "console" => {
                let console = notice["console"].take();
                if !fleet.is_wanted(&console) {
                    self.streams.values_mut().for_each(|stream| stream.cut(&console["id"]));
                }
                fleet.console(place, console);
            }
            "console-gone" => fleet.gone(place, notice["id"].as_str().unwrap_or_default()),
            "synced" => fleet.synced(place),
            "rights" => fleet.rights(place, notice["rights"].as_str().unwrap_or_default()),
            "log" | "log-dropped" => {
                let _ = events.send(Arc::new(notice));
            }
            _ => {
                let stream = notice["stream"].as_u64();
                let of = self.streams.iter_mut().find(|(id, _)| Some(id.number()) == stream);
                if let Some((_, stream)) = of {
                    stream.told(notice);
                }
            }
        }
    }

    fn end(&mut self, why: &str) {
        self.over.get_or_insert_with(|| why.to_owned());
        // Whoever waits is told by the sender's end.
        self.answers.clear();
        for stream in self.streams.values_mut() {
            stream.is_gone = true;
            stream.woken.notify_one();
        }
    }
}

/// What a turn did.
enum Moved {
    In(usize),
    Out(usize),
    Nothing,
}

async fn wait(receiver: &mut oneshot::Receiver<Outcome>) -> Outcome {
    match tokio::time::timeout(ANSWER, receiver).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(lost("the connection to the concentrator was lost")),
        Err(_) => Err(lost("the concentrator does not answer")),
    }
}

/// A longer line would end the session, and with it everybody's consoles.
fn fits(fields: &Value) -> Result<(), Refusal> {
    if fields.to_string().len() < LINE_MAX - REST_OF_LINE {
        return Ok(());
    }
    let message = format!("what is asked for has more than {} bytes", LINE_MAX - REST_OF_LINE);
    Err(Refusal { code: "bad-request".to_owned(), message, details: Value::Null })
}

/// Room in a request's line for its number, its name and its stream's.
const REST_OF_LINE: usize = 256;

/// What is answered has fields, of which readers ask, and to which they add.
fn fields_of(answer: Value) -> Outcome {
    match answer {
        Value::Object(_) => Ok(answer),
        _ => Err(lost("the concentrator answers what is no answer")),
    }
}

fn lost(why: &str) -> Refusal {
    Refusal { code: "not-connected".to_owned(), message: why.to_owned(), details: Value::Null }
}

/// Copies what fits.
fn take(runs: &[IoSlice<'_>], out: &mut Vec<u8>) -> usize {
    for run in runs {
        let n = run.len().min(READ - out.len());
        out.extend_from_slice(&run[..n]);
    }
    out.len()
}

/// What TLS has to say of an ending is more than that it ended.
fn said(error: &io::Error) -> Option<String> {
    Some(error.to_string())
}

/// Bytes of requests that may wait to be sent.
const UNSENT_MOST: usize = 256 * 1024;
/// What this client calls itself.
const CLIENT: &str = concat!("vspc-web ", env!("CARGO_PKG_VERSION"));
/// Read and sent at a time.
const READ: usize = 32 * 1024;
/// How often a connection is looked after on which nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// How long an answer may take. A server answers from memory; this is for one that is stopped.
const ANSWER: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_any_more_is_forgotten_and_a_server_that_takes_nothing_is_not_asked_on() {
        let link = Arc::new(Link::new(&Value::Null));
        let left = || link.lock().answers.len();
        assert_eq!(left(), 1, "hello");
        let _ = tokio::time::timeout(Duration::from_secs(1), link.call("show", json!({}))).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), link.open("attach", json!({}))).await;
        assert_eq!((left(), link.is_used()), (1, false), "dropped");
        assert_eq!(link.call("show", json!({})).await.unwrap_err().code, "not-connected");
        assert_eq!(left(), 1, "timed out");
        let long = json!({"reason": "x".repeat(8 * 1024)});
        let mut asked = 0;
        while tokio::time::timeout(Duration::ZERO, link.call("break", long.clone())).await.is_err() {
            asked += 1;
            assert!(asked < 1000, "everything is taken");
        }
        assert_eq!(link.call("show", json!({})).await.unwrap_err().code, "too-many");
        assert_eq!(link.open("attach", json!({})).await.err().unwrap().code, "too-many");
    }
}
