//! The agent in a VM, at the other end of a console's line: its session, what its streams are, its facts.
//!
//! **Owns** what is said to it on the host's behalf (hello, the answers to what it announces) and what it has
//! told. **Refuses to know** consoles and operators beyond their ids: who is fed by a stream, and who feeds
//! it, is told by [`Carried`].
//!
//! `guest/config.rs` has how its line is used, `guest/reading.rs` how what it says is read.

mod config;
mod reading;

use std::collections::VecDeque;
use std::sync::Arc;

use rand_chacha::rand_core::Rng;
use vspc_guest::{Announcement, Code, Facts, Greeting, LineBuffer, Listener, MAX_LINE, Refusal};

use crate::mux::link::LinkConfig;
use crate::mux::{Dialect, Event, Priority, Received, ResetReason, StreamId, Trunk};
use crate::time::Instant;

use super::carried::{Carried, CarriedStreams, Hello, Joined};
use super::interpreted::Interpreted;
use super::label::Label;

use config::SIZES;
pub use config::{GuestKey, Mux, NoMux};

/// Numbers that nobody can foresee, for one guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    pub(super) nonces: [u32; 2],
    pub(super) seed: [u64; 2],
}

impl Chance {
    pub(super) fn of(rng: &mut impl Rng) -> Self {
        let mut number = || rng.next_u64();
        Self { nonces: [number() as u32, number() as u32], seed: [number(), number()] }
    }
}

/// Who has answered.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Which program it is.
    pub(super) agent: Box<str>,
    /// The words of `op` that it allows.
    pub(super) may: Box<[Box<str>]>,
}

impl Known {
    fn of(guest: vspc_guest::Guest) -> Self {
        Self { agent: guest.agent.into(), may: guest.may.into_iter().map(Into::into).collect() }
    }
}

/// What came of a guest's words.
#[derive(Debug)]
pub(super) enum News {
    /// It has said who it is.
    Up,
    /// Its session is over, for this reason. One that was never up, and is over for the same reason as the
    /// last, is not told of.
    Down(String),
    /// It has announced this.
    Announced(StreamId, Announcement),
    /// There is something to read on a stream that feeds a console or is joined, or its end.
    Said(StreamId),
    /// Such a stream takes bytes again.
    Room(StreamId),
    /// A stream is gone; whether in good order.
    Gone(Carried, bool),
    /// These facts have changed.
    Told(Vec<String>),
    /// It speaks hyperstart's protocol.
    Hyperstart,
}

/// One guest.
#[derive(Debug)]
pub(super) struct Guest {
    /// The line; where that is hyperstart's, the way to who interprets it.
    pub(super) trunk: Trunk,
    pub(super) interpreted: Option<Box<Interpreted>>,
    pub(super) mux: Mux,
    /// Its logs are asked for packed.
    pub(super) packs: bool,
    /// A packed log was left with blocks to be unpacked.
    pub(super) is_behind: bool,
    /// As which it is listed among those that are awake; 0: it is not.
    pub(super) awake_as: u32,
    key: Option<GuestKey>,
    /// What its console was called when its streams' were called after that.
    called: Option<Arc<Label>>,
    met: Met,
    pub(super) streams: CarriedStreams,
    told: Listener,
    own: Facts,
    /// Nothing while nothing is.
    unheard: Option<Box<Unheard>>,
}

/// Who is at the other end.
#[derive(Debug)]
enum Met {
    /// Nobody who has answered, and why the last session ended before that, if one did.
    Nobody(Option<Box<str>>),
    Agent(Known),
}

/// What came of a guest's words and was not told yet.
#[derive(Debug, Default)]
struct Unheard {
    news: VecDeque<News>,
    /// Why the session was ended here.
    complaint: Option<Box<str>>,
}

