//! Each command with its answer, as RFC 2217 has them.

use quickcheck::quickcheck;

use super::*;
use crate::telnet::{Decoder, Item};

/// A line, who sets it, and what was answered.
#[derive(Default)]
struct Rig {
    line: Line,
    session: Session,
}

impl Rig {
    /// What is answered to a command, without the frame.
    fn says(&mut self, body: &[u8]) -> (Vec<u8>, Option<Asked>) {
        let mut out = Vec::new();
        let asked = self.session.handle(body, &mut self.line, "vspc", &mut out).unwrap();
        (unframed(&out), asked)
    }

    fn answers(&mut self, body: &[u8]) -> Vec<u8> {
        let (answer, asked) = self.says(body);
        assert_eq!(asked, None, "{body:?}");
        answer
    }

    fn modem(&mut self, lines: u8) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.tell_modem(lines, &mut out);
        unframed(&out)
    }
}

/// The body of the one subnegotiation in `wire`, or nothing.
fn unframed(mut wire: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::new();
    let mut bodies = Vec::new();
    while let Some(item) = decoder.decode(&mut wire) {
        let Item::Subnegotiation(Opt::COM_PORT, body) = item else { panic!("{item:?}") };
        bodies.push(body.to_vec());
    }
    assert!(bodies.len() <= 1);
    bodies.pop().unwrap_or_default()
}

#[test]
fn what_was_asked_for_holds_and_is_confirmed() {
    let mut rig = Rig::default();
    for (command, answer) in [
        (&[1, 0, 0, 0x25, 0x80][..], &[101, 0, 0, 0x25, 0x80][..]),
        (&[2, 7], &[102, 7]),
        (&[3, 3], &[103, 3]),
        (&[4, 2], &[104, 2]),
        (&[10, 0x0f], &[110, 0x0f]),
        (&[11, 0xf0], &[111, 0xf0]),
    ] {
        assert_eq!(rig.answers(command), answer);
    }
    assert_eq!((rig.line.baud, rig.line.data, rig.line.parity, rig.line.stop), (9600, 7, 3, 2));
}

#[test]
fn a_query_and_a_value_that_is_unknown_change_nothing() {
    let mut rig = Rig::default();
    let before = rig.line;
    for (command, answer) in [
        (&[1, 0, 0, 0, 0][..], &[101, 0, 1, 0xc2, 0][..]),
        (&[2, 0], &[102, 8]),
        (&[2, 4], &[102, 8]),
        (&[2, 9], &[102, 8]),
        (&[3, 0], &[103, 1]),
        (&[3, 6], &[103, 1]),
        (&[4, 0], &[104, 1]),
        (&[4, 4], &[104, 1]),
        (&[5, 0], &[105, 1]),
        (&[5, 20], &[105, 1]),
    ] {
        assert_eq!(rig.answers(command), answer, "{command:?}");
    }
    assert_eq!(rig.line, before);
}

#[test]
fn every_control_is_answered_with_what_holds_then() {
    let mut rig = Rig::default();
    for (set, answer) in [
        (2, 2),
        (13, 15),
        (17, 17),
        (0, 17),
        (13, 15),
        (18, 18),
        (13, 18),
        (3, 3),
        (13, 16),
        (1, 1),
        (13, 14),
        (19, 19),
        (7, 8),
        (9, 9),
        (7, 9),
        (8, 8),
        (10, 11),
        (12, 12),
        (10, 12),
        (11, 11),
        (4, 6),
        (6, 6),
    ] {
        assert_eq!(rig.answers(&[5, set]), [105, answer], "{set}");
    }
}

#[test]
fn a_break_is_one_until_it_is_over() {
    let mut rig = Rig::default();
    assert_eq!(rig.says(&[5, 5]), (vec![105, 5], Some(Asked::Break)));
    assert_eq!(rig.says(&[5, 5]), (vec![105, 5], None));
    assert_eq!(rig.says(&[5, 4]), (vec![105, 5], None));
    assert_eq!(rig.says(&[5, 6]), (vec![105, 6], None));
    assert_eq!(rig.says(&[5, 5]), (vec![105, 5], Some(Asked::Break)));
}

