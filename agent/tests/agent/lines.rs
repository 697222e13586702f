//! Lines that are bad, slow or gone.

use vspc_core::mux::StreamId;
use vspc_guest::answer::Done;
use vspc_guest::{ControlLine, Exec, Get, Header};

use crate::host::{Host, key};
use crate::machine::{Folder, Machine, agent};
use crate::port::{self, EXEC, port};

fn cat() -> Header {
    Header::Exec(Exec { argv: vec!["cat".to_owned()], ..Exec::new(key()) })
}

fn passes(host: &mut Host, len: u32) {
    let id = host.open(&cat().line());
    host.answer::<Done>(id).unwrap();
    let text: Vec<u8> = (0..len).map(|at| (at ^ at >> 8) as u8).collect();
    host.write(id, &text);
    host.finish(id);
    assert!(host.rest(id) == text, "the bytes are others");
}

#[test]
fn a_serial_port_carries_every_byte_as_it_is() {
    let (port, ours) = port(&["--speed", "115200"]);
    let mut host = Host::sl(ours);
    host.hello(None).unwrap();
    passes(&mut host, 100_000);
    drop(port);
}

#[test]
fn what_is_said_of_a_process_on_a_slow_line_does_not_wait_for_a_copy() {
    let (port, ours) = port(&[]);
    let mut host = Host::sl(ours);
    host.hello(None).unwrap();
    let exec = Exec { argv: vec!["cat".to_owned()], ..Exec::new(key()) };
    let main = host.open(&Header::Exec(exec.clone()).line());
    host.answer::<Done>(main).unwrap();
    let control = host.open(&Header::Control { key: exec.key }.line());
    host.answer::<Done>(control).unwrap();
    let big = port.folder.write("big", vec![b'x'; 10_000_000]).display().to_string();
    let get = host.open(&Header::Get(Get::new(big)).line());
    host.until("much of it", |host| (host.waiting(get) > 100_000).then_some(()));
    host.reads = 256;
    for _ in 0..5 {
        let before = host.have_read;
        // The agent itself answers: another process might have to wait for its turn.
        host.write(control, &ControlLine::Signal("NONE".to_owned()).line());
        host.answer::<Done>(control).unwrap_err();
        let behind = host.have_read - before;
        // What the port itself holds, a window of SL and one frame.
        assert!(behind < 32 * 1024, "{behind} bytes came before the answer");
    }
    drop(port);
}

#[test]
fn a_host_that_is_started_again_on_a_serial_port_begins_anew() {
    let (port, ours) = port(&[]);
    let mut host = Host::sl(ours.try_clone().unwrap());
    host.hello(None).unwrap();
    let id: StreamId = host.open(&cat().line());
    host.answer::<Done>(id).unwrap();
    host.write(id, b"half a wor");
    host.turn();
    drop(host);
    let mut host = Host::sl(ours);
    host.hello(None).unwrap();
    passes(&mut host, 10_000);
    drop(port);
}

#[test]
fn a_port_that_fails_is_opened_again() {
    let (mut port, ours) = port(&[]);
    let mut host = Host::sl(ours);
    host.hello(None).unwrap();
    let id = host.open(&cat().line());
    host.answer::<Done>(id).unwrap();
    drop(host);
    let mut host = port::host(&port.replace());
    passes(&mut host, 10_000);
}

#[test]
fn a_line_that_goes_away_again_and_again_is_taken_up_again() {
    let machine = Machine::start(EXEC, &[]);
    for _ in 0..5 {
        let mut host = machine.host();
        passes(&mut host, 20_000);
        // In the middle of a frame.
        let id = host.open(&cat().line());
        host.answer::<Done>(id).unwrap();
        host.session.write(id, &[7; 10_000]).unwrap();
        host.turn();
    }
}

#[test]
fn a_line_that_is_not_there_yet_is_waited_for() {
    let folder = Folder::new();
    let (file, socket) = (folder.write("agent.toml", EXEC), folder.join("line"));
    let line = format!("unix:{}", socket.display());
    let mut child = agent().arg("--config").arg(file).arg("--line").arg(line).spawn().unwrap();
    // It has looked in vain at least once by the time that its process has a name of its own.
    let stat = format!("/proc/{}/comm", child.id());
    while std::fs::read_to_string(&stat).unwrap() != "vspc-agent\n" {
        std::thread::yield_now();
    }
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut host = Host::raw(listener.accept().unwrap().0);
    host.hello(None).unwrap();
    passes(&mut host, 1000);
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn told_to_stop_the_agent_says_so_to_its_host() {
    let mut machine = Machine::start(EXEC, &[]);
    let mut host = machine.host();
    let id = host.open(&cat().line());
    host.answer::<Done>(id).unwrap();
    let pid = rustix::process::Pid::from_child(&machine.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    host.until_hung_up();
    assert!(host.closed.is_some(), "nothing was said");
    assert!(machine.child.wait().unwrap().success());
}
