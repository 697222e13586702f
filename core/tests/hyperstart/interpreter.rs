//! hyperstart as an agent: what operators ask for by S2 becomes commands and v1's messages, and back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use vspc_core::hyperstart::{Interpreter, InterpreterConfig};
use vspc_core::mux::{Config, Event, Received, Role, Session, StreamId};
use vspc_core::time::Instant;

use crate::guest::V1Guest;

/// A concentrator's end of S2, the interpreter, and a guest.
struct Line {
    now: Instant,
    host: Session,
    between: Interpreter,
    guest: V1Guest,
    came: BTreeMap<StreamId, Vec<u8>>,
    ended: Vec<StreamId>,
    reset: Vec<StreamId>,
    /// There is an agent, as far as the host knows.
    is_met: bool,
    /// The host does not read these.
    stalled: Vec<StreamId>,
    /// The guest's bytes are cut into pieces of this size.
    cut: usize,
}

impl Line {
    fn closed() -> Self {
        let now = Instant::from_millis(1000);
        let config = InterpreterConfig { nonce: 3, seed: [1, 2], first_id: 100 };
        Self {
            now,
            host: Session::new(Config { nonce: 7, ..Config::new(Role::Host) }, now).unwrap(),
            between: Interpreter::new(config, now),
            guest: V1Guest::new(),
            came: BTreeMap::new(),
            ended: Vec::new(),
            reset: Vec::new(),
            is_met: false,
            stalled: Vec::new(),
            cut: usize::MAX,
        }
    }

    fn new() -> Self {
        Self::of(4244)
    }

    fn of(api: u32) -> Self {
        let mut line = Self::closed();
        line.guest.api = api;
        line.meet();
        line
    }

    fn meet(&mut self) {
        self.between.handle_control_opened(self.now);
        self.between.handle_streams_opened(self.now);
        self.pass();
        assert!(self.between.is_up());
    }

