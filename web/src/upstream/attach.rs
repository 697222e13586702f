//! One stream of a connection: an attach to a console, or the reading of a log.
//!
//! Owns how its reader pulls bytes and puts notices where they belong among them. Dropped, it has left.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;
use vspc_core::mux::StreamId;

use super::Link;

/// What a connection knows of one of its streams.
pub(super) struct Stream {
    pub(super) woken: Arc<Notify>,
    notices: VecDeque<Value>,
    /// The stream was taken away, or the connection has ended.
    pub(super) is_gone: bool,
    /// Why the console it is of is none of its reader's any more, nor what has come already.
    refused: Option<&'static str>,
    /// The console's id.
    console: String,
}

impl Stream {
    pub(super) const fn new(woken: Arc<Notify>, console: String) -> Self {
        Self { woken, notices: VecDeque::new(), is_gone: false, refused: None, console }
    }

    /// This console is not for those who are here.
    pub(super) fn cut(&mut self, console: &Value) {
        if *console == self.console.as_str() {
            self.refuse("the console is not to be told from another VM's any more");
        }
    }

    /// Nothing of it is for its reader any more.
    pub(super) fn refuse(&mut self, why: &'static str) {
        self.refused.get_or_insert(why);
        self.woken.notify_one();
    }

    /// Something happened to it. Of two notices of one kind whose reader did not come the newer counts; what
    /// was missed adds up.
    pub(super) fn told(&mut self, notice: Value) {
        let kind = notice["event"].as_str().unwrap_or_default();
        let is_newest = matches!(kind, "state" | "access" | "present");
        if is_newest && let Some(old) = self.notices.iter_mut().find(|old| old["event"] == kind) {
            *old = notice;
        } else if self.notices.len() < NOTICES {
            self.notices.push_back(notice);
        }
        self.woken.notify_one();
    }
}

/// What came next.
pub(crate) enum Next {
    /// So many bytes were taken.
    Bytes,
    Notice(Value),
    /// Nothing now: [`Attach::woken`] tells when to look again.
    Nothing,
    /// The server has ended the stream.
    End,
    /// It is not for its reader any more, for this reason.
    Refused(&'static str),
    /// The connection has ended.
    Lost,
}

/// See above.
pub(crate) struct Attach {
    link: Arc<Link>,
    stream: StreamId,
    woken: Arc<Notify>,
    /// What it was granted with.
    pub(crate) answer: Value,
    /// Guest bytes of the epoch before what comes next.
    offset: u64,
}

impl Attach {
    pub(super) const fn new(link: Arc<Link>, stream: StreamId, woken: Arc<Notify>) -> Self {
        Self { link, stream, woken, answer: Value::Null, offset: 0 }
    }

    pub(super) fn granted(mut self, answer: Value) -> Self {
        self.offset = answer["offset"].as_u64().unwrap_or(0);
        self.answer = answer;
        self
    }

    /// Gives at most `most` bytes to `take`, or the next notice; notices of a gap at their place.
    pub(crate) fn next(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> Next {
        let mut state = self.link.lock();
        let state = &mut *state;
        let Some(stream) = state.streams.get_mut(&self.stream) else { return Next::Lost };
        if let Some(why) = stream.refused {
            return Next::Refused(why);
        }
        let mut most = most;
        if let Some(notice) = stream.notices.front() {
            match notice["event"].as_str() {
                // Said once the stream has ended.
                Some("detached") => {}
                Some("missed") => {
                    let at = notice["offset"].as_u64().unwrap_or(0);
                    let gap = at.saturating_sub(notice["bytes"].as_u64().unwrap_or(0));
                    if gap <= self.offset {
                        self.offset = at;
                        return stream.notices.pop_front().map_or(Next::Nothing, Next::Notice);
                    }
                    most = most.min(usize::try_from(gap - self.offset).unwrap_or(usize::MAX));
                }
                _ => return stream.notices.pop_front().map_or(Next::Nothing, Next::Notice),
            }
        }
        let mut taken = 0;
        let ended = state.operator.read(self.stream, most, |bytes| {
            taken += bytes.len();
            take(bytes);
        });
        self.offset = self.offset.saturating_add(taken as u64);
        if taken > 0 {
            // There may be more room for the server to send into.
            self.link.wake();
            if !ended && taken == most {
                stream.woken.notify_one();
            }
            if ended {
                stream.is_gone = true;
                stream.woken.notify_one();
            }
            return Next::Bytes;
        }
        if ended || stream.is_gone {
            return match stream.notices.pop_front() {
                Some(notice) => Next::Notice(notice),
                None if state.is_over() => Next::Lost,
                None => Next::End,
            };
        }
        Next::Nothing
    }

    /// Types what the server has room for; returns how much that was.
    pub(crate) fn write(&self, bytes: &[u8]) -> usize {
        let n = {
            let mut state = self.link.lock();
            if state.streams.get(&self.stream).is_some_and(|stream| stream.refused.is_some()) {
                return 0;
            }
            state.operator.write(self.stream, bytes)
        };
        if n > 0 {
            self.link.wake();
        }
        n
    }

    /// Why the console is none of its reader's any more, if it is not.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        self.link.lock().streams.get(&self.stream)?.refused
    }

    /// How much the server takes now; as much as at first: it has taken all that was typed.
    pub(crate) fn room(&self) -> usize {
        self.link.lock().operator.room(self.stream)
    }

    /// Waits until there may be something to do.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Asks something about this attach.
    pub(crate) async fn call(&self, op: &str, mut fields: Value) -> Result<Value, vspc_operator::Refusal> {
        fields["stream"] = self.stream.number().into();
        self.link.call(op, fields).await
    }
}

impl Drop for Attach {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.operator.leave(self.stream);
        state.streams.remove(&self.stream);
        drop(state);
        self.link.wake();
    }
}

/// Notices that a stalled reader is kept; what comes beyond is left out.
const NOTICES: usize = 32;
