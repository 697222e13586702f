//! A host's end of a line that has text on it beside streams.

use quickcheck::quickcheck;
use vspc_core::mux::link::{Link, LinkConfig, carry, frame};
use vspc_core::mux::{Config, Event, Priority, Role, Session, StreamId, Trunk};
use vspc_core::time::Instant;

const START: Instant = Instant::from_micros(1_000_000);

fn config(role: Role, nonce: u32) -> Config {
    Config { nonce, ..Config::new(role) }
}

struct Pair {
    host: Trunk,
    guest: Session,
    now: Instant,
    text: Vec<u8>,
}

impl Pair {
    fn new() -> Self {
        let mut host = Trunk::raw(Config::new(Role::Host), 7, [1, 2], START).unwrap();
        host.handle_opened(START);
        let guest = Session::new(config(Role::Guest, 9), START).unwrap();
        Self { host, guest, now: START, text: Vec::new() }
    }

    fn receive_from_guest(&mut self, bytes: &[u8]) {
        self.host.handle_received(bytes, self.now, &mut self.text);
    }

    fn guest_says(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        while self.guest.transmit_with(self.now, |runs| {
            runs.iter().for_each(|run| line.extend_from_slice(run));
            runs.iter().map(|run| run.len()).sum()
        }) > 0
        {}
        line
    }

    fn host_says(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        while self.host.transmit_with(self.now, |runs| {
            runs.iter().for_each(|run| line.extend_from_slice(run));
            runs.iter().map(|run| run.len()).sum()
        }) > 0
        {}
        line
    }

    fn pass(&mut self) {
        for _ in 0..6 {
            let line = self.host_says();
            self.guest.handle_received(&line, self.now);
            let line = self.guest_says();
            self.receive_from_guest(&line);
        }
    }

    fn later(&mut self, millis: u64) {
        self.now = self.now + std::time::Duration::from_millis(millis);
        self.host.handle_timeout(self.now, &mut self.text);
        self.guest.handle_timeout(self.now);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.host.poll_event()).collect()
    }
}

#[test]
fn text_before_between_and_after_sessions_is_shown_and_frames_are_not() {
    let boot = b"GRUB\0\0\0\0\0\0\0\0\0\0\0\x18loading MUX2 ...\r\n";
    for cut in 1..boot.len() {
        let mut pair = Pair::new();
        for piece in boot.chunks(cut) {
            pair.receive_from_guest(piece);
        }
        pair.pass();
        assert!(pair.host.is_up());
        let id = pair.guest.open().unwrap();
        pair.guest.write(id, b"not shown").unwrap();
        pair.pass();
        assert_eq!(pair.text, boot, "cut at {cut}");
    }
}

#[test]
fn a_guest_that_crashes_in_mid_frame_shows_its_oops_and_is_found_again() {
    let mut pair = Pair::new();
    pair.pass();
    let id = pair.guest.open().unwrap();
    pair.guest.write(id, &[b'x'; 1000]).unwrap();
    let line = pair.guest_says();
    pair.receive_from_guest(&line[..500]);
    let oops = "[   12.345678] Oops: 0002 [#1] SMP\r\nRIP: 0010:sysrq_handle_crash+0x16/0x20\r\n".repeat(12);
    pair.receive_from_guest(oops.as_bytes());
    let text = String::from_utf8_lossy(&pair.text).into_owned();
    assert!(text.contains(&oops), "{text}");
    let events = pair.events();
    assert!(events.iter().any(|event| matches!(event, Event::Closed(_))), "{events:?}");
    // It boots, and prints; then an agent starts.
    pair.text.clear();
    pair.guest = Session::new(config(Role::Guest, 11), pair.now).unwrap();
    pair.receive_from_guest(b"booting\r\n");
    pair.later(1000);
    pair.pass();
    assert!(pair.host.is_up());
    assert_eq!(pair.text, b"booting\r\n");
}

