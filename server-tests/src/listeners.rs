//! Where a server listens: at paths, at addresses, and at sockets that it was started with.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Signal, geteuid};

use super::admin_socket::{has, hello_on, list_on};
use super::peer::Peer;
use super::process::{PATIENCE, Server, run};
use super::program;
use super::programs::{Folder, is_here};

/// A VM's connection to a unix socket.
fn vm_at(path: &Path) -> Peer {
    let stream = UnixStream::connect(path).unwrap();
    Peer::connected(TcpStream::from(OwnedFd::from(stream)))
}

/// What the server is started with that is no standard stream: `LISTEN_FDS` of them, these names, and all
/// else as a service manager has it. Two at the most.
pub(super) fn activated(names: &str, sockets: Vec<OwnedFd>, options: &[&str]) -> Command {
    let mut sockets = sockets.into_iter();
    let count = sockets.len();
    let mut shell = Command::new("sh");
    let prepare = "exec 3<&0 4<&1 </dev/null >/dev/null; [ $LISTEN_FDS = 2 ] || exec 4<&-; \
                   export LISTEN_PID=$$; exec \"$@\"";
    shell.args(["-c", prepare, "sh", program()]).args(options);
    shell.env("LISTEN_FDS", count.to_string()).env("LISTEN_FDNAMES", names);
    shell.stdin(Stdio::from(sockets.next().unwrap()));
    shell.stdout(sockets.next().map_or_else(Stdio::null, Stdio::from));
    shell
}

fn tcp() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    (listener.into(), at)
}

const NO_PORTS: [&str; 2] = ["--port-range-start", "0"];

