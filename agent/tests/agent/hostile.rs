//! Hosts that mean no good: the agent stays, within its bounds, and serves the next.

use vspc_core::mux::OpenError;
use vspc_guest::answer::Done;
use vspc_guest::{Code, Exec, Header};

use crate::host::{Host, key};
use crate::machine::Machine;

const EXEC: &str = "[exec]\nprograms = [\"*\"]\n";

fn echo() -> Exec {
    Exec { argv: ["echo", "well"].map(str::to_owned).to_vec(), ..Exec::new(key()) }
}

/// It still does what it is there for.
fn works(host: &mut Host) {
    let id = host.open(&Header::Exec(echo()).line());
    host.answer::<Done>(id).unwrap();
    assert_eq!(host.rest(id), b"well\n");
    host.finish(id);
}

/// Bytes of memory that the agent has now.
fn memory(machine: &Machine) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn headers_that_are_none_are_refused_one_by_one() {
    let machine = Machine::start(EXEC, &[]);
    let mut host = machine.host();
    for header in [&b"\n"[..], b"{}\n", b"garbage\n", b"{\"op\":1}\n", b"\xff\xfe\n", &[b'x'; 5000]] {
        let id = host.open(header);
        assert_eq!(host.answer::<Done>(id).unwrap_err().code, Code::BAD_LINE);
        host.finish(id);
        host.rest(id);
    }
    let id = host.open(b"{\"op\":\"fly\"}\n");
    assert_eq!(host.answer::<Done>(id).unwrap_err().code, Code::UNSUPPORTED);
    // One that ends before its header.
    let id = host.open(b"{\"op\":");
    host.finish(id);
    assert_eq!(host.answer::<Done>(id).unwrap_err().code, Code::BAD_LINE);
    works(&mut host);
}

#[test]
fn garbage_on_the_line_ends_nothing_but_the_session() {
    let machine = Machine::start(EXEC, &[]);
    for seed in 0..20u32 {
        let mut line = machine.line();
        let bytes: Vec<u8> = (0..60_000u32).map(|at| (at.wrapping_mul(seed * 2 + 1) >> 5) as u8).collect();
        let _ = std::io::Write::write_all(&mut line, &bytes);
    }
    works(&mut machine.host());
}

#[test]
fn tens_of_thousands_of_streams_cost_no_memory() {
    let machine = Machine::start(EXEC, &[]);
    let mut host = machine.host();
    works(&mut host);
    let before = memory(&machine);
    let mut refused = 0;
    for number in 0..65_536 {
        let id = loop {
            match host.session.open() {
                Ok(id) => break id,
                Err(OpenError::TooMany) => host.turn(),
                Err(error) => panic!("{error}"),
            }
        };
        // Half a header, or a process that waits for streams that never come; then a reset.
        if number % 2 == 0 {
            host.write(id, b"{\"op\":");
        } else {
            let exec = Exec { with: vec![vspc_guest::Belongs::Control], ..echo() };
            host.write(id, &Header::Exec(exec).line());
        }
        if number % 100 == 99 {
            host.turn();
        }
        host.session.reset(id).unwrap();
        refused += 1;
    }
    assert_eq!(refused, 65_536);
    // What is announced stays.
    host.until("all of them gone", |host| (host.session.stream_count() == 1).then_some(()));
    works(&mut host);
    let after = memory(&machine);
    assert!(after < before + (8 << 20), "{before} bytes before, {after} after");
}

#[test]
fn streams_that_nobody_reads_hold_no_more_than_their_windows() {
    let machine = Machine::start(EXEC, &[]);
    let mut host = machine.host();
    let before = memory(&machine);
    let mut streams = Vec::new();
    for _ in 0..32 {
        let exec = Exec { argv: ["yes", "y"].map(str::to_owned).to_vec(), ..echo() };
        let id = host.session.open().unwrap();
        host.unread.insert(id);
        host.write(id, &Header::Exec(exec).line());
        streams.push(id);
    }
    host.until("full windows", |host| {
        streams.iter().all(|id| host.session.received_len(*id) > 30_000).then_some(())
    });
    let after = memory(&machine);
    assert!(after < before + (16 << 20), "{before} bytes before, {after} after");
    works(&mut host);
}

#[test]
fn resets_in_a_storm_leave_no_process() {
    let machine = Machine::start("processes = 512\n[exec]\nprograms = [\"*\"]\n", &[]);
    let mut host = machine.host();
    for _ in 0..300 {
        let exec = Exec { argv: ["sleep", "1000"].map(str::to_owned).to_vec(), ..echo() };
        let id = host.open(&Header::Exec(exec).line());
        host.answer::<Done>(id).unwrap();
        host.session.reset(id).unwrap();
    }
    let children = format!("/proc/{0}/task/{0}/children", machine.child.id());
    host.until("the end of all", |_| std::fs::read_to_string(&children).unwrap().is_empty().then_some(()));
    works(&mut host);
}
