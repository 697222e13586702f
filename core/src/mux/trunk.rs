//! A host's end of a line that has streams on it and may have text beside them: a session, SL under it where
//! the line loses bytes, and what of the line is neither.
//!
//! Owns what happens when a session ends: another one calls, again and again, for a guest may start at any
//! time. Refuses to know what streams carry.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use crate::time::Instant;

use super::config::Config;
use super::decoder::Dialect;
use super::error::ConfigError;
use super::event::{CloseReason, Event};
use super::link::{Link, LinkConfig, LinkEvent, carry};
use super::rest::Held;
use super::session::{Session, SessionState};
use super::sift::{LinkSift, RawSift, Told};

/// One end of such a line. See the [module](super) for what is done with its [session](Self::session).
#[derive(Debug)]
pub struct Trunk {
    session: Held,
    under: Under,
    /// The next session may call from then on; `None`: one calls, or is there.
    calls_at: Option<Instant>,
    called: Instant,
    /// The line is open.
    is_open: bool,
    /// This side has ended the session: frames of it may still come, and are nobody's.
    is_ended_here: bool,
}

#[derive(Debug)]
enum Under {
    /// Nothing while nothing of the line is held.
    Raw(Option<Box<RawSift>>),
    Link(Box<(Link, LinkSift)>),
}

impl Trunk {
    /// On a line that loses nothing and says when it opens and closes. It is closed at first. Many lines may
    /// have one configuration: its nonce and its seed do not count.
    ///
    /// # Errors
    ///
    /// Sizes that cannot work.
    pub fn raw(
        config: impl Into<Arc<Config>>,
        nonce: u32,
        seed: [u64; 2],
        now: Instant,
    ) -> Result<Self, ConfigError> {
        Ok(Self::new(Held::new(config.into(), nonce, seed, now)?, Under::Raw(None), now))
    }

    /// The same on a line that may lose bytes, in SL's frames.
    ///
    /// # Errors
    ///
    /// Sizes that cannot work.
    pub fn linked(
        config: impl Into<Arc<Config>>,
        nonce: u32,
        seed: [u64; 2],
        link: LinkConfig,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let sift = LinkSift::new(link.max_payload.into());
        let under = Under::Link(Box::new((Link::new(link), sift)));
        Ok(Self::new(Held::new(config.into(), nonce, seed, now)?, under, now))
    }

    const fn new(session: Held, under: Under, now: Instant) -> Self {
        Self { session, under, calls_at: None, called: now, is_open: false, is_ended_here: false }
    }

    /// Whether it has SL.
    #[must_use]
    pub const fn has_link(&self) -> bool {
        matches!(self.under, Under::Link(_))
    }

    /// The session: streams are opened, written and read there. After that there may be something to
    /// [transmit](Self::transmit_with).
    pub fn session(&mut self) -> &mut Session {
        self.session.wake()
    }

    /// Whether a guest has answered, and the session goes on.
    #[must_use]
    pub fn is_up(&self) -> bool {
        // One that rests is.
        self.session
            .awake()
            .is_none_or(|session| session.state == SessionState::Open && session.terms().is_some())
    }

    /// The line is there: a guest is called. With SL one that was called before may not have noticed that the
    /// line was away, and loses nothing; without it, all streams were reset when the line was
    /// [closed](Self::handle_closed).
    pub fn handle_opened(&mut self, now: Instant) {
        if std::mem::replace(&mut self.is_open, true) {
            return;
        }
        if let Under::Link(both) = &mut self.under {
            both.0.open(now);
        }
    }

    /// The line has closed, and what was under way on it is lost. Text that was waited with goes to `text`.
    pub fn handle_closed(&mut self, now: Instant, text: &mut Vec<u8>) {
        self.is_open = false;
        match &mut self.under {
            Under::Raw(sift) => {
                if let Some(mut sift) = sift.take() {
                    sift.reset(text);
                }
                if self.calls_at.is_none() {
                    self.session.wake().line_reopened(now);
                }
            }
            Under::Link(both) => both.1.reset(text),
        }
    }

