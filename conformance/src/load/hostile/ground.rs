//! Where a drill takes place: a fresh server, or what its figures stand beside, the raw relay and the bare
//! server.
//!
//! An attack meets all three alike. Where there are no consoles, what it would do to a console's port it does
//! to the VM port.

use std::net::SocketAddr;

use crate::load::LoadError;
use crate::load::link::{ClientKind, ClientLink, TICK, VmLink, meet, numbered_vm};
use crate::load::process::{Started, connections_at, connections_of, start_bare, start_relay};
use crate::load::relay::BUFFER;
use crate::load::subject::Subject;
use crate::tunnel::Dial;

/// Who is attacked.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) subject: Subject,
    pub(super) pid: u32,
    /// It has consoles, and keeps the protocol.
    pub(super) is_server: bool,
    _process: Started,
}

/// A VM whose console is attacked, and where clients reach that.
#[derive(Debug)]
pub(super) struct Victim {
    pub(super) vm: VmLink,
    pub(super) at: SocketAddr,
    /// The client that found it.
    pub(super) client: Option<ClientLink>,
}

impl Victim {
    /// Prints a little, for half a second, which is how a server learns that a client which had said its last
    /// word takes no more either; whether the VM is still connected.
    pub(super) fn print_some(&mut self) -> bool {
        (0..10).all(|_| {
            std::thread::sleep(TICK);
            self.vm.typed.clear();
            self.vm.receive_now().and_then(|()| self.vm.print(b"a line\r\n")).is_ok()
        })
    }
}

impl Ground {
    /// A server.
    pub(super) fn server(process: Started, vms: SocketAddr, first: u16, dial: Dial) -> Self {
        let subject = Subject::Server { vms, first, dial };
        Self { subject, pid: process.pid(), is_server: true, _process: process }
    }

    /// A raw relay.
    pub(super) fn relay() -> Result<Self, LoadError> {
        let (process, vms, clients) = start_relay(BUFFER)?;
        let subject = Subject::Relay { vms, clients };
        Ok(Self { subject, pid: process.pid(), is_server: false, _process: process })
    }

    /// A bare server.
    pub(super) fn bare() -> Result<Self, LoadError> {
        let (process, vms) = start_bare()?;
        let subject = Subject::Server { vms, first: 1, dial: Dial::default() };
        Ok(Self { subject, pid: process.pid(), is_server: false, _process: process })
    }

    /// Where VMs connect.
    pub(super) fn vms(&self) -> SocketAddr {
        self.subject.vms()
    }

    /// The server's connections.
    pub(super) fn connections(&self) -> Result<usize, LoadError> {
        connections_of(self.pid)
    }

    /// The server's connections at one of its addresses.
    pub(super) fn connections_at(&self, at: SocketAddr) -> Result<usize, LoadError> {
        connections_at(self.pid, at.port())
    }

    /// Connects the VM with this number, and finds its console.
    pub(super) fn victim(&self, number: usize) -> Result<Victim, LoadError> {
        let mut vm = VmLink::open(&self.subject, numbered_vm(number))?;
        if !self.is_server {
            return Ok(Victim { vm, at: self.vms(), client: None });
        }
        let client = meet(&mut vm, &self.subject, ClientKind::Telnet, 1)?.remove(0);
        Ok(Victim { vm, at: client.at, client: Some(client) })
    }
}

/// The number of the probe's VM is 0; these are the residents'.
pub(super) const RESIDENTS: std::ops::Range<usize> = 10..14;
/// From here on, the VMs whose consoles are attacked.
pub(super) const VICTIMS: usize = 20;
/// The VM that comes when all is over.
pub(super) const LAST: usize = 2;
/// From here on, VMs that come while it goes on, another one each time.
pub(super) const NEWCOMERS: usize = 1000;