#[test]
fn how_a_line_is_cut_into_reads_changes_nothing_of_what_is_shown() {
    // Whole frames, a frame without payload, the beginning of one that never ends, and what comes then.
    let oops = b"[   12.3] Oops: 0002 [#1] SMP\r\nRIP: 0010:sysrq_handle_crash+0x16/0x20\r\n".repeat(3);
    let shown = |cut: usize, half: usize| {
        let mut pair = Pair::new();
        pair.pass();
        let id = pair.guest.open().unwrap();
        let mut line = Vec::new();
        for len in [1, 40, 13, 100] {
            pair.guest.write(id, &vec![b'x'; len]).unwrap();
            line.extend(pair.guest_says());
        }
        pair.guest.open_announced().unwrap();
        pair.guest.write(id, &[b'y'; 150]).unwrap();
        let last = pair.guest_says();
        line.extend(&last[..half.min(last.len())]);
        line.extend(&oops);
        for read in line.chunks(cut) {
            pair.receive_from_guest(read);
        }
        pair.text
    };
    for half in [3, 12, 20, 60, 174] {
        let whole = shown(usize::MAX, half);
        assert!(whole.ends_with(&oops), "{}", String::from_utf8_lossy(&whole));
        for cut in 1..200 {
            assert_eq!(shown(cut, half), whole, "reads of {cut}");
        }
    }
}

#[test]
fn a_frame_that_is_cut_and_followed_by_silence_is_shown_and_waited_for() {
    let mut pair = Pair::new();
    pair.pass();
    let id = pair.guest.open().unwrap();
    pair.guest.write(id, &[b'x'; 100]).unwrap();
    let line = pair.guest_says();
    pair.receive_from_guest(&line[..60]);
    pair.receive_from_guest(b"panic: at the end");
    assert!(pair.text.is_empty());
    pair.later(10_000);
    assert!(String::from_utf8_lossy(&pair.text).ends_with("panic: at the end"));
    // It was no panic: the rest comes, and the stream is whole.
    pair.receive_from_guest(&line[77..]);
    assert!(pair.host.is_up());
    assert_eq!(pair.host.session().received_len(id), 100);
}

#[test]
fn a_session_that_ends_is_followed_by_another_a_second_later() {
    let mut pair = Pair::new();
    pair.pass();
    pair.receive_from_guest(b"no frame at all");
    assert!(pair.events().iter().any(|event| matches!(event, Event::Closed(_))));
    assert_eq!(pair.text, b"no frame at all");
    pair.host_says();
    pair.later(500);
    assert!(pair.host_says().is_empty(), "it calls too early");
    pair.later(500);
    pair.guest = Session::new(config(Role::Guest, 10), pair.now).unwrap();
    pair.pass();
    assert!(pair.host.is_up());
}

/// What both ends are told, and what they read.
type Seen = (Vec<Event>, Vec<Event>, Vec<u8>);

impl Pair {
    /// Everything arrives; and is read, where `reads` says so.
    fn settle(&mut self, reads: bool) -> Seen {
        self.pass();
        let (of_host, of_guest) = (self.events(), std::iter::from_fn(|| self.guest.poll_event()).collect());
        let mut said = Vec::new();
        for number in (1..8).filter(|_| reads) {
            for id in [number, number | StreamId::GUEST_BIT].map(StreamId) {
                for end in [self.host.session(), &mut self.guest] {
                    let mut line = [0; 512];
                    said.push(id.0 as u8);
                    while let Ok(n @ 1..) = end.read(id, &mut line) {
                        said.extend_from_slice(&line[..n]);
                    }
                }
            }
        }
        self.pass();
        (of_host, of_guest, said)
    }

    /// Does one of many things at either end; what came of it.
    fn act(&mut self, at_host: bool, what: u8, n: u16) -> String {
        let end = if at_host { self.host.session() } else { &mut self.guest };
        let number = u64::from(what / 16 % 6 + 1);
        let id = StreamId(if n.is_multiple_of(2) { number } else { number | StreamId::GUEST_BIT });
        match what % 16 {
            0 | 1 => format!("{:?}", end.open()),
            2 => format!("{:?}", end.open_announced()),
            3 => format!("{:?}", end.finish(id)),
            4 => format!("{:?}", end.reset(id)),
            5 => format!("{:?}", end.stop_reading(id)),
            6 => format!("{:?}", end.set_priority(id, Priority::Low)),
            7 => format!("{:?}", end.want_credit(id)),
            8 if n.is_multiple_of(7) => {
                end.go_away();
                String::new()
            }
            _ => format!("{:?}", end.write(id, &vec![what; usize::from(n % 700)])),
        }
    }
}

