//! How far a copy is, on a terminal.
//!
//! Owns the line that shows it, and how often that is drawn.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use vspc_core::time::Instant;

use crate::clock;
use crate::output;
use crate::terminal;
use crate::units;

/// The progress of one copy.
#[derive(Debug)]
pub(super) struct Progress {
    name: String,
    is_shown: bool,
    /// Something is on the line.
    is_drawn: bool,
    size: u64,
    /// Where this attempt has begun, and when.
    from: (u64, Instant),
    next: Instant,
    has_begun: bool,
    /// How far any attempt has come.
    furthest: u64,
    has_moved: bool,
}

impl Progress {
    /// Of what; shown where the standard error is a terminal, unless that is not wanted.
    pub(super) fn new(name: String, quiet: bool) -> Self {
        let now = clock::now();
        let is_shown = !quiet && io::stderr().is_terminal();
        Self {
            name,
            is_shown,
            is_drawn: false,
            size: 0,
            from: (0, now),
            next: now,
            has_begun: false,
            furthest: 0,
            has_moved: false,
        }
    }

    /// An attempt begins here.
    pub(super) fn begin(&mut self, at: u64, size: u64) {
        (self.size, self.from) = (size, (at, clock::now()));
        self.has_begun = true;
        self.reach(at);
    }

    /// The other side has come so far. It counts where no attempt was before: one that is cut at the same
    /// place again and again does not go on for ever.
    pub(super) fn reach(&mut self, at: u64) {
        self.has_moved |= at > self.furthest;
        self.furthest = self.furthest.max(at);
    }

    /// It is shown to be here now.
    pub(super) fn at(&mut self, at: u64) {
        let now = clock::now();
        if !self.is_shown || now < self.next {
            return;
        }
        self.next = now + EVERY;
        self.draw(at, now);
    }

    /// Whether an attempt has begun.
    pub(super) const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether it has come further since the last time this was asked.
    pub(super) const fn take_moved(&mut self) -> bool {
        std::mem::replace(&mut self.has_moved, false)
    }

    /// All of it was copied: the line stays.
    pub(super) fn end(&mut self) {
        if self.is_shown {
            self.draw(self.size, clock::now());
            output::show("\n");
            self.is_drawn = false;
        }
    }

    /// Makes room for something else.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            output::show("\r\x1b[K");
        }
    }

    fn draw(&mut self, at: u64, now: Instant) {
        let columns = terminal::size().map_or(80, |(_, columns)| usize::from(columns));
        let (from, since) = self.from;
        let text =
            line(&self.name, at, self.size, at.saturating_sub(from), now.duration_since(since), columns);
        self.is_drawn = true;
        let mut out = io::stderr().lock();
        let _ = write!(out, "\r{text}\x1b[K");
        let _ = out.flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_drawn {
            output::show("\n");
        }
    }
}

/// The line: `copied` bytes took so long.
fn line(name: &str, at: u64, size: u64, copied: u64, took: Duration, columns: usize) -> String {
    let percent = (u128::from(at) * 100).checked_div(u128::from(size)).unwrap_or(100);
    let rate = (u128::from(copied) * 1000 / took.as_millis().max(1)).min(u64::MAX.into()) as u64;
    let rate_shown = if copied > 0 { format!("{}/s", units::bytes(rate)) } else { "-".to_owned() };
    let left = match size.saturating_sub(at) {
        0 => units::span(took),
        left if rate > 0 => format!("{} left", units::span(Duration::from_secs(left.div_ceil(rate)))),
        _ => String::new(),
    };
    let figures = format!("  {percent:>3}%  {:>8}  {rate_shown:>10}  {left}", units::bytes(at));
    let most = columns.saturating_sub(figures.chars().count() + 1).max(8);
    let len = name.chars().count();
    // The end of a path says more than its beginning.
    let name: String = match len > most {
        true => std::iter::once('…').chain(name.chars().skip(len + 1 - most)).collect(),
        false => name.to_owned(),
    };
    format!("{name}{figures}").trim_end().to_owned()
}

/// Often enough to see that it moves.
const EVERY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_part_amount_rate_and_the_time_that_is_left_and_fits() {
        let shown = line("web01:/srv/x", 3 << 20, 12 << 20, 2 << 20, Duration::from_secs(2), 80);
        assert_eq!(shown, "web01:/srv/x   25%   3.0 MiB   1.0 MiB/s  9s left");
        assert_eq!(line("x", 0, 0, 0, Duration::ZERO, 80), "x  100%       0 B           -  0s");
        let long = line("web01:/srv/a/very/long/path/to/it", 1, 2, 0, Duration::ZERO, 50);
        assert!(long.starts_with("…") && long.contains("/to/it   50%"), "{long}");
        assert!(long.chars().count() < 50, "{long}");
    }

    #[test]
    fn what_was_copied_before_is_no_progress() {
        let mut progress = Progress::new("x".to_owned(), true);
        for (begins, comes_to, has_moved) in [(0, 50, true), (0, 50, false), (20, 51, true), (51, 51, false)]
        {
            progress.begin(begins, 100);
            progress.reach(comes_to);
            assert_eq!(progress.take_moved(), has_moved, "{begins} to {comes_to}");
        }
    }
}
