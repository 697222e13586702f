//! The most memory a session can hold, added up from what its parts bound.
//!
//! Owns the sum. Each part says beside its buffers what they come to at most; [`super::Session::memory`]
//! counts what they come to now.

use super::config::Config;
use super::control::{self, READ};
use super::{ids, plan, segments, streams, table};

impl Config {
    /// The most memory a session so configured can hold, in bytes: every stream that either side may have
    /// open full both ways, the table, spare segments, what waits to be sent, and what was noted of ids.
    #[must_use]
    pub const fn memory_bound(&self) -> u64 {
        let streams = self.own_limit() as u64 + self.peer_limit() as u64;
        // Bytes lie in whole segments, of which the first and the last may be all but empty, in either
        // direction.
        let slack = 4 * segments::SEGMENT as u64;
        let kept = streams * (self.receive_buffer as u64 + slack) + self.growth;
        let written = streams.saturating_mul(self.send_buffer as u64).saturating_add(self.growth);
        let written = if written < self.session_send_buffer { written } else { self.session_send_buffer };
        // In v1 that waits, a line stops when a stream's buffer is full, and what was read by then is kept.
        let payload = kept + written + READ as u64;
        let segments = payload / segments::SEGMENT as u64 + 1 + 2 * streams * segments::SMALL;
        // What lies spare was in use once.
        let spare = if payload < segments::SPARE_BYTES { payload } else { segments::SPARE_BYTES };
        payload
            + segments * segments::BOOKKEEPING
            + spare
            + streams * (table::ENTRY + streams::PAUSE)
            + control::bound(self.peer_limit())
            + ids::bound(self.peer_limit())
            + plan::bound(self.max_frame)
    }
}
