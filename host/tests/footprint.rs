//! What a log costs a VM in memory, counted by the allocator: of one that never prints, and of one that has
//! printed a line.
//!
//! One process for each measurement, without a harness: nothing else may allocate while it counts. Prints a
//! line for each, so that a change of the numbers shows in the log.

use std::alloc::System;
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use vspc_core::concentrator::{Address, Concentrator, ConnId, Peer};
use vspc_core::time;
use vspc_host::housekeeping::Housekeeping;
use vspc_host::startup::{self, Host};
use vspc_host::work::Work;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const VMS: usize = 7_000;

/// What a log of a VM that never prints may take, with its share of what the logs of all have together: the
/// histogram of their lag is two bytes of it.
const SILENT: usize = 444;

/// And that of one that has printed.
const PRINTED: usize = 660;

fn main() -> ExitCode {
    // The one that is measured.
    if let Some(has_log) = env::var_os(HAS_LOG) {
        return startup::run("footprint", |host| serve(host, has_log == "yes"));
    }
    let folder = env::temp_dir().join(format!("vspc-footprint-{}", std::process::id()));
    let cost = |has_log| {
        fs::create_dir_all(&folder).unwrap();
        let output = Command::new(env::current_exe().unwrap())
            .env(HAS_LOG, has_log)
            .args(["--log-layout", "{name}", "--no-log-restore", "--no-vm-ports", "--admin-port", "0"])
            .arg("--log-dir")
            .arg(&folder)
            .output()
            .unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let mut costs = text.split_whitespace().map(|word| word.parse::<usize>().unwrap());
        (costs.next().unwrap(), costs.next().unwrap())
    };
    let (with, without) = (cost("yes"), cost("no"));
    let (silent, printed) = (with.0 - without.0, with.1 - without.1);
    println!("footprint: a log of a vm that never prints: {silent} bytes, of one that did: {printed}");
    assert!(silent <= SILENT, "{silent} bytes for a log without a byte");
    assert!(printed <= PRINTED, "{printed} bytes for a log that has a line");
    ExitCode::SUCCESS
}

/// Prints what a VM costs while all are silent, and after a line of each.
fn serve(host: Host, has_log: bool) -> Result<(), vspc_host::fatal::Fatal> {
    let dir = env::args_os().next_back().unwrap();
    let now = time::Instant::from_millis(1);
    let mut engine = Concentrator::new(host.config, host.seed, now);
    let mut house = Housekeeping::new(false).unwrap();
    let logs = host.logs;
    if has_log {
        house.logs = logs;
    }
    let mut hosts = None;
    while let Some(work) = house.next_work(&mut engine, now) {
        if let Work::Listen(id, address) = work {
            hosts.get_or_insert(id);
            house.listened(&mut engine, id, address.clone(), Ok(address), now);
        }
    }
    let mut vms = Vec::with_capacity(VMS);
    let before = in_use();
    for n in 0..VMS {
        let peer = Peer::new(Address::Ip("192.0.2.1:1".parse().unwrap()));
        let id = engine.handle_accepted(hosts.unwrap(), peer, now).unwrap();
        say(&mut engine, &mut house, id, &introduction(n), now);
        vms.push(id);
    }
    // What is only on its way to being forgotten goes.
    let now = now + Duration::from_secs(60);
    house.fire_timers(&mut engine, now);
    drain(&mut engine, &mut house, now);
    let silent = in_use() - before;
    for &id in &vms {
        say(&mut engine, &mut house, id, b"login: ", now);
    }
    if has_log {
        wait_for_logs(Path::new(&dir));
    }
    let printed = in_use() - before;
    println!("{} {}", silent / VMS, printed / VMS);
    Ok(())
}

/// Waits until each VM's line is in its log, and the thread that wrote it does nothing more.
fn wait_for_logs(dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let is_there = |n| fs::metadata(dir.join(format!("vm{n:05}"))).is_ok_and(|file| file.len() == 7);
    while !(0..VMS).all(is_there) {
        assert!(Instant::now() < deadline, "logs are missing");
        thread::yield_now();
    }
    let mut before = others();
    let mut looks = 0;
    while looks < LOOKS {
        let now = others();
        let is_still = now == before && now.iter().all(|thread| thread.contains("State:\tS"));
        looks = if is_still { looks + 1 } else { 0 };
        before = now;
        assert!(Instant::now() < deadline, "a thread works without end: {before:?}");
    }
}

/// What the kernel says of each other thread: its state, and how often it has waited so far.
fn others() -> Vec<String> {
    let own = fs::read_link("/proc/thread-self").unwrap();
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap());
    let threads = threads.filter(|thread| Some(&*thread.file_name()) != own.file_name());
    threads.map(|thread| fs::read_to_string(thread.path().join("status")).unwrap()).collect()
}

/// So often in a row all other threads are seen asleep, and not to have woken meanwhile.
const LOOKS: usize = 20;

fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn say(engine: &mut Concentrator, house: &mut Housekeeping, id: ConnId, bytes: &[u8], now: time::Instant) {
    engine.handle_received(id, &mut bytes.to_vec(), now);
    drain(engine, house, now);
}

/// Does what a runtime does, with sockets that take everything.
fn drain(engine: &mut Concentrator, house: &mut Housekeeping, now: time::Instant) {
    while let Some(work) = house.next_work(engine, now) {
        if let Work::Transmit(id) = work {
            while !engine.transmit(id, now, |runs| runs.iter().map(|run| run.len()).sum()).is_idle() {}
        }
    }
}

fn introduction(n: usize) -> Vec<u8> {
    let (high, low) = (n >> 8, n & 0xff);
    let uuid = format!("01 23 45 67 89 ab cd ef-fe dc ba 98 00 00 {high:02x} {low:02x}");
    let parts = [&b"\xff\xfb\xe8\xff\xfa\xe8\x50"[..], uuid.as_bytes(), b"\xff\xf0\xff\xfa\xe8\x52"];
    [&parts.concat()[..], format!("vm{n:05}").as_bytes(), b"\xff\xf0"].concat()
}

const HAS_LOG: &str = "VSPC_FOOTPRINT_HAS_LOG";
