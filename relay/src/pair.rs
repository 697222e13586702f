//! A connection that came in and the one that was made for it, and what goes between them.
//!
//! **Owns** how one's end becomes the other's. Bytes are read when the other side can take them, and at most
//! one buffer of a direction is held.
//!
//! | what happens on one side | what the other is told |
//! |---|---|
//! | it ends its half | the end of that half, behind the bytes before it; the other half goes on |
//! | both halves have ended | closed |
//! | it is reset, or does not answer any more | a reset, when its system has the bytes that were read before; at the latest after [`LAST_BYTES`] |
//! | the target is not reached | a reset at once: the host tries again |

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::Token;
use mio::event::Event;
use vspc_core::time::Instant;

use crate::buffers::Held;
use crate::dial::{Dial, Goal, Progress};
use crate::link::{Link, Received};
use crate::visit::{Next, World, seconds};

/// Two connections, or one and the way to the other.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The one that came in.
    near: Link,
    /// Who that is.
    peer: Box<str>,
    goal: Arc<Goal>,
    stage: Stage,
    there: Flow,
    back: Flow,
    since: Instant,
    /// When the first of the two failed.
    failed_at: Option<Instant>,
    /// Who ended first, and how.
    ended_by: Option<Box<str>>,
    /// It is to end then, or when what was read before is written.
    leaves_at: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    /// TLS with the one that came in is not up yet.
    Welcoming,
    Dialing(Box<Dial>),
    Open(Link),
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    held: Held,
    carried: u64,
}

impl Pair {
    /// A connection that came in, to be carried on to `goal`.
    pub(crate) fn new(near: Link, peer: String, goal: Arc<Goal>, now: Instant) -> Self {
        Self {
            near,
            peer: peer.into(),
            goal,
            stage: Stage::Welcoming,
            there: Flow::default(),
            back: Flow::default(),
            since: now,
            failed_at: None,
            ended_by: None,
            leaves_at: None,
        }
    }

