//! Plays one drill: a fresh server, bystanders, the attack, what is left afterwards; and where a figure is
//! beyond its limit, the same attack on the raw relay or the bare server, which say what this machine can do
//! at all.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::attack::{Attack, Effort, Part};
use super::drill::{Drill, Tls};
use super::ground::{Ground, LAST};
use super::outcome::{KEY_P99, Outcome, SERVED_P99, Server, Took};
use super::watch::{Bystanders, Newcomers, watch_newcomers};
use crate::load::LoadError;
use crate::load::process::{Launch, LogMeter, Meter, tcp_memory_kib};
use crate::load::report::Report;
use crate::load::stats::{Samples, millis};
use crate::tunnel::{TlsArgs, VmForm};

/// What is the same for all drills of a run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// How the server is started.
    pub(super) command: String,
    /// How long the attack goes on.
    pub(super) time: Duration,
    /// How long it goes on at the raw relay, and at the bare server, where the server's figures are beyond a
    /// limit.
    pub(super) beside: Duration,
    pub(super) seed: u64,
}

impl Run {
    /// One whose attack goes on for so long.
    pub(super) fn of(command: &str, time: Duration, seed: u64) -> Self {
        Self { command: command.to_owned(), time, beside: time.min(BESIDE_AT_MOST), seed }
    }

    /// One that has ended after so long, with all that comes after the attack.
    pub(super) fn within(command: &str, whole: Duration, seed: u64) -> Self {
        let after = (whole / 3).min(BACK_WITHIN + 2 * BESIDE_AT_MOST);
        let beside = after.saturating_sub(BACK_WITHIN) / 2;
        Self { command: command.to_owned(), time: whole - after, beside: beside.max(BESIDE_AT_LEAST), seed }
    }
}

