//! What a server process costs, read from `/proc`, and the processes that a run starts itself.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::program::bound;
use super::{LoadError, stats};

/// Processor time and memory of a process over a stretch of time.
#[derive(Debug)]
pub(crate) struct Meter {
    pid: u32,
    started: Instant,
    cpu: (f64, f64),
    rss_before: u64,
}

/// What a [`Meter`] read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Seconds in user mode.
    pub user: f64,
    /// Seconds in the kernel.
    pub system: f64,
    /// Seconds that went by.
    pub elapsed: f64,
    /// Resident KiB at the start.
    pub rss_before: u64,
    /// The most resident KiB in between.
    pub rss_peak: u64,
    /// Resident KiB at the end.
    pub rss_after: u64,
}

impl Meter {
    /// Starts to measure; fails when there is no such process.
    pub(crate) fn start(pid: u32) -> Result<Self, LoadError> {
        let missing = |_| LoadError::Usage(format!("no process {pid} to measure"));
        let cpu = cpu_seconds(pid).map_err(missing)?;
        // Sets the peak back to what is resident now; where that is not allowed the peak is the process's.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        let rss_before = status_kib(pid, "VmRSS:").map_err(missing)?;
        Ok(Self { pid, started: Instant::now(), cpu, rss_before })
    }

    /// Resident KiB at this moment; `None` when the process is gone.
    #[must_use]
    pub(crate) fn rss(&self) -> Option<u64> {
        status_kib(self.pid, "VmRSS:").ok()
    }

    /// What it has cost since the start; fails when the process has ended meanwhile.
    pub(crate) fn read(&self) -> Result<Cost, LoadError> {
        let gone = |_| LoadError::Violation(format!("the server (process {}) has ended", self.pid));
        let (user, system) = cpu_seconds(self.pid).map_err(gone)?;
        Ok(Cost {
            user: user - self.cpu.0,
            system: system - self.cpu.1,
            elapsed: self.started.elapsed().as_secs_f64(),
            rss_before: self.rss_before,
            rss_peak: status_kib(self.pid, "VmHWM:").map_err(gone)?,
            rss_after: status_kib(self.pid, "VmRSS:").map_err(gone)?,
        })
    }
}

impl Cost {
    /// Processor seconds in both modes.
    #[must_use]
    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
    }

    /// Per cent of one processor.
    #[must_use]
    pub(crate) fn percent(&self) -> f64 {
        if self.elapsed > 0.0 { 100.0 * self.cpu() / self.elapsed } else { 0.0 }
    }

    /// In words.
    #[must_use]
    pub(crate) fn words(&self) -> String {
        format!(
            "server CPU {:.2} s ({:.1} %), RSS {} -> {} KiB (peak {})",
            self.cpu(),
            self.percent(),
            self.rss_before,
            self.rss_after,
            self.rss_peak
        )
    }

    /// For machines.
    #[must_use]
    pub(crate) fn json(&self) -> Value {
        json!({
            "user_s": stats::round(self.user, 3), "system_s": stats::round(self.system, 3),
            "percent": stats::round(self.percent(), 2),
            "rss_before_kib": self.rss_before, "rss_peak_kib": self.rss_peak, "rss_after_kib": self.rss_after,
        })
    }
}

/// User and kernel seconds of a process and all its threads, the ended ones included.
fn cpu_seconds(pid: u32) -> io::Result<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold anything.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks() / TICKS_PER_SECOND, ticks() / TICKS_PER_SECOND))
}

fn status_kib(pid: u32, key: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|value| value.split_ascii_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other("no such line"))
}

/// Resident KiB of a process: all of it, and what of it is its heap and its stacks.
pub(super) fn resident_kib(pid: u32) -> Result<[u64; 2], LoadError> {
    let read = |key| status_kib(pid, key).map_err(|error| gone(pid, &error));
    Ok([read("VmRSS:")?, read("RssAnon:")?])
}

/// A process that lives as long as this value.
#[derive(Debug)]
pub(crate) struct Started {
    child: Child,
    /// Of a server: where those ask who ask about consoles.
    admin: SocketAddr,
}

