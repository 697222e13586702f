//! How guests and agents are met, lost and met again.

use super::*;

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
