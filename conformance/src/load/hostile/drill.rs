//! What a drill is: an attack, the server that it is played against, and what that server may spend.

use super::attack::Attack;
use crate::load::LoadError;

/// One drill. All of them are listed in [`super::drills`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Drill {
    /// What `--only` calls it.
    pub(super) name: &'static str,
    /// What happens and what must not.
    pub(super) about: &'static str,
    /// Options that the server is started with.
    pub(super) options: &'static [&'static str],
    /// An option and its value that bound what is attacked; a server that does not know it is told so.
    pub(super) wants: Option<(&'static str, &'static str)>,
    /// How many descriptors the server may have; otherwise as many as the system gives.
    pub(super) descriptors: Option<u64>,
    /// The server has so many client ports and no more.
    pub(super) ports: Option<u16>,
    /// Who speaks TLS.
    pub(super) tls: Tls,
    /// The residents move all the time.
    pub(super) moves: bool,
    /// Whether it can go on beside others on a server that was started for none of them.
    pub(super) mixes: bool,
    /// KiB that the server may keep afterwards.
    pub(super) keeps_kib: u64,
    /// KiB that the server may have taken at any time.
    pub(super) takes_kib: Option<u64>,
    /// Bytes of log per second.
    pub(super) logs: u64,
    /// The attack.
    pub(super) attack: fn(&mut Attack<'_>) -> Result<(), LoadError>,
}

impl Drill {
    /// A drill against a server with no options.
    pub(super) const fn new(
        name: &'static str,
        about: &'static str,
        attack: fn(&mut Attack<'_>) -> Result<(), LoadError>,
    ) -> Self {
        Self {
            name,
            about,
            options: &[],
            wants: None,
            descriptors: None,
            ports: None,
            tls: Tls::Off,
            moves: false,
            mixes: true,
            keeps_kib: KEEPS_KIB,
            takes_kib: None,
            logs: LOGS,
            attack,
        }
    }

    pub(super) const fn options(mut self, options: &'static [&'static str]) -> Self {
        self.options = options;
        self.mixes = false;
        self
    }

    pub(super) const fn wants(mut self, option: &'static str, value: &'static str) -> Self {
        self.wants = Some((option, value));
        self.mixes = false;
        self
    }

    pub(super) const fn descriptors(mut self, limit: u64) -> Self {
        self.descriptors = Some(limit);
        self.mixes = false;
        self
    }

    pub(super) const fn ports(mut self, count: u16) -> Self {
        self.ports = Some(count);
        self.mixes = false;
        self
    }

    pub(super) const fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    pub(super) const fn alone(mut self) -> Self {
        self.mixes = false;
        self
    }

    pub(super) const fn moves(mut self) -> Self {
        self.moves = true;
        self
    }

    pub(super) const fn keeps_kib(mut self, kib: u64) -> Self {
        self.keeps_kib = kib;
        self
    }

    pub(super) const fn takes_kib(mut self, kib: u64) -> Self {
        self.takes_kib = Some(kib);
        self
    }

    pub(super) const fn logs(mut self, bytes_per_second: u64) -> Self {
        self.logs = bytes_per_second;
        self
    }
}

/// What fills a disk of 100 GB in less than half a week is too much. Each attacker may have lines of his own:
/// it is a lot of attackers that make a lot of log.
const LOGS: u64 = 256 << 10;

/// Who speaks TLS in a drill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tls {
    /// Nobody: the server has no certificate.
    Off,
    /// All clients, and no VM.
    Clients,
    /// All VMs; strangers may speak telnet from the first byte.
    Vms,
    /// All clients and all VMs.
    All,
}

/// An allocator keeps some of what it once had, and consoles stay for a day: what is more is a leak.
pub(super) const KEEPS_KIB: u64 = 16 << 10;
