//! Which client port shows which VM? Nothing in the protocol says, and servers word their banners as they
//! like. So each VM prints a mark that occurs nowhere else, and the port that shows it is the right one.
//!
//! Owns the order in which ports are tried: first those that were closed before ([`Ports::look`]), since a
//! server gives a new VM a new port, then those that were open already. Refuses to know what a VM is
//! ([`Printing`]).

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::random::nonce;
use crate::telnet::Client;
use crate::tunnel::{Dial, Port};

/// Where client ports are, and what is known of them. Searches that share it tell each other what they found.
#[derive(Debug)]
pub struct Ports {
    host: IpAddr,
    first: u16,
    last: u16,
    dial: Dial,
    known: Mutex<Known>,
}

#[derive(Default, Debug)]
struct Known {
    /// The consoles of others: open before anybody here connected, or found to be another VM's.
    others: HashSet<u16>,
    /// Where a fresh VM is likely to be found: servers give the lowest free port.
    next: u16,
}

/// VMs whose consoles are looked for, numbered from 0.
pub trait Printing {
    /// Prints; false when that VM's connection has ended.
    fn print(&mut self, vm: usize, bytes: &[u8]) -> bool;

    /// Reads what has come for them and answers, without waiting.
    fn serve(&mut self);
}

impl Ports {
    /// `count` ports of `host`, from `first` upwards, reached by `dial`.
    #[must_use]
    pub fn new(host: IpAddr, first: u16, count: u16, dial: Dial) -> Self {
        let last = first.saturating_add(count.saturating_sub(1));
        Self { host, first, last, dial, known: Mutex::new(Known { next: first, ..Known::default() }) }
    }

    /// Where a port is reached.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host, port)
    }

    /// Notes which ports are open: consoles of others, which are tried last from now on. It takes a
    /// connection to each port, in clear whatever clients speak: whether one is open shows before anything is
    /// said.
    ///
    /// # Errors
    ///
    /// This machine has no poller or no socket to give.
    pub fn look(&self) -> Result<(), String> {
        let all: Vec<u16> = (self.first..=self.last).collect();
        for some in all.chunks(STEP.1) {
            let mut knocks = Knocks::new()?;
            for port in some {
                knocks.knock(*port, self.at(*port), &Dial::default())?;
            }
            let limit = Instant::now() + CONNECT;
            while knocks.pending > 0 && Instant::now() < limit {
                knocks.turn(Duration::from_millis(5));
            }
            let open = knocks.doors.values().filter(|door| door.is_open);
            self.known().others.extend(open.map(|door| door.port));
        }
        Ok(())
    }

    /// Finds the ports of `count` VMs, for at most 20 s times `slack`.
    ///
    /// # Errors
    ///
    /// Why there is none for one of them, in words.
    pub fn find(&self, vms: &mut dyn Printing, count: usize, slack: u32) -> Result<Vec<u16>, String> {
        let mut search = Search {
            ports: self,
            vms,
            mark: format!("[{:016x}.", nonce()),
            prints: 0,
            begun: Instant::now(),
            sought: vec![Sought::default(); count],
            knocks: Knocks::new()?,
            step: STEP.0,
            any_open: false,
            hung_up: false,
        };
        let mut rounds = 0;
        let in_time = |begun: Instant, rounds| {
            let elapsed = begun.elapsed();
            elapsed < AT_MOST * slack && (rounds < ROUNDS || elapsed < SEARCH * slack)
        };
        while !search.is_done() && in_time(search.begun, rounds) {
            search.round()?;
            rounds += 1;
        }
        search.clear();
        if search.hung_up {
            // Nobody may still count these clients when the real ones come.
            std::thread::sleep(FORGOTTEN);
        }
        let found: Option<Vec<u16>> = search.sought.iter().map(|sought| sought.port).collect();
        let (first, last) = (self.first, self.last);
        match found {
            Some(found) => {
                let mut known = self.known();
                known.next = found.iter().fold(known.next, |next, port| next.max(port.saturating_add(1)));
                known.others.extend(&found);
                Ok(found)
            }
            None if search.any_open => Err(format!("no port of {first}..={last} shows what this VM prints")),
            None => Err(format!("no port of {first}..={last} is open")),
        }
    }

    /// The ports of fresh VMs, those that are likely first; and how many these are.
    fn fresh(&self, count: usize) -> (Vec<u16>, usize) {
        let known = self.known();
        let beyond =
            known.next.saturating_add(u16::try_from(count).unwrap_or(u16::MAX)).saturating_add(AHEAD);
        let likely = (known.next.saturating_sub(BEHIND).max(self.first)..beyond.min(self.last)).rev();
        let mut seen = HashSet::new();
        let mut fresh = |port: &u16| !known.others.contains(port) && seen.insert(*port);
        let mut ports: Vec<u16> = likely.filter(&mut fresh).collect();
        let likely = ports.len();
        ports.extend((self.first..=self.last).filter(fresh));
        (ports, likely)
    }

    fn others(&self) -> Vec<u16> {
        let mut others: Vec<u16> = self.known().others.iter().copied().collect();
        others.sort_unstable();
        others
    }

    /// A search that panicked has left nothing half done here.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Search<'a> {
    ports: &'a Ports,
    vms: &'a mut dyn Printing,
    /// What every mark of this search begins with; the VM's number and the mark's follow.
    mark: String,
    prints: u32,
    begun: Instant,
    sought: Vec<Sought>,
    knocks: Knocks,
    /// How many ports are tried before what they show is looked at.
    step: usize,
    any_open: bool,
    /// Someone may count a client that has hung up.
    hung_up: bool,
}

