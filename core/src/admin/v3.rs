//! vSPC.py's query protocol, version 3, from the server's side.
//!
//! **Owns** which step of one connection's dialogue it is, and what each answer looks like. **Refuses to
//! know** consoles, locks and clocks: it says what was asked and is told what to answer; deadlines are the
//! engine's ([`STEP_TIMEOUT`], [`SEED_TIMEOUT`]). **Implements** admin.md §3-§6.
//!
//! ```text
//! state     what comes                   says                          next
//! Version   number from 3 on             Hello; our version is put     Name
//! Version   number below 3               Refused; version, exception   Ended
//! Version   anything else                Refused; version, exception   Ended
//! Name      text or None                                               Lock
//! Name      anything else                Refused                       Ended
//! Lock      a pickle                     Request                       Asked
//! Lock      no pickle                    Refused                       Ended
//! Asked     anything                     nothing: it stays in the input
//! Asked     found()                                                    Seeded
//! Asked     not_found()                                                Listing
//! Asked     lock_invalid, lock_failed                                  Ended
//! Seeded    the first byte               Telnet: it stays in the input Telnet
//! Seeded    release()                                                  Telnet
//! Listing   entries(), to the last one                                 Ended
//! Telnet    anything                     nothing: it stays in the input
//! Ended     anything                     nothing: it is taken and dropped
//! ```

use std::borrow::Cow;
use std::time::Duration;

use super::lock::LockMode;
use super::pickle::{self, EntryText, PickleError, Unpickler, Value};

/// The version that is spoken here.
pub const VERSION: u8 = 3;

/// For how long the engine waits for the next step of a client. The real server gives 200 ms, which a
/// loaded link does not keep; the real client sends each step at once.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// For how long after the seed nothing is sent to a client that says nothing (admin.md §5). The real one
/// speaks at once, so this is for others.
pub const SEED_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest message that is read from a client. A VM's name has 80 characters at the most in vCenter, and
/// an escaped character ten bytes.
pub const REQUEST_LIMIT: usize = 4 << 10;

/// What a client asked for: one per connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V3Request {
    /// The name or UUID of a console, exactly as it is to be compared; `None`: the list of all.
    pub name: Option<String>,
    /// How it wants to attach; `Err` is what it said instead of a mode, for the log. It matters only if the
    /// console exists (admin.md §3).
    pub lock: Result<LockMode, String>,
}

/// What came of a client's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum V3Event {
    /// The client speaks a version that can be served; ours was put.
    Hello {
        /// As the client said it.
        version: i64,
    },
    /// Answer with [`V3Server::found`], [`V3Server::not_found`], [`V3Server::lock_invalid`] or
    /// [`V3Server::lock_failed`].
    Request(V3Request),
    /// The client has read the seed: the connection is telnet's from here, in both directions.
    Telnet,
    /// It cannot be served. What vSPC.py would say was put, if anything; end the connection once that is
    /// sent.
    Refused(V3Refusal),
}

/// Why a client cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum V3Refusal {
    /// It speaks an older version.
    #[error("protocol version {0} is too old")]
    OldVersion(i64),
    /// Its version is no number.
    #[error("{0} is no protocol version")]
    NotAVersion(Value),
    /// It asks for something that is no name.
    #[error("{0} is no console's name")]
    NotAName(Value),
    /// What it sent is no pickle that is read here.
    #[error(transparent)]
    Pickle(#[from] PickleError),
}

/// One client's dialogue, as the server sees it.
#[derive(Debug)]
pub struct V3Server {
    state: State,
    unpickler: Unpickler,
}

#[derive(Debug)]
enum State {
    Version,
    Name,
    Lock(Option<String>),
    Asked,
    Seeded,
    Telnet,
    Listing(Listing),
    Ended,
}

#[derive(Debug)]
struct Listing {
    /// How many entries the client still waits for.
    left: usize,
    /// The last that was put, to be repeated if there turn out to be fewer than were promised.
    last: Vec<u8>,
}

