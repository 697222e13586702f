//! Comparing passwords.
//!
//! Owns how many are compared at once, since each takes a core and its memory, and that an unknown name takes
//! as long as a known one. What was right a moment ago is known without another comparison, because scripts
//! say it with each request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use ring::hmac;
use tokio::sync::Semaphore;

use super::users::Users;
use crate::chance;

/// See above.
pub(super) struct Passwords {
    at_once: Arc<Semaphore>,
    waiting: Semaphore,
    /// What was right, as a code that only this process can make.
    right: Mutex<HashMap<[u8; 32], Instant>>,
    key: hmac::Key,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Too many wait already.
    Busy,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Semaphore::new(WAITING),
            right: Mutex::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &chance::bytes::<32>()),
        }
    }
}

impl Passwords {
    /// Whether this was right a moment ago, for what the file has of this name now.
    pub(super) fn knows(&self, users: &Users, name: &str, password: &str) -> bool {
        let Some(hash) = users.get(name).and_then(|user| user.hash.as_ref()) else { return false };
        let code = self.code(name, password, hash);
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(&code).is_some_and(|at| at.elapsed() < KNOWN_FOR)
    }

    /// Compares, on a thread that may take its time.
    pub(super) async fn compare(&self, users: &Users, name: &str, password: &str) -> Verdict {
        let Ok(_waits) = self.waiting.try_acquire() else { return Verdict::Busy };
        let known = users.get(name).and_then(|user| user.hash.clone());
        let is_known = known.is_some();
        // Where nobody has a password there is nothing to be found out by the time that it takes.
        let Some(hash) = known.or_else(|| users.dearest().cloned()) else { return Verdict::Wrong };
        let Ok(turn) = Arc::clone(&self.at_once).acquire_owned().await else { return Verdict::Busy };
        let code = self.code(name, password, &hash);
        let given = password.to_owned();
        let compared = tokio::task::spawn_blocking(move || {
            // Held by the thread: who asked may have gone.
            let _turn = turn;
            Argon2::default().verify_password(given.as_bytes(), &hash).is_ok()
        });
        if !(compared.await.unwrap_or(false) && is_known) {
            return Verdict::Wrong;
        }
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= KNOWN_MOST {
            right.retain(|_, at| at.elapsed() < KNOWN_FOR);
        }
        if right.len() < KNOWN_MOST {
            right.insert(code, Instant::now());
        }
        Verdict::Right
    }

    /// Passwords may be others from now on.
    pub(super) fn forget(&self) {
        self.right.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn code(&self, name: &str, password: &str, hash: &PasswordHash) -> [u8; 32] {
        // Neither a name nor a hash has a NUL.
        let tag = hmac::sign(&self.key, format!("{name}\0{hash}\0{password}").as_bytes());
        std::array::from_fn(|i| tag.as_ref()[i])
    }
}

/// What stands in the file for this password.
pub(crate) fn make(password: &str) -> Result<PasswordHash, String> {
    let params = Params::new(MEMORY, PASSES, 1, None).map_err(|error| error.to_string())?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon
        .hash_password_with_salt(password.as_bytes(), &chance::bytes::<16>())
        .map_err(|error| format!("the password cannot be kept: {error}"))
}

/// KiB and passes: the second of RFC 9106 §4 has four lanes, which make one comparison no dearer for who has
/// one core.
const MEMORY: u32 = 64 * 1024;
const PASSES: u32 = 3;
const AT_ONCE: usize = 2;
const WAITING: usize = 32;
const KNOWN_FOR: Duration = Duration::from_secs(300);
const KNOWN_MOST: usize = 1024;
/// Of a password that is compared.
pub(crate) const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap(password: &str) -> String {
        let argon = Argon2::from(Params::new(64, 1, 1, None).unwrap());
        argon.hash_password_with_salt(password.as_bytes(), b"0123456789abcdef").unwrap().to_string()
    }

    #[tokio::test]
    async fn what_is_right_is_known_until_the_file_changes_and_a_name_without_password_has_none() {
        let users = Users::read(&format!("ann:read:{}\nbob:read:*\n", cheap("secret"))).unwrap();
        let passwords = Passwords::default();
        for (name, password) in [("ann", "Secret"), ("bob", ""), ("bob", "*"), ("eve", "secret")] {
            assert_eq!(passwords.compare(&users, name, password).await, Verdict::Wrong, "{name}");
            assert!(!passwords.knows(&users, name, password));
        }
        assert_eq!(passwords.compare(&users, "ann", "secret").await, Verdict::Right);
        assert!(passwords.knows(&users, "ann", "secret") && !passwords.knows(&users, "bob", "secret"));
        // One that was compared with the file from before is not known of the new one.
        let changed = Users::read(&format!("ann:read:{}\n", cheap("other"))).unwrap();
        assert!(!passwords.knows(&changed, "ann", "secret"));
        passwords.forget();
        assert!(!passwords.knows(&users, "ann", "secret"));
    }

    #[test]
    fn what_is_made_is_taken_in_the_file() {
        let line = format!("ann:admin:{}", make("secret").unwrap());
        assert!(Users::read(&line).unwrap().get("ann").unwrap().hash.is_some());
    }
}
