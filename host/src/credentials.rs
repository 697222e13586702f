//! Certificates and keys, on their way from files to the engine.
//!
//! **Owns** what has been loaded, until the engine has it. **Refuses to know** the files and their format.

use log::Level;
use vspc_core::concentrator::Concentrator;
use vspc_core::transport::{Acceptors, Connector};

/// Certificates and keys that have been loaded and checked, with the log lines about them. The default has
/// none: without TLS options there is nothing to load.
#[derive(Debug, Default)]
pub struct Credentials {
    /// What TLS connections are answered with; `None`: as before.
    pub(crate) acceptors: Option<Acceptors>,
    /// What they are begun with; `None`: as before.
    pub(crate) connector: Option<Connector>,
    /// Lines for the log.
    pub(crate) notes: Vec<(Level, String)>,
}

impl Credentials {
    /// Has the engine use these for new connections, and logs which they are. Connections that are up keep
    /// theirs.
    pub fn take_effect(self, engine: &mut Concentrator) {
        if let Some(acceptors) = self.acceptors {
            engine.set_acceptors(acceptors);
        }
        if self.connector.is_some() {
            engine.set_connector(self.connector);
        }
        for (level, note) in self.notes {
            log::log!(level, "{note}");
        }
    }
}