impl V3Server {
    /// Of a connection from which nothing was read.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Version, unpickler: Unpickler::with_limit(REQUEST_LIMIT) }
    }

    /// Reads on; call it until it returns `None`. It takes what belongs to the dialogue and leaves the rest:
    /// telnet's bytes, which are also those that come before an answer was given. What is to be sent is
    /// appended to `out`.
    pub fn receive(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Option<V3Event> {
        loop {
            match self.state {
                State::Asked | State::Telnet => return None,
                State::Listing(_) | State::Ended => {
                    *input = &[];
                    return None;
                }
                State::Seeded => {
                    if input.is_empty() {
                        return None;
                    }
                    self.state = State::Telnet;
                    return Some(V3Event::Telnet);
                }
                State::Version | State::Name | State::Lock(_) => {}
            }
            let value = match self.unpickler.feed(input) {
                Ok(value) => value?,
                Err(error) => return Some(self.refuse(V3Refusal::Pickle(error), out)),
            };
            match &mut self.state {
                State::Version => match value.to_int() {
                    None => return Some(self.refuse(V3Refusal::NotAVersion(value), out)),
                    Some(version) if version < VERSION.into() => {
                        return Some(self.refuse(V3Refusal::OldVersion(version), out));
                    }
                    Some(version) => {
                        pickle::put_int(VERSION.into(), out);
                        self.state = State::Name;
                        return Some(V3Event::Hello { version });
                    }
                },
                State::Name => {
                    let name = match value {
                        Value::None => None,
                        Value::Str(name) => Some(name.to_string()),
                        value => return Some(self.refuse(V3Refusal::NotAName(value), out)),
                    };
                    self.state = State::Lock(name);
                }
                State::Lock(name) => {
                    let request = V3Request { name: name.take(), lock: lock(&value) };
                    self.state = State::Asked;
                    return Some(V3Event::Request(request));
                }
                _ => return None,
            }
        }
    }

    /// The console exists and the lock was granted: the client is attached as `applied`, and `seed` is what
    /// it sees first ([`seed`]). Until [`V3Server::may_send`] nothing else may be sent.
    ///
    /// Does nothing if nothing was asked; so do the other answers.
    pub fn found(&mut self, applied: LockMode, seed: &str, out: &mut Vec<u8>) {
        if self.answer(State::Seeded) {
            pickle::put_str("vm_found", out);
            pickle::put_str(wire_name(applied), out);
            pickle::put_str(seed, out);
        }
    }

    /// There is no console of that name, or none was asked for: `count` entries follow, by
    /// [`V3Server::entries`].
    pub fn not_found(&mut self, count: usize, out: &mut Vec<u8>) {
        let next =
            if count == 0 { State::Ended } else { State::Listing(Listing { left: count, last: Vec::new() }) };
        if self.answer(next) {
            pickle::put_str("vm_not_found", out);
            pickle::put_int(i64::try_from(count).unwrap_or(i64::MAX), out);
        }
    }

    /// Appends entries while `out` has less than `room` bytes, so it ends at most one entry beyond. Returns
    /// whether the list is complete; the connection ends when it was sent.
    ///
    /// Exactly as many are sent as were promised, since the client has no use for a list that is cut. If
    /// `entries` has fewer, the last is repeated, at once; if it has more, the rest is left in it.
    pub fn entries<'e>(
        &mut self,
        entries: &mut impl Iterator<Item = EntryText<'e>>,
        room: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let State::Listing(listing) = &mut self.state else { return true };
        while listing.left > 0 && out.len() < room {
            if let Some(entry) = entries.next() {
                listing.last.clear();
                pickle::put_entry(entry, &mut listing.last);
            } else if listing.last.is_empty() {
                pickle::put_entry(EntryText { name: "", uuid: "", port: None }, &mut listing.last);
            }
            out.extend_from_slice(&listing.last);
            listing.left -= 1;
        }
        if listing.left > 0 {
            return false;
        }
        self.state = State::Ended;
        true
    }

    /// The console exists, but there is no such mode of locking.
    pub fn lock_invalid(&mut self, out: &mut Vec<u8>) {
        if self.answer(State::Ended) {
            pickle::put_str("lock_invalid", out);
        }
    }

    /// The console exists, but others stand in the way.
    pub fn lock_failed(&mut self, out: &mut Vec<u8>) {
        if self.answer(State::Ended) {
            pickle::put_str("lock_failed", out);
        }
    }

    /// [`SEED_TIMEOUT`] after the seed was sent and nothing was heard: output may flow.
    pub fn release(&mut self) {
        if matches!(self.state, State::Seeded) {
            self.state = State::Telnet;
        }
    }

    /// Whether the seed was put and the client has not shown yet that it has read it. What the VM prints
    /// has to wait: sent now, it may end up in a buffer that the client throws away (admin.md §5).
    #[must_use]
    pub const fn is_seeded(&self) -> bool {
        matches!(self.state, State::Seeded)
    }

    /// Whether the connection is telnet's: the console's output may be sent, the input is what the client
    /// types.
    #[must_use]
    pub const fn may_send(&self) -> bool {
        matches!(self.state, State::Telnet)
    }

    /// Whether the dialogue waits for the client, which has [`STEP_TIMEOUT`] for it.
    #[must_use]
    pub const fn waits_for_client(&self) -> bool {
        matches!(self.state, State::Version | State::Name | State::Lock(_))
    }

    /// Whether the last word was put: end the connection when it is sent.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Entries that the client has been promised and has not been sent.
    #[must_use]
    pub const fn entries_left(&self) -> usize {
        match &self.state {
            State::Listing(listing) => listing.left,
            _ => 0,
        }
    }

    /// About how many bytes of heap it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        let held = match &self.state {
            State::Lock(Some(name)) => name.capacity(),
            State::Listing(listing) => listing.last.capacity(),
            _ => 0,
        };
        held + self.unpickler.held()
    }

    /// Says so while the version is due, and ends without a word later, as vSPC.py does (admin.md §6).
    fn refuse(&mut self, refusal: V3Refusal, out: &mut Vec<u8>) -> V3Event {
        if matches!(self.state, State::Version) {
            match refusal {
                V3Refusal::OldVersion(_) => put_exception("No common version", out),
                _ => put_refusal(out),
            }
        }
        self.state = State::Ended;
        V3Event::Refused(refusal)
    }

    /// Goes to `next` if an answer is due.
    fn answer(&mut self, next: State) -> bool {
        let is_due = matches!(self.state, State::Asked);
        if is_due {
            self.state = next;
        }
        is_due
    }
}

