//! What a capture is played against: a concentrator, and the clients attached to it.

use std::net::SocketAddr;
use std::time::Duration;

use super::client::Client;
use crate::capture::How;

/// What the concentrator did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It sent these bytes on a played connection.
    Said(usize, Vec<u8>),
    /// It ended one.
    Ended(usize, How),
}

/// What one attached client saw.
#[derive(Debug)]
pub struct Seen {
    /// The port it was attached to.
    pub port: u16,
    /// The console's UUID (folded) and URI, where that is known for certain.
    pub console: Option<(String, String)>,
    /// The step of the dialogue before which it was attached: it need not have seen what came earlier.
    pub attached_at: usize,
    /// How many of its bytes came before the VM went on: a greeting.
    pub greeting: usize,
    /// The client itself.
    pub client: Client,
}

/// A concentrator to play against.
pub trait World {
    /// The time since the beginning.
    fn now(&self) -> Duration;
    /// Lets time pass until `to`.
    fn advance(&mut self, to: Duration);
    /// Lets time pass until something may have been heard, at the latest until `limit`.
    fn wait(&mut self, limit: Duration);
    /// Opens a connection on the VM side, numbered `conn` from now on.
    ///
    /// # Errors
    ///
    /// Why it could not be opened, in words.
    fn open(&mut self, conn: usize, peer: SocketAddr) -> Result<(), String>;
    /// Sends bytes on it.
    fn send(&mut self, conn: usize, bytes: &[u8]);
    /// Ends it.
    fn end(&mut self, conn: usize, how: How);
    /// Types at the console of the VM with this UUID; false if that cannot be done.
    fn type_in(&mut self, uuid: &str, bytes: &[u8]) -> bool;
    /// The next thing that the concentrator did.
    fn heard(&mut self) -> Option<Heard>;
    /// The VM with this UUID has just said who it is, as step `step` of the dialogue: its console should
    /// have a client before it goes on.
    fn attach(&mut self, step: usize, uuid: &str);
    /// Waits until each of these streams has been seen to its last byte, for a bounded time.
    fn finish(&mut self, expected: &[&[u8]]);
    /// What the clients saw. They are gone afterwards.
    fn seen(&mut self) -> Vec<Seen>;
}