impl Started {
    /// Its process id.
    #[must_use]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where a server's admin port is.
    #[must_use]
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts this program's own relay, which reads at most `buffer` bytes at a time, and returns where VMs and
/// clients reach it.
pub(crate) fn start_relay(buffer: usize) -> Result<(Started, SocketAddr, SocketAddr), LoadError> {
    let buffer = buffer.to_string();
    let (started, [vms, clients]) = start_own(&[
        "relay",
        "--listen",
        "127.0.0.1:0",
        "--clients-listen",
        "127.0.0.1:0",
        "--buffer",
        &buffer,
        "--until-stdin-closes",
    ])?;
    Ok((started, vms, clients))
}

/// Starts this program's own bare server and returns where VMs reach it.
pub(crate) fn start_bare() -> Result<(Started, SocketAddr), LoadError> {
    let (started, [vms]) = start_own(&["bare", "--listen", "127.0.0.1:0", "--until-stdin-closes"])?;
    Ok((started, vms))
}

/// Starts a part of this program that says in its first line where it listens.
fn start_own<const N: usize>(args: &[&str]) -> Result<(Started, [SocketAddr; N]), LoadError> {
    let program =
        std::env::current_exe().map_err(|e| LoadError::Usage(format!("cannot find myself: {e}")))?;
    let mut child = Command::new(program)
        .arg("load")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| LoadError::Usage(format!("cannot start the {}: {e}", args[0])))?;
    let stdout = child.stdout.take();
    let started = Started { child, admin: ([127, 0, 0, 1], 0).into() };
    let mut line = String::new();
    if let Some(stdout) = stdout {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    let addresses = line.split_ascii_whitespace().filter_map(|word| word.trim_matches(',').parse().ok());
    match addresses.collect::<Vec<_>>().try_into() {
        Ok(addresses) => Ok((started, addresses)),
        Err(_) => {
            Err(LoadError::Unreachable(format!("the {} did not say where it listens: {line:?}", args[0])))
        }
    }
}

/// Starts a fresh server from a command line such as `target/release/vspc-mio --slow-client wait`, with
/// ports of its own, and waits until it accepts VMs. Returns where they connect and the first client port.
pub(crate) fn start_server(command: &str, ports: u16) -> Result<(Started, SocketAddr, u16), LoadError> {
    let launch = Launch { command, ports, ..Launch::default() };
    launch.start()
}

/// How a fresh server is started.
#[derive(Debug, Default)]
pub(crate) struct Launch<'a> {
    /// Program and options.
    pub command: &'a str,
    /// How many client ports it will need.
    pub ports: u16,
    /// It gets these client ports and no more.
    pub last_port: bool,
    /// Further options.
    pub options: Vec<String>,
    /// How many descriptors it may have; otherwise as many as this process.
    pub descriptors: Option<u64>,
    /// It ends with this process, in whatever way that ends.
    pub is_bound: bool,
    /// Where its log is counted; otherwise nobody reads it.
    pub log: Option<Arc<LogMeter>>,
}

impl Launch<'_> {
    /// Starts it, and waits until it accepts VMs and operators. Returns where VMs connect and the first
    /// client port.
    pub(crate) fn start(self) -> Result<(Started, SocketAddr, u16), LoadError> {
        let mut words = self.command.split_ascii_whitespace();
        let program = words.next().ok_or_else(|| LoadError::Usage("--spawn needs a command".into()))?;
        let vm_port = free_port().map_err(|e| LoadError::Usage(format!("no free port: {e}")))?;
        let admin_port = free_port().map_err(|e| LoadError::Usage(format!("no free port: {e}")))?;
        let first = first_client_port(self.ports);
        let target = SocketAddr::from(([127, 0, 0, 1], vm_port));
        let mut command = match self.descriptors {
            None if self.is_bound => bound(program)?,
            None => Command::new(program),
            Some(limit) => limited(program, limit),
        };
        command
            .args(words)
            .args(["--proxy-port", &vm_port.to_string(), "--proxy-iface", "127.0.0.1"])
            .args(["--port-range-start", &first.to_string(), "--interface", "127.0.0.1"])
            .args(["--admin-port", &admin_port.to_string()]);
        if self.last_port {
            let last = first.saturating_add(self.ports.saturating_sub(1));
            command.args(["--port-range-end", &last.to_string()]);
        }
        let stderr = if self.log.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = command
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|e| LoadError::Usage(format!("cannot start {program}: {e}")))?;
        if let (Some(log), Some(stderr)) = (self.log, child.stderr.take()) {
            std::thread::spawn(move || log.read(stderr));
        }
        let mut started = Started { child, admin: ([127, 0, 0, 1], admin_port).into() };
        let deadline = Instant::now() + START_LIMIT;
        // Each port is opened by itself: one tells nothing of the other.
        for port in [target, started.admin] {
            while TcpStream::connect(port).is_err() {
                if let Ok(Some(status)) = started.child.try_wait() {
                    return Err(LoadError::Unreachable(format!("{program} ended at once: {status}")));
                }
                if Instant::now() > deadline {
                    return Err(LoadError::Unreachable(format!("{program} does not listen on {port}")));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok((started, target, first))
    }
}

/// A program that may have so many descriptors and no more. The shell sets the limit and becomes the program.
fn limited(program: &str, limit: u64) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {limit} && exec \"$@\""), "sh", program]);
    command
}