/// A VM whose port is looked for.
#[derive(Clone, Copy, Default)]
struct Sought {
    port: Option<u16>,
    /// The last mark that it printed, and the last that its port showed.
    printed: u32,
    shown: u32,
}

impl Search<'_> {
    /// Tries every port once. A server may open the port only now, so that fresh ones are looked at again and
    /// again before the consoles of others are bothered.
    fn round(&mut self) -> Result<(), String> {
        for look in 1..=LOOKS {
            let (fresh, likely) = self.ports.fresh(self.sought.len());
            self.knock(if look < LOOKS { &fresh[..likely] } else { &fresh })?;
            self.watch(PRINT_EVERY)?;
        }
        if self.knocks.are_open() {
            self.watch(SHOWS_WITHIN)?;
        }
        self.knock(&self.ports.others())?;
        if self.knocks.are_open() {
            self.watch(SHOWS_WITHIN)?;
        }
        self.clear();
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.sought.iter().all(|sought| sought.port.is_some())
    }

    /// Connects to each of these ports that is not connected to.
    fn knock(&mut self, ports: &[u16]) -> Result<(), String> {
        let mut rest = ports;
        while !rest.is_empty() && !self.is_done() {
            let (some, more) = rest.split_at(self.step.min(rest.len()));
            if self.knocks.doors.len() + some.len() > MOST {
                self.watch(SHOWS_WITHIN)?;
                self.clear();
            }
            for port in some {
                self.knocks.knock(*port, self.ports.at(*port), &self.ports.dial)?;
            }
            // A closed port of this machine refuses at once.
            let until = Instant::now() + GLANCE;
            while !self.is_done() && Instant::now() < until && !self.knocks.doors.is_empty() {
                self.turn()?;
            }
            self.hang_up_where_found();
            (rest, self.step) = (more, (self.step * 4).min(STEP.1));
        }
        Ok(())
    }

    /// Lets the VMs print, until each was seen, or `time` has gone by since a connection came up.
    fn watch(&mut self, time: Duration) -> Result<(), String> {
        let mut until = Instant::now() + time;
        while !self.is_done() && Instant::now() < until {
            if self.turn()? {
                until = Instant::now() + time;
            }
        }
        Ok(())
    }

    /// A moment in which the VMs print, if it is time, and what has come is read; true when a connection came
    /// up.
    fn turn(&mut self) -> Result<bool, String> {
        if self.begun.elapsed() >= PRINT_EVERY * self.prints {
            self.print()?;
        }
        Ok(self.read())
    }

    fn read(&mut self) -> bool {
        let came_up = self.knocks.turn(Duration::from_millis(1));
        self.vms.serve();
        self.any_open |= self.knocks.are_open();
        for door in self.knocks.doors.values_mut() {
            for (vm, number) in door.marks(&self.mark) {
                if let Some(sought) = self.sought.get_mut(vm) {
                    sought.port = Some(door.port);
                    sought.shown = sought.shown.max(number);
                }
            }
        }
        came_up
    }

    fn print(&mut self) -> Result<(), String> {
        self.prints += 1;
        for (vm, sought) in self.sought.iter_mut().enumerate().filter(|(_, sought)| sought.port.is_none()) {
            sought.printed = self.prints;
            if !self.vms.print(vm, format!("{}{vm}.{}]\r\n", self.mark, self.prints).as_bytes()) {
                return Err("the server has ended the VM's connection".into());
            }
        }
        Ok(())
    }

    /// Hangs up everywhere: after the last marks have come, so that none turns up later where it is not
    /// expected.
    fn clear(&mut self) {
        let limit = Instant::now() + LAST_MARK;
        while self.sought.iter().any(|sought| sought.port.is_some() && !sought.is_over())
            && Instant::now() < limit
        {
            self.read();
        }
        self.hung_up |= !self.knocks.doors.is_empty();
        self.knocks.hang_up();
    }

    fn hang_up_where_found(&mut self) {
        let over: HashSet<u16> =
            self.sought.iter().filter(|sought| sought.is_over()).filter_map(|sought| sought.port).collect();
        self.hung_up |= !over.is_empty();
        // They are not connected to again as long as the others are looked for.
        self.knocks.doors.retain(|_, door| !over.contains(&door.port));
    }
}

