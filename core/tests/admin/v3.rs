//! vSPC.py's protocol: the captured dialogues of admin.md §4 and §6, and our two ends against each other.

use vspc_core::admin::lock::LockMode;
use vspc_core::admin::pickle::{EntryText, PickleError, Value, put_int, put_none, put_str};
use vspc_core::admin::v3::{REQUEST_LIMIT, V3Event, V3Refusal, V3Request, V3Server, put_refusal, seed};
use vspc_core::admin::v3_client::{V3Answer, V3Client, V3ClientError, V3Entry};

pub(crate) const VERSION: &[u8] = b"\x80\x04K\x03.";

pub(crate) fn pickled(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

fn text(text: &str) -> Vec<u8> {
    pickled(|out| put_str(text, out))
}

fn exception(text: &[u8]) -> Vec<u8> {
    let body = [&b"\x8c\x08builtins\x94\x8c\x09Exception\x94\x93\x94\x8c"[..], &[text.len() as u8], text];
    let body = [&body.concat()[..], b"\x94\x85\x94R\x94."].concat();
    [b"\x80\x04\x95", &(body.len() as u64).to_le_bytes()[..], &body].concat()
}

/// Gives `said` to a server in pieces of `size` bytes: what it makes of it, what it answers, what it leaves.
fn play(said: &[u8], size: usize) -> (V3Server, Vec<V3Event>, Vec<u8>, Vec<u8>) {
    let mut server = V3Server::new();
    let (mut events, mut answer, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for mut piece in said.chunks(size.max(1)) {
        if left.is_empty() {
            while let Some(event) = server.receive(&mut piece, &mut answer) {
                events.push(event);
            }
        }
        left.extend_from_slice(piece);
    }
    (server, events, answer, left)
}

fn request(name: Option<&str>, lock: Result<LockMode, &str>) -> V3Event {
    let lock = lock.map_err(ToOwned::to_owned);
    V3Event::Request(V3Request { name: name.map(ToOwned::to_owned), lock })
}

#[test]
fn a_list_is_what_was_captured() {
    let lock = b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x18free_for_all_or_readonly\x94.";
    let said = [VERSION, b"\x80\x04N.", lock].concat();
    for size in 1..=said.len() {
        let (mut server, events, mut answer, left) = play(&said, size);
        let asked = request(None, Ok(LockMode::FreeForAllOrReadonly));
        assert_eq!(events, [V3Event::Hello { version: 3 }, asked]);
        assert_eq!((&answer[..], left), (VERSION, vec![]));

        answer.clear();
        server.not_found(1, &mut answer);
        let uuid = "503123245678abcdef001122334455aa";
        let entry = EntryText { name: "vm-alpha", uuid, port: Some(25000) };
        assert!(server.entries(&mut [entry].into_iter(), usize::MAX, &mut answer));
        let captured = [
            &b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x0cvm_not_found\x94."[..],
            b"\x80\x04K\x01.",
            b"\x80\x04\x95\x4b\0\0\0\0\0\0\0}\x94(\x8c\x04name\x94\x8c\x08vm-alpha\x94\x8c\x04uuid\x94\x8c\x20",
            b"503123245678abcdef001122334455aa\x94\x8c\x04port\x94M\xa8au.",
        ];
        assert_eq!(answer, captured.concat());
        assert!(server.is_ended());
        let mut more = &b"anything"[..];
        assert_eq!(server.receive(&mut more, &mut answer), None);
        assert!(more.is_empty());
    }
}

#[test]
fn an_attach_is_what_was_captured_and_nothing_follows_the_seed_until_the_client_speaks() {
    let asked = [
        &b"\x80\x04\x95\x0c\0\0\0\0\0\0\0\x8c\x08vm-alpha\x94."[..],
        b"\x80\x04\x95\x09\0\0\0\0\0\0\0\x8c\x05write\x94.",
    ];
    let (mut server, events, mut answer, _) = play(&[VERSION, &asked.concat()].concat(), 7);
    let expected = request(Some("vm-alpha"), Ok(LockMode::Write));
    assert_eq!(events, [V3Event::Hello { version: 3 }, expected]);
    assert!(!server.waits_for_client() && !server.may_send());

    answer.clear();
    server.found(LockMode::Write, "tick 1\r\n", &mut answer);
    let captured = [
        &b"\x80\x04\x95\x0c\0\0\0\0\0\0\0\x8c\x08vm_found\x94."[..],
        b"\x80\x04\x95\x09\0\0\0\0\0\0\0\x8c\x05write\x94.",
        b"\x80\x04\x95\x0c\0\0\0\0\0\0\0\x8c\x08tick 1\r\n\x94.",
    ];
    assert_eq!(answer, captured.concat());
    assert!(server.is_seeded() && !server.may_send());
    assert_eq!(server.receive(&mut &[][..], &mut answer), None);
    assert!(server.is_seeded());

    let mut offers = &b"\xff\xfb\0\xff\xfb\x03"[..];
    assert_eq!(server.receive(&mut offers, &mut answer), Some(V3Event::Telnet));
    assert_eq!(server.receive(&mut offers, &mut answer), None);
    assert_eq!(offers.len(), 6, "they are telnet's");
    assert!(server.may_send());
    assert_eq!(answer, captured.concat());
}

#[test]
fn a_client_that_says_nothing_after_the_seed_is_served_after_a_while() {
    let (mut server, _, mut answer, _) = play(&[VERSION, &text("a"), &text("write")].concat(), 100);
    server.release();
    assert!(!server.may_send(), "nothing was answered yet");
    server.found(LockMode::Write, "", &mut answer);
    server.release();
    assert!(server.may_send());
}

#[test]
fn what_follows_the_request_stays_for_telnet() {
    let said = [VERSION, &text("a"), &text("write"), b"\xff\xfb\0hi"].concat();
    for size in 1..=said.len() {
        let (mut server, events, mut answer, left) = play(&said, size);
        assert_eq!(events.len(), 2);
        assert_eq!(left, b"\xff\xfb\0hi");
        server.found(LockMode::Write, "", &mut answer);
        assert_eq!(server.receive(&mut &left[..], &mut answer), Some(V3Event::Telnet));
    }
}

#[test]
fn versions_are_judged_as_vspc_py_judges_them() {
    let old = [VERSION, &exception(b"No common version")].concat();
    let odd = [VERSION, &exception(b"I don't understand")].concat();
    for (said, expected, answer) in [
        (&b"\x80\x04K\x04."[..], V3Event::Hello { version: 4 }, VERSION),
        (b"\x80\x04\x8c\x013.", V3Event::Hello { version: 3 }, VERSION),
        (b"I3\n.", V3Event::Hello { version: 3 }, VERSION),
        (b"K\x02.", V3Event::Refused(V3Refusal::OldVersion(2)), &old),
        (b"\x88.", V3Event::Refused(V3Refusal::OldVersion(1)), &old),
        (b"\x80\x04N.", V3Event::Refused(V3Refusal::NotAVersion(Value::None)), &odd),
        (
            b"cos\nsystem\n(Vid\ntR.",
            V3Event::Refused(V3Refusal::Pickle(PickleError::Executable("GLOBAL"))),
            &odd,
        ),
        (b"GET", V3Event::Refused(V3Refusal::Pickle(PickleError::Unsupported("BINFLOAT"))), &odd),
    ] {
        let (server, events, put, _) = play(said, 1);
        assert_eq!(events, [expected]);
        assert_eq!(put, answer, "{}", said.escape_ascii());
        assert_eq!(server.is_ended(), put != VERSION);
    }
    assert_eq!(pickled(put_refusal), odd);
}

#[test]
fn an_unknown_lock_is_told_apart_from_what_cannot_be_read() {
    for (lock, expected) in [
        (text("exclusive"), Ok(LockMode::Exclusive)),
        (text("free_for_all"), Ok(LockMode::FreeForAll)),
        (text("bogus"), Err("bogus")),
        // Ours, and not of this protocol.
        (text("readonly"), Err("readonly")),
        (pickled(|out| put_int(7, out)), Err("7")),
        (pickled(put_none), Err("None")),
    ] {
        let (mut server, events, mut answer, _) = play(&[VERSION, &text("a"), &lock].concat(), 3);
        assert_eq!(events[1], request(Some("a"), expected));
        answer.clear();
        server.lock_invalid(&mut answer);
        assert_eq!(answer, text("lock_invalid"));
        assert!(server.is_ended());
        server.lock_failed(&mut answer);
        assert_eq!(answer, text("lock_invalid"), "one answer is enough");
    }
    let (_, events, answer, _) = play(&[VERSION, b"K\x07."].concat(), 3);
    assert_eq!(events[1], V3Event::Refused(V3Refusal::NotAName(Value::Int(7))));
    assert_eq!(answer, VERSION, "no word more");
    let (server, events, ..) = play(&[VERSION, &text(&"x".repeat(REQUEST_LIMIT))].concat(), 1000);
    assert_eq!(events[1], V3Event::Refused(V3Refusal::Pickle(PickleError::TooLong)));
    assert_eq!(server.held(), 0);
}

#[test]
fn a_list_of_thousands_is_written_as_there_is_room_and_never_cut() {
    const COUNT: usize = 9000;
    let names: Vec<String> = (0..COUNT).map(|at| format!("web{at:05}")).collect();
    let entry = |at: usize| EntryText { name: &names[at], uuid: "u1", port: None };
    for there_are in [COUNT, COUNT + 5, COUNT - 5, 0] {
        let (mut server, ..) = play(&[VERSION, &pickled(put_none), &text("write")].concat(), 100);
        let (mut wire, mut answer) = (Vec::new(), Vec::new());
        server.not_found(COUNT, &mut answer);
        let mut at = 0;
        loop {
            let mut entries = (at..there_are.min(COUNT)).map(|index| {
                at = index + 1;
                entry(index)
            });
            let is_whole = server.entries(&mut entries, 4096, &mut answer);
            drop(entries);
            assert!(answer.len() < 4096 + 200);
            assert!(server.held() < 1000);
            wire.append(&mut answer);
            if is_whole {
                break;
            }
        }
        assert!(server.is_ended());

        let mut client = V3Client::list(&mut Vec::new());
        let mut answers = Vec::new();
        for mut piece in [VERSION, &wire].concat().chunks(1448) {
            while let Some(answer) = client.receive(&mut piece, &mut Vec::new()) {
                answers.push(answer.expect("an answer"));
            }
        }
        assert!(client.is_ended());
        assert_eq!(answers.remove(0), V3Answer::Count(COUNT as u64));
        assert_eq!(answers.len(), COUNT);
        let told =
            |at: usize| V3Answer::Entry(V3Entry { name: names[at].clone(), uuid: "u1".into(), port: None });
        if there_are > 0 {
            // Who has gone since is told by who is there.
            let last = there_are.min(COUNT) - 1;
            assert!(answers.iter().enumerate().all(|(at, answer)| *answer == told(at.min(last))));
        }
    }
}

#[test]
fn the_seed_is_the_last_characters() {
    assert_eq!(seed(b"one two", 3), "two");
    assert_eq!(seed(b"one two", 300), "one two");
    assert_eq!(seed("Büro öäü".as_bytes(), 3), "öäü");
    assert_eq!(seed("\u{1f600}".repeat(300).as_bytes(), 200), "\u{1f600}".repeat(200));
    assert_eq!(seed(b"a\0b\xffc", 3), "b\u{fffd}c");
    assert_eq!(seed(b"abc", 0), "");
    assert_eq!(seed(b"", 200), "");
    let tail = seed("é".repeat(100).as_bytes(), 10);
    assert_eq!(tail, "é".repeat(10));
}

#[test]
fn the_client_is_attached_and_leaves_telnet_its_bytes() {
    let mut said = Vec::new();
    let mut client = V3Client::attach("vm-alpha", LockMode::FreeForAllOrReadonly, &mut said);
    assert_eq!(said, VERSION);
    let answer = [
        VERSION,
        &text("vm_found"),
        &text("free_for_all_or_readonly"),
        &text("tick 1\r\n"),
        b"\xff\xfb\0tick 2",
    ];
    let mut got = Vec::new();
    let (mut left, mut attached) = (Vec::new(), false);
    for byte in answer.concat() {
        let mut input = &[byte][..];
        while let Some(answer) = client.receive(&mut input, &mut said) {
            got.push(answer.expect("an answer"));
        }
        assert!(!attached || input == [byte]);
        attached = client.is_attached();
        left.extend_from_slice(input);
    }
    let applied = Some(LockMode::FreeForAllOrReadonly);
    assert_eq!(got, [V3Answer::Attached { applied, seed: "tick 1\r\n".into() }]);
    assert_eq!(left, b"\xff\xfb\0tick 2");
    assert_eq!(said, [VERSION, &text("vm-alpha"), &text("free_for_all_or_readonly")].concat());
}

#[test]
fn the_client_takes_what_the_real_one_takes_and_reports_the_rest() {
    let answered = |parts: &[&[u8]]| {
        let mut client = V3Client::list(&mut Vec::new());
        let mut answers = Vec::new();
        for byte in parts.concat() {
            answers.extend(client.receive(&mut &[byte][..], &mut Vec::new()));
        }
        answers
    };
    let found = text("vm_found");
    let not_found = text("vm_not_found");
    let attached = |applied, seed: &str| vec![Ok(V3Answer::Attached { applied, seed: seed.into() })];
    let write = text("write");
    assert_eq!(answered(&[b"V3\n.", &found, &write, b"](Va\nVb\ne."]), attached(Some(LockMode::Write), "ab"));
    assert_eq!(answered(&[VERSION, &found, &text("bogus"), b"V\n."]), attached(None, ""));
    assert_eq!(answered(&[VERSION, &found, b"N.", b"V\n."]), attached(None, ""));
    assert_eq!(answered(&[VERSION, &text("lock_failed")]), [Ok(V3Answer::LockFailed)]);
    assert_eq!(answered(&[VERSION, &text("lock_invalid")]), [Ok(V3Answer::LockInvalid)]);
    assert_eq!(answered(&[VERSION, &not_found, b"K\0."]), [Ok(V3Answer::Count(0))]);
    let entry = V3Entry { name: "a".into(), uuid: "b".into(), port: None };
    assert_eq!(
        answered(&[VERSION, &not_found, b"K\x01.", b"}(Vname\nVa\nVuuid\nVb\nVextra\nK\x01u."]),
        [Ok(V3Answer::Count(1)), Ok(V3Answer::Entry(entry))]
    );
    let failed = |error| vec![Err(error)];
    let says = |text: &str| failed(V3ClientError::Peer(text.into()));
    assert_eq!(answered(&[&exception(b"I don't understand")]), says("I don't understand"));
    assert_eq!(answered(&[VERSION, &exception(b"No common version")]), says("No common version"));
    assert_eq!(answered(&[b"K\x02."]), failed(V3ClientError::Version(Value::Int(2))));
    assert_eq!(
        answered(&[VERSION, b"Vwhat\n."]),
        failed(V3ClientError::Unexpected(Value::Str("what".into())))
    );
    assert_eq!(answered(&[VERSION, &found, &write, b"N."]), failed(V3ClientError::Unexpected(Value::None)));
    assert_eq!(
        answered(&[VERSION, &not_found, b"J\xff\xff\xff\xff."]),
        failed(V3ClientError::Unexpected(Value::Int(-1)))
    );
    assert_eq!(
        answered(&[b"cos\nsystem\n."]),
        failed(V3ClientError::Pickle(PickleError::OutOfPlace("STOP")))
    );
}

#[test]
fn both_ends_understand_each_other_however_bytes_are_cut() {
    for size in 1..60 {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let mut client = V3Client::attach("web01", LockMode::Exclusive, &mut up);
        let mut server = V3Server::new();
        let mut seen = None;
        for _ in 0..200 {
            let said = up.drain(..size.min(up.len())).collect::<Vec<u8>>();
            let mut input = &said[..];
            while let Some(event) = server.receive(&mut input, &mut down) {
                if let V3Event::Request(asked) = event {
                    let lock = asked.lock.expect("a lock");
                    assert_eq!((asked.name.as_deref(), lock), (Some("web01"), LockMode::Exclusive));
                    server.found(lock, "login: ", &mut down);
                }
            }
            let said = down.drain(..size.min(down.len())).collect::<Vec<u8>>();
            let mut input = &said[..];
            while let Some(answer) = client.receive(&mut input, &mut up) {
                seen = Some(answer.expect("an answer"));
                up.extend(b"\xff\xfb\0");
            }
        }
        assert_eq!(
            seen,
            Some(V3Answer::Attached { applied: Some(LockMode::Exclusive), seed: "login: ".into() })
        );
        assert!(server.may_send() && client.is_attached());
    }
}