/// How much a server logs.
#[derive(Debug, Default)]
pub(crate) struct LogMeter {
    bytes: AtomicU64,
    lines: AtomicU64,
}

impl LogMeter {
    /// Bytes and lines so far.
    #[must_use]
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.lines.load(Ordering::Relaxed))
    }

    /// Counts until the server has gone.
    fn read(&self, mut log: impl io::Read) {
        let mut scratch = vec![0; 1 << 16];
        while let Ok(n @ 1..) = log.read(&mut scratch) {
            let lines = memchr::memchr_iter(b'\n', &scratch[..n]).count();
            self.bytes.fetch_add(n as u64, Ordering::Relaxed);
            self.lines.fetch_add(lines as u64, Ordering::Relaxed);
        }
    }
}

/// The sockets of a process that are no listeners: connections, also those that the peer has left.
pub(crate) fn connections_of(pid: u32) -> Result<usize, LoadError> {
    let tables = tcp_tables(pid)?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|error| gone(pid, &error))?;
    // A descriptor that is closed meanwhile is none.
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(count_connections(targets.map(|target| target.display().to_string()), &tables))
}

/// Those of them at one port, which is the process's own.
pub(crate) fn connections_at(pid: u32, port: u16) -> Result<usize, LoadError> {
    let tables = tcp_tables(pid)?;
    Ok(tables.lines().filter(|line| is_connection_at(line, port)).count())
}

/// What the kernel tells of TCP sockets where this process is.
fn tcp_tables(pid: u32) -> Result<String, LoadError> {
    let table = |name| fs::read_to_string(format!("/proc/{pid}/net/{name}"));
    Ok(table("tcp").map_err(|error| gone(pid, &error))? + &table("tcp6").unwrap_or_default())
}

fn gone(pid: u32, _: &io::Error) -> LoadError {
    LoadError::Violation(format!("the server (process {pid}) has ended"))
}

/// Whether a line of `/proc/net/tcp` is about a connection at this port that a process still holds: what the
/// kernel alone still knows has no inode.
fn is_connection_at(line: &str, port: u16) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let at = fields.next().and_then(|local| u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok());
    let state = fields.nth(1);
    at == Some(port) && state.is_some_and(|state| state != "0A") && fields.nth(5) != Some("0")
}

fn count_connections(targets: impl Iterator<Item = String>, tables: &str) -> usize {
    let listening: HashSet<&str> = tables.lines().filter_map(listening_inode).collect();
    let is_connection = |target: &String| {
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| !listening.contains(inode))
    };
    targets.filter(is_connection).count()
}

/// The inode of a socket that listens, from its line in `/proc/net/tcp`.
fn listening_inode(line: &str) -> Option<&str> {
    let mut fields = line.split_ascii_whitespace();
    (fields.nth(3)? == "0A").then(|| fields.nth(5)).flatten()
}