/// What goes on at a server: a drill's attack, or many.
pub(super) trait Disturb: Sync {
    /// Disturbs for `time` or until `stop`, from a thread of its own.
    fn disturb(&self, ground: &Ground, seed: u64, time: Duration, stop: &AtomicBool) -> Disturbed;
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Disturbed {
    pub(super) facts: Report,
    pub(super) effort: Effort,
    pub(super) took: Option<Duration>,
}

impl Disturb for Drill {
    fn disturb(&self, ground: &Ground, seed: u64, time: Duration, stop: &AtomicBool) -> Disturbed {
        let (mut attack, outcome) = Attack::run(ground, self.attack, Part { lane: 0, seed, time }, stop);
        if let Err(error) = outcome {
            attack.facts.problem(format!("the attack: {error}"));
        }
        Disturbed { facts: attack.facts, effort: attack.effort, took: attack.took }
    }
}

/// Plays `drill`, whose attack is `what`.
pub(super) fn play(drill: &Drill, what: &dyn Disturb, run: &Run) -> Result<Outcome, LoadError> {
    let log = Arc::new(LogMeter::default());
    let files = (drill.tls != Tls::Off).then(|| Certificate::make(&run.command)).transpose()?;
    let mut missing = Vec::new();
    let ground = launch(drill, run, files.as_ref(), &log, &mut missing)?;
    let mut bystanders = Bystanders::meet(&ground, drill.moves)?;
    let before = bystanders.undisturbed()?;
    let meter = Meter::start(ground.pid)?;
    let (connections, logged) = (ground.connections()? - bystanders.will_leave(), log.so_far());
    let began = Instant::now();
    let kernel = KernelMemory::default();
    let (mut seen, disturbed) =
        bystanders.watch(&ground, |stop| kernel.watch(|| what.disturb(&ground, run.seed, run.time, stop)));
    let elapsed = began.elapsed().as_secs_f64();
    let now = log.so_far();
    let log = ((now.0 - logged.0) as f64 / elapsed, (now.1 - logged.1) as f64 / elapsed);
    let left = wait_until_back(&ground, connections);
    let cost = meter.read()?;
    let mut afterwards = missing;
    afterwards.extend(look_afterwards(&ground, &mut bystanders));
    let server = Server { cost, connections: (connections, left?), log, kernel_kib: kernel.read() };
    let key = seen.keys.as_mut().map(|keys| keys.percentile(99.0));
    let relay = match key {
        Ok(p99) if p99 <= KEY_P99 => None,
        key => {
            let key = key.map_or("lost".into(), |p99| format!("back within {} ms (p99)", millis(p99)));
            tell_beside(&format!("another console's key is {key}"), "raw relay", run);
            beside_relay(what, run).ok()
        }
    };
    let mut took = disturbed.took.map(|took| Took { here: vec![took], bare: Vec::new() });
    let served = seen.newcomers.whole.percentile(99.0);
    let mut bare = None;
    if served > SERVED_P99 || took.is_some() {
        tell_beside(&format!("a new VM is served within {} ms (p99)", millis(served)), "bare server", run);
        let (newcomers, bare_took) = beside_bare(what, run).ok().unzip();
        bare = newcomers;
        if let Some((took, bare_took)) = took.as_mut().zip(bare_took.flatten()) {
            took.bare.push(bare_took);
            drop(ground);
            again(drill, what, run, took)?;
        }
    }
    Ok(Outcome {
        drill: *drill,
        seen,
        before,
        relay,
        bare,
        took,
        effort: disturbed.effort,
        facts: disturbed.facts,
        server,
        afterwards,
    })
}

/// What is timed beside the bare server is timed [`TIMES`] times, in turn: one time alone says little.
fn again(drill: &Drill, what: &dyn Disturb, run: &Run, took: &mut Took) -> Result<(), LoadError> {
    let on = AtomicBool::new(false);
    for _ in 1..TIMES {
        let ground = launch(drill, run, None, &Arc::default(), &mut Vec::new())?;
        took.here.extend(what.disturb(&ground, run.seed, run.time, &on).took);
        drop(ground);
        took.bare.extend(what.disturb(&Ground::bare()?, run.seed, run.time, &on).took);
    }
    Ok(())
}

/// Starts the server as the drill wants it.
fn launch(
    drill: &Drill,
    run: &Run,
    files: Option<&Certificate>,
    log: &Arc<LogMeter>,
    missing: &mut Vec<String>,
) -> Result<Ground, LoadError> {
    let mut options: Vec<String> = drill.options.iter().map(|&option| option.to_owned()).collect();
    if let Some((option, value)) = drill.wants {
        if knows(&run.command, option) {
            options.extend([option.to_owned(), value.to_owned()]);
        } else {
            missing.push(format!("the server has no {option}: nothing bounds them"));
        }
    }
    options.extend(files.iter().flat_map(|files| files.options(drill.tls)));
    let launch = Launch {
        command: &run.command,
        ports: drill.ports.unwrap_or(MANY_PORTS),
        last_port: drill.ports.is_some(),
        options,
        descriptors: drill.descriptors,
        is_bound: false,
        log: Some(Arc::clone(log)),
    };
    let (process, vms, first) = launch.start()?;
    let tls = match drill.tls {
        Tls::Off => TlsArgs::default(),
        Tls::Clients => TlsArgs { client_tls: true, ..TlsArgs::default() },
        Tls::Vms => TlsArgs { tls: VmForm::On, ..TlsArgs::default() },
        Tls::All => TlsArgs { tls: VmForm::On, client_tls: true, ..TlsArgs::default() },
    };
    let dial = tls.open(&vms.to_string()).map_err(LoadError::Usage)?;
    Ok(Ground::server(process, vms, first, dial))
}

/// Whether a server's help names an option.
fn knows(command: &str, option: &str) -> bool {
    let program = command.split_ascii_whitespace().next().unwrap_or_default();
    let help = Command::new(program).arg("--help").stderr(Stdio::null()).output();
    help.is_ok_and(|help| memchr::memmem::find(&help.stdout, option.as_bytes()).is_some())
}

/// Waits until the server has closed what others have left; how many connections it has then.
fn wait_until_back(ground: &Ground, before: usize) -> Result<usize, LoadError> {
    let limit = Instant::now() + BACK_WITHIN;
    loop {
        let now = ground.connections()?;
        if now <= before || Instant::now() > limit {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// What is wrong when all is over.
fn look_afterwards(ground: &Ground, bystanders: &mut Bystanders) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = bystanders.key() {
        problems.push(format!("afterwards: {error}"));
    }
    if let Err(error) = ground.victim(LAST) {
        problems.push(format!("afterwards a new VM gets no console and port: {error}"));
    }
    problems
}

/// Why it is not over yet.
fn tell_beside(why: &str, what: &str, run: &Run) {
    eprintln!("hostile: {why}: the same attack at the {what}, for {:.0} s", run.beside.as_secs_f64());
}

fn beside_relay(what: &dyn Disturb, run: &Run) -> Result<Samples, LoadError> {
    let ground = Ground::relay()?;
    let mut bystanders = Bystanders::meet(&ground, false)?;
    bystanders.undisturbed()?;
    let (seen, _) = bystanders.watch(&ground, |stop| what.disturb(&ground, run.seed, run.beside, stop));
    seen.keys
}

fn beside_bare(what: &dyn Disturb, run: &Run) -> Result<(Newcomers, Option<Duration>), LoadError> {
    let ground = Ground::bare()?;
    let disturb = |stop: &AtomicBool| what.disturb(&ground, run.seed, run.beside, stop);
    let (newcomers, disturbed) = watch_newcomers(&ground, disturb);
    Ok((newcomers, disturbed.took))
}

/// The most that the kernel held for TCP while something went on.
#[derive(Debug)]
struct KernelMemory {
    before: u64,
    most: AtomicU64,
}

impl Default for KernelMemory {
    fn default() -> Self {
        Self { before: tcp_memory_kib(), most: AtomicU64::new(0) }
    }
}

impl KernelMemory {
    fn watch<T>(&self, what: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    self.most.fetch_max(tcp_memory_kib(), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(100));
                }
            });
            let done = what();
            over.store(true, Ordering::Relaxed);
            done
        })
    }

    fn read(&self) -> (u64, u64) {
        (self.before, self.most.load(Ordering::Relaxed))
    }
}

