//! Python's pickles, as data: what vSPC.py's protocol is made of.
//!
//! **Owns** where a pickle ends, which opcodes are read ([`Unpickler`]) and how the few values of that
//! protocol are written ([`put_str`] and its neighbours). **Refuses to know** what a value is for, and any
//! code: an opcode that looks something up or calls it is refused by its name, never followed.
//! **Implements** admin.md §2.

use std::fmt;
use std::sync::Arc;

mod opcode;
mod put;
mod stack;
mod unpickler;

pub use put::{EntryText, put_entry, put_exception, put_int, put_none, put_str};
pub use unpickler::{ITEM_LIMIT, MESSAGE_LIMIT, Unpickler};

/// What a pickle says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A number. One that does not fit is the nearest that does: nobody has a use for it.
    Int(i64),
    /// Text. What is not Unicode in it (Python's lone surrogates) is U+FFFD.
    Str(Arc<str>),
    /// Values of the kinds above.
    List(Vec<Value>),
    /// Keys and values of the kinds above, in the order in which they came.
    Dict(Vec<(Value, Value)>),
    /// An exception that the peer sent in place of an answer: what its class is called, and its text. Only
    /// [`Unpickler::with_exceptions`] yields it, and nothing is called to make it.
    Exception {
        /// The class, without its module.
        class: Arc<str>,
        /// Its first argument, if that was text.
        text: Arc<str>,
    },
}

impl Value {
    /// The text, if it is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The value under `key`, if it is a dictionary that has one. Costs as much as it has keys.
    #[must_use]
    pub fn item(&self, key: &str) -> Option<&Self> {
        match self {
            // As in Python, a key that comes again replaces what was there.
            Self::Dict(items) => items.iter().rev().find(|(k, _)| k.as_str() == Some(key)).map(|(_, v)| v),
            _ => None,
        }
    }

    /// What Python's `int()` makes of it: a number, a truth value, or text with a number in it.
    #[must_use]
    pub fn to_int(&self) -> Option<i64> {
        match self {
            Self::Bool(truth) => Some(i64::from(*truth)),
            Self::Int(number) => Some(*number),
            Self::Str(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    /// As Python would print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(true) => f.write_str("True"),
            Self::Bool(false) => f.write_str("False"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Str(text) => write!(f, "{text:?}"),
            Self::List(items) => f.debug_list().entries(items.iter().map(Shown)).finish(),
            Self::Dict(items) => {
                f.debug_map().entries(items.iter().map(|(k, v)| (Shown(k), Shown(v)))).finish()
            }
            Self::Exception { class, text } => write!(f, "{class}({text:?})"),
        }
    }
}

struct Shown<'a>(&'a Value);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }
}