impl Guest {
    /// A guest that was not heard of yet, on a line that is closed.
    pub(super) fn new(mux: Mux, key: Option<&GuestKey>, chance: Chance, now: Instant) -> Self {
        let nonce = chance.nonces[0] | 1;
        let trunk = match mux {
            Mux::S2OverSl => {
                let link = LinkConfig::new(chance.nonces[1] | 1);
                Trunk::linked(Arc::clone(&SIZES[1]), nonce, chance.seed, link, now)
            }
            Mux::S2 | Mux::V1 | Mux::V1Control | Mux::Auto => {
                Trunk::raw(Arc::clone(&SIZES[0]), nonce, chance.seed, now)
            }
        };
        Self {
            trunk: trunk.expect("a test makes one of each"),
            interpreted: (mux == Mux::V1).then(|| Box::new(Interpreted::new(chance, now))),
            mux,
            packs: false,
            is_behind: false,
            awake_as: 0,
            key: key.cloned(),
            called: None,
            met: Met::Nobody(None),
            streams: CarriedStreams::default(),
            told: Listener::default(),
            own: Facts::default(),
            unheard: None,
        }
    }

    /// What it has to know from its next hello on.
    pub(super) fn set_key(&mut self, key: Option<&GuestKey>) {
        if self.key.as_ref() != key {
            self.key = key.cloned();
            self.complain("what it has to know is not what it was");
        }
    }

    /// This news is to be heard later, before all other.
    pub(super) fn put_back(&mut self, news: News) {
        self.unheard.get_or_insert_default().news.push_front(news);
    }

    fn tell_of(&mut self, news: News) {
        self.unheard.get_or_insert_default().news.push_back(news);
    }

    /// Whether its console was called so the last time; it is from now on. Another label may say the same.
    pub(super) fn is_called(&mut self, label: &Arc<Label>) -> bool {
        let is_same = self.called.as_ref().is_some_and(|called| Arc::ptr_eq(called, label));
        if !is_same {
            self.called = Some(Arc::clone(label));
        }
        is_same
    }

    /// Who it is, once it has said so.
    pub(super) fn agent(&self) -> Option<&Known> {
        match &self.met {
            Met::Agent(agent) => Some(agent),
            Met::Nobody(_) => None,
        }
    }

    /// Nothing but frames may be sent on its line now.
    pub(super) fn owns_line(&self) -> bool {
        self.interpreted.is_some() || self.mux != Mux::S2OverSl && self.trunk.is_up()
    }

    /// Nothing but its session's frames goes over its line now, and those can be had one after the other as
    /// they are: SL's are small and are put together first, and so is what an interpreter says.
    pub(super) fn is_frames_alone(&self) -> bool {
        self.interpreted.is_none() && self.owns_line()
    }

    /// What it has told of itself.
    pub(super) fn told(&self) -> &Facts {
        self.told.facts()
    }

    /// What it is told.
    pub(super) fn own(&self) -> &Facts {
        &self.own
    }

    pub(super) fn carried(&self, id: StreamId) -> Option<&Carried> {
        self.streams.get(id)
    }

    /// Every stream.
    pub(super) fn streams(&self) -> impl Iterator<Item = (StreamId, &Carried)> {
        self.streams.iter()
    }

    /// The next thing that came of its words; to be asked until there is none. It is told that this server
    /// is there; `chance` gives bytes that nobody can foresee.
    pub(super) fn poll(&mut self, server: &str, chance: &mut dyn FnMut() -> [u8; 32]) -> Option<News> {
        let mut ahead = None;
        loop {
            if let Some(unheard) = &mut self.unheard
                && ahead.is_none()
            {
                if let Some(news) = unheard.news.pop_front() {
                    return Some(news);
                }
                if unheard.complaint.is_none() {
                    self.unheard = None;
                }
            }
            let event = match ahead.take() {
                Some(event) => event,
                None => self.trunk.poll_event()?,
            };
            match event {
                Event::Started(terms) | Event::Restarted(terms) => {
                    // The ends of the old streams come first; new ones begin at the same ids.
                    ahead = self.trunk.poll_event();
                    while matches!(ahead, Some(Event::Reset(..))) {
                        ahead = self.trunk.poll_event();
                    }
                    self.lose_all("it has started anew");
                    if terms.dialect == Dialect::S2 {
                        self.say_hello(server, chance());
                    } else if self.mux == Mux::Auto {
                        return Some(News::Hyperstart);
                    } else {
                        self.complain("it speaks hyperstart's protocol: that is mux=v1");
                    }
                }
                Event::Opened(id) => {
                    self.streams.set(id, Carried::Unread(Box::new(LineBuffer::new(MAX_LINE))));
                }
                Event::Readable(id) => match self.streams.get(id) {
                    Some(Carried::Leg { .. } | Carried::Joined(_)) => return Some(News::Said(id)),
                    _ => self.read(id),
                },
                Event::Writable(id) | Event::Credit(id) => match self.streams.get(id) {
                    Some(Carried::Facts(_)) => self.tell(),
                    Some(Carried::Leg { .. } | Carried::Joined(_) | Carried::Window(_)) => {
                        return Some(News::Room(id));
                    }
                    _ => {}
                },
                // It is another one, or will be.
                Event::Reset(_, ResetReason::Restarted) => self.lose_all("it has started anew"),
                Event::Reset(id, why) => {
                    let is_hello = matches!(self.streams.get(id), Some(Carried::Hello(_)));
                    if is_hello && self.agent().is_none() && why == ResetReason::Remote {
                        self.complain("it does not let us say hello");
                    }
                    self.lose(id, false);
                }
                Event::Retired(id) => self.lose(id, true),
                Event::Closed(why) => {
                    let complaint = self.unheard.as_mut().and_then(|unheard| unheard.complaint.take());
                    self.note_down(complaint.unwrap_or_else(|| why.to_string().into()));
                }
                _ => {}
            }
        }
    }

