//! What tests stand on: a relay in this process, a target, and who connects.

use std::env;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;
use vspc_relay::{Relay, Settings, Stopper};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A relay that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) at: Vec<String>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Runs what a configuration file with this text says.
    pub(crate) fn of(text: &str) -> Self {
        let relay = Relay::open(&Settings::parse(text).unwrap()).unwrap();
        let at = relay.addresses().map(str::to_owned).collect();
        let stopper = relay.stopper();
        let thread = Some(thread::spawn(move || relay.run().unwrap()));
        Self { at, stopper, thread }
    }

    /// A relay on TCP to a target.
    pub(crate) fn to(target: &str) -> Self {
        Self::of(&format!("[[relay]]\nlisten = 'tcp://127.0.0.1:0'\nto = '{target}'"))
    }

    /// Where it listens, on TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.at[0].split_once("//").unwrap().1.parse().unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.address()).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

/// A target on TCP.
pub(crate) struct Target {
    listener: TcpListener,
}

impl Target {
    pub(crate) fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("tcp://{}", self.listener.local_addr().unwrap())
    }

    pub(crate) fn accept(&self) -> TcpStream {
        patient(self.listener.accept().unwrap().0)
    }
}

/// A relay on TCP, whoever has come in on it, and the connection that was made for that one.
pub(crate) fn relayed() -> (Running, TcpStream, TcpStream) {
    let target = Target::new();
    let relay = Running::to(&target.endpoint());
    let near = relay.connect();
    let far = target.accept();
    (relay, near, far)
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Each sends to the other, and it arrives.
pub(crate) fn talk(mut near: impl Read + Write, mut far: impl Read + Write) {
    for (text, back) in [("login: ", "root\r"), ("password: ", "secret\r")] {
        far.write_all(text.as_bytes()).unwrap();
        expect(&mut near, text.as_bytes());
        near.write_all(back.as_bytes()).unwrap();
        expect(&mut far, back.as_bytes());
    }
}

pub(crate) fn expect(stream: &mut impl Read, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
}

/// Reads to the end, which has to be one and no reset.
pub(crate) fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    rest
}

/// Reads to a reset, which has to be one and no end.
pub(crate) fn rest_before_reset(stream: &mut impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    let why = stream.read_to_end(&mut rest).unwrap_err();
    assert_eq!(why.kind(), ErrorKind::ConnectionReset, "{why}");
    rest
}

/// Closes so that the peer is told of a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Writes until nobody takes more; returns how much that was.
pub(crate) fn fill(stream: &mut TcpStream) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    loop {
        match stream.write(&numbered(sent)) {
            Ok(n) => sent += n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return sent,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Bytes as they stand in a stream from this place on, no two stretches alike.
pub(crate) fn numbered(from: usize) -> Vec<u8> {
    (from..from + (64 << 10)).map(|n| (n ^ n >> 8 ^ n >> 16) as u8).collect()
}

/// Reads so many bytes of such a stream.
pub(crate) fn expect_numbered(stream: &mut impl Read, length: usize) {
    let mut at = 0;
    let mut buffer = vec![0; 64 << 10];
    while at < length {
        let n = stream.read(&mut buffer).unwrap();
        assert_ne!(n, 0, "it ends after {at} of {length} bytes");
        assert_eq!(buffer[..n], numbered(at)[..n], "behind {at}");
        at += n;
    }
    assert_eq!(at, length);
}

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("vspc-relay-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file into it, and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _: io::Result<()> = fs::remove_dir_all(&self.0);
    }
}
