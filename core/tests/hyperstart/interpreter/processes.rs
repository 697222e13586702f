//! What processes say, are told and end with.

use super::*;

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
