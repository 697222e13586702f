//! Locks on the admin listener, over TCP: what clients of vSPC.py's are granted beside each other, and that a
//! lock ends with who held it, however that ends (admin.md §7).

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::SockRef;

use super::peer::Peer;
use super::process::{PATIENCE, Server};

const MODES: [&str; 4] = ["exclusive", "write", "free_for_all", "free_for_all_or_readonly"];

/// Who watches, as it is told.
const WATCHES: &str = MODES[3];

/// What each mode is granted as, in the order of [`MODES`].
type Row = [Option<&'static str>; 4];

const NOBODY: Row = [None; 4];
const BESIDE_NOBODY: Row = [Some("exclusive"), Some("write"), Some("free_for_all"), Some("free_for_all")];
const BESIDE_WRITERS: Row = [None, None, Some("free_for_all"), Some("free_for_all")];
const BESIDE_A_HOLDER: Row = [None, None, None, Some(WATCHES)];
const BESIDE_WATCHERS: Row = [None, Some("write"), Some("free_for_all"), Some("free_for_all")];

const VERSION: &[u8] = b"\x80\x04K\x03.";
/// What the real client says once it has read the seed.
const TELNET: &[u8] = b"\xff\xfb\x00\xff\xfb\x03\xff\xfd\x00\xff\xfd\x03";

/// A server with one VM, vm1.
struct Room {
    server: Server,
    admin: SocketAddr,
    vm: Peer,
}

/// A client of vSPC.py's that was let in.
struct Guest(TcpStream);

impl Room {
    fn new() -> Self {
        let server = Server::start(&[]);
        let line = server.line_with("admin port open on ");
        let admin = line.split_once("admin port open on ").unwrap().1.trim().parse().unwrap();
        let (vm, _) = Peer::vm(&server, 1);
        Self { server, admin, vm }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Asks for vm1; returns the client if it was let in, and as what.
    fn ask(&self, mode: &str) -> Option<(Guest, String)> {
        let mut stream = self.connect();
        stream.write_all(VERSION).unwrap();
        let mut version = [0; VERSION.len()];
        stream.read_exact(&mut version).unwrap();
        assert_eq!(version, VERSION);
        stream.write_all(&[pickled("vm1"), pickled(mode)].concat()).unwrap();
        match text(&mut stream).as_str() {
            "vm_found" => {}
            "lock_failed" => {
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
                return None;
            }
            other => panic!("{other}"),
        }
        let applied = text(&mut stream);
        assert_eq!(text(&mut stream), "", "the VM has printed nothing");
        self.server.line_with("attached: ");
        Some((Guest(stream), applied))
    }

    fn admit(&self, mode: &str, applied: &str) -> Guest {
        let (guest, granted) = self.ask(mode).unwrap_or_else(|| panic!("{mode} is refused"));
        assert_eq!(granted, applied, "{mode}");
        guest
    }

    /// Whoever is granted leaves at once.
    fn expect_grants(&self, row: Row, beside: &str) {
        for (mode, applied) in MODES.into_iter().zip(row) {
            let granted = self.ask(mode);
            assert_eq!(granted.as_ref().map(|(_, granted)| &**granted), applied, "{mode} beside {beside}");
            if let Some((guest, _)) = granted {
                self.leave(guest);
            }
        }
    }

    fn leave(&self, guest: Guest) {
        drop(guest);
        self.server.line_with("left: ");
    }
}

impl Guest {
    fn says(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }
}

/// A text as Python 3.8 and later pickle it.
fn pickled(text: &str) -> Vec<u8> {
    let mut bytes = b"\x80\x04\x95".to_vec();
    bytes.extend((text.len() as u64 + 4).to_le_bytes());
    bytes.extend([0x8c, text.len() as u8]);
    bytes.extend(text.as_bytes());
    bytes.extend([0x94, b'.']);
    bytes
}

/// Reads a pickled text.
fn text(stream: &mut TcpStream) -> String {
    let mut head = [0; 13];
    stream.read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"\x80\x04\x95") && head[11] == 0x8c, "{head:02x?}");
    let mut rest = vec![0; usize::from(head[12]) + 2];
    stream.read_exact(&mut rest).unwrap();
    assert_eq!(rest.split_off(usize::from(head[12])), [0x94, b'.']);
    String::from_utf8(rest).unwrap()
}

