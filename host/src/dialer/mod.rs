//! Connections that the engine asks for: names looked up and sockets connected, by threads of their own,
//! because either may take its time.
//!
//! **Owns** what waits to be connected to, and the threads, which come as they are needed and go when there
//! is nothing to do for a while. **Refuses to know** what a connection is for, and TLS: that is the engine's.
//!
//! A connection is handed to the loop as a command, and so is why there is none. One that is given up
//! meanwhile is made all the same, and closed when nobody wants it.

mod attempt;
mod local;
mod options;
mod pending;
mod program;
mod pty;
mod tty;
mod tty_settings;
mod voice;

use std::collections::{HashSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::Socket;

use vspc_core::concentrator::{ConnId, Target, TargetPlace};

use crate::commands::{Command, Sender, TrySendError};
use crate::outlets::Ending;

use local::LocalLines;

pub(crate) use options::{DialOptions, line_name, line_place, target};

/// The loop's end. Without threads behind it, which is the default, nothing can be connected to.
#[derive(Clone, Debug, Default)]
pub struct Dialer(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    jobs: Mutex<Jobs>,
    came: Condvar,
    commands: Sender,
    local: LocalLines,
    /// What attempts may take beyond a descriptor each.
    spare: attempt::Spare,
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: VecDeque<(ConnId, Arc<Target>)>,
    /// What threads are at.
    running: HashSet<ConnId>,
    threads: usize,
    idle: usize,
    looking_up: usize,
}

impl Dialer {
    /// What hands connections to the loop by these commands. `spare`: how many descriptors it may have open
    /// beside one for each connection.
    pub(crate) fn new(commands: Sender, ending: Ending, spare: usize) -> Self {
        let (jobs, came, local) = (Mutex::default(), Condvar::new(), LocalLines::new(ending));
        Self(Some(Arc::new(Shared { jobs, came, commands, local, spare: attempt::Spare::new(spare) })))
    }

    /// Begins to connect to this; the outcome comes as a [`Command::Connected`]. On `Err` none comes.
    pub(crate) fn dial(&self, id: ConnId, target: Arc<Target>) -> io::Result<()> {
        let shared = self.0.as_ref().ok_or(ErrorKind::Unsupported)?;
        let mut jobs = shared.lock();
        if jobs.idle <= jobs.waiting.len() && jobs.threads < MOST_THREADS {
            let its = Arc::clone(shared);
            match thread::Builder::new().name("dialer".to_owned()).spawn(move || its.work()) {
                Ok(_) => jobs.threads += 1,
                // One of those that there are gets to it.
                Err(_) if jobs.threads > 0 => {}
                Err(error) => return Err(error),
            }
        }
        jobs.waiting.push_back((id, target));
        drop(jobs);
        shared.came.notify_one();
        Ok(())
    }

    /// Nobody wants this connection any more.
    pub(crate) fn give_up(&self, id: ConnId) {
        if let Some(shared) = &self.0 {
            let mut jobs = shared.lock();
            jobs.waiting.retain(|(its, _)| *its != id);
            jobs.running.remove(&id);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn work(&self) {
        while let Some((id, target)) = self.next() {
            let outcome = match target.place() {
                TargetPlace::Local(line) => self.local.open(line),
                TargetPlace::Unix(path) => self.connect(id, &attempt::Where::Unix(path.clone())),
                TargetPlace::Tcp(host, port) => {
                    let found = addresses(host, *port);
                    if needs_look_up(&target) {
                        self.lock().looking_up -= 1;
                        self.came.notify_one();
                    }
                    found.and_then(|to| self.connect(id, &attempt::Where::Tcp(to)))
                }
            };
            if !self.lock().running.remove(&id) {
                continue;
            }
            let mut command = Command::Connected(id, outcome);
            // The loop makes room soon.
            while let Err(full) = self.commands.try_send(command) {
                match full {
                    TrySendError::Full(again) => command = again,
                    TrySendError::Disconnected(_) => return,
                }
                thread::sleep(FULL_PAUSE);
            }
        }
    }

    fn connect(&self, id: ConnId, to: &attempt::Where) -> io::Result<Socket> {
        attempt::connect(to, &self.spare, &|| self.lock().running.contains(&id))
    }

    /// The next to connect to; `None`: the thread is to end.
    fn next(&self) -> Option<(ConnId, Arc<Target>)> {
        let mut jobs = self.lock();
        loop {
            let may_look_up = jobs.looking_up < MOST_LOOKING_UP;
            let first = jobs.waiting.iter().position(|(_, target)| may_look_up || !needs_look_up(target));
            if let Some((id, target)) = first.and_then(|at| jobs.waiting.remove(at)) {
                jobs.looking_up += usize::from(needs_look_up(&target));
                jobs.running.insert(id);
                return Some((id, target));
            }
            jobs.idle += 1;
            let (woken, wait) = self.came.wait_timeout(jobs, IDLE).unwrap_or_else(PoisonError::into_inner);
            jobs = woken;
            jobs.idle -= 1;
            if wait.timed_out() && jobs.waiting.is_empty() {
                jobs.threads -= 1;
                return None;
            }
        }
    }
}

/// It has a name that takes a look-up.
fn needs_look_up(target: &Target) -> bool {
    matches!(target.place(), TargetPlace::Tcp(host, _) if host.parse::<IpAddr>().is_err())
}

/// Where a host is, each of its addresses once, and no more than a few.
fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = (host, port).to_socket_addrs().map_err(|_| ErrorKind::HostUnreachable)?;
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in found {
        if all.len() < MOST_ADDRESSES && !all.contains(&address) {
            all.push(address);
        }
    }
    Ok(all)
}

/// Threads at a time. The engine has eight connections to one target made at a time: seven targets that never
/// answer leave some for others.
const MOST_THREADS: usize = 64;

/// How many of them may be looking names up: a resolver that is down holds them for half a minute and more,
/// and what has an address must not wait for that.
const MOST_LOOKING_UP: usize = MOST_THREADS / 2;

/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 6;

/// How long a thread waits for something to do.
const IDLE: Duration = Duration::from_secs(10);

/// How long it waits for room among the commands.
const FULL_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Instant;

    use crate::commands::{self, Receiver};

    /// The next that comes of dialling.
    fn outcome(receiver: &mut Receiver, woken: &UnixStream) -> (ConnId, io::Result<Socket>) {
        woken.set_nonblocking(false).unwrap();
        woken.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (&*woken).read_exact(&mut [0]).expect("an outcome in time");
        woken.set_nonblocking(true).unwrap();
        match receiver.take(woken).pop() {
            Some(Command::Connected(id, outcome)) => (id, outcome),
            other => panic!("{other:?}"),
        }
    }

    fn dialled(uri: &str) -> io::Result<Socket> {
        let (sender, mut receiver, woken) = commands::pair().unwrap();
        let id = ConnId::from_bits(7);
        Dialer::new(sender, Ending::default(), 4).dial(id, Arc::new(uri.parse().unwrap())).unwrap();
        let (its, outcome) = outcome(&mut receiver, &woken);
        assert_eq!(its, id);
        outcome
    }

    #[test]
    fn a_name_an_address_and_a_path_are_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for uri in [format!("tcp://localhost:{port}"), format!("telnet://127.0.0.1:{port}")] {
            let socket = dialled(&uri).unwrap();
            socket.set_nonblocking(false).unwrap();
            (&socket).write_all(b"x").unwrap();
            assert_eq!(listener.accept().unwrap().0.read(&mut [0; 9]).unwrap(), 1);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        }
        let path = std::env::temp_dir().join(format!("vspc-dialer-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let socket = dialled(&format!("unix:{}", path.display())).unwrap();
        listener.accept().unwrap().0.write_all(b"x").unwrap();
        socket.set_nonblocking(false).unwrap();
        assert_eq!((&socket).read(&mut [0; 9]).unwrap(), 1);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_cannot_be_connected_to_is_told_with_its_reason() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let why = |uri: &str| dialled(uri).unwrap_err().kind();
        assert_eq!(why(&format!("tcp://127.0.0.1:{port}")), ErrorKind::ConnectionRefused);
        assert_eq!(why("tcp://no-such-name.invalid:1"), ErrorKind::HostUnreachable);
        assert_eq!(why("unix:/nowhere/at/all"), ErrorKind::NotFound);
        let id = ConnId::from_bits(1);
        let target = Arc::new("tcp://127.0.0.1:1".parse().unwrap());
        assert_eq!(Dialer::default().dial(id, target).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn one_that_never_answers_keeps_no_other_waiting() {
        // Its queue is full, so that nothing more is answered there.
        let silent = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let full = silent.local_addr().unwrap().as_socket().unwrap();
        let _queue: Vec<_> = (0..4)
            .map(|_| {
                let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&full.into());
                socket
            })
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (sender, mut receiver, woken) = commands::pair().unwrap();
        let dialer = Dialer::new(sender, Ending::default(), 4);
        let begun = Instant::now();
        for at in 0..8 {
            dialer.dial(ConnId::from_bits(at), Arc::new(format!("tcp://{full}").parse().unwrap())).unwrap();
        }
        let uri = format!("tcp://{}", listener.local_addr().unwrap());
        dialer.dial(ConnId::from_bits(99), Arc::new(uri.parse().unwrap())).unwrap();
        let (id, there) = outcome(&mut receiver, &woken);
        assert!(id == ConnId::from_bits(99) && there.is_ok());
        assert!(begun.elapsed() < attempt::PATIENCE, "it did not wait for those that never answer");
        let (_, late) = outcome(&mut receiver, &woken);
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
