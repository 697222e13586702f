//! A connection that loses nothing: what is freed when, who goes first, how much may be written, and a
//! thousand consoles on one of them.

use std::time::Duration;

use vspc_core::mux::wire::Word;
use vspc_core::mux::{
    Carrier, CloseReason, Config, ConfigError, Event, Priority, Received, Role, Session, Start, StreamId,
    Violation,
};

use crate::line::{
    START, data, default_pair, events, frame, frames, guest_hello, host_against, pair, read_all, settle,
    take, take_all,
};

fn reliable(role: Role) -> Config {
    let start = Start::S2Only { within: Duration::from_secs(10) };
    Config { carrier: Carrier::Reliable, start, ..Config::new(role) }
}

fn reliable_pair() -> (Session, Session) {
    pair(reliable(Role::Host), reliable(Role::Guest))
}

#[test]
fn what_was_handed_over_is_freed_at_once_and_acked_all_the_same() {
    let (mut host, mut guest) = reliable_pair();
    let id = host.open().unwrap();
    let empty = host.memory();
    host.write(id, &[1; 65_536]).unwrap();
    let line = take_all(&mut host);
    assert!(host.memory() < empty + 300_000, "spare segments and a plan");
    host.handle_timeout(START + Duration::from_secs(2));
    assert!(host.memory() <= empty, "{} bytes of what TCP has taken", host.memory());
    // The window is used up all the same.
    assert_eq!((host.credit(id), host.write(id, b"more")), (0, Ok(4)));
    assert_eq!(take_all(&mut host), b"");
    guest.handle_received(&line, START);
    assert_eq!(read_all(&mut guest, id).len(), 65_536);
    host.handle_received(&take_all(&mut guest), START);
    assert_eq!(frames(&take_all(&mut host)), [(id, 4, b"more".to_vec())]);
    // CLOSE comes behind the last ACK here, too: it says that everything was read.
    host.finish(id).unwrap();
    assert_eq!(take_all(&mut host), b"");
}

#[test]
fn what_a_stream_had_under_way_is_not_told_once_it_is_gone() {
    let (mut host, mut guest) = default_pair();
    let id = host.open().unwrap();
    host.write(id, &[1; 10_000]).unwrap();
    assert_eq!(host.under_way(id), Some(10_000));
    guest.handle_received(&take_all(&mut host), START);
    // The other side says nothing more, and gives the stream up: nobody has read a byte.
    guest.finish(id).unwrap();
    host.handle_received(&take_all(&mut guest), START);
    events(&mut host);
    assert_eq!((host.received(id), host.under_way(id)), (Ok(Received::End), Some(10_000)));
    guest.reset(id).unwrap();
    host.handle_received(&take_all(&mut guest), START);
    assert_eq!(host.under_way(id), None, "the end was not polled yet");
}

#[test]
fn one_side_that_is_not_sure_makes_it_a_line() {
    let line = |role| Config { start: Start::Negotiate, ..Config::new(role) };
    for (host, guest) in
        [(reliable(Role::Host), line(Role::Guest)), (line(Role::Host), reliable(Role::Guest))]
    {
        let (mut host, mut guest) = pair(host, guest);
        let id = host.open().unwrap();
        host.write(id, &[1; 10_000]).unwrap();
        let lost = take_all(&mut host);
        assert_eq!(frames(&lost).len(), 3);
        host.handle_received(&frame(id.0, Word::Request.to_u32(), b""), START);
        assert_eq!(frames(&take_all(&mut host))[1].2.len(), 4096, "it was kept");
        assert_eq!(guest.terms(), host.terms());
        let _ = take_all(&mut guest);
    }
}

#[test]
fn nothing_is_asked_for_again_and_a_second_hello_is_a_violation() {
    let opening = || {
        let mut opening = guest_hello(0x0f);
        opening.hello.window = 65_536;
        opening
    };
    for (word, violation) in [(Word::Request, Violation::Repetition), (Word::Rewind, Violation::Repetition)] {
        let mut host = host_against(reliable(Role::Host), opening());
        let id = host.open().unwrap();
        host.write(id, b"x").unwrap();
        take_all(&mut host);
        host.handle_received(&frame(id.0, word.to_u32(), b""), START);
        let reset = Event::Reset(id, vspc_core::mux::ResetReason::Violation(violation));
        assert_eq!(events(&mut host), [reset]);
    }
    let mut host = host_against(reliable(Role::Host), opening());
    host.handle_received(&opening().encode(), START);
    let closed = CloseReason::Violation(Violation::SecondHello);
    assert_eq!((events(&mut host), host.is_closed()), (vec![Event::Closed(closed)], false));
    take_all(&mut host);
    assert!(host.is_closed(), "with its end said");
}

