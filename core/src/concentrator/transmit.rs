//! The flow plane: which bytes a connection is owed now, and what happens as its socket takes them.
//!
//! Every connection's bytes come in one order: the second half of a pair whose first half is out, then
//! control, then data. `transmit` lays that out without copying, `handle_sent` walks the same way.

use std::io::IoSlice;

use crate::telnet::guest_slices;
use crate::time::Instant;
use crate::transport::{RECORD, RUNS};

use super::Concentrator;
use super::conn::{Client, Closing, Conn, Place, Role, Transport};
use super::console::{Console, READ_MAX};
use super::id::ConnId;

/// Guest bytes per transmit that are copied when slicing would yield crumbs.
const COPY_LIMIT: usize = 64 << 10;

/// Average length of a slice below which copying is cheaper than a longer gather list.
const CRUMB: usize = 256;

impl Concentrator {
    /// How many bytes may be read from this connection now; 0: do not read, an
    /// [`Output::Receive`](super::Output::Receive) will tell when. Constant cost.
    #[must_use]
    pub fn receive_window(&self, id: ConnId) -> usize {
        let Some(conn) = self.conns.get(id) else { return 0 };
        if conn.closing.is_some() {
            return READ_MAX;
        }
        let window = self.plain_window(conn);
        match &conn.transport {
            // What a record holds is not known before it is whole.
            Transport::Tls(tls) if tls.held.is_empty() && window > 0 => window.max(RECORD),
            Transport::Tls(_) => 0,
            Transport::Plain | Transport::Held(_) => window,
        }
    }

    /// How many bytes of its own a connection may send.
    pub(super) fn plain_window(&self, conn: &Conn) -> usize {
        match &conn.role {
            Role::Arriving(_) => RECORD,
            Role::Vm(vm) => {
                let paused = match vm.place {
                    Place::Console(id) => self.consoles.get(id).is_some_and(|console| console.paused),
                    _ => false,
                };
                if paused { 0 } else { READ_MAX }
            }
            Role::Client(_) if conn.control.is_over_limit() => 0,
            Role::Client(client) => match self.consoles.get(client.console) {
                Some(console) if !console.legs.is_empty() => {
                    console.uplink.window(client.epoch, client.mode.is_guest())
                }
                _ => READ_MAX,
            },
        }
    }

