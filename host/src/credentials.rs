//! What TLS connections are answered with, on its way from the files that hold it to the engine.

use log::Level;
use vspc_core::concentrator::Concentrator;
use vspc_core::transport::Acceptors;

/// Certificates and keys that have been loaded and checked, and what there is to tell about them. The
/// default has none: without TLS options there is nothing to load.
#[derive(Debug, Default)]
pub struct Credentials {
    pub(crate) acceptors: Acceptors,
    /// Lines for the log.
    pub(crate) notes: Vec<(Level, String)>,
}

impl Credentials {
    /// Has the engine answer with these from now on, and logs which they are. Connections that are up go
    /// on as they are.
    pub fn take_effect(self, engine: &mut Concentrator) {
        engine.set_acceptors(self.acceptors);
        for (level, note) in self.notes {
            log::log!(level, "{note}");
        }
    }
}