#[test]
fn a_window_is_a_promise() {
    let mut config = reliable(Role::Host);
    config.receive_buffer = config.window - 1;
    assert_eq!(Session::new(config, START).unwrap_err(), ConfigError::Promise);
    let mut host = host_against(reliable(Role::Host), guest_hello(0x0f));
    let guests = StreamId(StreamId::GUEST_BIT | 1);
    for _ in 0..16 {
        host.handle_received(&data(guests.0, &[0; 4096]), START);
    }
    assert_eq!(host.received_len(guests), 65_536);
    host.handle_received(&data(guests.0, b"x"), START);
    let reset = vspc_core::mux::ResetReason::Violation(Violation::BeyondWindow);
    assert!(events(&mut host).contains(&Event::Reset(guests, reset)));
}

// Who goes first.

#[test]
fn priorities_go_before_turns() {
    let (mut host, _guest) = default_pair();
    let ids: Vec<_> = (0..6).map(|_| host.open().unwrap()).collect();
    for id in &ids {
        host.write(*id, &[1; 9000]).unwrap();
    }
    for (id, priority) in [(1, Priority::Low), (2, Priority::High), (4, Priority::High), (5, Priority::Low)] {
        host.set_priority(ids[id], priority).unwrap();
    }
    for runs in [2, 64] {
        // The same however much is asked for at a time; and a plan that was offered binds nobody.
        let mut slots = vec![std::io::IoSlice::new(&[]); runs];
        host.transmit(&mut slots);
    }
    let order: Vec<u64> = frames(&take(&mut host, usize::MAX, 5, START)).iter().map(|f| f.0.0).collect();
    assert_eq!(order, [3, 5, 3, 5, 3, 5, 1, 4, 1, 4, 1, 4, 2, 6, 2, 6, 2, 6]);
}

#[test]
fn a_short_answer_does_not_wait_for_a_frame_of_every_busy_stream() {
    let config = |role| Config { max_streams: 1001, ..reliable(role) };
    for priority in [Priority::Normal, Priority::High] {
        let (mut host, _guest) = pair(config(Role::Host), config(Role::Guest));
        let control = host.open().unwrap();
        host.set_priority(control, priority).unwrap();
        for _ in 0..1000 {
            let id = host.open().unwrap();
            host.write(id, &[1; 65_536]).unwrap();
        }
        let mut line = take(&mut host, 100, 16, START);
        for _ in 0..100 {
            host.write(control, b"{\"ok\":{}}\n").unwrap();
            line.extend(take(&mut host, 2 * 4108, 16, START));
        }
        let seen = frames(&whole(&line));
        let answers: Vec<usize> =
            seen.iter().enumerate().filter(|(_, f)| f.0 == control).map(|(at, _)| at).collect();
        assert_eq!(answers[0], 1, "behind the frame that had begun");
        if priority == Priority::High {
            // Each of them; without a priority it is so once in a round of the busy ones.
            assert_eq!(answers.len(), 100);
            assert!(answers.windows(2).all(|pair| pair[1] - pair[0] <= 3));
        }
    }
}

/// Of bytes that may end in a frame, those before it.
fn whole(bytes: &[u8]) -> Vec<u8> {
    let mut at = 0;
    while at + 12 <= bytes.len() {
        let word = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        let len = 12 + if word < 0x4000_0000 { word as usize } else { 0 };
        if at + len > bytes.len() {
            break;
        }
        at += len;
    }
    bytes[..at].to_vec()
}

#[test]
fn streams_that_say_little_do_not_keep_a_busy_one_from_its_turn() {
    let (mut host, mut guest) = default_pair();
    let busy = host.open().unwrap();
    let talkers: Vec<_> = (0..50).map(|_| host.open().unwrap()).collect();
    let mut sent = 0;
    for _ in 0..200 {
        host.write(busy, &[1; 65_536]).unwrap();
        for id in &talkers {
            host.write(*id, b"x").unwrap();
        }
        // As much as all of them and one frame.
        let line = take(&mut host, 50 * 13 + 4108, 4, START);
        guest.handle_received(&line, START);
        sent += read_all(&mut guest, busy).len();
        for id in &talkers {
            read_all(&mut guest, *id);
        }
        host.handle_received(&take_all(&mut guest), START);
    }
    assert!(sent > 150 * 4096, "{sent}");
}

// How much may be written.