    /// Fills `runs` with bytes this connection is owed, borrowed from where they are kept; returns how
    /// many runs. 0: nothing now, a [`Output::Transmit`](super::Output::Transmit) will tell when. Asking
    /// twice gives the same bytes.
    ///
    /// Write them and call [`handle_sent`](Self::handle_sent) with the number the socket took before any
    /// other call about this connection. Over TLS, bytes are sealed here, a record at a time, and what is sealed
    /// counts as taken; so there may be outputs to poll after this call, as after every other. Bounded by the length of `runs` (a raw client's dense IACs are
    /// copied once, 64 KiB at most).
    pub fn transmit<'a>(&'a mut self, id: ConnId, runs: &mut [IoSlice<'a>]) -> usize {
        let plain = self.conns.get(id).is_some_and(|conn| matches!(conn.transport, Transport::Plain));
        let prepared = if plain {
            self.prepare(id, runs.len())
        } else {
            self.seal(id);
            self.conns
                .get(id)
                .and_then(|conn| conn.transport.pending())
                .is_some_and(|bytes| !bytes.is_empty())
                .then_some(false)
        };
        let Some(copied) = prepared else {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.announced.transmit = false;
            }
            return 0;
        };
        let Some(conn) = self.conns.get(id) else { return 0 };
        match (conn.transport.pending(), runs.first_mut()) {
            (Some(bytes), Some(run)) => {
                *run = IoSlice::new(bytes);
                1
            }
            _ => self.own_runs(id, copied, runs),
        }
    }

    /// Seals the next of what a connection is owed, if it is TLS and the socket has taken all that was
    /// sealed before. What is sealed counts as taken: nothing can change it any more.
    fn seal(&mut self, id: ConnId) {
        let is_free = self.conns.get(id).is_some_and(
            |conn| matches!(&conn.transport, Transport::Tls(tls) if tls.is_up() && tls.pending().is_empty()),
        );
        if !is_free {
            return;
        }
        let Some(copied) = self.prepare(id, RUNS) else { return };
        let Some(conn) = self.conns.get_mut(id) else { return };
        let mut transport = std::mem::take(&mut conn.transport);
        let mut runs = [IoSlice::new(&[]); RUNS];
        let count = self.own_runs(id, copied, &mut runs);
        let sealed = match &mut transport {
            Transport::Tls(tls) => tls.seal(&runs[..count]),
            Transport::Plain | Transport::Held(_) => Ok(0),
        };
        if let Some(conn) = self.conns.get_mut(id) {
            conn.transport = transport;
        }
        match sealed {
            Ok(0) => {}
            Ok(sealed) => self.took(id, sealed, self.now),
            Err(fault) => self.fail_tls(id, &fault, self.now),
        }
    }

    /// Gets a connection's own bytes ready to be borrowed; `None`: there are none. Otherwise whether they
    /// were copied.
    fn prepare(&mut self, id: ConnId, runs: usize) -> Option<bool> {
        if let Some(conn) = self.conns.get(id)
            && conn.client().is_some_and(|client| client.overtaken.is_some())
        {
            self.catch_up(id);
        }
        self.owes(id).then(|| self.copy_crumbs(id, runs))
    }

    fn own_runs<'a>(&'a self, id: ConnId, copied: bool, runs: &mut [IoSlice<'a>]) -> usize {
        let Some(conn) = self.conns.get(id) else { return 0 };
        match &conn.role {
            Role::Vm(_) => self.vm_runs(id, conn, runs),
            Role::Client(client) => self.client_runs(conn, client, copied, runs),
            Role::Arriving(_) => 0,
        }
    }

    /// Whether there is anything to transmit.
    fn owes(&self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        if !conn.control.is_empty() {
            return true;
        }
        match &conn.role {
            Role::Vm(_) => {
                conn.console().and_then(|console| self.input_leg(console)) == Some(id)
                    && self.uplink_of(id, conn).is_some_and(|console| !console.uplink.is_empty())
            }
            Role::Client(client) => self
                .journal_of(conn, client)
                .is_some_and(|console| client.jump.is_some() || client.at < console.journal.head()),
            Role::Arriving(_) => false,
        }
    }

    /// The console whose journal this client is being shown.
    fn journal_of(&self, conn: &Conn, client: &Client) -> Option<&Console> {
        let shown = client.overtaken.is_none() && conn.closing != Some(Closing::Farewell);
        self.consoles.get(client.console).filter(|_| shown)
    }

    /// Puts a raw client's next bytes together where slicing them around their doubled IACs would yield
    /// crumbs. Returns whether it did.
    fn copy_crumbs(&mut self, id: ConnId, runs: usize) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        let Some(client) = conn.client().filter(|client| client.mode.is_guest()) else { return false };
        let Some(console) = self.journal_of(conn, client) else { return false };
        let (journal, at) = (&console.journal, client.at);
        let slices = journal.slices(at, journal.head()).flat_map(guest_slices).take(runs);
        let (count, bytes) = slices.fold((0, 0), |(count, bytes), slice| (count + 1, bytes + slice.len()));
        if count < runs || bytes >= runs * CRUMB {
            return false;
        }
        let id = client.console;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        if let Some(console) = self.consoles.get(id) {
            console.journal.copy_guest(at, console.journal.head(), COPY_LIMIT, &mut scratch);
        }
        self.scratch = scratch;
        true
    }

    fn vm_runs<'a>(&'a self, id: ConnId, conn: &'a Conn, runs: &mut [IoSlice<'a>]) -> usize {
        let uplink = self.uplink_of(id, conn).map(|console| &console.uplink);
        let (half, rest) = match uplink {
            Some(uplink) => uplink.halves(),
            None => (&[][..], &[][..]),
        };
        let mut count = control_runs(conn, half, runs);
        let open = conn.console().and_then(|console| self.input_leg(console)) == Some(id);
        if open && !rest.is_empty() && count < runs.len() {
            runs[count] = IoSlice::new(rest);
            count += 1;
        }
        count
    }

    /// The console whose input this VM connection takes, or has taken half a pair of.
    fn uplink_of(&self, id: ConnId, conn: &Conn) -> Option<&Console> {
        let console = self.consoles.get(conn.console()?)?;
        (console.legs.last()?.conn == Some(id)).then_some(console)
    }

    fn client_runs<'a>(
        &'a self,
        conn: &'a Conn,
        client: &Client,
        copied: bool,
        runs: &mut [IoSlice<'a>],
    ) -> usize {
        let Some(console) = self.journal_of(conn, client) else { return control_runs(conn, &[], runs) };
        let journal = &console.journal;
        if client.mode.is_guest() {
            let count = control_runs(conn, &[], runs);
            let rest = &mut runs[count..];
            if copied && let Some(run) = rest.first_mut() {
                *run = IoSlice::new(&self.scratch);
                return count + 1;
            }
            return count + guest_runs(console, client, rest);
        }
        let (half, at) = owed_half(conn, client, console);
        let mut count = control_runs(conn, half, runs);
        if let Some((until, resume)) = client.jump {
            count += journal.wire_runs(at, until, &mut runs[count..]);
            count += journal.wire_runs(resume, journal.head(), &mut runs[count..]);
        } else {
            count += journal.wire_runs(at, journal.head(), &mut runs[count..]);
        }
        count
    }

    /// The socket took `n` of the bytes that [`transmit`](Self::transmit) has just offered. Costs no more
    /// than a look at each of them.
    pub fn handle_sent(&mut self, id: ConnId, n: usize, now: Instant) {
        self.now = now;
        let Some(conn) = self.conns.get_mut(id) else { return };
        match &mut conn.transport {
            Transport::Plain => self.took(id, n, now),
            Transport::Held(upgrade) => {
                upgrade.sent(n);
                self.end_upgrade(id);
            }
            Transport::Tls(tls) => tls.sent(n),
        }
        if let Some(conn) = self.conns.get(id)
            && conn.is_nobody()
            && conn.has_been_told_all()
        {
            self.admission.greeted(id, now);
        }
        if self.conns.get(id).is_some_and(|conn| conn.closing.is_some()) {
            self.consider_closed(id, now);
        }
    }

    /// `n` of a connection's own bytes are out of our hands.
    fn took(&mut self, id: ConnId, n: usize, now: Instant) {
        let Some(conn) = self.conns.get(id) else { return };
        let over_limit = conn.control.is_over_limit();
        match conn.role {
            Role::Vm(_) => self.vm_took(id, n, now),
            Role::Client(_) => self.client_took(id, n),
            Role::Arriving(_) => {}
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        if over_limit && !conn.control.is_over_limit() {
            self.outbox.receive(id, &mut conn.announced);
        }
    }

    fn vm_took(&mut self, id: ConnId, n: usize, now: Instant) {
        let Some(conn) = self.conns.get(id) else { return };
        let control = conn.control.pending().len();
        let half =
            self.uplink_of(id, conn).is_some_and(|console| console.uplink.is_mid_pair() && control > 0);
        let mut data = if half { n.min(1) } else { 0 };
        let Some(conn) = self.conns.get_mut(id) else { return };
        data += conn.control.sent(n - data);
        if data > 0
            && let Some(console) = conn.console()
            && let Some(taken) = self.consoles.get_mut(console)
        {
            taken.count().bytes_to_vm += data as u64;
            if taken.uplink.sent(data, &mut self.buffers) {
                self.reopen_input(console);
            }
        }
        self.note_taken(id, now);
    }

    fn client_took(&mut self, id: ConnId, n: usize) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Role::Client(client) = &mut conn.role else { return };
        let mut n = n;
        // A farewell may outlive the console it is about.
        let shown = client.overtaken.is_none() && conn.closing != Some(Closing::Farewell);
        let Some(console) = self.consoles.get_mut(client.console).filter(|_| shown) else {
            conn.control.sent(n);
            return;
        };
        if !conn.control.is_empty()
            && !client.mode.is_guest()
            && console.journal.is_mid_pair(client.at)
            && n > 0
        {
            client.at += 1;
            n -= 1;
        }
        n = conn.control.sent(n);
        if n == 0 {
            return;
        }
        console.count().bytes_to_clients += n as u64;
        let needed = client.needs();
        if let Some((until, resume)) = client.jump {
            let older = n.min((until - client.at) as usize);
            client.at += older as u64;
            n -= older;
            if client.at == until {
                client.jump = None;
                client.at = resume;
            }
        }
        if client.mode.is_guest() {
            client.at = console.journal.advance_guest(client.at, n);
        } else {
            client.at += n as u64;
        }
        client.at = client.at.min(console.journal.head());
        let oldest_end = console.journal.oldest_end();
        let lets_go = needed < oldest_end && client.needs() >= oldest_end;
        let (paused, console) = (console.paused, client.console);
        if lets_go {
            self.trim(console);
        }
        if paused {
            self.consider_resume(console);
        }
    }
}

