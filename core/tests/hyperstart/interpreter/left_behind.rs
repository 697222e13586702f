//! What is left of processes and commands when those who asked for them have gone: nothing, in the end.

use super::*;

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
