//! Who is logged in.
//!
//! Owns the sessions: how long each lasts, and how many there are. The word in the cookie is kept as its hash
//! alone, so that what is read of this table opens nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};

use crate::chance;

/// What tells a session from all others, here and nowhere else.
pub(crate) type SessionId = [u8; 32];

/// See above.
pub(crate) struct Sessions {
    all: Mutex<HashMap<SessionId, Session>>,
    idle: Duration,
    most: Duration,
}

struct Session {
    user: String,
    began: Instant,
    used: Instant,
}

impl Sessions {
    /// A session ends when it was not used for `idle`, and `most` after it began.
    pub(crate) fn new(idle: Duration, most: Duration) -> Self {
        Self { all: Mutex::default(), idle, most }
    }

    /// Begins one. Returns the word for the cookie; `None`: there are too many. Of one user the one that was
    /// not used for longest yields.
    pub(crate) fn begin(&self, user: &str, now: Instant) -> Option<String> {
        let mut all = self.lock();
        all.retain(|_, session| self.lasts(session, now));
        let of_user = all.iter().filter(|(_, session)| session.user == user);
        if of_user.clone().count() >= OF_ONE_USER {
            let oldest = of_user.min_by_key(|(_, session)| session.used).map(|(id, _)| *id);
            oldest.map(|id| all.remove(&id));
        }
        if all.len() >= MOST {
            return None;
        }
        let word = chance::hex::<32>();
        all.insert(id_of(&word), Session { user: user.to_owned(), began: now, used: now });
        Some(word)
    }

    /// Whose session this is the word of; it is used by that.
    pub(crate) fn of(&self, word: &str, now: Instant) -> Option<(SessionId, String)> {
        let id = id_of(word);
        let mut all = self.lock();
        let session = all.get_mut(&id)?;
        if !self.lasts(session, now) {
            all.remove(&id);
            return None;
        }
        session.used = now;
        Some((id, session.user.clone()))
    }

    /// Whether it goes on; it is used by that where somebody is at a console.
    pub(crate) fn is_alive(&self, id: &SessionId, is_used: bool, now: Instant) -> bool {
        let mut all = self.lock();
        let Some(session) = all.get_mut(id) else { return false };
        if is_used {
            session.used = now;
        }
        self.lasts(session, now)
    }

    /// Ends one. Returns whose it was.
    pub(crate) fn end(&self, id: &SessionId) -> Option<String> {
        self.lock().remove(id).map(|session| session.user)
    }

    /// Ends those of users of whom this does not hold.
    pub(crate) fn keep(&self, may_stay: impl Fn(&str) -> bool) {
        self.lock().retain(|_, session| may_stay(&session.user));
    }

    pub(crate) const fn longest(&self) -> Duration {
        self.most
    }

    fn lasts(&self, session: &Session, now: Instant) -> bool {
        now.saturating_duration_since(session.used) < self.idle
            && now.saturating_duration_since(session.began) < self.most
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Session>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn id_of(word: &str) -> SessionId {
    let hash = digest(&SHA256, word.as_bytes());
    std::array::from_fn(|i| hash.as_ref()[i])
}

const OF_ONE_USER: usize = 32;
const MOST: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_session_ends_when_it_is_not_used_and_at_last_whatever_is_done() {
        let (sessions, now) = (Sessions::new(5 * MINUTE, 12 * MINUTE), Instant::now());
        let word = sessions.begin("ann", now).unwrap();
        let (id, user) = sessions.of(&word, now + 4 * MINUTE).unwrap();
        assert_eq!(user, "ann");
        assert!(sessions.is_alive(&id, true, now + 8 * MINUTE));
        assert!(sessions.of(&word, now + 11 * MINUTE).is_some());
        assert!(!sessions.is_alive(&id, true, now + 12 * MINUTE));
        assert!(sessions.of(&word, now + 12 * MINUTE).is_none());
        let word = sessions.begin("ann", now).unwrap();
        assert!(sessions.of(&word, now + 5 * MINUTE).is_none());
        assert!(sessions.of("", now).is_none());
    }

    #[test]
    fn one_user_takes_no_more_than_his_share_and_the_newest_stays() {
        let (sessions, now) = (Sessions::new(MINUTE, MINUTE), Instant::now());
        let other = sessions.begin("bob", now).unwrap();
        let words: Vec<_> =
            (0..1000).map(|n| sessions.begin("ann", now + Duration::from_micros(n)).unwrap()).collect();
        assert_eq!(sessions.lock().len(), OF_ONE_USER + 1);
        assert!(sessions.of(&words[999], now).is_some() && sessions.of(&words[0], now).is_none());
        assert!(sessions.of(&other, now).is_some());
        sessions.keep(|user| user == "bob");
        assert!(sessions.of(&words[999], now).is_none() && sessions.of(&other, now).is_some());
    }

    #[test]
    fn there_are_no_more_than_fit() {
        let (sessions, now) = (Sessions::new(MINUTE, MINUTE), Instant::now());
        for n in 0..MOST {
            assert!(sessions.begin(&format!("user{n}"), now).is_some());
        }
        assert!(sessions.begin("one more", now).is_none());
        assert!(sessions.begin("one more", now + MINUTE).is_some());
    }
}
