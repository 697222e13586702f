//! The service manager that has started the server, if one has: it is told when the server serves, that its
//! loop goes round, and that it stops (sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names).
//!
//! **Owns** that socket, and when the watchdog is due. **Refuses to know** what serving is. A manager that
//! takes nothing costs nothing: what it does not take is not said.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use vspc_core::time::Instant;

/// Who watches over this process.
#[derive(Debug, Default)]
pub struct Supervisor {
    /// Connected to the manager; `None`: there is none, or it cannot be reached.
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that the loop goes round.
    period: Option<Duration>,
    /// When it hears that next.
    feed_at: Option<Instant>,
}

impl Supervisor {
    /// The one that the environment tells of. Children are none of its business, and are not told of it by
    /// this process, which starts none.
    #[must_use]
    pub fn of_process() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        let socket = match connect(&address) {
            Ok(socket) => socket,
            Err(error) => {
                log::warn!("cannot tell the service manager that the server serves: NOTIFY_SOCKET: {error}");
                return Self::default();
            }
        };
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let limit = number("WATCHDOG_USEC").filter(|limit| is_meant && *limit > 0);
        Self::new(socket, limit.map(Duration::from_micros))
    }

    /// `limit`: after that long without a word the manager takes the server for dead.
    fn new(socket: UnixDatagram, limit: Option<Duration>) -> Self {
        Self { socket: Some(socket), period: limit.map(|limit| limit / FEEDS_PER_LIMIT), feed_at: None }
    }

    /// From now on the watchdog is fed.
    pub fn begin(&mut self, now: Instant) {
        self.feed_at = self.period.map(|_| now);
    }

    /// The server serves, or serves with what it has read anew.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// It reads its configuration anew, and says [`ready`](Self::ready) again when it is done.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It stops, and may take its time.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// When [`feed`](Self::feed) is to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.feed_at
    }

    /// Says that the loop goes round, if that is due. It is the loop that says it: one that hangs does not.
    pub fn feed(&mut self, now: Instant) {
        let (Some(at), Some(period)) = (self.feed_at, self.period) else { return };
        if at <= now {
            self.tell("WATCHDOG=1");
            self.feed_at = Some(now + period);
        }
    }

    fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(what.as_bytes())
        {
            log::debug!("the service manager does not take {what}: {error}");
        }
    }
}

/// A socket that never waits, to a path or, with `@`, to an abstract name.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How often within its limit a watchdog is fed: often enough that a busy machine does not make it bite.
const FEEDS_PER_LIMIT: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_when_due_and_not_before() {
        let (manager, socket) = UnixDatagram::pair().unwrap();
        manager.set_nonblocking(true).unwrap();
        let hears = || {
            let mut word = [0; 64];
            manager.recv(&mut word).map(|length| word[..length].to_vec()).ok()
        };
        let mut supervisor = Supervisor::new(socket, Some(Duration::from_secs(30)));
        assert_eq!(supervisor.deadline(), None);
        let now = Instant::from_millis(5);
        supervisor.begin(now);
        assert_eq!(supervisor.deadline(), Some(now));
        supervisor.feed(now);
        assert_eq!(hears().as_deref(), Some(&b"WATCHDOG=1"[..]));
        let next = now + Duration::from_secs(10);
        let before = now + Duration::from_millis(9_999);
        assert_eq!(supervisor.deadline(), Some(next));
        supervisor.feed(before);
        assert_eq!(hears(), None);
        supervisor.feed(next);
        assert_eq!(hears().as_deref(), Some(&b"WATCHDOG=1"[..]));
    }

    #[test]
    fn without_a_manager_nothing_is_due() {
        let mut supervisor = Supervisor::default();
        supervisor.begin(Instant::ZERO);
        supervisor.ready();
        supervisor.feed(Instant::ZERO);
        assert_eq!(supervisor.deadline(), None);
    }

    #[test]
    fn an_abstract_name_is_an_address_too() {
        let name = format!("vspc-supervisor-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let supervisor = Supervisor::new(connect(OsStr::new(&format!("@{name}"))).unwrap(), None);
        supervisor.ready();
        let mut word = [0; 64];
        let length = manager.recv(&mut word).unwrap();
        assert_eq!(&word[..length], b"READY=1");
    }
}
