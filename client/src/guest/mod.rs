//! What reaches into a guest that has an agent (operator.md §11).
//!
//! Owns whether the server knows of guests, which of them is meant, and how it is found again. Parts:
//! `joined` (a stream that the server joins with one in the guest), `trouble` (why one is no more).

mod joined;
mod trouble;

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use vspc_guest::Key;

pub(crate) use self::joined::{Came, Joined};
pub(crate) use self::trouble::Trouble;
use crate::connection::Connection;
use crate::endings::failure;
use crate::failure::{Code, Failure};
use crate::names::{name_of, reference, resolve};

/// A guest, by its console.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Guest {
    /// For people.
    pub(crate) name: String,
    /// What names it in requests, as long as the server runs.
    pub(crate) reference: String,
    uuid: String,
    /// Its name as the server has it.
    called: String,
}

impl Guest {
    /// The guest that `name` means.
    pub(crate) fn find(connection: &mut Connection, name: &str) -> Result<Self, Failure> {
        if !connection.has("guests") {
            let server = connection.server();
            return Err(Failure::error(format!(
                "the server {server} does not reach into guests (it is older)"
            )));
        }
        let console = resolve(connection, name)?;
        Ok(Self::of(&console))
    }

    fn of(console: &Value) -> Self {
        let text = |key: &str| console[key].as_str().unwrap_or_default().to_owned();
        Self {
            name: name_of(console),
            reference: reference(console),
            uuid: text("uuid"),
            called: text("name"),
        }
    }

    /// Finds it again on another connection: its id may have been another run's of the server, where it is
    /// another console's. The UUID is the VM's, and its other ports and its shells have it as well: both
    /// that and the name are to be the same.
    pub(crate) fn find_again(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        let mut refused = Failure::new(Code::NoSuchConsole, format!("{} is gone", self.name));
        let texts = [self.called.clone(), self.uuid.clone(), self.reference.clone()];
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            match connection.ask("show", json!({"console": text}))? {
                Ok(answer) => {
                    let found = Self::of(&answer["console"]);
                    if (&found.uuid, &found.called) == (&self.uuid, &self.called) {
                        self.reference = found.reference;
                        return Ok(());
                    }
                }
                Err(refusal) => refused = failure(&refusal),
            }
        }
        Err(refused)
    }
}

/// A key that no other process has.
pub(crate) fn key() -> Result<Key, Failure> {
    let mut bytes = [0; 16];
    let random = SystemRandom::new();
    random.fill(&mut bytes).map_err(|_| Failure::error("the system has no random numbers"))?;
    Ok(Key::random(bytes))
}
