//! What reaches into a guest that has an agent (operator.md §11).
//!
//! Owns whether the server knows of guests, and which of them is meant. Parts: `joined`
//! (a stream that the server joins with one in the guest), `trouble` (why one is no more).

mod joined;
mod trouble;

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use vspc_guest::Key;

pub(crate) use self::joined::{Came, Joined};
pub(crate) use self::trouble::Trouble;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::names::{name_of, reference, resolve};

/// A guest, by its console.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Guest {
    /// For people.
    pub(crate) name: String,
    /// What names it in requests, as long as the server runs.
    pub(crate) reference: String,
}

impl Guest {
    /// The guest that `name` means.
    pub(crate) fn find(connection: &mut Connection, name: &str) -> Result<Self, Failure> {
        let features = connection.greeting()["features"].as_array();
        if !features.is_some_and(|features| features.iter().any(|feature| feature == "guests")) {
            let server = connection.server();
            return Err(Failure::error(format!(
                "the server {server} does not reach into guests (it is older)"
            )));
        }
        let console = resolve(connection, name)?;
        Ok(Self::of(&console))
    }

    fn of(console: &Value) -> Self {
        Self { name: name_of(console), reference: reference(console) }
    }
}

/// A key that no other process has.
pub(crate) fn key() -> Result<Key, Failure> {
    let mut bytes = [0; 16];
    let random = SystemRandom::new();
    random.fill(&mut bytes).map_err(|_| Failure::error("the system has no random numbers"))?;
    Ok(Key::random(bytes))
}
