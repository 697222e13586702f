//! Settings that change while the engine runs.
//!
//! **Owns** which of them can: those that end nobody's session. **Refuses to know** where settings come from.

use std::sync::Arc;

use crate::time::Instant;

use super::Concentrator;
use super::config::Config;

impl Concentrator {
    /// Takes these settings in place of those that it has, but for the ones on which listeners and the
    /// identity of consoles rest: `vm_listen`, `client_interface`, `client_ports`, `ports_by_grant`,
    /// `admin_listen`, `multi_console`, `console_rules`, `max_descriptors`, and those about TLS. They stay as
    /// they are.
    ///
    /// Nobody's session ends. What a connection was told or granted when it came (its rights on the admin
    /// port, the form of its stream, whether it may skip) it keeps; limits of clients count for those who
    /// come. A console that waits to expire does so when it would have with the new time. Costs a look at
    /// each console.
    pub fn reconfigure(&mut self, config: &Config, now: Instant) {
        self.fx.now = now;
        let old = &self.config;
        let config = Config {
            vm_listen: old.vm_listen.clone(),
            client_interface: old.client_interface,
            client_ports: old.client_ports,
            ports_by_grant: old.ports_by_grant,
            multi_console: old.multi_console,
            console_rules: old.console_rules.clone(),
            vm_tls: old.vm_tls,
            in_band_tls: old.in_band_tls,
            client_tls: old.client_tls,
            admin_tls: old.admin_tls,
            admin_listen: old.admin_listen.clone(),
            max_descriptors: old.max_descriptors,
            ..config.clone()
        };
        self.consoles.reconfigure(&config, &mut self.fx);
        self.config = Arc::new(config);
        self.settle();
    }
}
