//! The whole way into a guest over a line that is not to be trusted: between the real agent and the server
//! one byte in ten thousand is another one, lost or doubled, both ways, and nobody above notices.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::client_tour::Client;
use super::guest_tour::agent;
use super::process::Server;
use super::programs::Folder;

/// Bytes that are spoiled, which is always the same ones.
struct Noise(u64);

impl Noise {
    /// What comes out at the other end, and how many bytes were spoiled.
    fn spoil(&mut self, bytes: &[u8]) -> (Vec<u8>, usize) {
        let (mut out, mut count) = (Vec::with_capacity(bytes.len()), 0);
        for &byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = self.0 >> 33;
            let how = chance / ONE_IN;
            if !chance.is_multiple_of(ONE_IN) {
                out.push(byte);
                continue;
            }
            count += 1;
            match how % 3 {
                0 => out.push(byte ^ (1 << (how / 3 % 8))),
                1 => {}
                _ => out.extend([byte, byte]),
            }
        }
        (out, count)
    }
}

/// A line that leads to another, and spoils what it carries. Says how many bytes were spoiled each way.
fn noisy(at: &str, to: String) -> [Arc<AtomicUsize>; 2] {
    let listener = UnixListener::bind(at).unwrap();
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let counted = counts.clone();
    thread::spawn(move || {
        while let Ok((near, _)) = listener.accept() {
            let Ok(far) = UnixStream::connect(&to) else { return };
            let ways = [(near.try_clone(), far.try_clone(), 1), (Ok(far), Ok(near), 2)];
            for ((from, to, seed), counted) in ways.into_iter().zip(counted.clone()) {
                let (from, to) = (from.unwrap(), to.unwrap());
                thread::spawn(move || carry(from, to, Noise(seed), &counted));
            }
        }
    });
    counts
}

fn carry(mut from: UnixStream, mut to: UnixStream, mut noise: Noise, counted: &AtomicUsize) {
    let mut buf = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buf) {
        let (bytes, count) = noise.spoil(&buf[..n]);
        counted.fetch_add(count, Ordering::SeqCst);
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Ends with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn all_is_exact_in_a_guest_whose_line_spoils_one_byte_in_ten_thousand() {
    let Some(program) = agent() else { return };
    let folder = Folder::new("guest-noise");
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("srv")).unwrap();
    let config = format!(
        "line = 'unix:{}'\nsl = true\npack = true\n[exec]\nprograms = ['*']\n\
         [[copy]]\nroot = '{}'\nwrite = true\n[facts]\nsite = 'north'\n\
         [[log]]\nname = 'messages'\npath = '{}'\n",
        path("noisy"),
        path("srv"),
        path("messages"),
    );
    fs::write(path("agent.toml"), config).unwrap();
    let server = Server::start(&["--line", &format!("web01=unix:{}?listen&mux=s2+sl", path("line"))]);
    let Some(client) = Client::new(&["--server", &server.admin_port().to_string()]) else { return };
    server.line_with(&format!("listening on {}", path("line")));
    let spoiled = noisy(&path("noisy"), path("line"));
    let mut command = Command::new(program);
    command.args(["--config", &path("agent.toml")]).stdin(Stdio::null());
    let _agent = Agent(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    server.line_with("the guest's agent is there");

    // A log, which the server asks for packed.
    let mut log = client.program(&["tail", "web01/log/messages"]);
    server.line_with("attached: ");
    let lines: String = (0..5000).map(|n| format!("kernel: eth0: link {n} is up\n")).collect();
    fs::write(path("messages"), &lines).unwrap();
    log.expect(lines.as_bytes());

    let next = |n: &u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let bytes: Vec<u8> = std::iter::successors(Some(7), next).map(|n| (n >> 56) as u8).take(LENGTH).collect();
    let mut cat = client.command(&["exec", "web01", "--", "sh", "-c", "cat; echo aside >&2; exit 7"]);
    let cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut cat = cat.spawn().unwrap();
    let (mut into, typed) = (cat.stdin.take().unwrap(), &bytes);
    let ran = thread::scope(|scope| {
        scope.spawn(move || into.write_all(typed).unwrap());
        cat.wait_with_output().unwrap()
    });
    assert_eq!((ran.status.code(), ran.stderr.as_slice()), (Some(7), &b"aside\n"[..]));
    assert!(ran.stdout == bytes, "the program printed other bytes");
    fs::write(path("here"), &bytes).unwrap();
    let there = format!("web01:{}", path("srv/there"));
    client.says(&["cp", &path("here"), &there]);
    assert!(fs::read(path("srv/there")).unwrap() == bytes, "other bytes are there");
    client.says(&["cp", &there, &path("back")]);
    assert!(fs::read(path("back")).unwrap() == bytes, "other bytes came back");
    client.says(&["facts", "web01", "set", "owner=ann"]);
    assert_eq!(client.says(&["facts", "web01", "site"]), "north\n");
    let counts = spoiled.map(|count| count.load(Ordering::SeqCst));
    assert!(counts.iter().all(|&count| count > 10), "{counts:?} bytes were spoiled");
}

const ONE_IN: u64 = 10_000;
/// Bytes each way, twice.
const LENGTH: usize = 200_000;
