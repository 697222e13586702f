//! A host's end of a line that has text on it beside streams.

use vspc_core::mux::link::{LinkConfig, frame};
use vspc_core::mux::{Config, Event, Role, Session, Trunk};
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
        let mut host = Trunk::raw(config(Role::Host, 7), START).unwrap();
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

#[test]
fn nothing_is_due_and_nothing_goes_while_the_line_is_closed() {
    let mut host = Trunk::raw(config(Role::Host, 7), START).unwrap();
    assert_eq!(host.poll_timeout(), None);
    assert_eq!(host.transmit_with(START, |_| panic!("nothing is to be offered")), 0);
    host.handle_opened(START);
    assert!(host.transmit_with(START, |runs| runs.iter().map(|run| run.len()).sum()) > 0);
}

/// A line with SL: what is shown of these bytes, cut every so often.
fn shown(bytes: &[u8], cut: usize) -> Vec<u8> {
    let (mut text, now) = (Vec::new(), START);
    let mut host = Trunk::linked(config(Role::Host, 7), LinkConfig::new(3), now).unwrap();
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
