//! Stub for parallel work: the engine's surface.
mod config; mod counters; mod event; mod id; mod output;
pub use config::{Config, PortRange, SlowClient};
pub use counters::Counters;
pub use event::{CloseReason, Event, Label, Severity, VmotionStep, What};
pub use id::{ConnId, ConsoleId, ListenerId};
pub use output::{Address, Closed, Output, Peer, Shutdown};
use crate::time::Instant;
use std::io::{self, IoSlice};
use std::sync::Arc;
pub struct Concentrator {}
impl Concentrator {
    pub fn new(_config: Arc<Config>, _seed: [u8; 32], _now: Instant) -> Self { Self {} }
    pub fn handle_listening(&mut self, _id: ListenerId, _bound: Result<Address, io::ErrorKind>, _now: Instant) {}
    pub fn handle_accepted(&mut self, _on: ListenerId, _peer: Peer, _now: Instant) -> Option<ConnId> { None }
    pub fn handle_received(&mut self, _id: ConnId, _data: &mut [u8], _now: Instant) {}
    pub fn handle_sent(&mut self, _id: ConnId, _n: usize, _now: Instant) {}
    pub fn handle_closed(&mut self, _id: ConnId, _how: Closed, _now: Instant) {}
    pub fn handle_timeout(&mut self, _now: Instant) {}
    pub fn poll_output(&mut self) -> Option<Output> { None }
    pub fn poll_timeout(&self) -> Option<Instant> { None }
    pub fn receive_window(&self, _id: ConnId) -> usize { 65536 }
    pub fn transmit<'a>(&'a mut self, _id: ConnId, _runs: &mut [IoSlice<'a>]) -> usize { 0 }
    /// Stop accepting, tell peers, close gracefully; everything is gone when `is_empty`.
    pub fn shut_down(&mut self, _now: Instant) {}
    pub fn is_empty(&self) -> bool { true }
    pub fn totals(&self) -> Counters { Counters::default() }
    pub fn consoles(&self) -> impl Iterator<Item = ConsoleView<'_>> { [].into_iter() }
}
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct ConsoleView<'a> { pub label: &'a Label, pub vms: usize, pub clients: usize, pub moving: bool, pub counters: &'a Counters }
