//! Where in a console's output this client stands, and what is to be told at which place of it.
//!
//! Owns the offset that a resume begins at (operator.md §6). Output and notices come on streams of their own,
//! in either order; the offsets put them together again.

use std::collections::VecDeque;

use serde_json::Value;

/// A place in the output of one epoch.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Place {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
    later: VecDeque<(u64, Value)>,
}

impl Place {
    /// Where an attach begins, by its answer.
    pub(crate) fn of(answer: &Value) -> Self {
        Self {
            epoch: answer["epoch"].as_str().unwrap_or_default().to_owned(),
            offset: answer["offset"].as_u64().unwrap_or(0),
            later: VecDeque::new(),
        }
    }

    /// How much output may be shown before a notice is due.
    pub(crate) fn until_notice(&self) -> usize {
        let next = self.later.front().map(|(at, _)| at.saturating_sub(self.offset));
        next.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
    }

    /// So much output was shown.
    pub(crate) fn shown(&mut self, n: usize) {
        self.offset += n as u64;
    }

    /// A notice came. One without an offset is due now.
    pub(crate) fn note(&mut self, notice: Value) {
        let at = notice["offset"].as_u64().unwrap_or(self.offset);
        // The gap of what was missed ends at the offset.
        let at = at.saturating_sub(missed(&notice));
        let after = self.later.iter().take_while(|(other, _)| *other <= at).count();
        self.later.insert(after, (at, notice));
    }

    /// The next notice whose place was reached.
    pub(crate) fn due(&mut self) -> Option<Value> {
        let (at, _) = self.later.front()?;
        if *at > self.offset {
            return None;
        }
        let (_, notice) = self.later.pop_front()?;
        self.offset += missed(&notice);
        Some(notice)
    }

    /// The next notice, whether or not its place was reached: no more output comes.
    pub(crate) fn last(&mut self) -> Option<Value> {
        self.later.pop_front().map(|(_, notice)| notice)
    }
}

fn missed(notice: &Value) -> u64 {
    if notice["event"] == "missed" { notice["bytes"].as_u64().unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn notices_are_due_at_their_place_and_a_gap_moves_it() {
        let mut place = Place::of(&json!({"epoch": "9f", "offset": 100}));
        place.note(json!({"event": "state", "offset": 160}));
        place.note(json!({"event": "missed", "offset": 150, "bytes": 40}));
        assert_eq!(place.until_notice(), 10);
        assert_eq!(place.due(), None);
        place.shown(10);
        assert_eq!(place.due().unwrap()["event"], "missed");
        assert_eq!((place.offset, place.until_notice()), (150, 10));
        place.shown(10);
        assert_eq!(place.due().unwrap()["event"], "state");
        assert_eq!((place.due(), place.until_notice()), (None, usize::MAX));
    }

    #[test]
    fn a_gap_that_is_told_late_still_counts() {
        let mut place = Place::of(&json!({"epoch": "9f", "offset": 0}));
        place.shown(10);
        place.note(json!({"event": "missed", "offset": 45, "bytes": 40}));
        assert!(place.due().is_some());
        assert_eq!(place.offset, 50);
    }

    #[test]
    fn notices_without_an_offset_are_due_at_once_and_all_at_the_end() {
        let mut place = Place::default();
        place.note(json!({"event": "present"}));
        assert!(place.due().is_some());
        place.note(json!({"event": "detached", "offset": 7}));
        assert_eq!(place.due(), None);
        assert!(place.last().is_some());
    }
}