impl Sought {
    /// Its port is found and has shown all its marks.
    fn is_over(&self) -> bool {
        self.port.is_some() && self.shown >= self.printed
    }
}

/// Connections to client ports.
struct Knocks {
    poll: Poll,
    events: Events,
    doors: HashMap<Token, Door>,
    ports: HashSet<u16>,
    last: usize,
    /// How many are neither there nor refused yet.
    pending: usize,
}

/// A client that agrees with everything and looks for a mark.
struct Door {
    port: u16,
    stream: TcpStream,
    is_open: bool,
    client: Client,
    looked_at: usize,
}

impl Knocks {
    fn new() -> Result<Self, String> {
        let poll = Poll::new().map_err(|why| format!("no poller: {why}"))?;
        let (doors, ports) = (HashMap::new(), HashSet::new());
        Ok(Self { poll, events: Events::with_capacity(256), doors, ports, last: 0, pending: 0 })
    }

    fn are_open(&self) -> bool {
        self.doors.values().any(|door| door.is_open)
    }

    /// Begins to connect to a port, unless that has been done.
    fn knock(&mut self, port: u16, at: SocketAddr, dial: &Dial) -> Result<(), String> {
        if self.ports.contains(&port) {
            return Ok(());
        }
        let Ok(mut stream) = dial.begin(Port::Client, at) else { return Ok(()) };
        self.last += 1;
        let (token, interest) = (Token(self.last), Interest::READABLE | Interest::WRITABLE);
        let registered = self.poll.registry().register(&mut stream, token, interest);
        registered.map_err(|why| format!("cannot watch a connection: {why}"))?;
        self.ports.insert(port);
        self.pending += 1;
        let door = Door { port, stream, is_open: false, client: Client::default(), looked_at: 0 };
        self.doors.insert(token, door);
        Ok(())
    }

    /// Reads what comes within `time`; true when a connection came up.
    fn turn(&mut self, time: Duration) -> bool {
        // An interrupted wait is a short one.
        let _ = self.poll.poll(&mut self.events, Some(time));
        let mut came_up = false;
        for event in &self.events {
            let Some(door) = self.doors.get_mut(&event.token()) else { continue };
            let was_open = door.is_open;
            let is_alive = door.wake();
            self.pending -= usize::from(!was_open && (door.is_open || !is_alive));
            came_up |= !was_open && door.is_open;
            if !is_alive {
                self.ports.remove(&door.port);
                self.doors.remove(&event.token());
            }
        }
        came_up
    }

