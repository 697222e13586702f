//! Fan-out alone: keys are letters, sockets are numbers of bytes.

use super::*;
use quickcheck::quickcheck;

const LIMITS: Limits = Limits { keep: 16 << 10, lag: 64 << 10 };

struct Rig {
    fanout: Fanout<char>,
    pool: Pool,
    lost: Vec<char>,
}

impl Rig {
    fn new() -> Self {
        Self { fanout: Fanout::behind(0), pool: Pool::new(usize::MAX), lost: Vec::new() }
    }

    fn attach(&mut self, key: char, form: Form, skips: bool) -> Seat {
        self.fanout.attach(Spec { key, kind: Kind::Person, form, skips, scrollback: 0 }, 0)
    }

    fn print(&mut self, guest: &[u8]) {
        let wire = doubled(guest);
        self.fanout.print(&wire, wire.len() - guest.len(), &mut self.pool);
        self.fanout.trim(LIMITS, &mut self.pool, |key| self.lost.push(key));
        self.fanout.check_invariants();
    }

    /// What a reader is offered with `front` before its output; it takes the first `n` bytes.
    fn take(&mut self, seat: Seat, front: &[u8], n: usize) -> (Vec<u8>, Took) {
        let mut scratch = Vec::new();
        let mut runs = [IoSlice::new(&[]); 8];
        let (count, offer) = self.fanout.offer(seat, front, &mut scratch, &mut runs);
        assert!(runs[..count].iter().all(|run| !run.is_empty()), "an empty run is offered");
        let mut bytes: Vec<u8> = runs[..count].iter().flat_map(|run| run.iter().copied()).collect();
        bytes.truncate(n);
        let took = self.fanout.took(seat, offer, bytes.len());
        self.fanout.check_invariants();
        (bytes, took)
    }

    /// Everything a reader is shown.
    fn drain(&mut self, seat: Seat) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let (bytes, _) = self.take(seat, b"", usize::MAX);
            if bytes.is_empty() {
                return all;
            }
            all.extend(bytes);
        }
    }
}

fn doubled(guest: &[u8]) -> Vec<u8> {
    guest.iter().flat_map(|&byte| if byte == IAC { vec![IAC, IAC] } else { vec![byte] }).collect()
}

fn dense(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|&byte| if byte % 2 == 0 { IAC } else { byte }).collect()
}