    /// What was under way on its line is lost. With SL that finds out by itself whether its guest is another
    /// one, and loses nothing otherwise. Text that was waited with goes to `text`.
    pub(super) fn handle_closed(&mut self, now: Instant, text: &mut Vec<u8>) {
        self.close_interpreted(now);
        self.trunk.handle_closed(now, text);
        if self.mux != Mux::S2OverSl {
            self.lose_all("its line is gone");
        }
    }

    /// Its session is over, for this reason.
    pub(super) fn note_down(&mut self, why: Box<str>) {
        let is_news = matches!(&self.met, Met::Nobody(last) if last.as_ref() != Some(&why));
        self.lose_all(&why);
        if is_news {
            self.tell_of(News::Down(why.to_string()));
        }
        self.met = Met::Nobody(Some(why));
    }

    /// All that it has here ends.
    pub(super) fn lose_all(&mut self, why: &str) {
        for (id, carried) in self.streams.take() {
            // One that we have opened meanwhile has not reached it.
            if !id.is_guests() {
                let _ = self.trunk.session().reset(id);
            }
            self.tell_of(News::Gone(carried, false));
        }
        if self.agent().is_some() {
            self.met = Met::Nobody(None);
            self.tell_of(News::Down(why.to_owned()));
        }
    }

    fn lose(&mut self, id: StreamId, in_order: bool) {
        let Some(carried) = self.streams.remove(id) else { return };
        if matches!(carried, Carried::Leg { .. }) {
            self.end_window(id);
        }
        self.tell_of(News::Gone(carried, in_order));
    }

    /// Ends the session, for this reason; another one calls.
    fn complain(&mut self, why: &str) {
        self.unheard.get_or_insert_default().complaint = Some(why.into());
        self.trunk.end();
    }

    fn say_hello(&mut self, server: &str, nonce: [u8; 32]) {
        let greeting = Greeting::new(self.key.as_ref().and_then(GuestKey::secret), nonce);
        let header = greeting.header(server);
        let Ok(id) = self.trunk.session().open() else { return };
        let _ = self.trunk.session().set_priority(id, Priority::High);
        let _ = self.trunk.session().write(id, &header);
        let hello = Hello { greeting, line: LineBuffer::new(MAX_LINE), half_known: None };
        self.streams.set(id, Carried::Hello(Box::new(hello)));
    }

    /// Answers that this may not be.
    pub(super) fn refuse(&mut self, id: StreamId, refusal: &Refusal) {
        let session = self.trunk.session();
        let _ = session.write(id, &refusal.line());
        let _ = session.finish(id);
        let _ = session.stop_reading(id);
        self.streams.set(id, Carried::Over);
    }

    /// A stream that was announced is this from now on, and the guest is answered this.
    pub(super) fn accept(&mut self, id: StreamId, carried: Carried, ok: &[u8]) {
        if matches!(carried, Carried::Leg { .. }) {
            // What people type goes ahead of what programs send.
            let _ = self.trunk.session().set_priority(id, Priority::High);
            // It lives as long as the guest: what windows grow by is for those who come and go.
            let _ = self.trunk.session().keep_window(id);
        }
        let _ = self.trunk.session().write(id, ok);
        self.streams.set(id, carried);
    }