#[test]
fn credit_is_what_could_leave_now_and_its_event_says_when_some_could() {
    let (mut host, mut guest) = reliable_pair();
    let id = host.open().unwrap();
    assert_eq!(host.credit(id), 65_536);
    host.want_credit(id).unwrap();
    assert_eq!(events(&mut host), [Event::Credit(id)], "there is some");
    host.write(id, &[1; 65_536]).unwrap();
    host.want_credit(id).unwrap();
    let line = take_all(&mut host);
    assert_eq!((host.credit(id), events(&mut host)), (0, vec![]));
    guest.handle_received(&line, START);
    events(&mut guest);
    assert_eq!(read_all(&mut guest, id).len(), 65_536);
    host.handle_received(&take_all(&mut guest), START);
    assert_eq!(events(&mut host), [Event::Credit(id)]);
    assert_eq!((host.credit(id), events(&mut host)), (65_536, vec![]));
    host.finish(id).unwrap();
    assert_eq!(host.credit(id), 0);
    // Nothing could leave before it is known who is there.
    let mut early = Session::new(reliable(Role::Host), START).unwrap();
    let id = early.open().unwrap();
    early.want_credit(id).unwrap();
    assert_eq!((early.credit(id), events(&mut early)), (0, vec![]));
    let mut guest = Session::new(reliable(Role::Guest), START).unwrap();
    settle(&mut early, &mut guest);
    assert!(events(&mut early).contains(&Event::Credit(id)));
}

#[test]
fn while_the_line_is_full_credit_is_a_frame_each() {
    let (mut host, _guest) = reliable_pair();
    let ids: Vec<_> = (0..200).map(|_| host.open().unwrap()).collect();
    for id in &ids {
        let n = host.credit(*id);
        assert_eq!(host.write(*id, &vec![1; n]), Ok(n));
        assert_eq!(host.credit(*id), 0);
        host.want_credit(*id).unwrap();
    }
    // As much as the line takes at a time, and a frame of each.
    assert!(host.memory() <= 131_072 + 200 * (4096 + 512), "{}", host.memory());
    // Whoever has sent its frame may write the next one.
    assert_eq!(events(&mut host), []);
    take(&mut host, 10 * 4108, 4, START);
    let said = events(&mut host);
    assert!(!said.is_empty() && said.iter().all(|event| matches!(event, Event::Credit(_))));
}

#[test]
fn all_streams_together_hold_what_the_session_may() {
    let mut config = Config::new(Role::Host);
    config.session_send_buffer = 100_000;
    let bound = config.memory_bound();
    let (mut host, mut guest) = pair(config, Config::new(Role::Guest));
    let ids: Vec<_> = (0..20).map(|_| host.open().unwrap()).collect();
    let taken: usize = ids.iter().map(|id| host.write(*id, &[1; 20_000]).unwrap()).sum();
    assert_eq!(taken, 100_000);
    assert_eq!((host.send_window(ids[7]), host.credit(ids[7])), (0, 0));
    host.want_credit(ids[19]).unwrap();
    assert!(host.memory() as u64 <= bound);
    settle(&mut host, &mut guest);
    assert_eq!(events(&mut host), []);
    // Once half of it is free again, whoever was cut short is told.
    for id in &ids {
        read_all(&mut guest, *id);
    }
    settle(&mut host, &mut guest);
    let mut said = events(&mut host);
    assert_eq!(said.iter().filter(|event| **event == Event::Credit(ids[19])).count(), 1);
    said.retain(|event| matches!(event, Event::Writable(_)));
    assert_eq!(said.len(), 15, "all but the five that were through");
    assert_eq!(host.write(ids[19], &[1; 20_000]), Ok(20_000));
    // A stream that goes gives its share back.
    for id in &ids {
        let _ = host.write(*id, &[1; 50_000]).unwrap();
    }
    assert_eq!(host.send_window(ids[3]), 0);
    host.reset(ids[19]).unwrap();
    assert!(host.send_window(ids[3]) >= 20_000);
}

// A thousand consoles on one connection.

