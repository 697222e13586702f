//! The host's end of hyperstart's control channel (docs/protocol/hyperstart.md): vectors, the dialogue with
//! a guest made of the same page, and what no guest says.

mod guest;
mod interpreter;

use std::time::Duration;

use vspc_core::hyperstart::{
    Api, Code, Command, Control, ControlEvent, KILL, MOST_ASKED, MOST_UNDER_WAY, Process, ProcessName,
    Ticket, TooMany, WhyDown,
};
use vspc_core::time::Instant;

use guest::V1Guest;

const NOW: Instant = Instant::from_micros(5);

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// All that may be sent now.
fn sent(control: &mut Control) -> Vec<u8> {
    let mut all = Vec::new();
    while control.transmit_with(|bytes| {
        all.extend_from_slice(bytes);
        bytes.len()
    }) > 0
    {}
    all
}

fn events(control: &mut Control) -> Vec<ControlEvent> {
    std::iter::from_fn(|| control.poll_event()).collect()
}

/// Lets both say what they have to say.
fn pass(control: &mut Control, guest: &mut V1Guest) {
    loop {
        let (down, up) = (sent(control), std::mem::take(&mut guest.says));
        if down.is_empty() && up.is_empty() {
            return;
        }
        guest.handle_control(&down);
        control.handle_received(&up, NOW);
    }
}

fn up() -> (Control, V1Guest, Api) {
    let (mut control, mut guest) = (Control::default(), V1Guest::new());
    control.handle_opened(NOW);
    pass(&mut control, &mut guest);
    let api = control.api().unwrap();
    assert_eq!(events(&mut control), [ControlEvent::Up(api)]);
    (control, guest, api)
}

fn exec(id: &str, stdio: u64, api: Api) -> Command {
    let args = vec!["ls".to_owned()];
    let process = Process { id: id.into(), args, stdio, stderr: stdio + 1, ..Process::default() };
    Command::exec("hyperstart", &process, api)
}

fn done(ticket: Ticket) -> ControlEvent {
    ControlEvent::Answered { ticket, is_done: true, words: String::new() }
}