    fn hang_up(&mut self) {
        self.doors.clear();
        self.ports.clear();
        self.pending = 0;
    }
}

impl Door {
    /// The socket told something; false when the connection has ended or never came up.
    fn wake(&mut self) -> bool {
        if !self.is_open {
            match (self.stream.take_error(), self.stream.peer_addr(), self.stream.local_addr()) {
                // A port of this machine where nobody listens, given to the very connection that looked for
                // it.
                (Ok(None), Ok(peer), Ok(local)) if peer == local => return false,
                (Ok(None), Ok(_), Ok(_)) => self.is_open = true,
                (Ok(None), Err(why), _) if why.kind() == ErrorKind::NotConnected => return true,
                _ => return false,
            }
        }
        let mut chunk = [0; 16 << 10];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(n) => {
                    let answer = self.client.read(&chunk[..n]);
                    // A few bytes on a fresh connection: they fit, or it has gone.
                    let _ = self.stream.write(&answer);
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return why.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// The marks that have come since the last look: the VM's number and the mark's.
    fn marks(&mut self, prefix: &str) -> Vec<(usize, u32)> {
        let mut marks = Vec::new();
        while let Some(at) = memmem::find(&self.client.bytes[self.looked_at..], prefix.as_bytes()) {
            let from = self.looked_at + at + prefix.len();
            let Some(length) = memchr::memchr(b']', &self.client.bytes[from..]) else { break };
            let numbers = std::str::from_utf8(&self.client.bytes[from..from + length]).ok();
            let numbers = numbers.and_then(|numbers| numbers.split_once('.'));
            marks.extend(numbers.and_then(|(vm, n)| Some((vm.parse().ok()?, n.parse().ok()?))));
            self.looked_at = from + length;
        }
        marks
    }
}

impl Drop for Door {
    /// By RST: a client that merely ends its input may still be served for a while.
    fn drop(&mut self) {
        // It may have gone already, and then it is not needed.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// How long is searched at least: a server may take its time to open a port.
const SEARCH: Duration = Duration::from_secs(6);

/// How often all ports are tried, at least.
const ROUNDS: u32 = 2;

/// No new round begins after this time.
const AT_MOST: Duration = Duration::from_secs(20);

/// How long a client port may take to show what its VM prints. vSPC.py lets half a second pass in which
/// the client negotiates.
const SHOWS_WITHIN: Duration = Duration::from_millis(800);

/// How often the VMs print their marks.
const PRINT_EVERY: Duration = Duration::from_millis(100);

/// How long a port may take to answer when all are looked at.
const CONNECT: Duration = Duration::from_millis(300);

/// A look at some ports before more are tried: a fresh console on this machine shows its VM's mark within.
const GLANCE: Duration = Duration::from_millis(5);

/// How long the last mark may be on its way.
const LAST_MARK: Duration = Duration::from_secs(1);

/// How long a server may take to notice that a client has gone.
const FORGOTTEN: Duration = Duration::from_millis(30);

/// How often fresh ports are looked at in a round: they open within milliseconds, as a rule.
const LOOKS: u32 = 4;

/// How many ports behind the likely one are tried before all others, and how many ahead: so many VMs may have
/// come at the same moment.
const BEHIND: u16 = 160;
const AHEAD: u16 = 8;

/// How many ports are tried at once: at first, so that a console that is where it is expected costs others
/// nothing, and at most.
const STEP: (usize, usize) = (16, 256);

/// How many connections a search keeps at most: well within what a process may have open, also when eight
/// search.
const MOST: usize = 512;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::load::process::raise_descriptor_limit;

    /// Consoles that show what their VM prints, each on a port of its own, and others that show nothing.
    struct Server {
        first: u16,
        others: Vec<TcpListener>,
        printed: Vec<Arc<Mutex<Vec<u8>>>>,
    }

    impl Server {
        /// Others on `others` ports in a row from `first` on, as far as they are free.
        fn new(first: u16, others: u16) -> Self {
            raise_descriptor_limit();
            let others = (first..first + others).filter_map(|port| listen(port).ok()).collect();
            Self { first, others, printed: Vec::new() }
        }

        /// One more console, on `port` or the next one that is free.
        fn console(&mut self, port: u16) -> u16 {
            let (port, listener) = (port..).find_map(|port| Some((port, listen(port).ok()?))).unwrap();
            let printed = Arc::new(Mutex::new(Vec::new()));
            self.printed.push(Arc::clone(&printed));
            std::thread::spawn(move || {
                let mut clients: Vec<(std::net::TcpStream, usize)> = Vec::new();
                loop {
                    clients.extend(listener.accept().ok().map(|(stream, _)| (stream, 0)));
                    let printed = printed.lock().unwrap().clone();
                    for (stream, shown) in &mut clients {
                        let _ = stream.write_all(&printed[*shown..]);
                        *shown = printed.len();
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            port
        }

        fn ports(&self, count: u16) -> Ports {
            Ports::new(Ipv4Addr::LOCALHOST.into(), self.first, count, Dial::default())
        }

        /// How many have connected to others since the last call.
        fn bothered(&self) -> usize {
            self.others.iter().map(|other| std::iter::from_fn(|| other.accept().ok()).count()).sum()
        }
    }

    impl Printing for Server {
        fn print(&mut self, vm: usize, bytes: &[u8]) -> bool {
            self.printed[vm].lock().unwrap().extend(bytes);
            true
        }

        fn serve(&mut self) {}
    }

    fn listen(port: u16) -> std::io::Result<TcpListener> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Each test has a stretch of ports of its own, below those of outgoing connections.
    fn stretch() -> u16 {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        3000 + (NEXT.fetch_add(1, Ordering::Relaxed) as u16) * 500
    }

    #[test]
    fn a_fresh_console_is_found_anywhere_among_many_and_the_others_are_left_alone() {
        let first = stretch();
        let mut server = Server::new(first, 300);
        let gap = server.others.remove(170).local_addr().unwrap().port();
        let ports = server.ports(450);
        ports.look().unwrap();
        assert!(server.bothered() >= 290);
        for port in [gap, first + 440] {
            let port = server.console(port);
            assert_eq!(ports.find(&mut Only(&mut server), 1, 1), Ok(vec![port]));
            assert_eq!(server.bothered(), 0);
        }
    }

    #[test]
    fn a_console_that_was_open_before_is_found_too() {
        let mut server = Server::new(stretch(), 300);
        let others = server.others.len();
        let last = server.others.remove(others - 1).local_addr().unwrap().port();
        let port = server.console(last);
        let ports = server.ports(310);
        ports.look().unwrap();
        assert_eq!(ports.find(&mut server, 1, 1), Ok(vec![port]));
    }

    #[test]
    fn many_vms_are_told_apart() {
        let first = stretch();
        let mut server = Server::new(first, 20);
        let expected: Vec<u16> = [80, 30, 50].map(|more| server.console(first + more)).to_vec();
        assert_eq!(server.ports(100).find(&mut server, 3, 1), Ok(expected));
    }

    #[test]
    fn a_vm_without_port_is_told_and_not_waited_for_long() {
        struct Gone;
        impl Printing for Gone {
            fn print(&mut self, _vm: usize, _bytes: &[u8]) -> bool {
                false
            }
            fn serve(&mut self) {}
        }
        let server = Server::new(stretch(), 3);
        let begun = Instant::now();
        assert_eq!(
            server.ports(10).find(&mut Gone, 1, 1),
            Err("the server has ended the VM's connection".into())
        );
        assert!(begun.elapsed() < SEARCH);
    }

    /// The console that was opened last.
    struct Only<'a>(&'a mut Server);

    impl Printing for Only<'_> {
        fn print(&mut self, _vm: usize, bytes: &[u8]) -> bool {
            let last = self.0.printed.len() - 1;
            self.0.print(last, bytes)
        }

        fn serve(&mut self) {}
    }
}