/// An operator's server (guest) shows 1000 consoles; 999 of their readers never read.
#[test]
fn a_thousand_attaches_with_999_stalled_cost_little_and_delay_nobody() {
    let config = |role| Config { max_streams: 1001, ..reliable(role) };
    let (mut client, mut server) = pair(config(Role::Host), config(Role::Guest));
    let control = client.open_announced().unwrap();
    let consoles: Vec<_> = (0..1000).map(|_| client.open_announced().unwrap()).collect();
    settle(&mut client, &mut server);
    events(&mut server);
    server.set_priority(control, Priority::High).unwrap();
    let reading = consoles[500];
    let line = [b'#'; 65_536];
    let (mut shown, mut answered) = (0u64, 0);
    // What the socket has taken and the client has not read yet.
    let mut socket = std::collections::VecDeque::new();
    for round in 0..2000 {
        // Every console has more to say than anybody takes; the server keeps to the credit.
        for id in &consoles {
            let n = server.credit(*id).min(line.len());
            assert_eq!(server.write(*id, &line[..n]), Ok(n));
        }
        let held = server.memory() / 1000;
        assert!(held <= 8192, "{held} bytes for each in round {round}");
        if round % 10 == 0 {
            // A request was answered: it is behind the frame that has begun, and nothing else.
            server.write(control, b"{\"id\":1,\"ok\":{}}\n").unwrap();
            let next = take(&mut server, 2 * 4108, 16, START);
            let begun =
                next.windows(12).position(|w| w == vspc_core::mux::wire::header(control, 17)).unwrap();
            assert!(begun <= 4108, "{begun} bytes ahead of an answer");
            socket.extend(next);
        }
        socket.extend(take(&mut server, 65_536usize.saturating_sub(socket.len()), 64, START));
        let n = socket.len().min(client.receive_window());
        client.handle_received(&socket.drain(..n).collect::<Vec<u8>>(), START);
        shown += read_all(&mut client, reading).len() as u64;
        answered += read_all(&mut client, control).len();
        server.handle_received(&take_all(&mut client), START);
        events(&mut client);
        events(&mut server);
    }
    assert_eq!(answered, 200 * 17);
    // Once the others' windows are used up, the connection is the reader's.
    assert!(
        shown >= 30_000_000,
        "{shown} of at most 65 MB that went with the stalled ones, then 64 KiB a round"
    );
    assert_eq!(server.received(control), Ok(Received::Pending));
    for id in consoles.iter().filter(|id| **id != reading) {
        assert_eq!(client.received_len(*id), 65_536, "its window, and no more");
    }
}

/// The other side of the same: what the client holds of those that it does not read is what it announced.
#[test]
fn a_client_of_a_thousand_streams_holds_no_more_of_each_than_it_announced() {
    let config = |role| Config { max_streams: 1000, ..reliable(role) };
    let small = Config { window: 4096, receive_buffer: 4096, ..config(Role::Host) };
    let (mut client, mut server) = pair(small, config(Role::Guest));
    let consoles: Vec<_> = (0..1000).map(|_| client.open_announced().unwrap()).collect();
    settle(&mut client, &mut server);
    let reading = consoles[500];
    let mut shown = 0;
    for _ in 0..200 {
        for id in &consoles {
            let n = server.credit(*id);
            assert_eq!(server.write(*id, &vec![b'#'; n]), Ok(n));
        }
        settle(&mut client, &mut server);
        shown += read_all(&mut client, reading).len();
        settle(&mut client, &mut server);
    }
    assert!(shown >= 199 * 4096, "{shown}: a window each time");
    assert!(consoles.iter().all(|id| *id == reading || client.received_len(*id) == 4096));
    let held = client.memory() / 1000;
    assert!(held <= 8192, "{held} bytes for each");
}

#[test]
fn shrinking_gives_the_table_back_while_streams_are_open() {
    let mut config = Config::new(Role::Host);
    config.max_streams = 10_000;
    let (mut host, mut guest) = pair(config, Config { max_streams: 10_000, ..Config::new(Role::Guest) });
    let ids: Vec<_> = (0..10_000).map(|_| host.open().unwrap()).collect();
    for id in &ids {
        host.write(*id, &id.0.to_be_bytes()).unwrap();
    }
    let mut line = take(&mut host, 1_000_000, 64, START);
    // A frame has begun; the guest is in the middle of one.
    let cut = line.len() - 5;
    guest.handle_received(&line[..cut], START);
    for id in ids.iter().filter(|id| id.0 % 1000 != 0) {
        host.reset(*id).unwrap();
    }
    line.extend(take_all(&mut host));
    events(&mut host);
    for session in [&mut host, &mut guest] {
        events(session);
        let before = session.memory();
        session.shrink();
        assert!(session.memory() < before, "{before}");
    }
    guest.handle_received(&line[cut..], START);
    events(&mut guest);
    let before = guest.memory();
    assert!(before > 100_000, "{before}");
    guest.shrink();
    host.shrink();
    for session in [&host, &guest] {
        assert!(session.memory() < 20_000, "{}", session.memory());
        assert_eq!(session.stream_count(), 10);
    }
    for id in ids.iter().filter(|id| id.0 % 1000 == 0) {
        assert_eq!(read_all(&mut guest, *id), id.0.to_be_bytes());
        guest.write(*id, b"ok").unwrap();
        guest.finish(*id).unwrap();
        host.finish(*id).unwrap();
    }
    settle(&mut host, &mut guest);
    for id in ids.iter().filter(|id| id.0 % 1000 == 0) {
        assert_eq!(read_all(&mut host, *id), b"ok");
    }
    settle(&mut host, &mut guest);
    events(&mut host);
    events(&mut guest);
    assert_eq!((host.stream_count(), guest.stream_count()), (0, 0));
}