#[test]
fn a_rate_of_one_byte_is_answered_with_one_where_there_is_one() {
    let mut rig = Rig::default();
    assert_eq!(rig.answers(&[1, 8]), [101, 8]);
    assert_eq!(rig.line.baud, 9600);
    assert_eq!(rig.answers(&[1, 0]), [101, 8]);
    assert_eq!(rig.answers(&[1, 9]), [101, 8], "there is none of this code");
    assert_eq!(rig.answers(&[1, 0, 0, 0, 50]), [101, 0, 0, 0, 50]);
    assert_eq!(rig.answers(&[1, 0]), [101, 0, 0, 0, 50]);
}

#[test]
fn what_is_no_setting_is_handed_on() {
    let mut rig = Rig::default();
    let purge = |received, unsent| Some(Asked::Purge { received, unsent });
    assert_eq!(rig.says(&[12, 1]), (vec![112, 1], purge(true, false)));
    assert_eq!(rig.says(&[12, 2]), (vec![112, 2], purge(false, true)));
    assert_eq!(rig.says(&[12, 3]), (vec![112, 3], purge(true, true)));
    assert!(!rig.session.is_suspended());
    assert_eq!(rig.says(&[8]), (vec![], Some(Asked::Suspend)));
    assert!(rig.session.is_suspended());
    assert_eq!(rig.says(&[9]), (vec![], Some(Asked::Resume)));
    assert!(!rig.session.is_suspended());
}

#[test]
fn who_asks_for_a_signature_gets_it_and_who_tells_one_gets_none() {
    let mut rig = Rig::default();
    assert_eq!(rig.answers(&[0]), b"\x64vspc");
    assert_eq!(rig.answers(b"\x00pyserial"), b"");
}

#[test]
fn the_modem_is_told_of_once_with_what_has_changed_and_what_the_mask_leaves() {
    let mut rig = Rig::default();
    assert_eq!(rig.modem(0xb0), [107, 0xb0]);
    assert_eq!(rig.modem(0xb0), b"");
    assert_eq!(rig.modem(0x30), [107, 0x38], "the carrier is lost");
    rig.answers(&[11, 0x80]);
    assert_eq!(rig.modem(0xb0), [107, 0x80]);
    assert_eq!(rig.modem(0x30), b"", "nothing is left of it");
    rig.answers(&[11, 0]);
    assert_eq!(rig.modem(0xb0), b"");
}

#[test]
fn what_is_no_command_changes_nothing_and_has_no_answer() {
    let mut rig = Rig::default();
    for body in [
        &[][..],
        &[1],
        &[1, 0, 1],
        &[1, 0, 0, 0, 1, 0],
        &[2],
        &[2, 8, 8],
        &[5],
        &[6, 1],
        &[7, 1],
        &[8, 0],
        &[12, 0],
        &[12, 4],
        &[13],
        &[100],
        &[101, 0, 0, 0, 1],
        &[255],
    ] {
        let mut out = Vec::new();
        assert_eq!(rig.session.handle(body, &mut rig.line, "vspc", &mut out), Err(Malformed), "{body:?}");
        assert_eq!(out, b"");
    }
    assert_eq!((rig.line, rig.session), Default::default());
}

quickcheck! {
    fn whatever_is_said_the_line_has_settings_that_exist_and_answers_are_short(bodies: Vec<Vec<u8>>) -> bool {
        let mut rig = Rig::default();
        bodies.iter().all(|body| {
            let mut out = Vec::new();
            let _ = rig.session.handle(body, &mut rig.line, "vspc", &mut out);
            let Line { data, parity, stop, flow_out, flow_in, .. } = rig.line;
            let is_one = (5..=8).contains(&data) && (1..=5).contains(&parity) && (1..=3).contains(&stop);
            let has_flow = matches!(flow_out, 1..=3 | 17 | 19) && matches!(flow_in, 14..=16 | 18);
            is_one && has_flow && rig.line.baud > 0 && out.len() <= 16
        })
    }
}
