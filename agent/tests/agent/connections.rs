//! Forwarded connections (APPLICATION §5).

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use vspc_guest::answer::Done;
use vspc_guest::{Announcement, Code, Connect, Header, Secret};

use crate::host::Host;
use crate::machine::{Folder, Machine};

fn connect(to: &str) -> Header {
    Header::Connect(Connect { to: to.to_owned() })
}

/// Sockets of a listener that does not wait do wait.
fn blocking<T: AsFd>(socket: T) -> T {
    rustix::io::ioctl_fionbio(&socket, false).unwrap();
    socket
}

/// What comes on a connection up to its end, or how it fails.
fn ending(host: &mut Host, socket: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    socket.set_nonblocking(true).unwrap();
    let mut bytes = Vec::new();
    host.until("the end of a connection", |_| match socket.read_to_end(&mut bytes) {
        Ok(_) => Some(Ok(())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => Some(Err(error.kind())),
    })
    .map(|()| bytes)
}

/// Answers everything behind its end, once.
fn echo(mut socket: impl Read + Write + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).unwrap();
        socket.write_all(&bytes).unwrap();
    })
}

#[test]
fn connections_go_to_what_is_allowed_and_pass_bytes_and_ends() {
    let folder = Folder::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    let unix = UnixListener::bind(folder.join("service")).unwrap();
    unix.set_nonblocking(true).unwrap();
    let to =
        [format!("tcp:{}", tcp.local_addr().unwrap()), format!("unix:{}", folder.join("service").display())];
    let machine = Machine::start_in(folder, &format!("[connect]\nto = {to:?}\n"), &[]);
    let mut host = machine.host();
    let text: Vec<u8> = (0..500_000u32).map(|at| (at ^ at >> 7) as u8).collect();
    for (number, to) in to.iter().enumerate() {
        let id = host.open(&connect(to).line());
        let echo = host.until("a connection", |_| match number {
            0 => tcp.accept().ok().map(|(socket, _)| echo(blocking(socket))),
            _ => unix.accept().ok().map(|(socket, _)| echo(blocking(socket))),
        });
        host.answer::<Done>(id).unwrap();
        host.write(id, &text);
        host.finish(id);
        assert!(host.rest(id) == text, "the bytes are others");
        echo.join().unwrap();
    }
    for (to, code) in [
        ("tcp:127.0.0.1:1", Code::NOT_ALLOWED),
        ("unix:/run/x", Code::NOT_ALLOWED),
        ("tcp:localhost:80", Code::BAD_LINE),
    ] {
        assert_eq!(host.refusal(&connect(to)).code, code, "{to}");
    }
}

#[test]
fn a_connection_that_nobody_takes_is_refused_and_a_reset_is_passed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let machine = Machine::start("[connect]\nto = [\"tcp:127.0.0.1:*\"]\n", &[]);
    let mut host = machine.host();
    // The host gives up: its peer hears of a reset, not of an end.
    let id = host.open(&connect(&format!("tcp:{address}")).line());
    let (mut socket, _) = host.until("a connection", |_| listener.accept().ok());
    host.answer::<Done>(id).unwrap();
    host.session.reset(id).unwrap();
    assert_eq!(ending(&mut host, &mut socket), Err(ErrorKind::ConnectionReset));
    // The peer does: so does the stream.
    let id = host.open(&connect(&format!("tcp:{address}")).line());
    let (socket, _) = host.until("a connection", |_| listener.accept().ok());
    host.answer::<Done>(id).unwrap();
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    drop(socket);
    host.until_reset(id);
    drop(listener);
    assert_eq!(host.refusal(&connect(&format!("tcp:{address}"))).code, Code::REFUSED);
}

#[test]
fn who_connects_to_a_listener_is_carried_to_the_host() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let machine = Machine::start(&format!("[[listen]]\nname = \"db\"\nat = \"tcp:{port}\"\n"), &[]);
    // Without a host nobody is kept waiting.
    let mut host = Host::raw(machine.line());
    assert_eq!(TcpStream::connect(port).unwrap().read(&mut [0; 10]).unwrap_or(0), 0);
    host.hello(None).unwrap();
    let (facts, _) = host.announced_as("facts");
    host.accept(facts);

    let mut client = TcpStream::connect(port).unwrap();
    client.write_all(b"question").unwrap();
    let (id, announcement) = host.announced();
    let Announcement::Connection { name, from } = announcement else { panic!("{announcement:?}") };
    assert_eq!((name.as_str(), from), ("db", client.local_addr().unwrap().to_string()));
    host.accept(id);
    host.until_text(id, "question");
    host.write(id, b"answer");
    host.finish(id);
    assert_eq!(ending(&mut host, &mut client), Ok(b"answer".to_vec()));
    drop(client);
    host.rest(id);

    // One that the host does not want is reset.
    let mut client = TcpStream::connect(port).unwrap();
    let (id, _) = host.announced();
    host.write(id, &vspc_guest::Refusal::new(Code::REFUSED, "no db").line());
    host.finish(id);
    assert_eq!(ending(&mut host, &mut client), Err(ErrorKind::ConnectionReset));
}

#[test]
fn who_connects_between_two_hosts_is_not_carried_to_the_next_one() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = Folder::new();
    let key = folder.write("key", [7; 32]);
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let listen = format!("[[listen]]\nname = \"db\"\nat = \"tcp:{port}\"\n");
    let machine = Machine::start_in(folder, &format!("key-file = {key:?}\n{listen}"), &[]);
    let mut host = Host::raw(machine.line());
    host.hello(Secret::new(&[7; 32])).unwrap();
    host.announced_as("facts");
    drop(host);

    // The line is open again, and its host has not said anything yet.
    let mut stranger = Host::raw(machine.line());
    let mut client = TcpStream::connect(port).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let came = client.read(&mut [0; 10]).map_err(|error| error.kind());
    assert_eq!(stranger.refusal(&connect("tcp:127.0.0.1:1")).code, Code::HELLO_FIRST);
    assert!(stranger.opened.is_empty(), "a stream was opened to a host that was not let in");
    assert!(matches!(came, Ok(0) | Err(ErrorKind::ConnectionReset)), "{came:?}");
}

#[test]
fn who_connects_while_there_are_no_descriptors_waits_and_costs_nothing() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let machine = Machine::start(&format!("[[listen]]\nname = \"db\"\nat = \"tcp:{port}\"\n"), &[]);
    let mut host = machine.host();
    let (facts, _) = host.announced_as("facts");
    host.accept(facts);
    let pid = Pid::from_child(&machine.child);
    let Rlimit { maximum, current } = getrlimit(Resource::Nofile);
    let limit = |current| prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum }).unwrap();
    // Those that it has, and no more.
    let place = format!("/proc/{}/fd", machine.child.id());
    let is_free = |fd: &u64| std::fs::symlink_metadata(format!("{place}/{fd}")).is_err();
    limit((0..).find(is_free));
    let before = ticks(&machine);
    let client = TcpStream::connect(port).unwrap();
    let begun = std::time::Instant::now();
    host.until("a second", |_| (begun.elapsed() > Duration::from_secs(1)).then_some(()));
    let used = ticks(&machine) - before;
    assert!(host.opened.is_empty());
    assert!(used < 10, "{used} ticks were used");
    limit(current);
    let (_, announcement) = host.announced();
    let from = client.local_addr().unwrap().to_string();
    assert!(matches!(announcement, Announcement::Connection { from: who, .. } if who == from));
}

/// Hundredths of a second that the agent has used.
fn ticks(machine: &Machine) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", machine.child.id())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
