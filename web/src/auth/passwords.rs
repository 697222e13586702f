//! Comparing passwords.
//!
//! Owns how many are compared at once, since each takes a core and its memory, and that an unknown name takes
//! as long as a known one. What was right a moment ago is known without another comparison, because scripts
//! say it with each request.

use std::collections::HashMap;
use std::net::IpAddr;
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
    waiting: Mutex<Waiting>,
    /// What was right, as a code that only this process can make.
    right: Mutex<HashMap<[u8; 32], Instant>>,
    key: hmac::Key,
}

/// Those whose passwords are compared, or are about to be.
#[derive(Default)]
struct Waiting {
    /// Of those who have logged in from where they are.
    known: usize,
    others: HashMap<IpAddr, usize>,
}

/// Where somebody waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Among those who have logged in before from where they are: nobody else is there.
    Known,
    /// Among all others, of this block of addresses.
    Of(IpAddr),
}

/// A place that is taken; free again when dropped.
struct Taken<'a>(&'a Mutex<Waiting>, Place);

impl<'a> Taken<'a> {
    fn take(waiting: &'a Mutex<Waiting>, place: Place) -> Option<Self> {
        let mut all = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match place {
            Place::Known if all.known < WAITING_KNOWN => all.known += 1,
            Place::Of(from) if all.others.values().sum::<usize>() < WAITING => {
                let of_block = all.others.entry(from).or_default();
                if *of_block >= WAITING_OF_BLOCK {
                    return None;
                }
                *of_block += 1;
            }
            _ => return None,
        }
        Some(Self(waiting, place))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match self.1 {
            Place::Known => all.known -= 1,
            Place::Of(from) => {
                if let Some(count) = all.others.get_mut(&from) {
                    *count -= 1;
                    if *count == 0 {
                        all.others.remove(&from);
                    }
                }
            }
        }
    }
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
            waiting: Mutex::default(),
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
    pub(super) async fn compare(&self, users: &Users, name: &str, password: &str, place: Place) -> Verdict {
        let Some(_waits) = Taken::take(&self.waiting, place) else { return Verdict::Busy };
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
const WAITING_OF_BLOCK: usize = 8;
const WAITING_KNOWN: usize = 16;
const KNOWN_FOR: Duration = Duration::from_secs(300);
const KNOWN_MOST: usize = 1024;
/// Of a password that is compared.
pub(crate) const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place::Of(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[tokio::test]
    async fn a_flood_of_logins_leaves_room_for_who_was_here_before_and_one_address_for_others() {
        let users = Users::read(&format!("ann:read:{}\n", cheap("secret"))).unwrap();
        let passwords = Passwords::default();
        let of = |n: u8| Place::Of([192, 0, 2, n].into());
        let here: Vec<_> = (0..100).filter_map(|_| Taken::take(&passwords.waiting, of(1))).collect();
        assert_eq!(passwords.compare(&users, "ann", "secret", of(1)).await, Verdict::Busy);
        assert_eq!(passwords.compare(&users, "ann", "secret", of(2)).await, Verdict::Right);
        let flood: Vec<_> = (2..=200).filter_map(|n| Taken::take(&passwords.waiting, of(n))).collect();
        assert_eq!(passwords.compare(&users, "ann", "secret", of(201)).await, Verdict::Busy);
        assert_eq!(passwords.compare(&users, "ann", "secret", Place::Known).await, Verdict::Right);
        drop((here, flood));
        assert_eq!(passwords.waiting.lock().unwrap().others.len(), 0);
    }

    fn cheap(password: &str) -> String {
        let argon = Argon2::from(Params::new(64, 1, 1, None).unwrap());
        argon.hash_password_with_salt(password.as_bytes(), b"0123456789abcdef").unwrap().to_string()
    }

    #[tokio::test]
    async fn what_is_right_is_known_until_the_file_changes_and_a_name_without_password_has_none() {
        let users = Users::read(&format!("ann:read:{}\nbob:read:*\n", cheap("secret"))).unwrap();
        let passwords = Passwords::default();
        for (name, password) in [("ann", "Secret"), ("bob", ""), ("bob", "*"), ("eve", "secret")] {
            assert_eq!(passwords.compare(&users, name, password, HERE).await, Verdict::Wrong, "{name}");
            assert!(!passwords.knows(&users, name, password));
        }
        assert_eq!(passwords.compare(&users, "ann", "secret", HERE).await, Verdict::Right);
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
