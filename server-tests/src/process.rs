//! The server as a process: it is started, its log is read, it is sent signals, and it never outlives its
//! test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process, prlimit, waitpid,
};

use super::program;

/// How long a test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A running server, killed when dropped.
pub(super) struct Server {
    child: Child,
    lines: Receiver<String>,
    deaf: Arc<AtomicBool>,
    /// Where hosts connect.
    pub(super) vms: SocketAddr,
}

impl Server {
    /// Starts a server on ports of the system's choosing.
    pub(super) fn start(options: &[&str]) -> Self {
        Self::of(Command::new(program()).args(PORTS).args(options))
    }

    /// Starts a server with the admin port that it has by default.
    pub(super) fn with_default_admin_port() -> Self {
        Self::of(Command::new(program()).args(&PORTS[..6]))
    }

    /// Starts a server with client ports as these options say.
    pub(super) fn keeping(options: &[&str]) -> Self {
        Self::of(Command::new(program()).args(&PORTS[..4]).args(&PORTS[6..]).args(options))
    }

    /// Starts this program with client ports in a row from about `first_port` on; returns also from where. A
    /// server skips what is taken, so that other processes in the same stretch do no harm.
    pub(super) fn with_client_ports(program: &str, first_port: u16, options: &[String]) -> (Self, u16) {
        let first_port = first_port + (std::process::id() % 80) as u16 * 100;
        let mut command = Command::new(program);
        command.args(&PORTS[..4]).args(&PORTS[6..]).args(["--port-range-start", &first_port.to_string()]);
        (Self::of(command.args(options)), first_port)
    }

    /// The same, which takes the CAs in this file for those of the system.
    pub(super) fn keeping_with_ca(options: &[&str], ca: &Path) -> Self {
        let mut command = Command::new(program());
        Self::of(command.env("SSL_CERT_FILE", ca).args(&PORTS[..4]).args(&PORTS[6..]).args(options))
    }

    /// Starts a server that may have only so many descriptors.
    pub(super) fn with_descriptors(limit: usize, options: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh", program()]);
        Self::of(shell.args(PORTS).args(options))
    }

    /// Starts what this command says.
    pub(super) fn of(command: &mut Command) -> Self {
        let mut child = command.env_remove("RUST_LOG").stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        let deaf = Arc::new(AtomicBool::new(false));
        let is_deaf = Arc::clone(&deaf);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                while is_deaf.load(Ordering::Relaxed) {
                    thread::park();
                }
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Self { child, lines, deaf, vms: SocketAddr::from(([0; 4], 0)) };
        server.vms = server.next_listener();
        server
    }

    /// Where the server listens, as its next line about that says.
    pub(super) fn next_listener(&self) -> SocketAddr {
        self.line_with("listening on ").split_once("listening on ").unwrap().1.parse().unwrap()
    }

    /// Where its admin port is: to be asked for before any VM comes.
    pub(super) fn admin_port(&self) -> SocketAddr {
        self.line_with("admin port open on ").split_once("admin port open on ").unwrap().1.parse().unwrap()
    }

    /// The next log line that has these words.
    pub(super) fn line_with(&self, words: &str) -> String {
        let mut seen = String::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => seen = format!("{seen}{line}\n"),
                Err(why) => panic!("no line has {words:?} ({why}); these came:\n{seen}"),
            }
        }
    }

    /// What it has logged since that was last looked at.
    pub(super) fn lines_so_far(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// The client port of the VM that is identified next.
    pub(super) fn next_client_port(&self) -> SocketAddr {
        let line = self.line_with("vm identified");
        let port = line.split_once("port=").unwrap_or_else(|| panic!("no port in {line}")).1;
        let port = port.split(' ').next().unwrap().parse().unwrap();
        SocketAddr::new(self.vms.ip(), port)
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops the process while `meanwhile` runs, as a busy machine does: when it goes on, it finds all that
    /// happened meanwhile at once.
    pub(super) fn while_stopped(&self, meanwhile: impl FnOnce()) {
        let pid = Pid::from_child(&self.child);
        self.signal(Signal::STOP);
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped());
        meanwhile();
        self.signal(Signal::CONT);
    }

    /// Changes how many descriptors the running process may have.
    pub(super) fn limit_descriptors(&self, limit: usize) {
        let limit = Some(limit as u64);
        let limits = Rlimit { current: limit, maximum: getrlimit(Resource::Nofile).maximum };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limits).unwrap();
    }

    /// Changes how large the files may become that the running process writes.
    pub(super) fn limit_file_size(&self, limit: Option<u64>) {
        let limits = Rlimit { current: limit, maximum: getrlimit(Resource::Fsize).maximum };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limits).unwrap();
    }

    /// From now on nobody reads what the server logs, and yet its stderr stays open.
    pub(super) fn stop_reading(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// Waits for the process to end.
    pub(super) fn end(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        // A child's end cannot be waited for with a limit in std; this looks for it.
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::yield_now();
        }
        panic!("the server does not end");
    }

    /// How many descriptors the kernel has a place for in the process's table, before it must grow.
    pub(super) fn descriptor_table(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let length = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        length.trim().parse().unwrap()
    }

    /// What the process has taken of the processors' time.
    pub(super) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        // utime and stime, in hundredths of a second (proc_pid_stat(5)).
        Duration::from_millis(fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
    }

    /// Open descriptors of the process.
    pub(super) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a server that is expected to end at once.
pub(super) fn run(options: &[&str]) -> Output {
    Command::new(program()).args(options).env_remove("RUST_LOG").output().unwrap()
}

/// How many client ports are looked at for a VM's: more than one server has consoles in one run.
pub(super) const PORT_STRETCH: u16 = 2000;

const PORTS: [&str; 8] =
    ["--proxy-port", "0", "--proxy-iface", "127.0.0.1", "--port-range-start", "0", "--admin-port", "0"];