/// A certificate of the server's own making, in a folder that goes with this.
#[derive(Debug)]
struct Certificate(PathBuf);

impl Certificate {
    fn make(command: &str) -> Result<Self, LoadError> {
        let number = crate::random::nonce();
        let folder = std::env::temp_dir().join(format!("vspc-hostile-{number:016x}"));
        let failed = |why: String| LoadError::Usage(format!("no certificate: {why}"));
        std::fs::create_dir_all(&folder).map_err(|error| failed(error.to_string()))?;
        let made = Self(folder);
        let program = command.split_ascii_whitespace().next().unwrap_or_default();
        let status = Command::new(program)
            .args(["cert", "--ip", "127.0.0.1"])
            .args(made.files())
            .stdout(Stdio::null())
            .status();
        match status {
            Ok(status) if status.success() => Ok(made),
            Ok(status) => Err(failed(format!("{program} cert: {status}"))),
            Err(error) => Err(failed(format!("{program} cert: {error}"))),
        }
    }

    fn files(&self) -> [String; 4] {
        let file = |name: &str| self.0.join(name).display().to_string();
        ["--cert".into(), file("cert.pem"), "--key".into(), file("key.pem")]
    }

    fn options(&self, tls: Tls) -> Vec<String> {
        let more: &[&str] = match tls {
            Tls::Off => &[],
            Tls::Clients => &["--client-tls"],
            Tls::Vms => &["--tls", "auto"],
            Tls::All => &["--client-tls", "--tls", "on"],
        };
        self.files().into_iter().chain(more.iter().map(|&option| option.to_owned())).collect()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// More client ports than any drill that does not count them has consoles.
const MANY_PORTS: u16 = 4000;
/// Long enough for most attacks of the mixed drill to have had their turn.
const BESIDE_AT_MOST: Duration = Duration::from_secs(30);
/// Long enough for a few hundred keys.
const BESIDE_AT_LEAST: Duration = Duration::from_secs(2);
/// Few enough to wait for, and the middle one is no outlier.
const TIMES: usize = 3;
/// How long the server may take to notice who has gone: half-closed clients have 10 s.
const BACK_WITHIN: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_has_a_time_for_all_of_it_ends_within_that() {
        for seconds in [30, 70, 300, 3600] {
            let whole = Duration::from_secs(seconds);
            let run = Run::within("server", whole, 1);
            assert!(run.time >= whole * 6 / 10, "{run:?}");
            let slack = if seconds < 60 { Duration::from_secs(10) } else { Duration::ZERO };
            assert!(run.time + BACK_WITHIN + 2 * run.beside <= whole + slack, "{run:?}");
        }
    }
}