#[test]
fn every_reader_is_shown_every_byte_in_its_form() {
    let mut rig = Rig::new();
    let (wire, guest) = (rig.attach('w', Form::Wire, true), rig.attach('g', Form::Guest, true));
    let (mut seen_wire, mut seen_guest) = (Vec::new(), Vec::new());
    let printed = dense(&(0..20_000).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    for piece in printed.chunks(997) {
        rig.print(piece);
        seen_wire.extend(rig.drain(wire));
        seen_guest.extend(rig.drain(guest));
    }
    assert_eq!(seen_wire, doubled(&printed));
    assert_eq!(seen_guest, printed);
}

#[test]
fn a_replay_that_ends_inside_a_pair_is_over_with_the_other_half() {
    let mut rig = Rig::new();
    rig.print(&[b'a', b'b', IAC]);
    let seat = rig.attach('w', Form::Wire, true);
    rig.fanout.replay(seat, 100, 0);
    let (shown, _) = rig.take(seat, b"", 3);
    assert_eq!(shown, [b'a', b'b', IAC]);
    assert_eq!(rig.take(seat, b"", usize::MAX).0, [IAC]);
    assert!(!rig.fanout.is_unserved(seat));
}

#[test]
fn half_a_pair_is_finished_before_anything_else_is_said() {
    let mut rig = Rig::new();
    let seat = rig.attach('w', Form::Wire, true);
    rig.print(&[b'a', IAC, b'b']);
    assert_eq!(rig.take(seat, b"", 2).0, [b'a', IAC]);
    let (bytes, took) = rig.take(seat, b"[line]", usize::MAX);
    assert_eq!(bytes, [&[IAC][..], b"[line]", b"b"].concat());
    assert_eq!((took.front, took.data), (6, 2));
}

#[test]
fn half_a_pair_survives_that_its_reader_is_overtaken_or_leaves() {
    let mut rig = Rig::new();
    let (stays, leaves) = (rig.attach('s', Form::Wire, true), rig.attach('l', Form::Wire, true));
    rig.print(&[b'a', IAC, b'b']);
    rig.take(stays, b"", 2);
    rig.take(leaves, b"", 2);
    rig.print(&[b'x'; 200_000]);
    assert!(rig.fanout.detach(leaves), "the other half is handed back");
    assert_eq!(rig.take(stays, b"", 1).0, [IAC]);
    assert_eq!(rig.take(stays, b"", 1).0, b"", "not before it has caught up");
    let missed = rig.fanout.catch_up(stays, LIMITS.keep).unwrap();
    assert_eq!(missed + rig.drain(stays).len() as u64, 200_001);
}

#[test]
fn half_a_pair_is_the_whole_byte_for_one_who_turns_out_to_be_raw() {
    let mut rig = Rig::new();
    let seat = rig.attach('u', Form::Undecided, true);
    rig.print(&[b'a', IAC, IAC, b'b']);
    assert_eq!(rig.take(seat, b"", 2).0, [b'a', IAC]);
    assert_eq!(rig.fanout.settle_form(seat, Form::Guest, false), Settled::Well);
    assert_eq!(rig.drain(seat), [IAC, b'b']);
}

#[test]
fn a_reader_is_overtaken_beyond_the_lag_limit_and_told_how_much_it_missed() {
    let mut rig = Rig::new();
    let (fast, slow) = (rig.attach('f', Form::Wire, true), rig.attach('s', Form::Wire, true));
    let mut printed = 0_u64;
    let mut seen = 0;
    while rig.fanout.reader(slow).unwrap().overtaken.is_none() {
        rig.print(&[b'.'; 1000]);
        printed += 1000;
        seen += rig.drain(fast).len() as u64;
        assert!(printed <= LIMITS.lag + 10_000);
    }
    assert_eq!(seen, printed, "a neighbour loses nothing");
    assert_eq!(rig.lost, []);
    let missed = rig.fanout.catch_up(slow, LIMITS.keep).unwrap();
    assert_eq!(missed + rig.drain(slow).len() as u64, printed);
    assert_eq!(rig.fanout.catch_up(slow, LIMITS.keep), None);
}

#[test]
fn one_who_cannot_live_with_a_gap_is_lost() {
    let mut rig = Rig::new();
    rig.attach('r', Form::Guest, false);
    let undecided = rig.attach('u', Form::Undecided, true);
    rig.print(&[b'x'; 100_000]);
    assert_eq!(rig.lost, ['r']);
    assert_eq!(rig.fanout.catch_up(undecided, 0), None, "not before it is known what it can be told");
    assert_eq!(rig.fanout.settle_form(undecided, Form::Guest, false), Settled::Lost);
}

#[test]
fn older_output_comes_before_new_and_nothing_twice() {
    let mut rig = Rig::new();
    rig.print(b"before\r\n");
    let seat = rig.attach('n', Form::Undecided, true);
    rig.print(b"now ");
    assert_eq!(rig.drain(seat), b"now ");
    rig.fanout.settle_form(seat, Form::Wire, true);
    rig.fanout.replay(seat, 100, 0);
    rig.print(b"then");
    assert_eq!(rig.take(seat, b"", 3).0, b"bef");
    assert_eq!(rig.drain(seat), b"ore\r\nthen");
}

#[test]
fn older_output_that_has_gone_meanwhile_goes_without_a_word() {
    let mut rig = Rig::new();
    rig.print(b"before\r\n");
    let seat = rig.attach('n', Form::Wire, true);
    rig.fanout.replay(seat, 100, 0);
    rig.print(&[b'x'; 60_000]);
    assert!(rig.fanout.overtake(&mut rig.pool, |_| panic!("nobody is lost")));
    rig.fanout.check_invariants();
    let reader = rig.fanout.reader(seat).unwrap();
    assert!(reader.jump.is_none());
    assert_eq!(reader.overtaken.map(Since::bytes), Some(8), "it had been shown nothing of what came after");
}

#[test]
fn nobody_waits_for_what_a_reader_is_shown_of_the_time_before_it_came() {
    let mut rig = Rig::new();
    rig.print(&[b'x'; 10_000]);
    let late = rig.attach('n', Form::Wire, true);
    rig.fanout.replay(late, 9000, 0);
    let spec = Spec { key: 'o', kind: Kind::Person, form: Form::Guest, skips: true, scrollback: 9000 };
    rig.fanout.attach(spec, 0);
    assert_eq!((rig.fanout.slowest_lag(), rig.fanout.lag(late)), (0, 9000));
    rig.print(b"now");
    assert_eq!(rig.fanout.slowest_lag(), 3);
}

#[test]
fn a_witness_counts_for_nobody_and_a_person_does() {
    let mut rig = Rig::new();
    let spec = Spec { key: 'l', kind: Kind::Witness, form: Form::Guest, skips: true, scrollback: 0 };
    let witness = rig.fanout.attach(spec, 0);
    rig.print(b"hello");
    assert_eq!((rig.fanout.persons(), rig.fanout.slowest_lag()), (0, 0));
    let person = rig.attach('p', Form::Wire, true);
    rig.print(b"you");
    assert_eq!((rig.fanout.persons(), rig.fanout.slowest_lag()), (1, 3));
    assert_eq!(rig.drain(witness), b"helloyou");
    assert_eq!(rig.drain(person), b"you");
}

#[test]
fn a_reader_inside_the_process_knows_its_place_in_guest_bytes_and_its_gap() {
    let mut rig = Rig::new();
    rig.print(&[IAC; 10]);
    let spec = Spec { key: 'l', kind: Kind::Witness, form: Form::Guest, skips: true, scrollback: 4 };
    let seat = rig.fanout.attach(spec, 0);
    assert_eq!(rig.fanout.position(seat), (8, 0), "two of ten: four bytes as they are kept");
    rig.take(seat, b"", 1);
    assert_eq!(rig.fanout.position(seat), (9, 0));
    rig.print(&[IAC; 50_000]);
    let missed = rig.fanout.catch_up(seat, LIMITS.keep).unwrap();
    assert_eq!(rig.fanout.position(seat), (9 + missed, missed));
    rig.fanout.told_of_gap(seat);
    assert_eq!(rig.drain(seat).len() as u64, 50_010 - 9 - missed);
    assert_eq!(rig.fanout.position(seat), (50_010, 0));
}

#[test]
fn seats_are_used_again_and_an_empty_house_owns_no_heap() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach('a', Form::Wire, true), rig.attach('b', Form::Wire, true));
    rig.fanout.detach(a);
    let c = rig.attach('c', Form::Wire, true);
    assert_eq!(rig.fanout.readers.len(), 2);
    rig.fanout.detach(c);
    rig.fanout.detach(b);
    rig.fanout.check_invariants();
    assert_eq!(rig.fanout.readers.capacity(), 0);
    assert_eq!(rig.take(b, b"", 10).0, b"", "a stale seat is nobody's");
}

