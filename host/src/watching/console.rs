//! What one console has shown of its present line, and how far each watch has gone through it.
//!
//! **Owns** that each watch tells of a line once, and how often in a time. A line is told when it ends, or
//! when nothing has followed for a moment: a prompt never ends. **Refuses to know** whom it is told.

use std::time::Instant;

use super::pattern::Progress;
use super::watch::{Rate, Watch};
use vspc_core::plain::{Part, Plain};

/// A console that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    plain: Plain,
    /// The beginning of the line, at most [`LINE`] bytes.
    line: Vec<u8>,
    /// The line has something in it.
    has_begun: bool,
    gazes: Vec<Gaze>,
}

/// A watch's look at a console.
#[derive(Debug)]
struct Gaze {
    /// Its number.
    watch: usize,
    progress: Progress,
    /// This line was told of.
    is_told: bool,
    /// When the time began in which so many were told, and how many were not.
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

/// Something that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Find {
    /// The watch's number.
    pub(super) watch: usize,
    /// The beginning of the line.
    pub(super) line: String,
    /// How many lines that watch has found at this console since the last that was told, and were not told
    /// because they were too many.
    pub(super) untold: u64,
}

impl Watched {
    /// One at which the watches of these numbers look.
    pub(super) fn new(watches: &[Watch], numbers: impl Iterator<Item = usize>) -> Self {
        let gazes = numbers.map(|number| Gaze::new(number, watches)).collect();
        Self { plain: Plain::default(), line: Vec::new(), has_begun: false, gazes }
    }

    /// From now on the watches of these numbers look. Those that did before go on where they are.
    pub(super) fn change(&mut self, watches: &[Watch], numbers: impl Iterator<Item = usize>) {
        let mut old = std::mem::take(&mut self.gazes);
        self.gazes = numbers
            .map(|number| match old.iter().position(|gaze| gaze.watch == number) {
                Some(place) => old.swap_remove(place),
                None => Gaze::new(number, watches),
            })
            .collect();
    }

    /// Takes in what it prints. Costs a look at each byte for each watch. What is found is told.
    pub(super) fn print(
        &mut self,
        watches: &[Watch],
        bytes: &[u8],
        now: Instant,
        tell: &mut impl FnMut(Find),
    ) {
        let mut plain = self.plain;
        plain.feed(bytes, |part| match part {
            Part::Text(text) => {
                self.has_begun = true;
                let room = LINE - self.line.len();
                self.line.extend_from_slice(&text[..text.len().min(room)]);
                for gaze in &mut self.gazes {
                    gaze.progress = watches[gaze.watch].pattern.go_on(gaze.progress, text);
                }
            }
            Part::Break => {
                self.tell(watches, now, tell);
                self.begin_line(watches);
            }
        });
        self.plain = plain;
    }

    /// Some of what it has printed is missing here: what was begun is no line.
    pub(super) fn lose(&mut self, watches: &[Watch]) {
        self.plain = Plain::default();
        self.begin_line(watches);
    }

    /// Nothing has followed for a moment: what there is of the line is taken for one.
    pub(super) fn pause(&mut self, watches: &[Watch], now: Instant, tell: &mut impl FnMut(Find)) {
        self.tell(watches, now, tell);
    }

    /// It is in the middle of a line.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    fn begin_line(&mut self, watches: &[Watch]) {
        if !std::mem::replace(&mut self.has_begun, false) {
            return;
        }
        self.line.clear();
        for gaze in &mut self.gazes {
            gaze.progress = watches[gaze.watch].pattern.begin();
            gaze.is_told = false;
        }
    }

    fn tell(&mut self, watches: &[Watch], now: Instant, tell: &mut impl FnMut(Find)) {
        if !self.has_begun {
            return;
        }
        for gaze in &mut self.gazes {
            let watch = &watches[gaze.watch];
            if gaze.is_told || !watch.pattern.is_seen(gaze.progress) {
                continue;
            }
            gaze.is_told = true;
            if let Some(untold) = gaze.may_tell(watch.at_most, now) {
                let line = String::from_utf8_lossy(&self.line).into_owned();
                tell(Find { watch: gaze.watch, line, untold });
            }
        }
    }
}