    /// Bytes came from the line, cut anywhere. What is text goes to `text`. Work in proportion to `data`, and
    /// one copy of payload, into its stream's buffer.
    pub fn handle_received(&mut self, data: &[u8], now: Instant, text: &mut Vec<u8>) {
        match &mut self.under {
            Under::Link(both) => {
                both.1.handle_received(data, now, text);
                both.0.handle_received(data, now);
                self.handle_link(now);
            }
            Under::Raw(sift) => {
                let (session, sift) = (self.session.wake(), sift.get_or_insert_with(RawSift::boxed));
                let mut told = Told::new(data);
                while !told.rest().is_empty() {
                    let rest = told.rest();
                    if session.state != SessionState::Open {
                        if !self.is_ended_here {
                            sift.reset(text);
                            text.extend_from_slice(rest);
                        }
                        break;
                    }
                    if !session.handshake.is_settled() {
                        let n = session.greet_only(rest, now);
                        sift.before_hello(&rest[..n], text);
                        if session.handshake.is_settled() {
                            **sift = RawSift::new();
                        }
                        told.skip(n);
                        continue;
                    }
                    if session.dialect() == Some(Dialect::V1) {
                        // There all that comes is a message, of any length.
                        session.handle_received(rest, now);
                        told.skip(rest.len());
                        continue;
                    }
                    let piece = sift.piece(rest);
                    session.handle_received(&rest[..piece], now);
                    // Where the peer is not known any more, it was a HELLO.
                    if session.state == SessionState::Open && session.handshake.is_settled() {
                        sift.confirm(&mut told, piece, now);
                        debug_assert_eq!(sift.at_boundary(), session.reader.at_boundary(), "out of step");
                    } else if matches!(session.closed, Some(CloseReason::Violation(_))) {
                        sift.give_up(&mut told, piece, text);
                    } else {
                        // It was a frame, behind which there is nobody, or another one.
                        **sift = RawSift::new();
                        told.skip(piece);
                    }
                }
                sift.hold(told);
            }
        }
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Instant, text: &mut Vec<u8>) {
        if self.calls_at.is_some_and(|at| at <= now) {
            self.session.begin_anew(self.next_nonce(), now);
            self.calls_at = None;
            self.is_ended_here = false;
            self.called = now;
        }
        if let Some(session) = self.session.awake_mut() {
            session.handle_timeout(now);
        }
        match &mut self.under {
            Under::Raw(sift) => {
                if let Some(held) = sift {
                    held.handle_timeout(now, text);
                    if held.is_empty() {
                        *sift = None;
                    }
                }
            }
            Under::Link(both) => {
                both.1.handle_timeout(now, text);
                both.0.handle_timeout(now);
                self.handle_link(now);
            }
        }
        if self.session.awake().is_none_or(Session::is_silent) {
            self.rest();
        }
    }

    /// Lets the session rest before it has been silent for a while, if nothing of it is under way: it takes
    /// few bytes until it is used again, which costs work in proportion to its streams. `true`: it rests.
    pub fn rest(&mut self) -> bool {
        self.session.rest();
        let rests = self.session.awake().is_none();
        match &mut self.under {
            Under::Raw(sift) if rests && sift.as_ref().is_some_and(|sift| sift.is_empty()) => *sift = None,
            Under::Link(both) if rests => {
                both.0.shrink();
                both.1.shrink();
            }
            _ => {}
        }
        rests
    }