    /// Has it end, after a moment in which what is on its way comes and is carried on.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.leaves_at = Some(now + LAST_WORDS);
    }

    /// Notes what the poller says about the one that came in (side 0), or about the other.
    pub(crate) fn note(&mut self, side: usize, event: &Event) {
        match (&mut self.stage, side) {
            (_, 0) => self.near.note(event),
            (Stage::Dialing(dial), _) => dial.note(event),
            (Stage::Open(far), _) => far.note(event),
            (Stage::Welcoming, _) => {}
        }
    }

    /// Does what can be done; at most [`ROUNDS`] buffers each way.
    pub(crate) fn visit(&mut self, world: &mut World<'_>) -> Next {
        if self.leaves_at.is_some() && !matches!(self.stage, Stage::Open(_)) {
            return Next::Over;
        }
        loop {
            let next = match &mut self.stage {
                Stage::Welcoming => self.welcome(world),
                Stage::Dialing(_) => self.dial(world),
                Stage::Open(_) => return self.carry(world),
            };
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// Says in the log how it went. To be called when it is over, or the relay is.
    pub(crate) fn tell(&self, now: Instant) {
        let Self { peer, goal, there, back, .. } = self;
        let to = &goal.endpoint;
        match (&self.stage, &self.ended_by) {
            (Stage::Open(_), by) => log::info!(
                "{peer} to {to}: {} bytes there, {} back, in {}; {}",
                there.carried,
                back.carried,
                seconds(now.duration_since(self.since)),
                by.as_deref().unwrap_or("ended by this relay")
            ),
            (_, Some(why)) => log::warn!("{peer} is not carried to {to}: {why}"),
            (_, None) => log::info!("{peer} is not carried to {to}: it ended before that"),
        }
    }

    /// Closes both.
    pub(crate) fn close(self) {
        match self.stage {
            Stage::Open(far) if self.failed_at.is_some() => {
                far.reset();
                self.near.reset();
            }
            Stage::Open(_) => {}
            Stage::Welcoming | Stage::Dialing(_) => self.near.reset(),
        }
    }

    /// TLS with the one that came in. `None`: it is up.
    fn welcome(&mut self, world: &mut World<'_>) -> Option<Next> {
        let until = self.since + WELCOME;
        match self.near.shake_hands() {
            Ok(true) => {
                let token = Token(world.id * 2 + 1);
                let mut dial = Dial::new(Arc::clone(&self.goal), token, world.now);
                if self.goal.is_told_for_whom {
                    dial = dial.with_header(proxy_header(self.near.ends()).into_bytes().into());
                }
                self.stage = Stage::Dialing(Box::new(dial));
                return None;
            }
            Ok(false) if world.now < until => return Some(Next::Wait(Some(until))),
            Ok(false) => self.ended_by = Some("its handshake of TLS is not over in time".into()),
            Err(error) => self.ended_by = Some(error.to_string().into()),
        }
        Some(Next::Over)
    }

    /// The way to the target. `None`: it is reached.
    fn dial(&mut self, world: &mut World<'_>) -> Option<Next> {
        let Stage::Dialing(dial) = &mut self.stage else { return None };
        if self.near.failure().is_some() {
            return Some(Next::Over);
        }
        match dial.advance(world) {
            Progress::Reached(far) => {
                self.stage = Stage::Open(far);
                None
            }
            Progress::Waiting(until) => Some(Next::Wait(Some(until))),
            Progress::Failed(why) => {
                self.ended_by = Some(why.into());
                Some(Next::Over)
            }
        }
    }

    /// Carries bytes both ways, and ends.
    fn carry(&mut self, world: &mut World<'_>) -> Next {
        let Stage::Open(far) = &mut self.stage else { return Next::Over };
        let near = &mut self.near;
        near.flush();
        far.flush();
        let mut has_more = true;
        for _ in 0..ROUNDS {
            has_more = self.there.carry(near, far, world) | self.back.carry(far, near, world);
            if !has_more {
                break;
            }
        }
        if self.ended_by.is_none() {
            self.ended_by = match (near.failure(), far.failure(), near.has_ended(), far.has_ended()) {
                (Some(_), ..) => Some(format!("{}: {}", self.peer, near.failure_in_words()).into()),
                (_, Some(_), ..) => Some(format!("the target: {}", far.failure_in_words()).into()),
                (_, _, true, _) => Some(format!("{} ended first", self.peer).into()),
                (_, _, _, true) => Some("the target ended first".into()),
                _ => None,
            };
        }
        if near.failure().is_some() || far.failure().is_some() {
            return self.fail(has_more, world.now);
        }
        if near.is_finished() && far.is_finished() {
            return Next::Over;
        }
        if let Some(at) = self.leaves_at
            && !has_more
            && self.there.held.is_empty()
            && self.back.held.is_empty()
        {
            if at > world.now {
                return Next::Wait(Some(at));
            }
            near.finish();
            far.finish();
            return Next::Over;
        }
        if has_more { Next::Again } else { Next::Wait(None) }
    }

    /// One of the two is broken: the other is reset when its system has what came before.
    fn fail(&mut self, has_more: bool, now: Instant) -> Next {
        let Stage::Open(far) = &self.stage else { return Next::Over };
        let until = *self.failed_at.get_or_insert(now) + LAST_BYTES;
        let (broken, other, flow) = match self.near.failure() {
            Some(_) => (&self.near, far, &self.there),
            None => (far, &self.near, &self.back),
        };
        let is_all_sent = broken.has_ended() && flow.held.is_empty();
        let is_over = other.failure().is_some() || is_all_sent && other.is_acknowledged();
        match () {
            () if is_over || now >= until => Next::Over,
            () if has_more => Next::Again,
            // The kernel does not tell of acknowledgements: it is asked.
            () if is_all_sent => Next::Wait(Some(until.min(now + ASK_AGAIN))),
            () => Next::Wait(Some(until)),
        }
    }
}

impl Flow {
    /// Moves one buffer at most. Returns whether there may be more.
    fn carry(&mut self, from: &mut Link, to: &mut Link, world: &mut World<'_>) -> bool {
        if !self.held.is_empty() {
            let n = to.send(self.held.bytes());
            self.held.took(n, world.buffers);
            if !self.held.is_empty() {
                return false;
            }
        }
        if from.has_ended() {
            if from.failure().is_none() {
                to.finish();
            }
            return false;
        }
        // What nobody can take is not read.
        if !from.can_receive() || !to.can_send() {
            return false;
        }
        let mut buffer = world.buffers.take();
        match from.receive(&mut buffer) {
            Received::Bytes(n) => {
                self.carried += n as u64;
                let sent = to.send(&buffer[..n]);
                if sent < n {
                    self.held = world.buffers.hold(buffer, sent, n);
                    return false;
                }
                world.buffers.put(buffer);
                from.can_receive()
            }
            Received::Nothing => {
                world.buffers.put(buffer);
                false
            }
            Received::End => {
                world.buffers.put(buffer);
                if from.failure().is_none() {
                    to.finish();
                }
                false
            }
        }
    }
}

/// The header by which a target learns who has connected to the relay, and where: version 1 of the PROXY
/// protocol.
fn proxy_header(ends: Option<(SocketAddr, SocketAddr)>) -> String {
    let canonical = |end: SocketAddr| (end.ip().to_canonical(), end.port());
    match ends.map(|(from, to)| (canonical(from), canonical(to))) {
        Some(((from @ IpAddr::V4(_), port), (to @ IpAddr::V4(_), at))) => {
            format!("PROXY TCP4 {from} {to} {port} {at}\r\n")
        }
        Some(((from @ IpAddr::V6(_), port), (to @ IpAddr::V6(_), at))) => {
            format!("PROXY TCP6 {from} {to} {port} {at}\r\n")
        }
        // Who comes by a unix socket or vsock has no address that could be said.
        _ => "PROXY UNKNOWN\r\n".to_owned(),
    }
}

/// Buffers that one visit moves each way, before others have their turn.
const ROUNDS: usize = 4;

/// How long TLS with the one that came in may take.
const WELCOME: Duration = Duration::from_secs(10);

/// How long a side has for what came before the other's reset: less than the 5 s that a host waits in a move.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// For how long a relay that ends carries on what comes.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(100);

/// How often the kernel is asked whether these bytes have arrived.
const ASK_AGAIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_who_has_connected_and_where() {
        let header = |from: &str, to: &str| proxy_header(Some((from.parse().unwrap(), to.parse().unwrap())));
        assert_eq!(header("10.0.0.7:5", "10.0.0.1:13370"), "PROXY TCP4 10.0.0.7 10.0.0.1 5 13370\r\n");
        assert_eq!(
            header("[::ffff:10.0.0.7]:5", "[::ffff:10.0.0.1]:1"),
            "PROXY TCP4 10.0.0.7 10.0.0.1 5 1\r\n"
        );
        assert_eq!(header("[fe80::7]:5", "[fe80::1]:1"), "PROXY TCP6 fe80::7 fe80::1 5 1\r\n");
        assert_eq!(proxy_header(None), "PROXY UNKNOWN\r\n");
    }
}