/// `half` if control bytes would come between the two halves of a pair, then the control bytes.
fn control_runs<'a>(conn: &'a Conn, half: &'a [u8], runs: &mut [IoSlice<'a>]) -> usize {
    let control = conn.control.pending();
    let mut count = 0;
    for bytes in [half, control] {
        if !bytes.is_empty() && count < runs.len() {
            runs[count] = IoSlice::new(bytes);
            count += 1;
        }
    }
    count
}

/// The second half of a pair that must go before the control bytes, and where the reader is behind it.
fn owed_half<'a>(conn: &Conn, client: &Client, console: &'a Console) -> (&'a [u8], u64) {
    if conn.control.is_empty() || !console.journal.is_mid_pair(client.at) {
        return (&[], client.at);
    }
    let half = console.journal.slices(client.at, client.at + 1).next().unwrap_or(&[]);
    (half, client.at + half.len() as u64)
}

/// Guest bytes in slices; returns how many.
fn guest_runs<'a>(console: &'a Console, client: &Client, runs: &mut [IoSlice<'a>]) -> usize {
    let slices = console.journal.slices(client.at, console.journal.head()).flat_map(guest_slices);
    let mut count = 0;
    for (run, slice) in runs.iter_mut().zip(slices) {
        *run = IoSlice::new(slice);
        count += 1;
    }
    count
}
