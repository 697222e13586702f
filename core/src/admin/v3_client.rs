//! vSPC.py's query protocol, version 3, from the client's side: one list, or one console.
//!
//! **Owns** which step of one connection's dialogue it is. **Refuses to know** sockets, clocks and terminals.
//! **Implements** admin.md §3-§6; it takes whatever the real client takes, and more.
//!
//! ```text
//! state     what comes                says                      next
//! Version   number from 3 on          request is put            Status
//! Status    vm_found                                            Applied
//! Status    vm_not_found                                        Count
//! Status    lock_invalid, lock_failed LockInvalid, LockFailed   Ended
//! Applied   text                                                Seed
//! Seed      text, or a list of texts  Attached                  Telnet
//! Count     number                    Count                     Entries; 0: Ended
//! Entries   dictionary                Entry                     Entries; the last: Ended
//! Telnet    anything                  nothing: it stays in the input
//! Ended     anything                  nothing: it is taken and dropped
//! any       an exception, or anything else: an error            Ended
//! ```

use super::lock::LockMode;
use super::pickle::{self, PickleError, Unpickler, Value};
use super::v3::{VERSION, wire_name};

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum V3Answer {
    /// The console is ours; the connection is telnet's from here, in both directions.
    Attached {
        /// What the server says that was granted. [`LockMode::FreeForAllOrReadonly`] is how it says
        /// read-only.
        /// `None`: a word that nobody knows, which the real client ignores.
        applied: Option<LockMode>,
        /// What the console printed last; to be shown first.
        seed: String,
    },
    /// There is no such console, or none was asked for. So many entries follow.
    Count(u64),
    /// A console that there is.
    Entry(V3Entry),
    /// The server does not know that lock mode.
    LockInvalid,
    /// Others stand in the way.
    LockFailed,
}

/// A console in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V3Entry {
    /// The VM's name.
    pub name: String,
    /// Its UUID, as the server writes it.
    pub uuid: String,
    /// The port that clients may connect to, if there is one.
    pub port: Option<u16>,
}

/// Why the dialogue cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum V3ClientError {
    /// The server gave up and says why.
    #[error("the server says: {0}")]
    Peer(String),
    /// The server speaks another version, or none.
    #[error("{0} is no protocol version that can be spoken")]
    Version(Value),
    /// An answer that does not fit.
    #[error("{0} is no answer")]
    Unexpected(Value),
    /// What it sent is no pickle that is read here.
    #[error(transparent)]
    Pickle(#[from] PickleError),
}

/// One connection's dialogue, as the client sees it.
#[derive(Debug)]
pub struct V3Client {
    state: State,
    unpickler: Unpickler,
    name: Option<String>,
    lock: LockMode,
}

#[derive(Debug)]
enum State {
    Version,
    Status,
    Applied,
    Seed(Option<LockMode>),
    Count,
    Entries(u64),
    Telnet,
    Ended,
}

impl V3Client {
    /// Asks for the list. Appends the first bytes to `out`; nothing else is said until the server has spoken.
    pub fn list(out: &mut Vec<u8>) -> Self {
        Self::begin(None, LockMode::FreeForAllOrReadonly, out)
    }

    /// Asks for the console of that name or UUID. The protocol has no word for [`LockMode::Readonly`]:
    /// whoever asks for it may turn out to be a writer, and has to keep quiet.
    pub fn attach(name: impl Into<String>, lock: LockMode, out: &mut Vec<u8>) -> Self {
        Self::begin(Some(name.into()), lock, out)
    }

    fn begin(name: Option<String>, lock: LockMode, out: &mut Vec<u8>) -> Self {
        pickle::put_int(VERSION.into(), out);
        Self { state: State::Version, unpickler: Unpickler::with_exceptions(), name, lock }
    }

    /// Reads on; call it until it returns `None`. It takes what belongs to the dialogue and leaves telnet's
    /// bytes. What is to be sent is appended to `out`. Holds at most one message.
    pub fn receive(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Result<V3Answer, V3ClientError>> {
        loop {
            match self.state {
                State::Telnet => return None,
                State::Ended => {
                    *input = &[];
                    return None;
                }
                _ => {}
            }
            let step = match self.unpickler.feed(input) {
                Ok(value) => self.step(value?, out),
                Err(error) => Err(error.into()),
            };
            match step {
                Ok(None) => {}
                Ok(Some(answer)) => return Some(Ok(answer)),
                Err(error) => {
                    self.state = State::Ended;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Whether the connection is telnet's.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        matches!(self.state, State::Telnet)
    }

    /// Whether all was said: a server that ends the connection before that, and before [`Self::is_attached`],
    /// ended it too early.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn step(&mut self, value: Value, out: &mut Vec<u8>) -> Result<Option<V3Answer>, V3ClientError> {
        if let Value::Exception { text, .. } = &value {
            return Err(V3ClientError::Peer(text.to_string()));
        }
        let (next, answer) = match self.state {
            State::Version => {
                if value.to_int().is_none_or(|version| version < VERSION.into()) {
                    return Err(V3ClientError::Version(value));
                }
                match &self.name {
                    Some(name) => pickle::put_str(name, out),
                    None => pickle::put_none(out),
                }
                pickle::put_str(wire_name(self.lock), out);
                (State::Status, None)
            }
            State::Status => match value.as_str() {
                Some("vm_found") => (State::Applied, None),
                Some("vm_not_found") => (State::Count, None),
                Some("lock_invalid") => (State::Ended, Some(V3Answer::LockInvalid)),
                Some("lock_failed") => (State::Ended, Some(V3Answer::LockFailed)),
                _ => return Err(V3ClientError::Unexpected(value)),
            },
            State::Applied => (State::Seed(value.as_str().and_then(LockMode::from_name)), None),
            State::Seed(applied) => {
                let Some(seed) = text(&value) else { return Err(V3ClientError::Unexpected(value)) };
                (State::Telnet, Some(V3Answer::Attached { applied, seed }))
            }
            State::Count => match value.to_int().and_then(|count| u64::try_from(count).ok()) {
                Some(count) => (entries(count), Some(V3Answer::Count(count))),
                None => return Err(V3ClientError::Unexpected(value)),
            },
            State::Entries(left) => {
                let Value::Dict(_) = &value else { return Err(V3ClientError::Unexpected(value)) };
                let text = |key| value.item(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                let port = value.item("port").and_then(Value::to_int);
                let port = port.and_then(|port| u16::try_from(port).ok());
                let entry = V3Entry { name: text("name"), uuid: text("uuid"), port };
                (entries(left - 1), Some(V3Answer::Entry(entry)))
            }
            State::Telnet | State::Ended => return Ok(None),
        };
        self.state = next;
        Ok(answer)
    }
}

const fn entries(left: u64) -> State {
    if left == 0 { State::Ended } else { State::Entries(left) }
}

/// A text, or a list of texts.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.to_string()),
        Value::List(texts) => texts.iter().map(Value::as_str).collect(),
        _ => None,
    }
}