/// Why bytes are no pickle that is read here. The stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// An opcode that makes Python look up or call something: an attack, or a peer of another kind. Named as
    /// Python's `pickletools` names it.
    #[error("the pickle would run code ({0})")]
    Executable(&'static str),
    /// An opcode of pickles that this protocol has no use for.
    #[error("pickle opcode {0} is not supported")]
    Unsupported(&'static str),
    /// A byte that is no opcode.
    #[error("{0:#04x} is no pickle opcode")]
    NotAnOpcode(u8),
    /// A pickle of a version that nobody knows.
    #[error("pickle version {0} is unknown")]
    Version(u8),
    /// More bytes than the limit, or a length that says so.
    #[error("pickle too long")]
    TooLong,
    /// More values than [`ITEM_LIMIT`] allows.
    #[error("too many values in a pickle")]
    TooMany,
    /// A container inside a container.
    #[error("nested containers in a pickle")]
    Nested,
    /// An argument that its opcode cannot have.
    #[error("malformed argument of pickle opcode {0}")]
    Argument(&'static str),
    /// An opcode for which the values before it do not fit.
    #[error("pickle opcode {0} out of place")]
    OutOfPlace(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("digits");
        digits.chunks(2).map(byte).collect()
    }

    /// Reads `bytes` as one pickle, whole and byte by byte.
    fn read(mut unpickler: impl FnMut() -> Unpickler, bytes: &[u8]) -> Result<Value, PickleError> {
        let whole = unpickler().feed(&mut &bytes[..]).map(|value| value.expect("a whole pickle"));
        let mut cut = unpickler();
        let mut last = Ok(None);
        for at in 0..bytes.len() {
            last = cut.feed(&mut &bytes[at..=at]);
            if last != Ok(None) {
                break;
            }
        }
        assert_eq!(whole, last.map(|value| value.expect("a whole pickle")), "{bytes:02x?}");
        whole
    }

    fn text(text: &str) -> Value {
        Value::Str(text.into())
    }

    fn entry(name: &str, uuid: &str, port: Value) -> Value {
        Value::Dict(vec![(text("name"), text(name)), (text("uuid"), text(uuid)), (text("port"), port)])
    }

    const UUID: &str = "503123245678abcdef001122334455aa";

    /// The bytes of admin.md §4, and how they are written.
    #[test]
    fn what_is_written_is_what_vspc_py_writes_and_is_read_back() {
        let put = |put: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            put(&mut out);
            out
        };
        let word = |word: &'static str| (put(&|out| put_str(word, out)), text(word));
        let table = [
            ((put(&|out| put_int(3, out)), Value::Int(3)), "80044b032e"),
            ((put(&|out| put_int(0, out)), Value::Int(0)), "80044b002e"),
            ((put(&put_none), Value::None), "80044e2e"),
            (word("vm-alpha"), "8004950c000000000000008c08766d2d616c706861942e"),
            (word("exclusive"), "8004950d000000000000008c096578636c7573697665942e"),
            (word("write"), "80049509000000000000008c057772697465942e"),
            (word("free_for_all"), "80049510000000000000008c0c667265655f666f725f616c6c942e"),
            (
                word("free_for_all_or_readonly"),
                "8004951c000000000000008c18667265655f666f725f616c6c5f6f725f726561646f6e6c79942e",
            ),
            (word("vm_found"), "8004950c000000000000008c08766d5f666f756e64942e"),
            (word("vm_not_found"), "80049510000000000000008c0c766d5f6e6f745f666f756e64942e"),
            (word("lock_invalid"), "80049510000000000000008c0c6c6f636b5f696e76616c6964942e"),
            (word("lock_failed"), "8004950f000000000000008c0b6c6f636b5f6661696c6564942e"),
            (word(""), "80049504000000000000008c00942e"),
            (
                (
                    put(&|out| put_entry(EntryText { name: "vm-alpha", uuid: UUID, port: Some(25000) }, out)),
                    entry("vm-alpha", UUID, Value::Int(25000)),
                ),
                "8004954b000000000000007d94288c046e616d65948c08766d2d616c706861948c0475756964948c20\
                 3530333132333234353637386162636465663030313132323333343435356161948c04706f7274944da861752e",
            ),
        ];
        for ((written, value), bytes) in table {
            assert_eq!(written, hex(bytes), "{value}");
            assert_eq!(read(Unpickler::new, &written), Ok(value));
        }
        let exception = |text: &str| Value::Exception { class: "Exception".into(), text: text.into() };
        for (text, bytes) in [
            (
                "I don't understand",
                "80049533000000000000008c086275696c74696e73948c09457863657074696f6e9493948c12492064\
                 6f6e277420756e6465727374616e6494859452942e",
            ),
            (
                "No common version",
                "80049532000000000000008c086275696c74696e73948c09457863657074696f6e9493948c114e6f20\
                 636f6d6d6f6e2076657273696f6e94859452942e",
            ),
        ] {
            assert_eq!(put(&|out| put_exception(text, out)), hex(bytes));
            assert_eq!(read(Unpickler::with_exceptions, &hex(bytes)), Ok(exception(text)));
            let refused = Unpickler::new().feed(&mut &hex(bytes)[..]);
            assert_eq!(refused, Err(PickleError::Executable("STACK_GLOBAL")));
        }
    }

    /// What older and newer Pythons write for the same values, and shorter forms that Python reads.
    #[test]
    fn other_versions_of_pickles_are_read() {
        let list = Value::List(vec![text("a"), text("b")]);
        for (bytes, value) in [
            (&b"I3\n."[..], Value::Int(3)),
            (b"N.", Value::None),
            (b"Vwrite\np0\n.", text("write")),
            (b"K\x03.", Value::Int(3)),
            (b"X\x05\0\0\0writeq\0.", text("write")),
            (b"\x80\x03X\x05\0\0\0writeq\0.", text("write")),
            (b"\x80\x05\x95\x09\0\0\0\0\0\0\0\x8c\x05write\x94.", text("write")),
            (b"\x80\x02}(X\x04\0\0\0nameX\x03\0\0\0vm1X\x04\0\0\0uuidX\x02\0\0\0u1X\x04\0\0\0portMa\xc3u.",
             entry("vm1", "u1", Value::Int(50017))),
            (b"(dp0\nVname\np1\nVvm1\np2\nsVuuid\np3\nVu1\np4\nsVport\np5\nNs.",
             entry("vm1", "u1", Value::None)),
            (b"(Vname\nVvm1\nVuuid\nVvm1\nVport\nNd.", entry("vm1", "vm1", Value::None)),
            (b"}q\0(X\x04\0\0\0nameq\x01X\x02\0\0\0vmq\x02X\x04\0\0\0uuidq\x03h\x02X\x04\0\0\0portq\x04Nu.",
             entry("vm", "vm", Value::None)),
            (b"](Va\nVb\ne.", list.clone()),
            (b"(lp0\nVa\np1\naVb\np2\na.", list.clone()),
            (b"(Va\nVb\nl.", list),
            (b"I01\n.", Value::Bool(true)),
            (b"I00\n.", Value::Bool(false)),
            (b"\x88.", Value::Bool(true)),
            (b"\x89.", Value::Bool(false)),
            (b"L-12L\n.", Value::Int(-12)),
            (b"M\xa8a.", Value::Int(25000)),
            (b"J\xff\xff\xff\xff.", Value::Int(-1)),
            (b"\x8a\x05\0\0\0\x80\0.", Value::Int(1 << 31)),
            (b"\x8a\0.", Value::Int(0)),
            (b"X\x03\0\0\0\xed\xa0\x80.", text("\u{fffd}\u{fffd}\u{fffd}")),
            (b"\x95\0\0\0\0\0\0\0\0N.", Value::None),
        ] {
            assert_eq!(read(Unpickler::new, bytes), Ok(value), "{}", bytes.escape_ascii());
        }
        let exception = Value::Exception { class: "Exception".into(), text: "no".into() };
        for bytes in [
            &b"cexceptions\nException\np0\n(Vno\np1\ntp2\nRp3\n."[..],
            b"\x80\x03cbuiltins\nException\nq\0X\x02\0\0\0noq\x01\x85q\x02Rq\x03.",
        ] {
            assert_eq!(read(Unpickler::with_exceptions, bytes), Ok(exception.clone()));
        }
        let bytes = b"\x80\x03cbuiltins\nEOFError\nq\0)Rq\x01.";
        let exception = Value::Exception { class: "EOFError".into(), text: "".into() };
        assert_eq!(read(Unpickler::with_exceptions, bytes), Ok(exception));
    }

    #[test]
    fn what_python_would_run_or_what_is_none_of_the_protocols_is_refused_and_named() {
        use PickleError::{
            Argument, Executable, Nested, NotAnOpcode, OutOfPlace, TooLong, Unsupported, Version,
        };
        for (bytes, error) in [
            (&b"cos\nsystem\n(S'id'\ntR."[..], Executable("GLOBAL")),
            (b"\x80\x04\x95\x1d\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
             Executable("STACK_GLOBAL")),
            (b"NNR.", Executable("REDUCE")),
            (b"(ios\nsystem\n.", Executable("INST")),
            (b"P1\n.", Executable("PERSID")),
            (b"C\x01a.", Unsupported("SHORT_BINBYTES")),
            (b"G\0\0\0\0\0\0\0\0.", Unsupported("BINFLOAT")),
            (b")\x94.", Unsupported("EMPTY_TUPLE")),
            (b"NN0.", Unsupported("POP")),
            (b"\x80\x06N.", Version(6)),
            (b"\xff\xfb\x03", NotAnOpcode(0xff)),
            (b"Ithree\n.", Argument("INT")),
            (b"V\\u12\n.", Argument("UNICODE")),
            (b"NN.", OutOfPlace("STOP")),
            (b".", OutOfPlace("STOP")),
            (b"(.", OutOfPlace("STOP")),
            (b"Nu.", OutOfPlace("SETITEMS")),
            (b"}(Nu.", OutOfPlace("SETITEMS")),
            (b"N(NNu.", OutOfPlace("SETITEMS")),
            (b"Na.", OutOfPlace("APPEND")),
            (b"\x94.", OutOfPlace("MEMOIZE")),
            (b"h\0.", OutOfPlace("BINGET")),
            (b"]]a.", Nested),
            (b"}(N]u.", Nested),
            (b"]q\0h\0a.", Nested),
            (b"X\xff\xff\xff\xffabc", TooLong),
            (b"\x95\0\0\0\0\0\0\0\x80N.", TooLong),
        ] {
            let mut unpickler = Unpickler::new();
            assert_eq!(unpickler.feed(&mut &bytes[..]), Err(error), "{}", bytes.escape_ascii());
            assert_eq!(unpickler.feed(&mut &b"N."[..]), Err(error), "it is final");
            assert_eq!(unpickler.held(), 0);
        }
        // Nothing but a class and its arguments can be "called", and only in an answer.
        assert_eq!(Unpickler::with_exceptions().feed(&mut &b"NNR."[..]), Err(OutOfPlace("REDUCE")));
        assert_eq!(Unpickler::with_exceptions().feed(&mut &b"cos\nsystem\n."[..]), Err(OutOfPlace("STOP")));
    }

    #[test]
    fn pickles_follow_each_other_and_what_follows_is_left() {
        let mut input = &b"\x80\x04K\x03.\x80\x04N.\xff\xfb\0"[..];
        let mut unpickler = Unpickler::new();
        assert_eq!(unpickler.feed(&mut input), Ok(Some(Value::Int(3))));
        assert!(unpickler.is_idle());
        assert_eq!(unpickler.feed(&mut input), Ok(Some(Value::None)));
        assert_eq!(input, b"\xff\xfb\0");
        let mut input = &b"\x80\x04"[..];
        assert_eq!(unpickler.feed(&mut input), Ok(None));
        assert!(input.is_empty() && !unpickler.is_idle());
    }

    #[test]
    fn bounds_hold_at_their_edges() {
        let text = |len: usize| {
            let mut bytes = b"X".to_vec();
            bytes.extend((len as u32).to_le_bytes());
            bytes.extend(vec![b'x'; len]);
            bytes.push(b'.');
            bytes
        };
        let longest = MESSAGE_LIMIT - 6;
        assert!(matches!(Unpickler::new().feed(&mut &text(longest)[..]), Ok(Some(_))));
        assert_eq!(Unpickler::new().feed(&mut &text(longest + 1)[..]), Err(PickleError::TooLong));
        assert_eq!(Unpickler::new().feed(&mut &vec![b'V'; MESSAGE_LIMIT + 1][..]), Err(PickleError::TooLong));

        let list = |len: usize| [&b"]("[..], &vec![b'N'; len], b"e."].concat();
        assert!(matches!(Unpickler::new().feed(&mut &list(ITEM_LIMIT)[..]), Ok(Some(_))));
        assert_eq!(Unpickler::new().feed(&mut &list(ITEM_LIMIT + 1)[..]), Err(PickleError::TooMany));
        let one_by_one = |len: usize| [&b"]"[..], &b"Na".repeat(len), b"."].concat();
        assert_eq!(Unpickler::new().feed(&mut &one_by_one(ITEM_LIMIT + 1)[..]), Err(PickleError::TooMany));
        assert_eq!(Unpickler::new().feed(&mut &vec![b'('; 5000][..]), Err(PickleError::TooMany));
        assert_eq!(
            Unpickler::new().feed(&mut &[&b"N"[..], &vec![0x94; 5000]].concat()[..]),
            Err(PickleError::TooMany)
        );
        // The same long text again and again is held once.
        let mut unpickler = Unpickler::new();
        let long = text(60_000);
        assert_eq!(unpickler.feed(&mut &long[..long.len() - 1]), Ok(None));
        assert_eq!(unpickler.feed(&mut &b"\x94"[..]), Ok(None));
        assert_eq!(unpickler.feed(&mut &b"h\0".repeat(1000)[..]), Ok(None));
        assert!(unpickler.held() < 6 * MESSAGE_LIMIT, "{}", unpickler.held());
    }

    #[test]
    fn values_are_printed_as_python_prints_them() {
        let value = Value::List(vec![text("a"), Value::None, Value::Bool(true), Value::Int(-1)]);
        assert_eq!(value.to_string(), r#"["a", None, True, -1]"#);
        assert_eq!(entry("a", "b", Value::Int(1)).to_string(), r#"{"name": "a", "uuid": "b", "port": 1}"#);
    }

    #[test]
    fn a_key_that_comes_again_replaces_what_was_there() {
        let value = Value::Dict(vec![(text("a"), Value::Int(1)), (text("a"), Value::Int(2))]);
        assert_eq!(value.item("a"), Some(&Value::Int(2)));
        assert_eq!(value.item("b"), None);
        assert_eq!(
            [text(" 3\n"), Value::Bool(true), Value::None].map(|value| value.to_int()),
            [Some(3), Some(1), None]
        );
    }
}
