//! The lines that say who did what. The concentrators write their own beside them.

use std::fmt::{Display, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{By, Who};

/// Something that was done, or was not let be done. A name is whatever somebody has said: what could end the
/// line, or colour it, is escaped.
pub(crate) fn note(name: &str, from: IpAddr, what: &str, outcome: &dyn Display) {
    log::info!(target: "audit", "{what} user={name:?} from={from}: {outcome}");
}

/// Something that is being done. Its line is written when all copies are gone, also where who asked has gone
/// before there was an answer: what he has asked for may have been done.
pub(crate) struct Entry {
    what: String,
    who: String,
    so_far: Mutex<SoFar>,
}

#[derive(Default)]
struct SoFar {
    /// Server and console.
    at: Option<(String, String)>,
    outcome: Option<String>,
}

impl Entry {
    pub(crate) fn begin(who: &Who, what: String) -> Arc<Self> {
        let mut by = format!("user={:?}", who.name);
        if let By::Share(share) = &who.by {
            let _ = write!(by, " share={}", share.id);
        }
        let _ = write!(by, " from={}", who.from);
        Arc::new(Self { what, who: by, so_far: Mutex::default() })
    }

    /// One of a name that has not been proved.
    pub(crate) fn of(name: &str, from: IpAddr, what: &str) -> Self {
        let who = format!("user={name:?} from={from}");
        Self { what: what.to_owned(), who, so_far: Mutex::default() }
    }

    /// At which console it is.
    pub(crate) fn at(&self, server: &str, console: &str) {
        self.lock().at = Some((server.to_owned(), console.to_owned()));
    }

    /// How it ended; what is said first counts.
    pub(crate) fn ends(&self, outcome: &dyn Display) {
        self.lock().outcome.get_or_insert_with(|| outcome.to_string());
    }

    fn lock(&self) -> MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What others have said, in a line of its own log: nothing in it ends the line, or colours it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

impl Drop for Entry {
    fn drop(&mut self) {
        let so_far = self.so_far.get_mut().unwrap_or_else(PoisonError::into_inner);
        let at = so_far.at.take().map(|(server, console)| format!(" server={server:?} console={console:?}"));
        // A concentrator's own words may be in it.
        let outcome = so_far.outcome.take().map_or_else(|| "abandoned".to_owned(), |said| printable(&said));
        log::info!(target: "audit", "{} {}{}: {outcome}", self.what, self.who, at.unwrap_or_default());
    }
}