quickcheck! {
    /// Two lines on which the same happens, at once and with pauses in which a host's session may rest.
    fn a_session_that_rests_goes_on_as_if_it_had_not(steps: Vec<(bool, u8, u16)>, reads: bool) -> bool {
        let (mut awake, mut resting) = (Pair::new(), Pair::new());
        assert_eq!(awake.settle(reads), resting.settle(reads));
        for (at_host, what, n) in steps {
            resting.later(2000);
            assert_eq!(awake.act(at_host, what, n), resting.act(at_host, what, n));
            assert_eq!(awake.settle(reads), resting.settle(reads));
            assert_eq!(awake.host.is_up(), resting.host.is_up());
        }
        resting.later(2000);
        awake.host.session().counters() == resting.host.session().counters()
            && awake.host.session().stream_count() == resting.host.session().stream_count()
    }
}

#[test]
fn a_session_that_is_silent_is_small_and_nothing_of_it_is_due() {
    let mut pair = Pair::new();
    pair.settle(true);
    for _ in 0..4 {
        let id = pair.guest.open().unwrap();
        pair.guest.write(id, b"what it is\n").unwrap();
    }
    pair.settle(true);
    let busy = pair.host.memory();
    pair.later(2000);
    assert!(pair.host.is_up());
    assert_eq!((pair.host.poll_timeout(), pair.host.poll_event()), (None, None));
    assert_eq!(pair.host.transmit_with(pair.now, |_| panic!("nothing is to be offered")), 0);
    assert!(pair.host.memory() <= 400 && busy > 1000, "{} of {busy}", pair.host.memory());
    // Who looks at it wakes it, and it rests again.
    assert_eq!(pair.host.session().stream_count(), 4);
    assert!(pair.host.memory() > 1000 && pair.host.poll_timeout().is_some());
    pair.later(0);
    assert!(pair.host.memory() <= 400, "{}", pair.host.memory());
    // A guest that comes in its place is found.
    pair.guest = Session::new(config(Role::Guest, 10), pair.now).unwrap();
    pair.host.handle_closed(pair.now, &mut pair.text);
    pair.host.handle_opened(pair.now);
    let (events, ..) = pair.settle(true);
    let resets = events.iter().filter(|event| matches!(event, Event::Reset(..))).count();
    assert!(resets == 4 && events.iter().any(|event| matches!(event, Event::Restarted(_))), "{events:?}");
}

#[test]
fn a_line_with_sl_that_is_silent_owns_none_of_what_it_needed() {
    let mut host = Trunk::linked(Config::new(Role::Host), 7, [1, 2], LinkConfig::new(3), START).unwrap();
    let mut guest = Session::new(config(Role::Guest, 9), START).unwrap();
    let mut link = Link::new(LinkConfig::new(5));
    let (mut now, mut text) = (START, Vec::new());
    host.handle_opened(now);
    link.open(now);
    let mut silent = Vec::new();
    for round in 0..3 {
        if round > 0 {
            let id = guest.open().unwrap();
            assert_eq!(guest.write(id, &vec![b'x'; 30_000 * round]), Ok(30_000 * round));
            assert_eq!(guest.finish(id), Ok(()));
        }
        for _ in 0..600 {
            now = now + std::time::Duration::from_millis(10);
            link.handle_timeout(now);
            host.handle_timeout(now, &mut text);
            while host.transmit_with(now, |runs| {
                runs.iter().for_each(|run| link.handle_received(run, now));
                runs.iter().map(|run| run.len()).sum()
            }) > 0
            {}
            carry(&mut guest, &mut link, now);
            while link.transmit_with(now, |frame| {
                host.handle_received(frame, now, &mut text);
                frame.len()
            }) > 0
            {
                carry(&mut guest, &mut link, now);
            }
            while let Some(event) = host.poll_event() {
                if let Event::Readable(id) = event {
                    while let Ok(1..) = host.session().read(id, &mut [0; 4096]) {}
                    let _ = host.session().finish(id);
                }
            }
            while guest.poll_event().is_some() {}
        }
        assert!(host.is_up() && text.is_empty());
        silent.push(host.memory());
    }
    assert_eq!((silent[1], silent[2]), (silent[0], silent[0]));
}