#[test]
fn a_stale_seat_does_nothing_to_whoever_sits_there_now() {
    for is_last in [false, true] {
        let mut rig = Rig::new();
        rig.print(&[IAC; 40]);
        let stale = rig.attach('a', Form::Wire, true);
        let other = (!is_last).then(|| rig.attach('o', Form::Wire, true));
        rig.fanout.detach(stale);
        let seat = rig.attach('b', Form::Undecided, true);
        assert_ne!(seat, stale);
        rig.print(&[IAC]);
        assert_eq!(rig.take(stale, b"front", usize::MAX).0, b"", "nothing is offered");
        let (_, offer) = {
            let mut scratch = Vec::new();
            let mut runs = [IoSlice::new(&[]); 8];
            rig.fanout.offer(seat, b"", &mut scratch, &mut runs)
        };
        assert_eq!(rig.fanout.took(stale, offer, 1), Took::default());
        assert_eq!(rig.fanout.settle_form(stale, Form::Guest, false), Settled::Well);
        rig.fanout.replay(stale, 100, 0);
        rig.fanout.skip(stale);
        rig.fanout.told_of_gap(stale);
        assert_eq!(rig.fanout.catch_up(stale, 0), None);
        assert!(!rig.fanout.is_unserved(stale));
        assert_eq!(rig.fanout.position(stale), (0, 0));
        assert!(!rig.fanout.detach(stale), "it was given back before");
        assert_eq!(rig.take(seat, b"", 1).0, [IAC], "whoever sits there is where it was");
        assert_eq!(rig.drain(seat), [IAC]);
        assert_eq!(rig.fanout.persons(), 1 + usize::from(other.is_some()));
    }
}

quickcheck! {
    /// Whatever a socket takes at a time, and whatever is said in between, the bytes are the same.
    fn how_much_is_taken_at_a_time_changes_nothing(bytes: Vec<u8>, cuts: Vec<u8>, guest: bool) -> bool {
        let printed = dense(&bytes);
        let mut rig = Rig::new();
        let form = if guest { Form::Guest } else { Form::Wire };
        let seat = rig.attach('x', form, true);
        rig.print(&printed);
        let mut seen = Vec::new();
        for cut in cuts {
            let front: &[u8] = if cut % 3 == 0 { b"!!" } else { b"" };
            let half = usize::from(rig.fanout.reader(seat).unwrap().half);
            let (mut bytes, took) = rig.take(seat, front, usize::from(cut % 7));
            // What is said in between comes behind the half that may be due.
            let from = half.min(bytes.len());
            assert_eq!(bytes[from..from + took.front], front[..took.front]);
            bytes.drain(from..from + took.front);
            assert_eq!(bytes.len(), took.data);
            seen.extend(bytes);
        }
        seen.extend(rig.drain(seat));
        seen == if guest { printed } else { doubled(&printed) }
    }
}
