//! What is so at a console: what its rule says, or what is so everywhere.

use super::Concentrator;
use super::config::SlowClient;
use super::id::ConsoleId;

impl Concentrator {
    /// Clients of this console are raw from their first byte on.
    pub(super) fn is_raw_at(&self, at: ConsoleId) -> bool {
        self.consoles.rule(at).and_then(|rule| rule.raw).unwrap_or(self.config.raw_ports)
    }

    /// What happens to a client of this console that does not keep up.
    pub(super) fn slow_client_at(&self, at: ConsoleId) -> SlowClient {
        self.consoles.rule(at).and_then(|rule| rule.slow_client).unwrap_or(self.config.slow_client)
    }

    /// How many clients this console may have.
    pub(super) fn max_clients_at(&self, at: ConsoleId) -> Option<usize> {
        self.consoles.rule(at).and_then(|rule| rule.max_clients).unwrap_or(self.config.max_clients)
    }
}
