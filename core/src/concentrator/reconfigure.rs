//! Settings that change while the engine runs.
//!
//! **Owns** which of them can. **Refuses to know** where settings come from.

use std::sync::Arc;

use crate::time::Instant;

use super::Concentrator;
use super::config::Config;
use super::console::Console;
use super::id::ConsoleId;

impl Concentrator {
    /// Takes these settings in place of those that it has, but for the ones on which listeners and the
    /// identity of consoles rest: `vm_listen`, `client_interface`, `client_ports`, `ports_by_grant`,
    /// `admin_listen`, `lines`, `multi_console` and its like, `max_descriptors`, and those about
    /// TLS. They stay as they are.
    ///
    /// Nobody's session ends but that of those who may not be where they are any more: rights that were taken
    /// are gone, from a connection on the admin port as from a console that has another list of who may use
    /// it. What a connection was told or granted besides when it came (the form of its stream, whether it may
    /// skip) it keeps; limits of clients count for those who come. Client ports are closed and opened as
    /// rules say; who came by one stays. A console that waits to expire does so when it would have with the
    /// new time. Costs a look at each console.
    pub fn reconfigure(&mut self, config: &Config, now: Instant) {
        self.fx.now = now;
        let old = &self.config;
        let config = Config {
            vm_listen: old.vm_listen.clone(),
            client_interface: old.client_interface.clone(),
            client_ports: old.client_ports,
            ports_by_grant: old.ports_by_grant,
            multi_console: old.multi_console,
            multi_console_by_uuid: old.multi_console_by_uuid.clone(),
            vm_tls: old.vm_tls,
            in_band_tls: old.in_band_tls,
            client_tls: old.client_tls,
            admin_tls: old.admin_tls,
            admin_listen: old.admin_listen.clone(),
            lines: old.lines.clone(),
            max_descriptors: old.max_descriptors,
            ..config.clone()
        };
        self.consoles.reconfigure(&config, &mut self.fx);
        let have_rules_changed = old.console_rules != config.console_rules || old.forwards != config.forwards;
        let have_rights_changed = old.admin_rights != config.admin_rights;
        if have_rules_changed || have_rights_changed {
            self.go_by_rules(config, have_rules_changed, have_rights_changed);
        } else {
            self.config = Arc::new(config);
        }
        self.settle();
    }

    fn go_by_rules(&mut self, config: Config, of_consoles: bool, of_rights: bool) {
        let (watching, rights) = (self.all_watching(), self.all_rights());
        let changed = match of_consoles {
            true => self.consoles.change_rules(&config),
            false => Vec::new(),
        };
        self.config = Arc::new(config);
        if of_rights {
            self.judge_operators();
        }
        self.tell_of_rights(rights);
        for &(at, list) in &changed {
            self.fx.outbox.changed(at);
            self.meet_guest(at);
            if let Some(had) = list {
                self.list_has_changed(at, had);
            }
        }
        if of_rights {
            let all: Vec<ConsoleId> = self.consoles.iter().map(Console::id).collect();
            all.into_iter().for_each(|at| self.judge_those_at(at));
        }
        for (at, watching) in &watching {
            self.lose_sight(*at, watching);
        }
        if of_consoles {
            let changed: Vec<ConsoleId> = changed.into_iter().map(|(at, _)| at).collect();
            self.fit_ports(&changed);
        }
    }
}