impl Gaze {
    fn new(number: usize, watches: &[Watch]) -> Self {
        let progress = watches[number].pattern.begin();
        Self { watch: number, progress, is_told: false, since: None, told: 0, untold: 0 }
    }

    /// Whether another may be told; how many were not since the last. If not, it is counted.
    fn may_tell(&mut self, at_most: Rate, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= at_most.period) {
            (self.since, self.told) = (Some(now), 0);
        }
        if self.told >= at_most.count {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

/// How much of a line is told: what a screen of 80 columns shows in twelve rows. All of it is looked through.
pub(super) const LINE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::super::selector::Selector;
    use super::*;
    use std::time::Duration;

    fn watches(patterns: &[&str]) -> Vec<Watch> {
        let watch = |pattern: &&str| Watch {
            name: (*pattern).to_owned(),
            pattern: Pattern::parse(pattern).unwrap(),
            consoles: Selector::default(),
            at_most: Rate { count: 2, period: Duration::from_secs(60) },
        };
        patterns.iter().map(watch).collect()
    }

    #[test]
    fn each_watch_tells_of_a_line_once_when_it_ends_or_nothing_follows() {
        let watches = watches(&["panic", "panic|oops", "login: $"]);
        let mut console = Watched::new(&watches, 0..3);
        let mut found = Vec::new();
        let mut tell = |find: Find| found.push(format!("{} {}", find.watch, find.line));
        let now = Instant::now();
        console.print(&watches, b"[1.0] Kernel pa", now, &mut tell);
        console.pause(&watches, now, &mut tell);
        console.print(&watches, b"nic - panic\r\nfine\r\n\r\nlog", now, &mut tell);
        console.print(&watches, b"in: ", now, &mut tell);
        console.pause(&watches, now, &mut tell);
        console.pause(&watches, now, &mut tell);
        console.print(&watches, b"oops", now, &mut tell);
        console.pause(&watches, now, &mut tell);
        console.print(&watches, b" and panic\n", now, &mut tell);
        assert_eq!(
            found,
            [
                "0 [1.0] Kernel panic - panic",
                "1 [1.0] Kernel panic - panic",
                "2 login: ",
                "1 login: oops",
                "0 login: oops and panic",
            ]
        );
    }

    #[test]
    fn more_than_is_wanted_is_counted_and_said_with_the_next() {
        let watches = watches(&["x"]);
        let mut console = Watched::new(&watches, 0..1);
        let mut untold = Vec::new();
        let start = Instant::now();
        let mut tell = |find: Find| untold.push(find.untold);
        console.print(&watches, &b"x\n".repeat(10), start, &mut tell);
        console.print(&watches, b"x\n", start + Duration::from_secs(59), &mut tell);
        console.print(&watches, b"x\nx\nx\n", start + Duration::from_secs(60), &mut tell);
        console.print(&watches, b"x\n", start + Duration::from_secs(120), &mut tell);
        assert_eq!(untold, [0, 0, 9, 0, 1]);
    }

    #[test]
    fn a_line_is_looked_through_to_its_end_and_kept_to_a_bound() {
        let watches = watches(&["needle"]);
        let mut console = Watched::new(&watches, 0..1);
        let mut lines = Vec::new();
        let hay = [b'.'; 1000];
        let mut tell = |find: Find| lines.push(find.line.len());
        for _ in 0..1000 {
            console.print(&watches, &hay, Instant::now(), &mut tell);
        }
        console.print(&watches, b"needle\n", Instant::now(), &mut tell);
        assert!(console.line.capacity() <= 2 * LINE);
        assert_eq!(lines, [LINE]);
    }

    #[test]
    fn what_lies_on_both_sides_of_a_gap_is_no_line() {
        let watches = watches(&["panic"]);
        let mut console = Watched::new(&watches, 0..1);
        let mut found = 0;
        let mut tell = |_: Find| found += 1;
        console.print(&watches, b"pa", Instant::now(), &mut tell);
        console.lose(&watches);
        console.print(&watches, b"nic\npanic\n", Instant::now(), &mut tell);
        assert_eq!(found, 1);
    }
}