    /// Whether the session rests.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.session.awake().is_none()
    }

    /// When [`Self::handle_timeout`] is to be called at the latest. While the line is closed nothing is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_open {
            return None;
        }
        let under = match &self.under {
            Under::Raw(sift) => [sift.as_ref().and_then(|sift| sift.poll_timeout()), None],
            Under::Link(both) => [both.1.poll_timeout(), both.0.poll_timeout()],
        };
        let own = [self.session.awake().and_then(Session::poll_timeout), self.calls_at];
        own.into_iter().chain(under).flatten().min()
    }

    /// The next event of the session; after [`Event::Closed`] another session calls, a second after the last
    /// one did.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.session.awake_mut()?.poll_event()?;
        if let Event::Closed(_) = event {
            self.calls_at = Some(self.called + CALL_AGAIN);
        }
        Some(event)
    }

    /// Ends the session, for this reason; another one calls.
    pub fn end(&mut self) {
        self.is_ended_here = true;
        if let Under::Raw(sift) = &mut self.under {
            // Half a frame of it: the other half is nobody's.
            *sift = None;
        }
        self.session.wake().close();
    }

    /// Whether the session has anything to send, and the line is open.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.is_open && self.session.awake().is_some_and(Session::has_output)
    }

    /// Gives what goes next to `take`, as [`Session::transmit_with`] does. Nothing goes while the line is
    /// closed.
    pub fn transmit_with(&mut self, now: Instant, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> usize {
        if !self.is_open {
            return 0;
        }
        match &mut self.under {
            Under::Raw(_) => self.session.awake_mut().map_or(0, |session| session.transmit_with(now, take)),
            Under::Link(both) => {
                let link = &mut both.0;
                carry_awake(&mut self.session, link, now);
                link.transmit_with(now, |frame| take(&[IoSlice::new(frame)]))
            }
        }
    }

    /// Bytes of heap held.
    #[must_use]
    pub fn memory(&self) -> usize {
        let under = match &self.under {
            Under::Raw(sift) => sift.as_ref().map_or(0, |sift| size_of::<RawSift>() + sift.memory()),
            Under::Link(both) => size_of::<(Link, LinkSift)>() + both.0.memory() + both.1.memory(),
        };
        self.session.memory() + under
    }

    fn next_nonce(&self) -> u32 {
        match self.session.nonce() {
            0 => 0,
            nonce => nonce.wrapping_add(self.called.as_micros() as u32),
        }
    }

    fn handle_link(&mut self, now: Instant) {
        let Under::Link(both) = &mut self.under else { return };
        let link = &mut both.0;
        carry_awake(&mut self.session, link, now);
        while let Some(event) = link.poll_event() {
            match event {
                LinkEvent::Restarted => self.session.wake().line_reopened(now),
                LinkEvent::Ended => link.finish(),
                LinkEvent::Closed(_) => {
                    let rest = link.received().len();
                    link.consume(rest);
                    self.session.wake().line_reopened(now);
                    link.open(now);
                }
                _ => {}
            }
        }
        carry_awake(&mut self.session, link, now);
    }
}

/// Moves what can be moved; a session that rests has nothing, and is not woken for nothing.
fn carry_awake(held: &mut Held, link: &mut Link, now: Instant) {
    if held.awake().is_some() || !link.received().is_empty() {
        carry(held.wake(), link, now);
    }
}

/// Why a session ended, for people.
impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => f.write_str("it was ended here"),
            Self::Remote(code) => write!(f, "the guest has ended it ({code:?})"),
            Self::Violation(violation) => write!(f, "what came is no frame ({violation:?})"),
            Self::Version => f.write_str("no common version"),
            Self::Silent => f.write_str("the guest is silent"),
            Self::NotS2 => f.write_str("the other side speaks something else"),
            Self::NoHello => f.write_str("nobody has answered"),
            Self::Echo => f.write_str("the line is looped"),
            Self::Misuse => f.write_str("it was used wrongly"),
        }
    }
}

/// How long after one session has called the next one does, at the least: a guest that breaks each costs no
/// more than one HELLO a second.
const CALL_AGAIN: Duration = Duration::from_secs(1);