pub(super) fn two_and_three_are_granted_what_the_table_of_locks_says() {
    let room = Room::new();
    for (mode, applied, beside) in [
        (MODES[0], "exclusive", NOBODY),
        (MODES[1], "write", BESIDE_A_HOLDER),
        (MODES[2], "free_for_all", BESIDE_WRITERS),
        (MODES[3], "free_for_all", BESIDE_WRITERS),
    ] {
        room.expect_grants(BESIDE_NOBODY, "nobody");
        let first = room.admit(mode, applied);
        room.expect_grants(beside, mode);
        for (second, applied) in MODES.into_iter().zip(beside) {
            let Some(applied) = applied else { continue };
            let second = room.admit(second, applied);
            // A watcher or another writer beside it changes nothing for a third.
            room.expect_grants(beside, &format!("{mode} and {applied}"));
            room.leave(second);
        }
        room.leave(first);
    }
}

pub(super) fn a_watcher_stays_one_when_the_holder_leaves_and_stands_in_the_way_of_exclusive_alone() {
    let room = Room::new();
    let holder = room.admit("write", "write");
    let watcher = room.admit(WATCHES, WATCHES);
    room.leave(holder);
    room.expect_grants(BESIDE_WATCHERS, "a watcher");
    room.leave(watcher);
    room.expect_grants(BESIDE_NOBODY, "nobody");
}

pub(super) fn what_a_watcher_types_is_read_and_dropped() {
    let mut room = Room::new();
    let mut holder = room.admit("write", "write");
    let mut watcher = room.admit(WATCHES, WATCHES);
    holder.says(TELNET);
    watcher.says(&[TELNET, b"dropped"].concat());
    // Its last byte has been read once it has left.
    watcher.0.shutdown(Shutdown::Write).unwrap();
    let left = room.server.line_with("left: ");
    assert!(left.contains("7 bytes typed"), "{left}");
    holder.says(b"typed");
    room.vm.expect(b"typed");
}

/// How far somebody who asks for the lock has come when it ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Connected,
    HalfAVersion,
    Version,
    Named,
    Asked,
    Granted,
    Telnet,
}

/// How it ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Fin,
    Reset,
    /// The process that has the connection is killed.
    Kill,
}

pub(super) fn a_lock_ends_with_its_holder_at_each_step_and_however_it_ends() {
    use Step::{Asked, Connected, Granted, HalfAVersion, Named, Telnet, Version};
    let room = Room::new();
    for step in [Connected, HalfAVersion, Version, Named, Asked, Granted, Telnet] {
        for end in [End::Fin, End::Reset, End::Kill] {
            let mut stream = room.connect();
            let said = match step {
                Connected => Vec::new(),
                HalfAVersion => VERSION[..2].to_vec(),
                Version => VERSION.to_vec(),
                Named => [VERSION, &pickled("vm1")].concat(),
                Asked | Granted | Telnet => [VERSION, &pickled("vm1"), &pickled("exclusive")].concat(),
            };
            stream.write_all(&said).unwrap();
            if step >= Asked {
                room.server.line_with("attached: ");
            }
            if step >= Granted {
                stream.read_exact(&mut [0; VERSION.len()]).unwrap();
                assert_eq!(
                    [text(&mut stream), text(&mut stream), text(&mut stream)],
                    ["vm_found", "exclusive", ""]
                );
            }
            if step == Telnet {
                stream.write_all(TELNET).unwrap();
            }
            finish(stream, end);
            if step >= Asked {
                room.server.line_with("left: ");
            }
            let (guest, granted) =
                room.ask("exclusive").unwrap_or_else(|| panic!("locked: {step:?} {end:?}"));
            assert_eq!(granted, "exclusive");
            room.leave(guest);
        }
    }
}

/// Ends a connection; after FIN it is still there to be read, and gone when the server ends it too.
fn finish(stream: TcpStream, end: End) {
    match end {
        End::Fin => {
            stream.shutdown(Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            (&stream).read_to_end(&mut rest).unwrap();
        }
        End::Reset => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
        End::Kill => {
            let mut holder =
                Command::new("sleep").arg("1000").stdin(Stdio::from(OwnedFd::from(stream))).spawn().unwrap();
            holder.kill().unwrap();
            holder.wait().unwrap();
        }
    }
}