/// What the kernel holds in the buffers of all TCP sockets of this machine, in KiB.
pub(crate) fn tcp_memory_kib() -> u64 {
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = tcp.split_once(" mem ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64 / 1024
}

/// How many connections have overrun the backlog of a listener of this machine, since it was started.
pub(crate) fn listen_overflows() -> u64 {
    let netstat = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    count_named(&netstat, "TcpExt:", "ListenOverflows")
}

/// The number of this name in pairs of lines of which the first has the names.
fn count_named(text: &str, kind: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(kind));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else { return 0 };
    let mut pairs = names.split(' ').zip(numbers.split(' '));
    pairs.find(|&(its, _)| its == name).and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A stretch of ports above those that Linux hands to outgoing connections, so that the run's own
/// connections do not take the server's ports; a long one begins below.
fn first_client_port(ports: u16) -> u16 {
    if ports <= 4000 { 61000 } else { 10000 }
}

/// Raises the descriptor limit to what the system allows and says how many that is.
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Fails with a clear line when `needed` sockets do not fit into the descriptor limit.
pub(crate) fn require_descriptors(needed: usize) -> Result<(), LoadError> {
    let limit = raise_descriptor_limit();
    if needed as u64 + SPARE_DESCRIPTORS > limit {
        return Err(LoadError::Usage(format!(
            "{needed} connections do not fit into {limit} descriptors (see `ulimit -Hn`)"
        )));
    }
    Ok(())
}

/// Linux reports processor time in these units to every program (`USER_HZ`), whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;
/// Standard streams, the event queue, `/proc` files.
const SPARE_DESCRIPTORS: u64 = 32;
/// How long a started server may take until it accepts.
const START_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_the_kernels_is_found_by_its_name() {
        let text =
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 27 28\nIpExt: A\nIpExt: 5\n";
        assert_eq!(count_named(text, "TcpExt:", "ListenOverflows"), 27);
        assert_eq!(count_named(text, "IpExt:", "A"), 5);
        assert_eq!(count_named(text, "TcpExt:", "Absent"), 0);
        assert_eq!(count_named("", "TcpExt:", "ListenOverflows"), 0);
    }

    #[test]
    fn a_process_that_works_costs_processor_time_and_memory() {
        let meter = Meter::start(std::process::id()).unwrap();
        let before = cpu_seconds(std::process::id()).unwrap();
        let mut x = 1u64;
        while cpu_seconds(std::process::id()).unwrap() == before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let cost = meter.read().unwrap();
        assert!(cost.cpu() > 0.0);
        assert!(cost.rss_after > 0 && cost.rss_peak > 0);
    }

    #[test]
    fn listeners_and_files_are_no_connections() {
        let line = |state, inode| {
            format!(
                "   0: 0100007F:343A 00000000:0000 {state} 00000000:00000000 \
                 00:00000000 00000000  0  0 {inode} 1\n"
            )
        };
        let tables = line("0A", 11) + &line("01", 12) + &line("08", 13);
        let targets = ["socket:[11]", "socket:[12]", "socket:[13]", "socket:[14]", "/dev/null", "pipe:[12]"];
        assert_eq!(count_connections(targets.into_iter().map(str::to_owned), &tables), 3);
    }

    #[test]
    fn connections_at_a_port_are_those_that_are_held() {
        let line = |port: u16, state, inode| {
            format!(
                "   0: 0100007F:{port:04X} 0100007F:1234 {state} 00000000:00000000 \
                 00:00000000 00000000  0  0 {inode} 1"
            )
        };
        assert!(is_connection_at(&line(61000, "01", 12), 61000));
        assert!(is_connection_at(&line(61000, "08", 12), 61000));
        assert!(!is_connection_at(&line(61001, "01", 12), 61000));
        assert!(!is_connection_at(&line(61000, "0A", 12), 61000), "a listener");
        assert!(!is_connection_at(&line(61000, "06", 0), 61000), "the kernel's alone");
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = listener.local_addr().unwrap();
        assert_eq!(connections_at(std::process::id(), at.port()).unwrap(), 0);
        let _client = TcpStream::connect(at).unwrap();
        let _served = listener.accept().unwrap();
        assert_eq!(connections_at(std::process::id(), at.port()).unwrap(), 1);
    }

    #[test]
    fn a_log_is_counted_in_bytes_and_lines() {
        let log = LogMeter::default();
        log.read(&b"one\ntwo\nthr"[..]);
        assert_eq!(log.so_far(), (11, 2));
    }

    #[test]
    fn a_launched_program_has_the_descriptors_that_it_is_given() {
        let mut command = limited("sh", 77);
        let output = command.args(["-c", "ulimit -n; ulimit -Hn"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "77\n77\n");
    }

    #[test]
    fn a_missing_process_is_a_usage_error() {
        assert!(matches!(Meter::start(u32::MAX / 2), Err(LoadError::Usage(_))));
    }

    #[test]
    fn too_large_a_fleet_is_told_before_it_starts() {
        assert!(require_descriptors(10).is_ok());
        assert!(matches!(require_descriptors(usize::MAX / 4), Err(LoadError::Usage(_))));
    }
}
