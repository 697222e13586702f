//! BREAKs that are typed, for a line whose QEMU can be asked for them.
//!
//! **Owns** where among the bytes that are typed each of them stands. A line of bytes carries none, so QEMU
//! is asked by QMP, when the guest has read what was typed before; what was typed behind waits until then.

use std::sync::mpsc::Sender;
use std::time::Duration;

use vspc_core::time::Instant;

/// Those that the guest has not been given.
#[derive(Debug)]
pub(super) struct Breaks {
    /// Before how many of the bytes each stands, in order.
    places: Vec<usize>,
    ask: Sender<()>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// There is none, or bytes stand before it.
    Idle,
    /// The guest has not read what was typed before; it is not waited for any longer then.
    Unread(Instant),
    /// QEMU is asked, and has to have answered then.
    Asked(Instant),
}

impl Breaks {
    pub(super) const fn new(ask: Sender<()>) -> Self {
        Self { places: Vec::new(), ask, stage: Stage::Idle }
    }

    /// Notes some that stand before these places. More than [`MOST`] wait for nobody.
    pub(super) fn note(&mut self, places: Vec<usize>) {
        if self.places.is_empty() {
            self.places = places;
        } else {
            self.places.extend(places);
        }
        self.places.dedup();
        self.places.truncate(MOST);
    }

    /// How many of so many bytes may be given to the line now.
    pub(super) fn bytes_before(&self, typed: usize) -> usize {
        self.places.first().map_or(typed, |place| typed.min(*place))
    }

    /// So many bytes were given to it.
    pub(super) fn gave(&mut self, bytes: usize) {
        self.places.iter_mut().for_each(|place| *place = place.saturating_sub(bytes));
    }

    /// Goes on with the first one, if nothing stands before it. `unread`: the guest has bytes to read.
    /// Returns what has to be said of it.
    pub(super) fn advance(&mut self, unread: impl FnOnce() -> bool, now: Instant) -> Option<&'static str> {
        if self.places.first() != Some(&0) {
            return None;
        }
        let until = match self.stage {
            Stage::Asked(until) if now < until => return None,
            Stage::Asked(_) => {
                self.is_over();
                return Some("QEMU does not answer");
            }
            Stage::Idle => now + UNREAD,
            Stage::Unread(until) => until,
        };
        if now < until && unread() {
            self.stage = Stage::Unread(until);
            return None;
        }
        self.stage = Stage::Asked(now + ANSWER);
        if self.ask.send(()).is_err() {
            self.is_over();
            return Some("its QEMU is not watched");
        }
        None
    }

    /// The first one is over.
    pub(super) fn is_over(&mut self) {
        self.stage = Stage::Idle;
        if self.places.len() > 1 {
            self.places.remove(0);
        } else {
            self.places = Vec::new();
        }
    }

    /// Nobody will be given any of them. Returns whether there were any.
    pub(super) fn forget(&mut self) -> bool {
        self.stage = Stage::Idle;
        !std::mem::take(&mut self.places).is_empty()
    }

    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        match self.stage {
            Stage::Idle => None,
            Stage::Unread(until) => Some(until.min(now + LOOK)),
            Stage::Asked(until) => Some(until),
        }
    }
}

/// As many as somebody who holds a key asks for while one is under way.
const MOST: usize = 64;

/// How long a guest is given to read what was typed before a BREAK: one that reads nothing may be what the
/// BREAK is for.
const UNREAD: Duration = Duration::from_millis(200);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// How long QEMU is given to answer.
const ANSWER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const NOW: Instant = Instant::ZERO;

    #[test]
    fn one_stands_between_what_is_typed_before_and_behind() {
        let (ask, asked) = channel();
        let mut breaks = Breaks::new(ask);
        breaks.note(vec![2, 2, 5]);
        assert_eq!(breaks.bytes_before(9), 2);
        breaks.gave(2);
        // The guest has not read these two.
        assert_eq!(breaks.advance(|| true, NOW), None);
        asked.try_recv().unwrap_err();
        assert_eq!(breaks.advance(|| false, NOW), None);
        asked.try_recv().unwrap();
        // It is asked for once, and nothing goes by it.
        assert_eq!((breaks.advance(|| false, NOW), breaks.bytes_before(7)), (None, 0));
        asked.try_recv().unwrap_err();
        breaks.is_over();
        assert_eq!(breaks.bytes_before(7), 3);
        breaks.gave(3);
        assert_eq!(breaks.advance(|| true, NOW + UNREAD), None);
        assert_eq!(breaks.advance(|| true, NOW + UNREAD * 2), None);
        asked.try_recv().unwrap();
        breaks.is_over();
        assert_eq!((breaks.bytes_before(4), breaks.deadline(NOW)), (4, None));
    }

    #[test]
    fn a_qemu_that_does_not_answer_holds_nothing_up() {
        let (ask, asked) = channel();
        let mut breaks = Breaks::new(ask);
        breaks.note(vec![0, 1]);
        assert_eq!(breaks.advance(|| false, NOW), None);
        assert_eq!(breaks.deadline(NOW), Some(NOW + ANSWER));
        assert!(breaks.advance(|| false, NOW + ANSWER).is_some());
        assert_eq!(breaks.bytes_before(9), 1);
        drop(asked);
        breaks.gave(1);
        assert!(breaks.advance(|| false, NOW).unwrap().contains("not watched"));
        assert!(!breaks.forget());
    }
}
