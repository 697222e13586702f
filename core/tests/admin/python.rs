//! Python's own pickler, where there is one: what it writes is read, and what we write is the same bytes.
#![allow(clippy::disallowed_methods, reason = "Python is another process")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use vspc_core::admin::pickle::{
    EntryText, PickleError, Unpickler, Value, put_entry, put_exception, put_int, put_none, put_str,
};

/// What `program` prints, which is given `input`; `None` where there is no Python.
fn python(program: &str, input: &str) -> Option<String> {
    let child =
        Command::new("python3").args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        assert!(std::env::var_os("VSPC_REQUIRE_PEERS").is_none(), "python3 has to be here");
        println!("skipped: no python3");
        return None;
    };
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("Python reads");
    let output = child.wait_with_output().expect("Python ends");
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).expect("Python prints text"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    let pair = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("digits");
    digits.chunks(2).map(pair).collect()
}

/// Values of the protocol, in Python's words and in ours, with what we write.
fn values() -> Vec<(String, Value, Vec<u8>)> {
    let mut values = Vec::new();
    let mut add = |python: String, value: Value, put: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        put(&mut out);
        values.push((python, value, out));
    };
    add("None".into(), Value::None, &put_none);
    for number in [
        0,
        1,
        3,
        255,
        256,
        25000,
        65535,
        65536,
        i32::MAX.into(),
        1 << 31,
        1 << 39,
        1 << 40,
        1 << 55,
        i64::MAX,
        -1,
        -128,
        -32769,
        i32::MIN.into(),
        -(1 << 31) - 1,
        -(1 << 39),
        -(1 << 39) - 1,
        i64::MIN,
    ] {
        add(number.to_string(), Value::Int(number), &|out| put_int(number, out));
    }
    let long = |len| format!("'x' * {len}");
    for (python, text) in [
        ("''".to_owned(), String::new()),
        ("'vm-alpha'".into(), "vm-alpha".into()),
        ("'B\\u00fcro \\U0001f600 a\\\\b\\n'".into(), "B\u{fc}ro \u{1f600} a\\b\n".into()),
        (long(255), "x".repeat(255)),
        (long(256), "x".repeat(256)),
        (long(60000), "x".repeat(60000)),
        (long(65535), "x".repeat(65535)),
        (long(65536), "x".repeat(65536)),
        (long(70000), "x".repeat(70000)),
    ] {
        add(python, Value::Str(text.as_str().into()), &|out| put_str(&text, out));
    }
    for (name, port) in
        [("web01", Some(50017)), ("", None), ("Büro", Some(80)), (&"n".repeat(300)[..], Some(65535))]
    {
        let entry = EntryText { name, uuid: "503123245f6789ab-cdeffedfcafe9800", port };
        let word = |text: &str| Value::Str(text.into());
        let number = port.map_or(Value::None, |port| Value::Int(port.into()));
        let value = Value::Dict(vec![
            (word("name"), word(name)),
            (word("uuid"), word(entry.uuid)),
            (word("port"), number),
        ]);
        let port = port.map_or("None".to_owned(), |port| port.to_string());
        let python = format!("{{'name': '{name}', 'uuid': '{}', 'port': {port}}}", entry.uuid);
        add(python, value, &|out| put_entry(entry, out));
    }
    values
}

#[test]
fn what_we_write_is_what_python_writes() {
    let mut all = values();
    let text = "I don't understand";
    let mut out = Vec::new();
    put_exception(text, &mut out);
    all.push((format!("Exception({text:?})"), Value::None, out));
    let asked: String = all.iter().map(|(python, ..)| format!("{python}\n")).collect();
    let program = "import sys, pickle\nfor line in sys.stdin: print(pickle.dumps(eval(line), 4).hex())";
    let Some(answer) = python(program, &asked) else { return };
    let answers: Vec<&str> = answer.lines().collect();
    assert_eq!(answers.len(), all.len());
    for ((python, _, written), answer) in all.iter().zip(answers) {
        assert!(hex(written) == answer, "{}", &python[..python.len().min(60)]);
    }
}

#[test]
fn python_reads_what_we_write() {
    let all = values();
    let asked: String =
        all.iter().map(|(python, _, written)| format!("{python}\t{}\n", hex(written))).collect();
    let program = "import sys, pickle\nfor line in sys.stdin:\n    value, written = line.split('\\t')\n    \
        print(pickle.loads(bytes.fromhex(written)) == eval(value))";
    let Some(answer) = python(program, &asked) else { return };
    assert_eq!(answer, "True\n".repeat(all.len()));
}

#[test]
fn what_python_writes_is_read_in_every_version_by_both_its_picklers() {
    let all = values();
    let asked: String = all.iter().map(|(python, ..)| format!("{python}\n")).collect();
    let program = "import sys, pickle\nfor line in sys.stdin:\n    value = eval(line)\n    \
        picklers = (pickle.dumps, pickle._dumps)\n    \
        print(*[dumps(value, version).hex() for version in range(6) for dumps in picklers])";
    let Some(answer) = python(program, &asked) else { return };
    let mut count = 0;
    for ((python, value, _), answer) in all.iter().zip(answer.lines()) {
        for written in answer.split(' ').map(unhex) {
            // What does not fit is refused for that, and nothing else.
            let mut unpickler = Unpickler::new();
            let read = unpickler.feed(&mut &written[..]);
            let expected =
                if written.len() > 1 << 16 { Err(PickleError::TooLong) } else { Ok(Some(value.clone())) };
            assert!(read == expected, "{} {:?}", &python[..python.len().min(60)], read.err());
            count += 1;
        }
    }
    assert_eq!(count, 12 * all.len());
}

#[test]
fn what_python_would_run_is_refused() {
    let program = "import pickle, os, datetime, collections, fractions\n\
        class C:\n    def __init__(self): self.a = 1\n\
        class R:\n    def __reduce__(self): return (os.system, ('id',))\n\
        for value in (C(), R(), datetime.date(2020, 1, 1), collections.OrderedDict(a=1), b'bytes', (1, 2), \
        {1}, 1.5, frozenset(), bytearray(b'a'), os.system, Exception('no'), [[1]], {'a': {}}, [C()]):\n    \
        print(*[pickle.dumps(value, version).hex() for version in range(6)])";
    let Some(answer) = python(program, "") else { return };
    let mut executable = 0;
    for line in answer.lines() {
        for written in line.split(' ').map(unhex) {
            match Unpickler::new().feed(&mut &written[..]) {
                Err(PickleError::Executable(_)) => executable += 1,
                Err(_) => {}
                Ok(value) => panic!("{value:?} of {}", written.escape_ascii()),
            }
        }
    }
    assert!(executable > 50, "{executable}");
}