    fn pass(&mut self) {
        let now = self.now;
        for round in 0.. {
            assert!(round < 10_000, "they do not come to rest");
            let mut moved = 0;
            let is_up = self.between.is_up();
            if is_up && !std::mem::replace(&mut self.is_met, is_up) {
                self.host.line_reopened(now);
            }
            self.is_met = is_up;
            let mut down = Vec::new();
            moved += self.host.transmit_with(now, |runs| {
                runs.iter().for_each(|run| down.extend_from_slice(run));
                runs.iter().map(|run| run.len()).sum()
            });
            self.between.handle_agent(&down, now);
            let mut up = Vec::new();
            moved += self.between.transmit_agent(now, |runs| {
                runs.iter().for_each(|run| up.extend_from_slice(run));
                runs.iter().map(|run| run.len()).sum()
            });
            self.host.handle_received(&up, now);
            self.listen();
            let guest = &mut self.guest;
            moved += self.between.transmit_control(|bytes| {
                guest.handle_control(bytes);
                bytes.len()
            });
            let mut down = Vec::new();
            moved += self.between.transmit_streams(now, |runs| {
                runs.iter().for_each(|run| down.extend_from_slice(run));
                runs.iter().map(|run| run.len()).sum()
            });
            self.guest.handle_stream(&down);
            let said = std::mem::take(&mut self.guest.says);
            moved += said.len();
            said.chunks(self.cut).for_each(|piece| self.between.handle_control(piece, now));
            let mut streams = std::mem::take(&mut self.guest.streams);
            while self.between.receive_window() > 0 && !streams.is_empty() {
                let rest = streams.split_off(streams.len().min(self.cut).min(16 << 10));
                moved += streams.len();
                self.between.handle_streams(&streams, now);
                streams = rest;
            }
            self.guest.streams.splice(..0, streams);
            if moved == 0 {
                return;
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.between.handle_timeout(self.now);
        self.host.handle_timeout(self.now);
        self.pass();
    }

    fn listen(&mut self) {
        while let Some(event) = self.host.poll_event() {
            match event {
                Event::Readable(id) => self.read(id),
                Event::Reset(id, _) => self.reset.push(id),
                _ => {}
            }
        }
    }

    fn read(&mut self, id: StreamId) {
        while !self.stalled.contains(&id) {
            match self.host.received(id) {
                Ok(Received::Bytes(bytes)) => {
                    let n = bytes.len();
                    self.came.entry(id).or_default().extend_from_slice(bytes);
                    self.host.consume(id, n).unwrap();
                }
                Ok(Received::End) => return self.ended.push(id),
                _ => return,
            }
        }
    }

    /// Opens a stream with this header, and what follows.
    fn open(&mut self, header: &serde_json::Value, behind: &[u8]) -> StreamId {
        let id = self.host.open().unwrap();
        let line = [header.to_string().as_bytes(), b"\n", behind].concat();
        assert_eq!(self.host.write(id, &line), Ok(line.len()));
        id
    }

    /// A process with all of its streams: main, err, control.
    fn exec(&mut self, key: u8, argv: &[&str]) -> [StreamId; 3] {
        let key = name(key);
        let main =
            self.open(&json!({ "op": "exec", "key": key, "argv": argv, "with": ["err", "control"] }), b"");
        let err = self.open(&json!({ "op": "err", "key": key }), b"");
        let control = self.open(&json!({ "op": "control", "key": key }), b"");
        self.pass();
        [main, err, control]
    }

    /// One on a terminal: main, control.
    fn shell(&mut self, key: u8) -> [StreamId; 2] {
        let key = name(key);
        let pty = json!({ "rows": 24, "cols": 80, "term": "vt220" });
        let main = self.open(&json!({ "op": "shell", "key": key, "pty": pty, "with": ["control"] }), b"");
        let control = self.open(&json!({ "op": "control", "key": key }), b"");
        self.pass();
        [main, control]
    }

    fn say(&mut self, id: StreamId, bytes: &[u8]) {
        assert_eq!(self.host.write(id, bytes), Ok(bytes.len()));
        self.pass();
    }

    fn heard(&mut self, id: StreamId) -> String {
        String::from_utf8(self.came.remove(&id).unwrap_or_default()).unwrap()
    }

    fn container(&mut self, key: u8, id: &str, process: &serde_json::Value) -> StreamId {
        let described = json!({ "id": id, "rootfs": "rootfs", "image": "i", "process": process }).to_string();
        let header = json!({ "op": "container", "key": name(key), "size": described.len() });
        let main = self.open(&header, described.as_bytes());
        self.pass();
        main
    }
}

fn name(key: u8) -> String {
    format!("{key:016}")
}

const OK: &str = "{\"ok\":{}}\n";

#[test]
fn a_process_runs_with_its_errors_apart_and_its_status_told() {
    for cut in [1, 5, usize::MAX] {
        let mut line = Line::new();
        line.cut = cut;
        let [main, err, control] = line.exec(1, &["sh", "-c", "x"]);
        let (seq, running) = line.guest.only();
        assert_eq!(seq, 100);
        assert_eq!((&*running.container, &*running.process, running.stderr), ("hyperstart", "vspc100", 101));
        assert_eq!(running.args, ["sh", "-c", "x"]);
        line.say(main, b"in");
        line.host.finish(main).unwrap();
        line.pass();
        assert_eq!(line.guest.came.remove(&seq).unwrap(), b"in");
        assert_eq!(line.guest.ended, [seq]);
        line.guest.print(seq, b"out");
        line.guest.print(running.stderr, b"oops");
        line.guest.exit(seq, 7);
        line.pass();
        assert_eq!(line.heard(main), format!("{OK}out"));
        assert_eq!(line.heard(err), format!("{OK}oops"));
        assert_eq!(line.heard(control), format!("{OK}{{\"exit\":7}}\n"));
        line.ended.sort();
        assert_eq!(line.ended, [main, err, control]);
        assert_eq!(line.guest.running.len(), 0);
    }
}

#[test]
fn the_streams_of_a_process_may_come_in_any_order_and_none_is_waited_for_for_ever() {
    let mut line = Line::new();
    let control = line.open(&json!({ "op": "control", "key": name(1) }), b"");
    line.pass();
    let main = line.open(&json!({ "op": "exec", "key": name(1), "argv": ["a"], "with": ["control"] }), b"");
    line.pass();
    let (seq, running) = line.guest.only();
    assert_eq!((line.heard(control), line.heard(main)), (OK.to_owned(), OK.to_owned()));
    // Without a stream for errors they go where output goes.
    line.guest.print(running.stderr, b"oops");
    line.guest.exit(seq, 0);
    line.pass();
    assert_eq!(line.heard(main), "oops");

    let alone = line.open(&json!({ "op": "exec", "key": name(2), "argv": ["a"], "with": ["err"] }), b"");
    line.pass();
    line.wait(Duration::from_secs(59));
    assert!(line.heard(alone).is_empty());
    line.wait(Duration::from_secs(2));
    assert!(line.heard(alone).contains("no-such-key"));
    assert!(line.guest.running.is_empty());
}

#[test]
fn a_terminal_has_a_size_and_a_containers_process_hears_signals() {
    let mut line = Line::new();
    let first = line.container(9, "web", &json!({ "args": ["nginx"], "terminal": true }));
    assert_eq!(line.heard(first), OK);
    let (seq, running) = line.guest.only();
    assert_eq!((&*running.process, running.stderr, running.terminal), ("init", 0, true));
    // Further processes are in that container, where nothing else is said.
    let [main, control] = line.shell(1);
    let at = seq + 1;
    assert_eq!(line.guest.running[&at].container, "web");
    assert_eq!(line.guest.running[&at].args, ["/bin/sh"]);
    let exec = &line.guest.commands.iter().rfind(|(code, _)| *code == 6).unwrap().1;
    assert!(exec.contains(r#""envs":[{"env":"TERM","value":"vt220"}]"#), "{exec}");
    line.say(control, b"{\"rows\":50,\"cols\":132}\n{\"signal\":\"INT\"}\n");
    let said: Vec<_> = line.guest.commands.iter().skip(2).map(|(code, said)| (*code, &**said)).collect();
    let process = format!(r#""container":"web","process":"vspc{at}""#);
    let expected = [
        (11, format!(r#"{{"column":80,{process},"row":24}}"#)),
        (11, format!(r#"{{"column":132,{process},"row":50}}"#)),
        (24, format!(r#"{{{process},"signal":2}}"#)),
    ];
    assert_eq!(said, expected.iter().map(|(code, said)| (*code, &**said)).collect::<Vec<_>>());
    assert_eq!(line.heard(control), OK);
    line.guest.exit(at, 130);
    line.pass();
    assert_eq!(line.heard(control), "{\"exit\":130}\n");
    // What cannot be done is told, and ends nothing.
    let [_, _, control] = line.exec(3, &["cat"]);
    line.say(control, b"{\"signal\":\"SEGV\"}\n{\"rows\":1,\"cols\":1}\n{\"later\":1}\nno\n");
    let heard = line.heard(control);
    assert_eq!(heard.matches("\"error\"").count(), 3, "{heard}");
    assert!(line.guest.running.len() == 2 && main != first);
    // The container ends: processes are beside all of them again.
    line.guest.exit(seq, 0);
    line.pass();
    line.exec(4, &["ls"]);
    assert_eq!(line.guest.running.values().last().unwrap().container, "hyperstart");
}

#[test]
fn what_the_guest_refuses_is_told_with_its_words() {
    let mut line = Line::new();
    let header = json!({ "op": "exec", "key": name(1), "argv": ["a"], "container": "gone" });
    let main = line.open(&header, b"");
    line.pass();
    assert!(line.heard(main).contains("failed") && line.ended == [main]);
    line.guest.is_stuck = true;
    let asked = line.open(&json!({ "op": "command", "name": "removecontainer", "size": 2 }), b"{}");
    line.pass();
    line.guest.say(10, b"no such container\0");
    line.pass();
    assert!(line.heard(asked).contains("no such container"));
}

#[test]
fn commands_are_handed_through_and_answered() {
    let mut line = Line::new();
    let pod = json!({ "hostname": "a", "shareDir": "share" }).to_string();
    let header = json!({ "op": "command", "name": "startpod", "size": pod.len() });
    let asked = line.open(&header, &pod.as_bytes()[..10]);
    line.pass();
    assert!(line.guest.commands.is_empty());
    line.say(asked, &pod.as_bytes()[10..]);
    assert_eq!(line.guest.commands, [(1, pod)]);
    assert_eq!((line.heard(asked), &line.ended[..]), (OK.to_owned(), &[asked][..]));
    for (header, behind, why) in [
        (json!({ "op": "command", "name": "execcmd", "size": 2 }), "{}", "unsupported"),
        (json!({ "op": "command", "name": "startpod", "size": 2 }), "[]", "bad-line"),
        (json!({ "op": "command", "name": "startpod", "size": 70_000 }), "", "bad-line"),
        (json!({ "op": "container", "key": name(1), "size": 2 }), "{}", "bad-line"),
        (json!({ "op": "container", "key": name(2), "size": 2 }), "{x", "bad-line"),
        (
            json!({ "op": "put", "path": "/a", "size": 1, "mode": 1, "sha256": "0".repeat(64) }),
            "",
            "unsupported",
        ),
        (json!({ "op": "connect", "to": "tcp:127.0.0.1:80" }), "", "unsupported"),
        (json!({ "op": "err", "key": 5 }), "", "bad-line"),
    ] {
        let id = line.open(&header, behind.as_bytes());
        line.pass();
        let heard = line.heard(id);
        assert!(heard.contains(why), "{header}: {heard}");
    }
    let cut = line.open(&json!({ "op": "command", "name": "startpod", "size": 20 }), b"{}");
    line.host.finish(cut).unwrap();
    line.pass();
    assert!(line.heard(cut).contains("\"cut\""));
    assert_eq!(line.guest.commands.len(), 1);
}

#[test]
fn whoever_leaves_a_process_has_it_hung_up_and_killed_in_the_end() {
    let mut line = Line::new();
    line.container(9, "web", &json!({ "args": ["nginx"], "terminal": true }));
    let [main, ..] = line.exec(1, &["sleep"]);
    let before = line.guest.commands.len();
    line.host.reset(main).unwrap();
    line.pass();
    let signals = |line: &Line| -> Vec<String> {
        let all = line.guest.commands[before..].iter();
        all.map(|(code, said)| format!("{code} {}", said.rsplit(':').next().unwrap())).collect()
    };
    assert_eq!(signals(&line), ["24 1}"]);
    line.wait(Duration::from_secs(11));
    assert_eq!(signals(&line), ["24 1}", "24 9}"]);
    let seq = *line.guest.running.keys().last().unwrap();
    line.guest.print(seq, b"for nobody");
    line.guest.exit(seq, 0);
    line.pass();
    line.wait(Duration::from_secs(11));
    assert_eq!(signals(&line).len(), 2);
}

#[test]
fn a_slow_reader_loses_nothing_and_one_that_stalls_is_dropped_for_the_others() {
    let mut line = Line::new();
    let [main, ..] = line.exec(1, &["cat"]);
    let (seq, _) = line.guest.only();
    let [other, ..] = line.exec(2, &["cat"]);
    line.heard(main);
    line.heard(other);
    let all: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7) as u8).collect();
    line.stalled.push(main);
    line.guest.print(seq, &all);
    line.pass();
    assert_eq!(line.between.receive_window(), 0);
    assert!(line.between.memory() < 400 << 10, "{}", line.between.memory());
    // It reads on: nothing was lost.
    line.wait(Duration::from_secs(1));
    line.stalled.clear();
    line.read(main);
    line.pass();
    assert!(line.came.remove(&main).unwrap() == all);
    // It does not: it is dropped, and its neighbour goes on.
    line.stalled.push(main);
    line.guest.print(seq, &all);
    line.guest.print(seq + 2, b"here");
    line.pass();
    assert!(line.heard(other).is_empty());
    line.wait(Duration::from_secs(3));
    assert_eq!(line.heard(other), "here");
    assert_eq!(line.reset.first(), Some(&main));
}

#[test]
fn a_reader_that_takes_a_little_now_and_then_does_not_keep_its_neighbours_for_ever() {
    let mut line = Line::closed();
    let config = Config { nonce: 7, window: 4096, receive_buffer: 4096, ..Config::new(Role::Host) };
    line.host = Session::new(config, line.now).unwrap();
    line.meet();
    let [main, ..] = line.exec(1, &["cat"]);
    let (seq, _) = line.guest.only();
    let [other, ..] = line.exec(2, &["cat"]);
    line.heard(other);
    line.stalled.push(main);
    line.guest.print(seq, &vec![7; 4_000_000]);
    line.guest.print(seq + 2, b"here");
    line.pass();
    for _ in 0..10 {
        line.wait(Duration::from_millis(1900));
        let _ = line.host.consume(main, 4096);
        line.pass();
    }
    assert_eq!(line.heard(other), "here");
    assert_eq!(line.reset.first(), Some(&main));
}

#[test]
fn what_is_printed_while_there_is_no_agent_is_nobodys_and_stops_nothing() {
    let mut line = Line::new();
    let _ = line.exec(1, &["yes"]);
    let (seq, running) = line.guest.only();
    line.between.handle_control_closed(line.now);
    assert!(!line.between.is_up());
    line.guest.print(seq, &[7; 1 << 20]);
    line.guest.print(running.stderr, &[7; 1 << 20]);
    line.pass();
    assert!(line.guest.streams.is_empty());
    assert!(line.between.memory() < 100 << 10, "{}", line.between.memory());
    line.between.handle_control_opened(line.now);
    line.pass();
    assert!(line.between.is_up() && line.between.receive_window() > 0);
    let [main, ..] = line.exec(2, &["b"]);
    let seq = *line.guest.running.keys().last().unwrap();
    line.guest.print(seq, b"x");
    line.pass();
    assert_eq!(line.heard(main), format!("{OK}x"));
}

#[test]
fn processes_that_were_left_leave_no_stream_behind() {
    let mut line = Line::new();
    line.container(9, "web", &json!({ "args": ["nginx"], "terminal": true }));
    for _ in 0..300 {
        let all = line.exec(1, &["a"]);
        assert_eq!(line.heard(all[0]), OK);
        let seq = *line.guest.running.keys().last().unwrap();
        all.into_iter().for_each(|id| line.host.reset(id).unwrap());
        line.pass();
        line.guest.exit(seq, 0);
        line.pass();
    }
}

#[test]
fn processes_that_were_left_and_cannot_be_ended_keep_nobody_from_running_more() {
    for (container, mut line) in [("hyperstart", Line::new()), ("web", Line::new())] {
        if container == "web" {
            line.container(9, "web", &json!({ "args": ["nginx"], "terminal": true }));
        }
        for _ in 0..3 {
            for _ in 0..100 {
                let all = line.exec(1, &["sleep"]);
                assert_eq!(line.heard(all[0]), OK, "{container}");
                let (&seq, running) = line.guest.running.iter().next_back().unwrap();
                assert_eq!(running.container, container);
                all.into_iter().for_each(|id| line.host.reset(id).unwrap());
                line.pass();
                assert_eq!(line.guest.ended.last(), Some(&seq), "its input has ended");
            }
            line.wait(Duration::from_secs(11));
        }
    }
}

#[test]
fn a_container_that_was_left_and_killed_is_not_where_programs_run() {
    let mut line = Line::new();
    let first = line.container(9, "web", &json!({ "args": ["nginx"], "terminal": true }));
    line.host.reset(first).unwrap();
    line.pass();
    line.wait(Duration::from_secs(11));
    line.exec(1, &["ls"]);
    assert_eq!(line.guest.running.values().last().unwrap().container, "hyperstart");
}

#[test]
fn parts_of_processes_that_never_come_and_are_gone_keep_nobody_from_running_any() {
    let mut line = Line::new();
    for key in 0..100 {
        let part = if key % 2 == 0 { "err" } else { "control" };
        let id = line.open(&json!({ "op": part, "key": name(key) }), b"");
        line.pass();
        line.host.reset(id).unwrap();
        line.pass();
    }
    let [main, ..] = line.exec(200, &["a"]);
    assert_eq!(line.heard(main), OK);
}

#[test]
fn what_describes_containers_takes_no_more_memory_than_its_bytes_and_is_counted() {
    let mut line = Line::new();
    let process = json!({ "args": ["a"] });
    let described = json!({ "id": "web", "process": process, "x": vec![json!({}); 20_000] }).to_string();
    for key in 0..20 {
        let header = json!({
            "op": "container", "key": name(key), "with": ["control"], "size": described.len(),
        });
        line.open(&header, described.as_bytes());
        line.pass();
    }
    let held = line.between.memory();
    assert!((20 * described.len()..22 * described.len()).contains(&held), "{held}");
}

#[test]
fn streams_of_commands_that_are_gone_before_their_answers_leave_nothing_behind() {
    let mut line = Line::new();
    line.guest.is_stuck = true;
    let mut before = 0;
    for round in 0..300 {
        let id = line.open(&json!({ "op": "command", "name": "removecontainer", "size": 2 }), b"{}");
        line.pass();
        line.host.reset(id).unwrap();
        line.pass();
        line.guest.say(9, b"");
        line.pass();
        if round == 100 {
            before = line.between.memory();
        }
    }
    assert!(line.between.memory() <= before, "{} of {before}", line.between.memory());
}

#[test]
fn what_was_begun_is_killed_by_the_control_channel_alone() {
    for goes in ["streams", "both"] {
        let mut line = Line::new();
        line.container(9, "web", &json!({ "args": ["nginx"], "terminal": true }));
        if goes == "both" {
            line.between.handle_control_closed(line.now);
        }
        line.between.handle_streams_closed(line.now);
        if goes == "both" {
            line.between.handle_control_opened(line.now);
        }
        line.pass();
        let killed = r#"{"container":"web","process":"init","signal":9}"#;
        assert_eq!(line.guest.commands.last(), Some(&(24, killed.to_owned())), "{goes}");
    }
}

#[test]
fn a_status_that_comes_before_the_guest_has_said_that_it_runs_is_told_behind_that() {
    let mut line = Line::of(4242);
    line.guest.is_stuck = true;
    let described = json!({ "id": "web", "process": { "args": ["true"] } }).to_string();
    let header = json!({ "op": "container", "key": name(1), "with": ["control"], "size": described.len() });
    let main = line.open(&header, described.as_bytes());
    let control = line.open(&json!({ "op": "control", "key": name(1) }), b"");
    line.pass();
    for end in [&[12][..], &[13, 7]] {
        line.guest.streams.extend_from_slice(&100u64.to_be_bytes());
        line.guest.streams.extend_from_slice(&[0, 0, 0]);
        line.guest.streams.extend_from_slice(end);
    }
    line.pass();
    line.guest.say(9, b"");
    line.pass();
    assert_eq!(line.heard(control), format!("{OK}{{\"exit\":7}}\n"));
    assert_eq!(line.heard(main), OK);
    assert!(line.ended.contains(&main) && line.ended.contains(&control));
    // Nothing runs in it.
    line.guest.is_stuck = false;
    line.exec(2, &["ls"]);
    assert_eq!(line.guest.only().1.container, "hyperstart");
}

#[test]
fn a_process_is_sent_no_more_input_than_its_guest_has_room_for_and_all_of_it() {
    let mut line = Line::new();
    let [main, ..] = line.exec(1, &["cat"]);
    let (seq, _) = line.guest.only();
    let all: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
    line.say(main, &all);
    assert!(line.guest.came.remove(&seq).unwrap() == all);
    // Its answers may be lost: it is asked again.
    line.guest.mute = 3;
    line.say(main, &all);
    assert!(line.guest.came[&seq].len() < all.len());
    for _ in 0..30 {
        line.wait(Duration::from_millis(20));
    }
    assert!(line.guest.came.remove(&seq).unwrap() == all);
    // Who types is not asked about each key.
    for key in &all[..400] {
        line.say(main, &[*key]);
    }
    assert!(line.guest.came[&seq] == all[..400]);
    line.guest.exit(seq, 0);
    line.pass();
    let soon = line.now + Duration::from_millis(900);
    assert!(line.between.poll_timeout().is_none_or(|due| due > soon), "it still asks");
}

#[test]
fn a_guest_that_goes_or_begins_anew_takes_its_processes_with_it_and_another_agent_is_met() {
    let mut line = Line::new();
    line.container(9, "web", &json!({ "args": ["nginx"], "terminal": true }));
    line.guest.boot();
    line.pass();
    assert_eq!(line.between.take_ended().as_deref(), Some("it has begun anew"));
    line.wait(Duration::from_secs(1));
    assert!(line.between.is_up());
    // The control channel goes, and comes back to the same guest: what ran for nobody is killed.
    let mut line = Line::new();
    line.container(9, "web", &json!({ "args": ["nginx"], "terminal": true }));
    line.between.handle_control_closed(line.now);
    assert!(!line.between.is_up());
    assert_eq!(line.between.take_ended().as_deref(), Some("its control channel is gone"));
    line.between.handle_control_opened(line.now);
    line.pass();
    assert!(line.between.is_up());
    let killed = r#"{"container":"web","process":"init","signal":9}"#;
    assert_eq!(line.guest.commands.last(), Some(&(24, killed.to_owned())));
    line.between.handle_streams_closed(line.now);
    assert!(!line.between.is_up());
    line.between.handle_streams_opened(line.now);
    line.pass();
    line.wait(Duration::from_secs(1));
    assert!(line.between.is_up());
}

#[test]
fn a_channel_that_was_joined_in_the_middle_of_a_message_is_found() {
    let mut line = Line::closed();
    line.guest.says.extend_from_slice(b"\"status\":0}");
    line.guest.streams.extend_from_slice(b"the rest of what somebody else was sent");
    line.between.handle_control_opened(line.now);
    line.between.handle_streams_opened(line.now);
    line.pass();
    assert!(line.between.is_up());
    let [main, ..] = line.exec(1, &["a"]);
    let (seq, _) = line.guest.only();
    line.guest.print(seq, b"x");
    line.pass();
    assert_eq!(line.heard(main), format!("{OK}x"));
}

#[test]
fn a_guest_that_speaks_s2_is_none_and_the_next_one_on_the_line_is_met() {
    let mut line = Line::closed();
    line.between.handle_control_opened(line.now);
    line.between.handle_streams_opened(line.now);
    let mut other = Session::new(Config { nonce: 9, ..Config::new(Role::Guest) }, line.now).unwrap();
    for round in 0..4 {
        let mut bytes = Vec::new();
        line.between.transmit_streams(line.now, |runs| {
            runs.iter().for_each(|run| bytes.extend_from_slice(run));
            bytes.len()
        });
        other.handle_received(&bytes, line.now);
        if round == 2 {
            other.close();
        }
        bytes.clear();
        other.transmit_with(line.now, |runs| {
            runs.iter().for_each(|run| bytes.extend_from_slice(run));
            bytes.len()
        });
        line.between.handle_streams(&bytes, line.now);
    }
    assert!(line.between.take_ended().is_some_and(|why| why.contains("S2")) && !line.between.is_up());
    line.between.handle_streams_closed(line.now);
    line.between.handle_streams_opened(line.now);
    line.pass();
    assert!(line.between.is_up());
    line.exec(1, &["a"]);
    assert_eq!(line.guest.only().0, 100 + (1 << 32));
}

#[test]
fn a_line_whose_session_is_over_is_read_whether_it_takes_the_last_words_or_not() {
    let mut line = Line::closed();
    line.between.handle_streams_opened(line.now);
    let mut other = Session::new(Config { nonce: 9, ..Config::new(Role::Guest) }, line.now).unwrap();
    let mut bytes = Vec::new();
    line.between.transmit_streams(line.now, |runs| {
        runs.iter().for_each(|run| bytes.extend_from_slice(run));
        bytes.len()
    });
    other.handle_received(&bytes, line.now);
    bytes.clear();
    other.transmit_with(line.now, |runs| {
        runs.iter().for_each(|run| bytes.extend_from_slice(run));
        bytes.len()
    });
    line.between.handle_streams(&bytes, line.now);
    line.between.transmit_streams(line.now, |runs| runs.iter().map(|run| run.len()).sum());
    // No frame of S2: the session is over, and says so.
    line.between.handle_streams(&[0xff; 64], line.now);
    let mut is_owed = false;
    line.between.transmit_streams(line.now, |runs| {
        is_owed = !runs.is_empty();
        0
    });
    assert!(is_owed && line.between.receive_window() > 0);
}

#[test]
fn the_old_api_has_no_names_and_its_status_comes_on_the_stream() {
    let mut line = Line::of(4242);
    let first = line.container(9, "web", &json!({ "args": ["nginx"] }));
    assert_eq!(line.heard(first), OK);
    let [main, err, control] = line.exec(1, &["sh"]);
    let (&seq, _) = line.guest.running.iter().next_back().unwrap();
    line.say(control, b"{\"signal\":\"TERM\"}\n");
    assert!(line.heard(control).contains("unsupported"));
    line.guest.print(seq, b"out");
    line.guest.exit(seq, 9);
    line.pass();
    assert_eq!((line.heard(main), line.heard(err)), (format!("{OK}out"), OK.to_owned()));
    assert_eq!(line.heard(control), "{\"exit\":9}\n");
}

#[test]
fn whatever_both_sides_say_nothing_is_lost_but_what_was_broken() {
    let mut state = 77u32;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as usize
    };
    for _ in 0..60 {
        let mut line = Line::new();
        line.container(99, "web", &json!({ "args": ["nginx"], "terminal": true }));
        for round in 0..30u8 {
            match next() % 9 {
                0 => drop(line.exec(round, &["a"])),
                1 => drop(line.shell(round)),
                2 => {
                    if let Some(&seq) = line.guest.running.keys().next() {
                        line.guest.exit(seq, 3);
                    }
                }
                3 => {
                    for &seq in line.guest.running.keys().collect::<Vec<_>>() {
                        line.guest.streams.extend_from_slice(&seq.to_be_bytes());
                        line.guest.streams.extend_from_slice(&(12 + 5u32).to_be_bytes());
                        line.guest.streams.extend_from_slice(b"hello");
                    }
                }
                4 => line.guest.say(next() as u32 % 26, &[next() as u8; 9][..next() % 9]),
                5 => {
                    let id = StreamId(1 + next() as u64 % 20);
                    let _ = line.host.reset(id);
                }
                6 => {
                    let said: Vec<u8> = (0..next() % 60).map(|_| next() as u8).collect();
                    if next() % 2 == 0 {
                        line.guest.says.extend(said);
                    } else {
                        line.guest.streams.extend(said);
                    }
                }
                7 => {
                    let id = StreamId(1 + next() as u64 % 20);
                    let _ = line.host.write(id, b"{\"signal\":\"INT\"}\n{\"rows\":1,\"cols\":2}\n");
                }
                _ => line.wait(Duration::from_millis(next() as u64 % 3000)),
            }
            line.pass();
            assert!(line.between.memory() < 1 << 20);
        }
        // A guest that begins anew on channels that were opened anew is met.
        line.between.handle_control_closed(line.now);
        line.between.handle_streams_closed(line.now);
        line.guest.boot();
        line.between.handle_control_opened(line.now);
        line.between.handle_streams_opened(line.now);
        line.wait(Duration::from_secs(2));
        line.wait(Duration::from_secs(2));
        assert!(line.between.is_up());
        let [main, ..] = line.exec(200, &["b"]);
        assert!(line.heard(main).starts_with(OK));
    }
}
