//! A concentrator, its VMs, and a gateway beside it: they end with the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::Duration;

use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::browser::until;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A process whose log is read.
pub(crate) struct Process {
    child: Child,
    lines: Mutex<Receiver<String>>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.env_remove("RUST_LOG").stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines: Mutex::new(lines) }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// The next line with these words, from behind them on.
    pub(crate) fn line_with(&self, words: &str) -> String {
        let mut seen = String::new();
        loop {
            match self.lines.lock().unwrap().recv_timeout(PATIENCE) {
                Ok(line) => match line.split_once(words) {
                    Some((_, behind)) => return behind.to_owned(),
                    None => seen = format!("{seen}{line}\n"),
                },
                Err(why) => panic!("no line has {words:?} ({why}); these came:\n{seen}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A concentrator that lets this machine do nothing, and its admin port.
pub(crate) fn closed_server() -> (Process, String) {
    server_with("none")
}

/// One that gives this machine these rights.
pub(crate) fn server_with(rights: &str) -> (Process, String) {
    let mut command = Command::new(program());
    command.args(["--proxy-port", "0", "--proxy-iface", "127.0.0.1", "--port-range-start", "0"]);
    let process =
        Process::start(command.args(["--admin-port", "0", "--admin-rights", &format!("loopback={rights}")]));
    let admin = process.line_with("admin port open on ");
    (process, admin)
}

/// A concentrator that gives this user every right, by its socket.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) vms: SocketAddr,
    pub(crate) socket: PathBuf,
}

impl Server {
    pub(crate) fn start(name: &str, options: &[&str]) -> Self {
        let socket = std::env::temp_dir().join(format!("vspc-web-{}-{name}.sock", std::process::id()));
        let mut command = Command::new(program());
        command.args(["--proxy-port", "0", "--proxy-iface", "127.0.0.1", "--port-range-start", "0"]);
        command.args(["--admin-port", "0", "--admin-socket"]).arg(&socket).args(options);
        let process = Process::start(&mut command);
        let vms = process.line_with("listening on ").parse().unwrap();
        process.line_with("admin port open on /");
        Self { process, vms, socket }
    }

    pub(crate) fn vm(&self, number: u8, name: &str) -> Vm {
        let vm = Vm::connect(self.vms, number.into(), name);
        self.process.line_with("vm identified");
        vm
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Where programs are that are built already, if it is not these that are to be tried.
fn built() -> Option<PathBuf> {
    std::env::var_os("VSPC_PROGRAMS").map(PathBuf::from)
}

/// The server's program, beside this test's. It is built first: one from before does not tell what this one
/// does.
fn program() -> PathBuf {
    static BUILD: Once = Once::new();
    fresh("vspc-mio", &BUILD)
}

fn fresh(name: &str, build: &Once) -> PathBuf {
    if let Some(folder) = built() {
        return folder.join(name);
    }
    let program = std::env::current_exe().unwrap().parent().unwrap().with_file_name(name);
    build.call_once(|| {
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", name]).status();
        assert!(built.unwrap().success());
    });
    program
}

/// An agent in a guest, by its file; it ends with the test.
pub(crate) struct Agent(#[expect(dead_code, reason = "it is there")] Process);

impl Agent {
    pub(crate) fn start(file: &str) -> Self {
        static BUILD: Once = Once::new();
        let mut command = Command::new(fresh("vspc-agent", &BUILD));
        Self(Process::start(command.args(["--config", file])))
    }
}

/// A VM that has told who it is (vmware.md §2).
pub(crate) struct Vm {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Vm {
    pub(crate) fn connect(to: SocketAddr, number: u32, name: &str) -> Self {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let message = |words: &[u8]| [&[255, 250, 232], words, &[255, 240]].concat();
        let wire = [
            vec![255, 251, 232, 255, 253, 0, 255, 253, 3, 255, 251, 0, 255, 251, 3],
            message(&[0, 0, 1, 2, 3, 70, 71, 73, 80, 81, 82, 83]),
            message(b"\x46Stest"),
            message(format!("\x5000 11 22 33 44 55 66 77-88 99 aa bb {}", spaced(number)).as_bytes()),
            message(format!("\x52{name}").as_bytes()),
        ];
        stream.write_all(&wire.concat()).unwrap();
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn print(&mut self, text: &[u8]) {
        self.stream.write_all(text).unwrap();
    }

    /// Prints what is typed, until the server closes.
    pub(crate) fn echo(mut self) {
        let _ = self.stream.set_nodelay(true);
        let mut buf = [0; 4096];
        self.stream.set_read_timeout(None).unwrap();
        while let Ok(n @ 1..) = self.stream.read(&mut buf) {
            // What the server says of telnet is no typing.
            let typed: Vec<u8> = buf[..n].iter().copied().filter(u8::is_ascii_lowercase).collect();
            if self.stream.write_all(&typed).is_err() {
                return;
            }
        }
    }

    /// Waits until this was typed.
    pub(crate) fn expect(&mut self, text: &[u8]) {
        let mut buf = [0; 4096];
        while !self.received.windows(text.len()).any(|window| window == text) {
            let n = self.stream.read(&mut buf).unwrap();
            assert!(n > 0, "the server closed");
            self.received.extend_from_slice(&buf[..n]);
        }
    }
}

/// The end of a UUID, as VMware writes it.
fn spaced(number: u32) -> String {
    let [a, b, c, d] = number.to_be_bytes();
    // Small numbers are as they always were here.
    let high = (u16::from_be_bytes([a, b]) ^ 0xccdd).to_be_bytes();
    format!("{:02x} {:02x} {:02x} {d:02x}", high[0], high[1], c ^ 0xee)
}

/// A gateway that is connected to these.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// How it is spoken to, if that is in TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// A connection to a gateway.
pub(crate) trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

impl Gateway {
    pub(crate) fn of(server: &Server) -> Self {
        let gateway = Self::with(&[&format!("lab={}", server.socket.display())]);
        until(&gateway, "/readyz", |ready| ready["ready"] == true);
        gateway
    }

    pub(crate) fn with(servers: &[&str]) -> Self {
        let options: Vec<_> = servers.iter().flat_map(|server| ["--server", server]).collect();
        Self::with_options(&options)
    }

    pub(crate) fn with_options(options: &[&str]) -> Self {
        Self::start(options, None)
    }

    pub(crate) fn start(options: &[&str], tls: Option<Arc<ClientConfig>>) -> Self {
        let gateway = built().map(|folder| folder.join("vspc-web"));
        let mut command = Command::new(gateway.unwrap_or_else(|| env!("CARGO_BIN_EXE_vspc-web").into()));
        command.args(["--listen", "127.0.0.1:0"]).args(options);
        let process = Process::start(&mut command);
        let address = process.line_with("listening on ").parse().unwrap();
        Self { process, address, tls }
    }

    /// One that people have to log in to, by this file, with more options.
    pub(crate) fn with_users(server: &Server, users: &str, options: &[&str]) -> Self {
        let lab = format!("lab={}", server.socket.display());
        let gateway = Self::with_options(&[&["--server", &lab, "--users", users], options].concat());
        until(&gateway, "/readyz", |ready| ready["ready"] == true);
        gateway
    }

    pub(crate) fn connect(&self) -> Box<dyn Wire> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = "localhost".try_into().unwrap();
                let session = ClientConnection::new(Arc::clone(config), name).unwrap();
                Box::new(StreamOwned::new(session, stream))
            }
        }
    }

    /// Has it read its files again.
    pub(crate) fn hang_up(&self) {
        self.process.signal("HUP");
    }

    /// Memory of its own, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}
