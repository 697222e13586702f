//! A serial line in simulated time, and the two ends on it.
//!
//! Owns time, chance and the bytes on their way. A line takes a few bytes at a time (its FIFO), sends them at
//! its speed, damages them, and delivers them after a delay; nothing is queued between an end and its line.

use std::collections::VecDeque;
use std::time::Duration;

use vspc_core::mux::Session;
use vspc_core::mux::link::{Link, LinkEvent, carry};
use vspc_core::time::Instant;

use crate::random::Random;

/// What a line does to bytes, as chances per byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damage {
    pub(super) drop: f64,
    pub(super) flip: f64,
    pub(super) insert: f64,
}

/// One direction of a line.
#[derive(Debug)]
pub(super) struct Line {
    /// Nanoseconds per byte.
    byte_time: u64,
    delay: Duration,
    fifo: usize,
    damage: Damage,
    /// In nanoseconds, so that no speed is rounded.
    free_at: u64,
    on_the_way: VecDeque<(Instant, Vec<u8>)>,
    pub(super) carried: u64,
    pub(super) damaged: u64,
}

impl Line {
    pub(super) fn new(bytes_per_second: f64, delay: Duration, fifo: usize, damage: Damage) -> Self {
        Self {
            byte_time: (1e9 / bytes_per_second) as u64,
            delay,
            fifo: fifo.max(1),
            damage,
            free_at: 0,
            on_the_way: VecDeque::new(),
            carried: 0,
            damaged: 0,
        }
    }

    fn is_free(&self, now: Instant) -> bool {
        self.free_at <= now.as_micros() * 1000
    }

    fn put(&mut self, bytes: &[u8], chance: &mut Random, now: Instant) {
        self.free_at =
            self.free_at.max(now.as_micros().saturating_sub(1) * 1000) + bytes.len() as u64 * self.byte_time;
        self.carried += bytes.len() as u64;
        let Damage { drop, flip, insert } = self.damage;
        let mut out = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            let roll = if drop + flip + insert > 0.0 { chance.unit() } else { 1.0 };
            if roll >= drop + flip + insert {
                out.push(byte);
                continue;
            }
            self.damaged += 1;
            if roll < flip {
                out.push(byte ^ (1 << (chance.next() % 8)));
            } else if roll < flip + insert {
                out.extend([chance.next() as u8, byte]);
            }
        }
        let at = Instant::from_micros(self.free_at.div_ceil(1000)) + self.delay;
        self.on_the_way.push_back((at, out));
    }
}

/// One end: a session, on the line or on a link.
#[derive(Debug)]
pub(super) struct End {
    pub(super) session: Session,
    pub(super) link: Option<Link>,
}

impl End {
    fn pull(&mut self, limit: usize, now: Instant) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |run: &[u8]| {
            let n = run.len().min(limit - bytes.len());
            bytes.extend_from_slice(&run[..n]);
            n
        };
        match &mut self.link {
            Some(link) => {
                carry(&mut self.session, link, now);
                link.transmit_with(now, put);
            }
            None => {
                self.session.transmit_with(now, |runs| runs.iter().map(|run| put(run)).sum());
            }
        }
        bytes
    }

    fn push(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        match &mut self.link {
            Some(link) => {
                link.handle_received(bytes, now);
                while let Some(event) = link.poll_event() {
                    if matches!(event, LinkEvent::Closed(_) | LinkEvent::Restarted) {
                        return Err(format!("the link ended: {event:?}"));
                    }
                }
                carry(&mut self.session, link, now);
            }
            None => self.session.handle_received(bytes, now),
        }
        Ok(())
    }

    fn has_output(&self) -> bool {
        match &self.link {
            Some(link) => link.has_output() || (self.session.has_output() && link.send_window() > 0),
            None => self.session.has_output(),
        }
    }
}

/// Two ends and the line between them.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    pub(super) lines: [Line; 2],
    pub(super) chance: Random,
}

impl World {
    /// Everything that happens now: deadlines, arrivals, and bytes put on lines that are free.
    pub(super) fn step(&mut self) -> Result<(), String> {
        let now = self.now;
        for (which, line) in self.lines.iter_mut().enumerate() {
            while line.on_the_way.front().is_some_and(|(at, _)| *at <= now) {
                if let Some((_, bytes)) = line.on_the_way.pop_front() {
                    self.ends[1 - which].push(&bytes, now)?;
                }
            }
        }
        for end in &mut self.ends {
            end.session.handle_timeout(now);
            if let Some(link) = &mut end.link {
                link.handle_timeout(now);
            }
        }
        Ok(())
    }

    /// Lines that are free take what the ends offer now.
    pub(super) fn send(&mut self) {
        for (which, line) in self.lines.iter_mut().enumerate() {
            if line.is_free(self.now) {
                let bytes = self.ends[which].pull(line.fifo, self.now);
                if !bytes.is_empty() {
                    line.put(&bytes, &mut self.chance, self.now);
                }
            }
        }
    }

    /// When something happens next; `None`: never.
    pub(super) fn next(&self) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut at = |when: Option<Instant>| next = [next, when].into_iter().flatten().min();
        for (line, end) in self.lines.iter().zip(&self.ends) {
            at(line.on_the_way.front().map(|(at, _)| *at));
            if end.has_output() {
                at(Some(Instant::from_micros(line.free_at.div_ceil(1000))));
            }
            at(end.session.poll_timeout());
            at(end.link.as_ref().and_then(Link::poll_timeout));
        }
        next.map(|next| next.max(self.now + Duration::from_micros(1)))
    }
}
