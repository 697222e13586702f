//! How often passwords are tried.
//!
//! Owns what each address, and each name, may still try. An address from which somebody has logged in may go
//! on trying that name, so that others cannot shut him out with wrong ones.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// See above.
#[derive(Default)]
pub(super) struct Attempts(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    addresses: Table<IpAddr>,
    names: Table<String>,
    /// Who has logged in from where.
    known: Table<(String, IpAddr)>,
}

impl Attempts {
    /// Counts one from this address for this name. `Err`: it may not be tried for so long.
    pub(super) fn begin(&self, from: IpAddr, name: &str, now: Instant) -> Result<(), Duration> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = tables.known.0.contains_key(&(name.to_owned(), from));
        tables.addresses.take(from, OF_ADDRESS, now)?;
        if is_known {
            return Ok(());
        }
        tables.names.take(name.to_owned(), OF_NAME, now)
    }

    /// Whether this one has logged in from there.
    pub(super) fn knows(&self, from: IpAddr, name: &str) -> bool {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.known.0.contains_key(&(name.to_owned(), from))
    }

    /// The one that was begun was right: it does not count.
    pub(super) fn was_right(&self, from: IpAddr, name: &str, now: Instant) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.addresses.give_back(&from);
        tables.names.give_back(&name.to_owned());
        tables.known.note((name.to_owned(), from), now);
    }
}

/// Attempts that count still: each is forgotten after its time.
struct Table<K>(HashMap<K, Count>);

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[derive(Clone, Copy)]
struct Count {
    tries: u32,
    /// As of when; one is forgotten each [`FORGET`].
    at: Instant,
}

impl Count {
    fn as_of(self, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.at).as_secs() / FORGET.as_secs();
        let forgotten = u32::try_from(passed).unwrap_or(u32::MAX).min(self.tries);
        if forgotten == self.tries {
            return Self { tries: 0, at: now };
        }
        Self { tries: self.tries - forgotten, at: self.at + FORGET * forgotten }
    }
}

impl<K: Clone + Eq + Hash> Table<K> {
    fn take(&mut self, key: K, most: u32, now: Instant) -> Result<(), Duration> {
        self.make_room(&key, now);
        let count = self.0.entry(key).or_insert(Count { tries: 0, at: now });
        *count = count.as_of(now);
        if count.tries >= most {
            return Err((count.at + FORGET).saturating_duration_since(now));
        }
        count.tries += 1;
        Ok(())
    }

    fn give_back(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            count.tries = count.tries.saturating_sub(1);
        }
    }

    fn note(&mut self, key: K, now: Instant) {
        self.make_room(&key, now);
        self.0.insert(key, Count { tries: 1, at: now });
    }

    /// Whoever has tried least is forgotten first: a flood of addresses does not clear the one that tries on.
    fn make_room(&mut self, key: &K, now: Instant) {
        if self.0.len() < ROOM || self.0.contains_key(key) {
            return;
        }
        self.0.retain(|_, count| count.as_of(now).tries > 0);
        if self.0.len() >= ROOM
            && let Some(least) = self.0.iter().min_by_key(|(_, count)| (count.tries, count.at))
        {
            let least = least.0.clone();
            self.0.remove(&least);
        }
    }
}

const OF_ADDRESS: u32 = 10;
const OF_NAME: u32 = 30;
const FORGET: Duration = Duration::from_secs(10);
const ROOM: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn from(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn an_address_that_guesses_has_to_wait_and_what_was_right_does_not_count() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..OF_ADDRESS {
            attempts.begin(from(1), "ann", now).unwrap();
        }
        let wait = attempts.begin(from(1), "bob", now).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= FORGET);
        attempts.begin(from(1), "bob", now + FORGET).unwrap();
        for _ in 0..10 * OF_ADDRESS {
            attempts.begin(from(2), "ann", now + FORGET).unwrap();
            attempts.was_right(from(2), "ann", now + FORGET);
        }
    }

    #[test]
    fn a_name_is_guessed_from_many_addresses_no_faster_and_its_owner_is_let_in_meanwhile() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        attempts.begin(from(7), "ann", now).unwrap();
        attempts.was_right(from(7), "ann", now);
        for n in 100..100 + OF_NAME {
            attempts.begin(from(n), "ann", now).unwrap();
        }
        assert!(attempts.begin(from(99), "ann", now).is_err());
        assert!(attempts.begin(from(99), "bob", now).is_ok());
        assert!(attempts.begin(from(7), "ann", now).is_ok());
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_room_and_frees_nobody_who_guesses() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..OF_ADDRESS {
            attempts.begin(from(1), "ann", now).unwrap();
        }
        for n in 0..3 * ROOM as u32 {
            let _ = attempts.begin(from(1000 + n), &format!("name{n}"), now);
        }
        let tables = attempts.0.lock().unwrap();
        assert!(tables.addresses.0.len() <= ROOM && tables.names.0.len() <= ROOM);
        drop(tables);
        assert!(attempts.begin(from(1), "ann", now).is_err());
    }
}
