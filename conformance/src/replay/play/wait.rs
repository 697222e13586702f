//! When to go on: at a captured moment, at an answer, at the end; each wait is bounded.

use std::time::Duration;

use super::cue::Cue;
use super::{ANSWER, Leg, Player, QUIET, Speed};
use crate::replay::consoles;
use crate::replay::dialogue::Mark;
use crate::telnet::names;

impl Player<'_> {
    /// Waits, for a bounded time, until our side has said that of `words` which the captured one had said
    /// by now.
    pub(super) fn wait_for(&mut self, conn: usize, words: &[Cue]) {
        let missing = |leg: &Leg| -> Vec<Cue> {
            let lacks = |word: &&Cue| {
                leg.captured.contains(word) && !leg.heard.contains(word) && !leg.waived.contains(word)
            };
            words.iter().filter(lacks).copied().collect()
        };
        if self.legs[conn].gone || missing(&self.legs[conn]).is_empty() {
            return;
        }
        self.wait_until(ANSWER, |player| player.legs[conn].gone || missing(&player.legs[conn]).is_empty());
        let leg = &mut self.legs[conn];
        let (waived, gone) = (missing(leg), leg.gone);
        leg.waived.extend(&waived);
        for word in waived {
            if let Cue::Code(what) = word
                && !gone
            {
                let name = names::message(what);
                self.differ(format!("the captured proxy had said {name} by now, our side does not"));
            }
        }
    }

    pub(super) fn wait_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        self.flush();
        self.listen();
        let start = self.target.now();
        let limit = start + limit;
        while !done(self) && self.pump(limit) {
            self.listen();
        }
        self.shift += self.target.now().saturating_sub(start);
    }

    /// Lets time pass up to a captured moment.
    pub(super) fn go_to(&mut self, mark: Mark) {
        self.flush();
        if let Speed::Times(factor) = self.speed {
            self.advance(mark.time.div_f64(factor) + self.shift);
        }
        self.listen();
        self.frame = mark.frame;
    }

    fn advance(&mut self, to: Duration) {
        while self.pump(to) {
            self.listen();
        }
    }

    /// Lets our side finish what it is about.
    pub(super) fn linger(&mut self) {
        for conn in 0..self.legs.len() {
            self.attach(conn);
        }
        if let Speed::Times(_) = self.speed {
            self.advance(self.target.now() + LINGER);
        }
        self.listen();
    }

    /// Waits until each client has seen its console to the last byte, for a bounded time.
    pub(super) fn finish(&mut self) {
        let (consoles, _) = consoles::of(&self.played.steps, &self.script.identities, self.multi_console);
        let limit = self.target.now() + FINISH;
        let seen = |player: &Self| {
            player.played.clients.iter().all(|attached| {
                let console = consoles.iter().find(|console| console.key() == attached.console);
                // The end of a stream tells that it has arrived.
                console.is_none_or(|console| {
                    let due = &console.bytes[console.said_before(attached.attached_at)..];
                    attached.saw().ends_with(&due[due.len().saturating_sub(TAIL)..])
                })
            })
        };
        while self.target.now() < limit {
            let quiet = if seen(self) { QUIET } else { LAST_QUIET };
            if !self.pump(self.target.now() + quiet) {
                return;
            }
        }
    }
}

/// How long the other side is listened to after the last step.
const LINGER: Duration = Duration::from_millis(200);

/// In the end: what has not come after this long of silence will not come.
const LAST_QUIET: Duration = Duration::from_secs(2);

/// How long all of that may take.
const FINISH: Duration = Duration::from_secs(60);

/// This much of the end of a stream is looked at.
const TAIL: usize = 4096;
