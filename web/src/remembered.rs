//! What people were told of consoles before their view ended, for when they come back and a concentrator is
//! down.
//!
//! What somebody may know of the concentrators decide, by his name and his role; one that is down cannot
//! be asked. Nobody is therefore told here what he was not told before, under that name and in that role: who
//! comes for the first time is told nothing of it. Owns how much of that is kept, and what goes first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::auth::Who;
use crate::auth::role::Role;

/// What was told of one console, and when.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The server's.
    pub(crate) place: usize,
    pub(crate) at: Instant,
    /// It has what `Fleet` knows, as JSON, which takes a fifth of the memory.
    pub(crate) console: Arc<str>,
}

/// See above.
#[derive(Default)]
pub(crate) struct Remembered {
    of: HashMap<Key, Kept>,
    bytes: usize,
    turn: u64,
}

/// As whom the concentrators know somebody.
pub(crate) type Key = (String, Role);

struct Kept {
    told: Vec<Told>,
    bytes: usize,
    turn: u64,
}

impl Remembered {
    /// Keeps this in place of what was kept of the same. What was kept longest ago goes where it is too much.
    pub(crate) fn keep(&mut self, who: &Who, told: Vec<Told>) {
        let key = key(who);
        self.forget(&key);
        let bytes = told.iter().map(|one| one.console.len() + EACH).sum::<usize>();
        if told.is_empty() || bytes > MOST {
            return;
        }
        while self.bytes + bytes > MOST
            && let Some(oldest) = self.of.iter().min_by_key(|(_, kept)| kept.turn).map(|(key, _)| key.clone())
        {
            self.forget(&oldest);
        }
        self.turn += 1;
        self.bytes += bytes;
        self.of.insert(key, Kept { told, bytes, turn: self.turn });
    }

    /// What this one was told.
    pub(crate) fn of(&self, who: &Who) -> Vec<Told> {
        self.of.get(&key(who)).map(|kept| kept.told.clone()).unwrap_or_default()
    }

    fn forget(&mut self, key: &Key) {
        if let Some(kept) = self.of.remove(key) {
            self.bytes -= kept.bytes;
        }
    }
}

pub(crate) fn key(who: &Who) -> Key {
    (who.name.clone(), who.role)
}

/// About 80 000 consoles, or 10 000 of each of eight people.
const MOST: usize = 64 * 1024 * 1024;
/// What one costs beside its text.
const EACH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::By;

    fn who(name: &str, role: Role) -> Who {
        Who { name: name.to_owned(), from: [192, 0, 2, 1].into(), role, by: By::Proxy }
    }

    fn told(text: &str) -> Vec<Told> {
        vec![Told { place: 0, at: Instant::now(), console: text.into() }]
    }

    #[test]
    fn nobody_is_told_what_another_was_or_he_himself_in_another_role() {
        let mut remembered = Remembered::default();
        let ann = who("ann", Role::Read);
        remembered.keep(&ann, told("{}"));
        let elsewhere = Who { from: [192, 0, 2, 9].into(), by: By::Password, ..ann.clone() };
        assert_eq!(remembered.of(&elsewhere).len(), 1);
        assert_eq!(remembered.of(&who("ann", Role::Admin)).len(), 0);
        assert_eq!(remembered.of(&who("bob", Role::Read)).len(), 0);
        remembered.keep(&ann, Vec::new());
        assert_eq!((remembered.of(&ann).len(), remembered.bytes), (0, 0));
    }

    #[test]
    fn what_was_kept_longest_ago_goes_where_it_is_too_much() {
        let mut remembered = Remembered::default();
        let third = "x".repeat(MOST / 3 - 2 * EACH);
        for name in ["ann", "bob", "cid", "ann", "dan"] {
            remembered.keep(&who(name, Role::Read), told(&third));
        }
        let is_known = |name| !remembered.of(&who(name, Role::Read)).is_empty();
        assert_eq!(["ann", "bob", "cid", "dan"].map(is_known), [true, false, true, true]);
        remembered.keep(&who("eve", Role::Read), told(&"x".repeat(MOST)));
        assert!(remembered.of(&who("eve", Role::Read)).is_empty() && remembered.bytes <= MOST);
    }
}