    /// A stream that was announced is this from now on, and is answered by somebody else.
    pub(super) fn set(&mut self, id: StreamId, carried: Carried) {
        self.streams.set(id, carried);
    }

    /// Opens a stream for an operator.
    ///
    /// # Errors
    ///
    /// There are as many as there may be, or the guest takes none.
    pub(super) fn open(&mut self, joined: Joined, header: &[u8]) -> Result<StreamId, Refusal> {
        let too_many = |_| Refusal::new(Code::TOO_MANY, "the guest's line carries as many streams as it may");
        let id = self.trunk.session().open().map_err(too_many)?;
        let priority = match &*joined.op {
            "put" | "get" => Priority::Low,
            "connect" | "exec" | "container" | "command" => Priority::Normal,
            _ => Priority::High,
        };
        let _ = self.trunk.session().set_priority(id, priority);
        let _ = self.trunk.session().write(id, header);
        self.streams.set(id, Carried::Joined(Box::new(joined)));
        Ok(id)
    }

    /// Nobody wants this stream any more.
    pub(super) fn reset(&mut self, id: StreamId) {
        if let Some(carried) = self.streams.get_mut(id) {
            *carried = Carried::Over;
            let _ = self.trunk.session().reset(id);
        }
    }

    /// Both have said all on this stream, as far as this side goes.
    pub(super) fn is_over(&mut self, id: StreamId) {
        self.end_window(id);
        self.streams.set(id, Carried::Over);
    }

    /// Sets a fact for the guest to read; `None`: takes it back. Whether that is news.
    ///
    /// # Errors
    ///
    /// It is no fact, or there are as many as there may be.
    pub(super) fn set_own(&mut self, key: &str, value: Option<&str>) -> Result<bool, Refusal> {
        let is_news = match value {
            Some(value) => self.own.set(key, value)?,
            None => self.own.unset(key),
        };
        if is_news && let Some((_, facts)) = self.streams.facts() {
            facts.teller.handle_changed(&self.own, key);
            self.tell();
        }
        Ok(is_news)
    }

    /// Tells the guest what it is to know, as far as it takes that.
    fn tell(&mut self) {
        let Some((id, facts)) = self.streams.facts() else { return };
        loop {
            if facts.unsaid.is_empty() {
                // Nor is its memory kept.
                facts.unsaid = facts.teller.poll(&self.own).unwrap_or_default();
                if facts.unsaid.is_empty() {
                    return;
                }
            }
            let taken = self.trunk.session().write(id, &facts.unsaid).unwrap_or(facts.unsaid.len());
            facts.unsaid.drain(..taken);
            if !facts.unsaid.is_empty() {
                return;
            }
        }
    }

    /// Of those who have connected to the guest and were not taken, the next to be given up, and when.
    pub(super) fn next_untaken(&self) -> Option<(StreamId, Instant)> {
        let waiting = self.streams.iter().filter_map(|(id, carried)| match carried {
            Carried::Waiting(waiting) => Some((id, waiting.until)),
            _ => None,
        });
        waiting.min_by_key(|&(_, until)| until)
    }

    /// Bytes that may be written to a stream now and leave at once; a [`News::Room`] comes where that is 0.
    pub(super) fn room(&mut self, id: StreamId) -> usize {
        let credit = self.trunk.session().credit(id);
        if credit == 0 {
            let _ = self.trunk.session().want_credit(id);
        }
        credit
    }

    /// Gives up to `most` bytes of a stream on, in pieces as they lie there; how many, and whether that
    /// was its end.
    pub(super) fn take(&mut self, id: StreamId, most: usize, mut to: impl FnMut(&[u8])) -> (usize, bool) {
        let session = self.trunk.session();
        let mut taken = 0;
        while taken < most {
            let n = session.take_runs(id, most - taken, &mut to);
            if n == 0 {
                break;
            }
            taken += n;
        }
        (taken, matches!(session.received(id), Ok(Received::End)))
    }
}