pub(super) fn a_vm_comes_by_a_unix_socket_with_the_permissions_that_were_asked_for() {
    let folder = Folder::new("vm-socket");
    let path = folder.0.join("vm");
    let place = format!("unix:{},mode=0600,owner={}", path.display(), geteuid().as_raw());
    let server = Server::start(&["--no-banner", "--vm-listen", &place, "--admin-listen", "127.0.0.1:0"]);
    server.line_with(&format!("listening on {}", path.display()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut vm = vm_at(&path).introduced(1);
    let port = server.next_client_port();
    let mut client = Peer::client(port);
    server.line_with("client attached");
    Peer::talk(&mut vm, &mut client);
    // By TCP as well, which is another console's.
    let (mut other, port) = Peer::vm(&server, 2);
    let mut client = Peer::client(port);
    Peer::talk(&mut other, &mut client);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    assert!(!path.exists());
}

pub(super) fn client_ports_are_unix_sockets_in_a_folder_that_go_with_the_server() {
    let folder = Folder::new("client-sockets");
    let place = format!("unix:{},mode=0600", folder.0.display());
    // What somebody has put there stays, and its number is passed over.
    fs::write(folder.0.join("7001"), "not a socket").unwrap();
    let server = Server::keeping(&["--no-banner", "--interface", &place, "--port-range-start", "7001"]);
    let mut vm = Peer::connect(server.vms).introduced(1);
    let line = server.line_with("vm identified");
    assert!(line.contains("port=7002"), "{line}");
    let path = folder.0.join("7002");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = vm_at(&path);
    server.line_with("client attached");
    Peer::talk(&mut vm, &mut client);
    drop(client);
    let mut again = vm_at(&path);
    server.line_with("client attached");
    Peer::talk(&mut vm, &mut again);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "its sockets are gone");
}

pub(super) fn a_folder_for_client_ports_that_is_none_is_named_with_what_to_do() {
    let folder = Folder::new("no-client-sockets");
    let missing = folder.0.join("missing");
    for (place, words) in [
        (format!("unix:{}", missing.display()), "make it"),
        ("unix:/etc/hostname".to_owned(), "no folder"),
        (format!("unix:{}/{}", folder.0.display(), "long".repeat(30)), "--interface"),
        ("localhost".to_owned(), "unix:/FOLDER"),
    ] {
        let said = run(&["--proxy-port", "0", "--interface", &place]);
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{place}: {text}");
    }
}

pub(super) fn a_vm_on_a_unix_socket_is_told_of_by_its_user_and_asked_before_another_takes_its_input() {
    let folder = Folder::new("vm-user");
    let path = folder.0.join("vm");
    let server = Server::start(&["--vm-listen", &path.display().to_string()]);
    server.line_with(&format!("listening on {}", path.display()));
    let _silent = vm_at(&path).introduced(1);
    let line = server.line_with("vm identified");
    assert!(line.contains(&format!("peer=unix:uid={}", geteuid().as_raw())), "{line}");
    // A user has no home as an address has: the one before is asked whether it lives.
    let mut second = vm_at(&path).introduced(1);
    server.line_with("input taken over from another connection: it was asked and gave no sign of life");
    let port: u16 = line.split_once("port=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let mut client = Peer::client(SocketAddr::from(([127, 0, 0, 1], port)));
    server.line_with("client attached");
    client.print(b"x");
    second.expect_somewhere(b"x");
}

pub(super) fn where_hosts_connect_may_be_said_instead_of_the_port_that_it_is_by_default() {
    // The default one may be somebody else's here.
    let mut command = Command::new(program());
    let places = ["--vm-listen", "tcp://127.0.0.1:0", "--vm-listen", "[::ffff:127.0.0.1]:0"];
    command.args(places).args(["--no-admin", "--no-banner"]);
    let server = Server::of(command.args(NO_PORTS));
    assert!(server.vms.ip().is_loopback() && server.vms.port() != 13370);
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    Peer::talk(&mut vm, &mut client);
}

pub(super) fn listeners_that_were_handed_over_are_served_and_stay_open_when_the_server_ends() {
    let (vms, at) = tcp();
    let folder = Folder::new("activated");
    let path = folder.0.join("admin");
    let admin = UnixListener::bind(&path).unwrap();
    let kept = vms.try_clone().unwrap();
    // Who comes before it runs waits.
    let early = Peer::connect(at);
    let options = ["--vm-listen", "fd:vm", "--admin-listen", "fd:admin", "--no-banner"];
    let options = [&options[..], &NO_PORTS].concat();
    let server = Server::of(&mut activated("vm:admin", vec![vms, admin.into()], &options));
    assert_eq!(server.vms, at);
    server.line_with(&format!("admin port open on {}", path.display()));
    let mut vm = early.introduced(1);
    let mut client = Peer::client(server.next_client_port());
    Peer::talk(&mut vm, &mut client);
    assert!(has(&list_on(UnixStream::connect(&path).unwrap()), b"vm1"));
    let operator = UnixStream::connect(&path).unwrap();
    operator.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(hello_on(operator).contains("\"rights\":\"operator\""));
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    assert!(path.exists(), "its file is the service manager's");
    // And the next one takes in who has come meanwhile.
    let meanwhile = Peer::connect(at);
    let options = ["--vm-listen", "fd:vm", "--no-admin", NO_PORTS[0], NO_PORTS[1]];
    let server = Server::of(&mut activated("vm", vec![kept], &options));
    assert_eq!(server.vms, at);
    meanwhile.introduced(1);
}

pub(super) fn one_name_stands_for_all_sockets_of_a_unit_and_one_that_nobody_takes_is_told_of() {
    let (first, at) = tcp();
    let (second, also_at) = tcp();
    let options = ["--vm-listen", "fd:vm", "--no-admin", NO_PORTS[0], NO_PORTS[1]];
    let server = Server::of(&mut activated("vm:vm", vec![first, second], &options));
    assert_eq!([server.vms, server.next_listener()], [at, also_at]);
    Peer::connect(at).introduced(1);
    Peer::connect(also_at).introduced(2);
    drop(server);

    let (first, _) = tcp();
    let (second, at) = tcp();
    let options =
        ["--vm-listen", "127.0.0.1:0", "--vm-listen", "fd:b", "--no-admin", NO_PORTS[0], NO_PORTS[1]];
    let mut command = activated("a:b", vec![first, second], &options);
    let mut command = command.stderr(Stdio::piped()).spawn().unwrap();
    let stderr = io::BufReader::new(command.stderr.take().unwrap());
    let mut lines = io::BufRead::lines(stderr).map_while(Result::ok);
    assert!(lines.any(|line| line.contains("no option takes: --vm-listen fd:a")));
    assert!(lines.any(|line| line.ends_with(&format!("listening on {at}"))));
    command.kill().unwrap();
    command.wait().unwrap();
}

pub(super) fn what_was_handed_over_and_is_no_listener_ends_it_with_one_line_and_code_2() {
    let (datagrams, connection) = (UnixDatagram::unbound().unwrap(), UnixStream::pair().unwrap().0);
    let file = fs::File::open("/dev/null").unwrap();
    let cases: [(&str, OwnedFd, &str); 5] = [
        ("vm", datagrams.into(), "fd:vm is no stream socket"),
        ("vm", connection.into(), "fd:vm is a connection"),
        ("vm", file.into(), "fd:vm is no socket"),
        ("other", tcp().0, "there are: other"),
        ("", tcp().0, "there are: unknown"),
    ];
    for (name, given, words) in cases {
        let output = activated(name, vec![given], &["--vm-listen", "fd:vm"]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(words), "{words}: {text}");
    }
    // Another process was meant, or none.
    let mut command = activated("vm", vec![tcp().0], &["--vm-listen", "fd:vm"]);
    let script = "exec 3<&0 </dev/null; export LISTEN_PID=1; exec \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .args(command.get_args().skip(3))
        .env("LISTEN_FDS", "1")
        .stdin(Stdio::from(tcp().0))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("none was (LISTEN_FDS)"));
    for count in ["x", "-1", "1025", "9"] {
        let output = command.env("LISTEN_FDS", count).stdin(Stdio::from(tcp().0)).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("LISTEN_FDS is"), "{text}");
    }
}

pub(super) fn systemds_own_launcher_hands_over_what_is_served() {
    if !is_here("systemd-socket-activate") {
        return;
    }
    // It opens the listener itself, so the port has to be one that nobody has.
    let at = tcp().1;
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--listen", &at.to_string(), "--fdname", "vm", program()]);
    command.args(["--vm-listen", "fd:vm", "--no-admin"]).args(NO_PORTS);
    let (mut child, mut vm) = {
        let child = command.env_remove("RUST_LOG").stderr(Stdio::null()).spawn().unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        // It starts the server when somebody comes.
        let stream = loop {
            match TcpStream::connect(at) {
                Ok(stream) => break stream,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
            std::thread::yield_now();
        };
        (child, Peer::connected(stream))
    };
    vm.introduce(1);
    vm.hear(71);
    child.kill().unwrap();
    child.wait().unwrap();
}

pub(super) fn a_vsock_listener_is_opened_or_refused_with_what_the_kernel_lacks() {
    let port = 60_000 + std::process::id() % 5_000;
    let place = format!("vsock:{port}");
    let has_vsock = socket2::Socket::new(socket2::Domain::VSOCK, socket2::Type::STREAM, None).is_ok();
    if has_vsock {
        let server = Server::start(&["--vm-listen", &place]);
        server.line_with(&format!("listening on {place}"));
    } else {
        let output = run(&["--vm-listen", &place]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("vhost_vsock"), "{text}");
        println!("skipped: no vsock");
    }
}