impl Default for V3Server {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends what vSPC.py says to a client that it does not understand, or that says nothing: its version, and
/// an exception. Only for a connection on which nothing was sent.
pub fn put_refusal(out: &mut Vec<u8>) {
    put_exception("I don't understand", out);
}

fn put_exception(text: &str, out: &mut Vec<u8>) {
    pickle::put_int(VERSION.into(), out);
    pickle::put_exception(text, out);
}

/// The seed: the last `characters` of what a console printed, as the guest meant it. What is not UTF-8
/// becomes U+FFFD, and NULs are left out (admin.md §3). Costs as much as `printed` is long.
#[must_use]
pub fn seed(printed: &[u8], characters: usize) -> String {
    // No character has more than four bytes.
    let begin = printed.len().saturating_sub(characters.saturating_mul(4).saturating_add(3));
    let mut tail = &printed[begin..];
    if begin > 0 {
        // Not in the middle of a character.
        let rest = tail.iter().take(3).take_while(|&&byte| byte & 0xc0 == 0x80).count();
        tail = &tail[rest..];
    }
    let text = String::from_utf8_lossy(tail);
    let text: Cow<'_, str> = if text.contains('\0') { text.replace('\0', "").into() } else { text };
    let skip = text.chars().count().saturating_sub(characters);
    text.chars().skip(skip).collect()
}

/// How a lock that was granted is called on the wire: who can only watch has that of the mode that allows for
/// it (admin.md §7).
#[must_use]
pub const fn wire_name(applied: LockMode) -> &'static str {
    match applied {
        LockMode::Readonly => LockMode::FreeForAllOrReadonly.name(),
        mode => mode.name(),
    }
}

/// A mode that the protocol has.
fn lock(value: &Value) -> Result<LockMode, String> {
    let Some(name) = value.as_str() else { return Err(value.to_string()) };
    let mode = LockMode::from_name(name).filter(|&mode| mode != LockMode::Readonly);
    mode.ok_or_else(|| name.to_owned())
}
