//! Which segment belongs to which connection: a connection is a pair of endpoints from one SYN to the next.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::ip::Segment;
use super::stream::{Arrival, Assembler, Stream};
use super::{MAX_CONNECTIONS, Side};

/// One TCP connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its two endpoints, [`Side::A`]'s first.
    pub ends: [SocketAddr; 2],
    /// Who opened it, if the capture shows that.
    pub opened_by: Option<Side>,
    /// What each side sent, [`Side::A`]'s first.
    pub streams: [Stream; 2],
    /// The number and time of its first frame.
    pub first: (u64, Duration),
    /// The number and time of its last frame.
    pub last: (u64, Duration),
}

impl Connection {
    /// The endpoint of a side.
    #[must_use]
    pub(crate) fn end(&self, side: Side) -> SocketAddr {
        self.ends[side as usize]
    }

    /// What a side sent.
    #[must_use]
    pub(crate) fn stream(&self, side: Side) -> &Stream {
        &self.streams[side as usize]
    }

    /// Which side is the server, with `port` as its port: the one that did not open the connection, or,
    /// if that is not in the capture, the one with that port.
    #[must_use]
    pub(crate) fn server(&self, port: u16) -> Option<Side> {
        let has = |side| self.end(side).port() == port;
        match self.opened_by {
            Some(side) => has(side.other()).then(|| side.other()),
            None => [Side::B, Side::A].into_iter().find(|side| has(*side)),
        }
    }
}

/// All connections of a capture.
pub(super) struct Flows {
    port: u16,
    /// The newest connection of each pair of endpoints.
    newest: HashMap<[SocketAddr; 2], usize>,
    all: Vec<Flow>,
    crowded: u64,
}

struct Flow {
    ends: [SocketAddr; 2],
    opened_by: Option<Side>,
    halves: [Assembler; 2],
    first: (u64, Duration),
    last: (u64, Duration),
}

impl Flows {
    pub(super) fn new(port: u16) -> Self {
        Self { port, newest: HashMap::new(), all: Vec::new(), crowded: 0 }
    }

    /// Segments not looked at because there are too many connections.
    pub(super) fn crowded(&self) -> u64 {
        self.crowded
    }

    pub(super) fn take(
        &mut self,
        source: &SocketAddr,
        target: &SocketAddr,
        segment: &Segment<'_>,
        frame: u64,
        time: Duration,
    ) {
        let (ends, side) =
            if source <= target { ([*source, *target], Side::A) } else { ([*target, *source], Side::B) };
        let known = self.newest.get(&ends).copied();
        let index = match known {
            Some(index) if self.all[index].takes(side, segment, time) => index,
            _ => {
                // Nothing begins with a reset or a bare acknowledgement.
                if segment.rst || !segment.syn && segment.length == 0 && !segment.fin {
                    return;
                }
                if self.all.len() == MAX_CONNECTIONS {
                    self.crowded += 1;
                    return;
                }
                self.all.push(Flow::new(ends, frame, time));
                self.newest.insert(ends, self.all.len() - 1);
                self.all.len() - 1
            }
        };
        let limit = if ends.iter().any(|end| end.port() == self.port) { usize::MAX } else { PEEK };
        let flow = &mut self.all[index];
        flow.last = (frame, time);
        let [here, there] = [side as usize, side.other() as usize];
        if segment.syn {
            flow.opened_by.get_or_insert(if segment.ack.is_some() { side.other() } else { side });
            let shift = flow.halves[here].take_syn(segment.seq, time);
            flow.halves[there].shift_acks(shift);
        }
        let mut knows = i64::MIN;
        if let Some(ack) = segment.ack
            && !segment.rst
        {
            // Where the SYN that this answers is not in the capture, this says where its data begins.
            let syn = ack.wrapping_sub(1);
            if segment.syn && flow.halves[there].syn.is_none() && flow.halves[there].fits_syn(syn, time) {
                let shift = flow.halves[there].take_syn(syn, time);
                flow.halves[here].shift_acks(shift);
            }
            knows = flow.halves[there].take_ack(ack).unwrap_or(i64::MIN);
        }
        flow.halves[here].take(segment, Arrival { frame, time, knows }, limit);
    }

    pub(super) fn finish(self) -> Vec<Connection> {
        let connection = |flow: Flow| Connection {
            ends: flow.ends,
            opened_by: flow.opened_by,
            streams: flow.halves.map(Assembler::finish),
            first: flow.first,
            last: flow.last,
        };
        self.all.into_iter().map(connection).collect()
    }
}

impl Flow {
    fn new(ends: [SocketAddr; 2], frame: u64, time: Duration) -> Self {
        Self { ends, opened_by: None, halves: Default::default(), first: (frame, time), last: (frame, time) }
    }

    /// Whether a segment of `side` is of this connection, and not of a new one between the same endpoints.
    fn takes(&self, side: Side, segment: &Segment<'_>, time: Duration) -> bool {
        let half = &self.halves[side as usize];
        if segment.syn {
            return half.fits_syn(segment.seq, time);
        }
        if segment.rst || segment.length == 0 {
            return true;
        }
        let over = self.halves.iter().any(Assembler::ended);
        let idle = time.saturating_sub(half.last_time()) > IDLE;
        half.is_unknown() || half.near(segment.seq, if over || idle { NEAR } else { i64::MAX })
    }
}

/// Of connections on other ports this much of each direction is kept: an opening negotiation.
const PEEK: usize = 1024;

/// After its end, or a long silence, a connection's next bytes are not further off than this. A sequence
/// number further away is a new connection whose SYN was not captured.
const NEAR: i64 = 1 << 22;

/// Longer than any retransmission is apart from the one before.
const IDLE: Duration = Duration::from_secs(120);
