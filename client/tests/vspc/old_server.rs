//! A scripted vSPC.py, written from docs/protocol/admin.md: it speaks first, serves one question for each
//! connection, and says Python's bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::server::PATIENCE;

/// A server with two VMs, `alpha` and `beta`, of which `beta` is locked by somebody else. After
/// [`OldServer::forget`] it knows none, as one that was started anew, until its VMs
/// [return](OldServer::recall).
pub(crate) struct OldServer {
    pub(crate) address: SocketAddr,
    knows: Arc<AtomicBool>,
    /// The mode of each attach that was granted, and its socket, with telnet begun.
    attached: Receiver<(String, TcpStream)>,
}

impl OldServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, attached) = channel();
        let knows = Arc::new(AtomicBool::new(true));
        let server = Self { address, knows: Arc::clone(&knows), attached };
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (sender, knows) = (sender.clone(), Arc::clone(&knows));
                thread::spawn(move || serve(socket.unwrap(), &knows, &sender));
            }
        });
        server
    }

    pub(crate) fn forget(&self) {
        self.knows.store(false, Ordering::SeqCst);
    }

    pub(crate) fn recall(&self) {
        self.knows.store(true, Ordering::SeqCst);
    }

    /// Waits for an attach.
    pub(crate) fn await_attach(&self) -> (String, TcpStream) {
        self.attached.recv_timeout(PATIENCE).unwrap()
    }
}

fn serve(mut socket: TcpStream, knows: &AtomicBool, attached: &Sender<(String, TcpStream)>) {
    socket.write_all(VERSION).unwrap();
    let mut first = [0];
    socket.read_exact(&mut first).unwrap();
    if first[0] != 0x80 {
        socket.write_all(UNKNOWN).unwrap();
        return;
    }
    // The rest of the version, then the name or None, then the mode: each ends with a dot.
    let [_, name, mode] = [(); 3].map(|()| message(&mut socket));
    let knows = knows.load(Ordering::SeqCst);
    match name.as_deref() {
        _ if !knows => {
            socket.write_all(&text("vm_not_found")).unwrap();
            socket.write_all(b"\x80\x04K\x00.").unwrap();
        }
        Some("alpha" | "a-1") => {
            let applied = mode.unwrap();
            let mut answer = text("vm_found");
            answer.extend(text(if applied == "free_for_all_or_readonly" {
                "free_for_all"
            } else {
                &applied
            }));
            answer.extend(text("earlier output\r\n"));
            socket.write_all(&answer).unwrap();
            // Nothing more before the client has said WILL BINARY (admin.md §5).
            let mut offers = [0; 12];
            socket.read_exact(&mut offers).unwrap();
            assert_eq!(offers, *b"\xff\xfb\x00\xff\xfb\x03\xff\xfd\x00\xff\xfd\x03");
            socket.write_all(b"\xff\xfb\x00\xff\xfb\x03\xff\xfb\x01\xff\xfd\x00\xff\xfd\x03").unwrap();
            let mut echo = [0; 3];
            socket.read_exact(&mut echo).unwrap();
            assert_eq!(echo, *b"\xff\xfd\x01");
            attached.send((applied, socket)).unwrap();
        }
        Some("beta" | "b-1") => socket.write_all(&text("lock_failed")).unwrap(),
        _ => {
            socket.write_all(&text("vm_not_found")).unwrap();
            socket.write_all(b"\x80\x04K\x02.").unwrap();
            for (name, uuid, port) in [("beta", "b-1", &b"N"[..]), ("alpha", "a-1", b"M\xa8\x61")] {
                let mut entry = b"\x80\x04}\x94(".to_vec();
                for (key, value) in [("name", Some(name)), ("uuid", Some(uuid)), ("port", None)] {
                    for text in [Some(key), value].into_iter().flatten() {
                        entry.extend([&b"\x8c"[..], &[len(text)], text.as_bytes(), b"\x94"].concat());
                    }
                }
                entry.extend(port);
                entry.extend(b"u.");
                socket.write_all(&entry).unwrap();
            }
        }
    }
}

/// One pickle; its string, if it is one.
fn message(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while byte[0] != b'.' {
        socket.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    // SHORT_BINUNICODE: a length, then the text.
    let at = bytes.iter().position(|&byte| byte == 0x8c)?;
    Some(String::from_utf8(bytes[at + 2..][..bytes[at + 1].into()].to_vec()).unwrap())
}

fn text(text: &str) -> Vec<u8> {
    [&b"\x80\x04\x8c"[..], &[len(text)], text.as_bytes(), b"\x94."].concat()
}

fn len(text: &str) -> u8 {
    u8::try_from(text.len()).unwrap()
}

const VERSION: &[u8] = b"\x80\x04K\x03.";
/// `Exception("I don't understand")`, as Python pickles it.
const UNKNOWN: &[u8] =
    b"\x80\x04\x953\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94\x8c\x09Exception\x94\x93\x94\
    \x8c\x12I don't understand\x94\x85\x94R\x94.";