#[test]
fn a_session_of_which_something_is_not_done_does_not_rest() {
    let mut pair = Pair::new();
    pair.settle(true);
    let id = pair.guest.open().unwrap();
    pair.guest.write(id, b"nobody reads").unwrap();
    pair.settle(false);
    pair.later(2000);
    assert!(pair.host.memory() > 1000);
    assert_eq!(pair.host.session().received_len(id), 12);
    // Nor one in the middle of a frame.
    pair.settle(true);
    pair.guest.write(id, b"cut").unwrap();
    let line = pair.guest_says();
    pair.receive_from_guest(&line[..14]);
    pair.later(2000);
    assert!(pair.host.memory() > 1000);
    pair.receive_from_guest(&line[14..]);
    let (_, _, said) = pair.settle(true);
    assert!(said.windows(3).any(|run| run == b"cut"));
}

#[test]
fn nothing_is_due_and_nothing_goes_while_the_line_is_closed() {
    let mut host = Trunk::raw(Config::new(Role::Host), 7, [1, 2], START).unwrap();
    assert_eq!(host.poll_timeout(), None);
    assert_eq!(host.transmit_with(START, |_| panic!("nothing is to be offered")), 0);
    host.handle_opened(START);
    assert!(host.transmit_with(START, |runs| runs.iter().map(|run| run.len()).sum()) > 0);
}

/// A line with SL: what is shown of these bytes, cut every so often.
fn shown(bytes: &[u8], cut: usize) -> Vec<u8> {
    let (mut text, now) = (Vec::new(), START);
    let mut host = Trunk::linked(Config::new(Role::Host), 7, [1, 2], LinkConfig::new(3), now).unwrap();
    host.handle_opened(now);
    for piece in bytes.chunks(cut) {
        host.handle_received(piece, now, &mut text);
    }
    host.handle_timeout(now + std::time::Duration::from_secs(3), &mut text);
    text
}

fn sl_frame(payload: &[u8]) -> Vec<u8> {
    let header = frame::Header { kind: frame::FrameType::Data, has_ack: true, seq: 0, ack: 0, window: 16 };
    let mut out = vec![frame::FLAG];
    frame::encode(&header, payload, &frame::EscapeSet::serial(), &mut out);
    if out.last() != Some(&frame::FLAG) {
        out.push(frame::FLAG);
    }
    out
}

#[test]
fn text_between_frames_of_sl_is_shown_and_good_frames_are_not() {
    let frame = sl_frame(b"a ~ tilde \x7e and more");
    for cut in [1, 2, 3, 7, 1000] {
        for (bytes, expected) in [
            (b"login: ".to_vec(), b"login: ".to_vec()),
            (b"cd ~/src; echo ~ ~A~@@".to_vec(), b"cd ~/src; echo ~ ~A~@@".to_vec()),
            (frame.clone(), Vec::new()),
            (
                [&b"before"[..], &frame, &b"between"[..], &frame, &frame, b"after"].concat(),
                b"beforebetweenafter".to_vec(),
            ),
            ([&frame[..], b"$ cd ~"].concat(), b"$ cd ~".to_vec()),
        ] {
            assert_eq!(
                String::from_utf8_lossy(&shown(&bytes, cut)),
                String::from_utf8_lossy(&expected),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn the_oops_behind_half_a_frame_of_sl_is_shown() {
    let frame = sl_frame(&[b'x'; 200]);
    for len in [40, 4000] {
        let oops = "kernel BUG at mm/slub.c ~ ".repeat(len / 26 + 1);
        let bytes = [&frame[..100], oops.as_bytes()].concat();
        for cut in [1, 64, 5000] {
            let text = String::from_utf8_lossy(&shown(&bytes, cut)).into_owned();
            assert!(text.ends_with(&oops), "{text}");
        }
    }
}