#[test]
fn vectors() {
    // hyperstart.md §7.
    let mut control = Control::default();
    control.handle_opened(NOW);
    assert_eq!(sent(&mut control), bytes("00000000 00000008"));
    control.handle_received(&bytes("0000000e 0000000c 00000008 00000009 0000000c 00001094"), NOW);
    let api = control.api().unwrap();
    assert_eq!((api.number(), events(&mut control)), (4244, vec![ControlEvent::Up(api)]));
    let ticket = control.ask(Command::new(Code::PING, Vec::new())).unwrap();
    assert_eq!(sent(&mut control), bytes("0000000c 00000008"));
    control.handle_received(&bytes("0000000e 0000000c 00000008 00000009 00000008"), NOW);
    assert_eq!(events(&mut control), [done(ticket)]);
    let mut told = bytes("00000017 00000047");
    told.extend_from_slice(br#"{"container":"c1","process":"p1","event":"finished","status":7}"#);
    control.handle_received(&told, NOW);
    let finished = events(&mut control);
    assert!(
        matches!(&finished[..], [ControlEvent::Finished(finished)]
            if finished.status == 7 && &*finished.name.container == "c1" && &*finished.name.process == "p1"),
        "{finished:?}"
    );
    assert_eq!(control.counters().malformed, 0);
}

#[test]
fn commands_are_answered_in_their_order_however_their_answers_are_cut() {
    for cut in [1, 2, 7, 13, usize::MAX] {
        let (mut control, mut guest, api) = up();
        let tickets = [1, 3, 0, 5].map(|stdio| control.ask(exec("p", stdio, api)).unwrap());
        for _ in 0..20 {
            guest.handle_control(&sent(&mut control));
            for piece in std::mem::take(&mut guest.says).chunks(cut) {
                control.handle_received(piece, NOW);
            }
        }
        let answers = events(&mut control);
        let done: Vec<_> = answers
            .iter()
            .map(|event| match event {
                ControlEvent::Answered { ticket, is_done, .. } => (*ticket, *is_done),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected: Vec<_> = tickets.into_iter().zip([true, true, false, true]).collect();
        assert_eq!(done, expected, "{cut}");
        assert_eq!(guest.running.len(), 3);
    }
}

#[test]
fn no_more_than_512_bytes_are_under_way() {
    let (mut control, mut guest, _) = up();
    guest.acks = false;
    let pod = format!("{{\"hostname\":\"{}\"}}", "x".repeat(2000));
    control.ask(Command::new(Code::STARTPOD, pod.into())).unwrap();
    let (mut all, mut read) = (sent(&mut control).len(), 0);
    assert_eq!(all, MOST_UNDER_WAY);
    for n in [500usize, 12, 1, 511, 300, 212, 512].into_iter().cycle() {
        assert!(!control.has_output());
        guest.say(14, &(n as u32).to_be_bytes());
        control.handle_received(&std::mem::take(&mut guest.says), NOW);
        let more = sent(&mut control).len();
        (read, all) = (read + n, all + more);
        if more < n {
            break;
        }
        assert_eq!(all - read, MOST_UNDER_WAY);
    }
    assert_eq!(all, 2000 + 16 + 7);
}

#[test]
fn a_guest_that_begins_late_or_anew_is_asked_again_and_answers_of_the_one_before_count_no_more() {
    // Called before it has begun, on a line that keeps what it was sent.
    let (mut control, mut guest) = (Control::default(), V1Guest::new());
    control.handle_opened(NOW);
    let call = sent(&mut control);
    guest.boot();
    let ready = std::mem::take(&mut guest.says);
    control.handle_received(&ready, NOW);
    assert!(sent(&mut control).is_empty(), "what was asked may wait for it");
    guest.handle_control(&call);
    pass(&mut control, &mut guest);
    assert!(matches!(events(&mut control)[..], [ControlEvent::Up(_)]));

    // On a line that keeps nothing it is asked again a second later.
    let (mut control, mut guest) = (Control::default(), V1Guest::new());
    control.handle_opened(NOW);
    sent(&mut control);
    guest.boot();
    let ready = std::mem::take(&mut guest.says);
    control.handle_received(&ready, NOW);
    let due = control.poll_timeout().unwrap();
    control.handle_timeout(due);
    assert!(control.poll_timeout().is_some_and(|seldom| seldom > due + Duration::from_secs(10)));
    pass(&mut control, &mut guest);
    assert!(matches!(events(&mut control)[..], [ControlEvent::Up(_)]));

    // It begins anew: what was asked is nobody's.
    let api = control.api().unwrap();
    control.ask(exec("p", 1, api)).unwrap();
    sent(&mut control);
    guest.boot();
    pass(&mut control, &mut guest);
    let all = events(&mut control);
    assert!(matches!(all[..], [ControlEvent::Down(WhyDown::Restarted), ControlEvent::Up(_)]), "{all:?}");
    let ticket = control.ask(exec("p", 1, api)).unwrap();
    pass(&mut control, &mut guest);
    assert_eq!(events(&mut control), [done(ticket)]);
}

#[test]
fn the_answer_to_a_call_that_was_repeated_is_no_commands() {
    let (mut control, mut guest) = (Control::default(), V1Guest::new());
    control.handle_opened(NOW);
    let call = sent(&mut control);
    control.handle_received(&bytes("00000008 00000008"), NOW);
    control.handle_timeout(control.poll_timeout().unwrap());
    let again = sent(&mut control);
    guest.handle_control(&call);
    control.handle_received(&std::mem::take(&mut guest.says), NOW);
    let api = control.api().unwrap();
    let ticket = control.ask(exec("p", 1, api)).unwrap();
    guest.handle_control(&again);
    pass(&mut control, &mut guest);
    assert_eq!(events(&mut control), [ControlEvent::Up(api), done(ticket)]);
}

#[test]
fn nothing_goes_behind_the_end_of_a_pod_before_that_is_answered() {
    let (mut control, mut guest, api) = up();
    let ends = control.ask(Command::new(Code::DESTROYPOD, Vec::new())).unwrap();
    let behind = control.ask(exec("p", 1, api)).unwrap();
    guest.is_stuck = true;
    pass(&mut control, &mut guest);
    assert_eq!(guest.commands.len(), 1);
    guest.is_stuck = false;
    guest.say(9, b"");
    pass(&mut control, &mut guest);
    assert_eq!(events(&mut control), [done(ends), done(behind)]);
}

#[test]
fn signals_go_behind_the_end_of_a_pod_and_are_answered_before_it() {
    let (mut control, mut guest, api) = up();
    let ends = control.ask(Command::new(Code::DESTROYPOD, Vec::new())).unwrap();
    let behind = control.ask(exec("p", 1, api)).unwrap();
    let again = control.ask(Command::new(Code::DESTROYPOD, Vec::new())).unwrap();
    let last = control.ask(exec("p", 3, api)).unwrap();
    let name = ProcessName { container: "web".into(), process: "init".into() };
    let kill = control.ask(Command::signal(&name, KILL, true, api).unwrap()).unwrap();
    guest.is_stuck = true;
    pass(&mut control, &mut guest);
    let codes = |guest: &V1Guest| guest.commands.iter().map(|(code, _)| *code).collect::<Vec<_>>();
    assert_eq!(codes(&guest), [4, 24]);
    for expected in [&[kill][..], &[ends], &[behind], &[again], &[last]] {
        guest.say(9, b"");
        pass(&mut control, &mut guest);
        assert_eq!(events(&mut control), expected.iter().map(|&ticket| done(ticket)).collect::<Vec<_>>());
    }
    assert_eq!(codes(&guest), [4, 24, 6, 4, 6]);
}

#[test]
fn a_command_that_was_begun_before_what_was_no_message_is_ended_before_the_guest_is_called() {
    let (mut control, mut guest, api) = up();
    let pod = format!("{{\"hostname\":\"{}\"}}", "x".repeat(2000));
    control.ask(Command::new(Code::STARTPOD, pod.clone().into())).unwrap();
    control.ask(exec("never", 1, api)).unwrap();
    guest.handle_control(&sent(&mut control));
    guest.says.clear();
    control.handle_received(&bytes("00000009 00000007"), NOW);
    assert_eq!(events(&mut control), [ControlEvent::Down(WhyDown::NoMessage)]);
    control.handle_timeout(control.poll_timeout().unwrap());
    pass(&mut control, &mut guest);
    assert_eq!(events(&mut control), [ControlEvent::Up(api)]);
    assert_eq!(guest.commands, [(1, pod.clone())]);
    let ticket = control.ask(exec("p", 1, api)).unwrap();
    pass(&mut control, &mut guest);
    assert_eq!(events(&mut control), [done(ticket)]);
    // One that has begun anew has not been sent the beginning.
    control.ask(Command::new(Code::STARTPOD, pod.into())).unwrap();
    sent(&mut control);
    control.handle_received(&bytes("00000009 00000007"), NOW);
    control.handle_timeout(control.poll_timeout().unwrap());
    guest.boot();
    control.handle_received(&std::mem::take(&mut guest.says), NOW);
    pass(&mut control, &mut guest);
    assert_eq!(events(&mut control), [ControlEvent::Down(WhyDown::NoMessage), ControlEvent::Up(api)]);
    assert!(guest.commands.is_empty());
}

#[test]
fn a_guest_that_does_not_answer_is_called_again_now_and_then() {
    let (mut control, mut guest) = (Control::default(), V1Guest::new());
    control.handle_opened(NOW);
    for _ in 0..3 {
        // It is lost.
        assert_eq!(sent(&mut control), bytes("00000000 00000008"));
        let due = control.poll_timeout().unwrap();
        assert!(due > NOW + Duration::from_secs(10));
        control.handle_timeout(due);
    }
    pass(&mut control, &mut guest);
    assert!(matches!(events(&mut control)[..], [ControlEvent::Up(_)]));
}

#[test]
fn another_version_is_refused_and_what_is_no_message_ends_it_for_a_second() {
    let (mut control, mut guest) = (Control::default(), V1Guest::new());
    guest.api = 4241;
    control.handle_opened(NOW);
    pass(&mut control, &mut guest);
    assert_eq!(events(&mut control), [ControlEvent::Down(WhyDown::Version(4241))]);
    assert!(control.ask(Command::new(Code::PING, Vec::new())).is_err());

    let (mut control, mut guest, api) = up();
    control.ask(exec("p", 1, api)).unwrap();
    control.handle_received(&bytes("00000009 00000007 00000009 00000008"), NOW);
    assert_eq!(events(&mut control), [ControlEvent::Down(WhyDown::NoMessage)]);
    assert!(sent(&mut control).is_empty() && control.api().is_none());
    control.handle_timeout(control.poll_timeout().unwrap());
    pass(&mut control, &mut guest);
    assert_eq!(events(&mut control), [ControlEvent::Up(api)]);
    // The line goes: nothing is left of it.
    control.handle_closed();
    assert_eq!(events(&mut control), [ControlEvent::Down(WhyDown::Closed)]);
    control.handle_opened(NOW);
    assert_eq!(sent(&mut control), bytes("00000000 00000008"));
}

#[test]
fn a_guest_that_never_answers_is_asked_no_more_than_may_wait() {
    let (mut control, mut guest, api) = up();
    guest.is_stuck = true;
    let asked = (0..2 * MOST_ASKED).take_while(|_| control.ask(exec("p", 1, api)).is_ok()).count();
    assert_eq!(asked, MOST_ASKED);
    let (mut control, ..) = up();
    let large = || Command::new(Code::STARTPOD, vec![0; 100 << 10]);
    assert!(control.ask(large()).is_ok() && control.ask(large()).is_ok());
    assert_eq!(control.ask(large()), Err(TooMany));
    // Answers that nobody has asked for are counted.
    let (mut control, mut guest, _) = up();
    guest.say(9, b"");
    guest.say(10, b"no such container\0");
    guest.say(23, b"{}");
    guest.say(4711, b"");
    pass(&mut control, &mut guest);
    assert_eq!((events(&mut control).len(), control.counters().malformed), (0, 4));
}
