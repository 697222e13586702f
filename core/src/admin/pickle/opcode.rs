//! The opcodes of pickles: what kind each is and what its argument looks like.
//!
//! **Owns** the table. **Refuses to know** values. **Implements** admin.md §2, by the names of Python's
//! `pickletools`.

use super::PickleError;

/// An opcode that is read, with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opcode {
    pub(super) op: Op,
    pub(super) name: &'static str,
    pub(super) argument: Argument,
}

/// How the bytes behind an opcode end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// So many bytes; perhaps none.
    Fixed(u8),
    /// A length of so many bytes, little-endian, then so many bytes.
    Counted(u8),
    /// Text up to a line feed.
    Line,
    /// Two of those.
    TwoLines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Proto,
    Frame,
    Stop,
    Mark,
    None,
    True,
    False,
    /// Unsigned, of the argument's length.
    Unsigned,
    /// Signed, of the argument's length.
    Signed,
    DecimalInt,
    DecimalLong,
    Utf8,
    RawUnicodeEscape,
    Memoize,
    Put,
    DecimalPut,
    Get,
    DecimalGet,
    EmptyDict,
    Dict,
    SetItem,
    SetItems,
    EmptyList,
    List,
    Append,
    Appends,
    /// The rest only where exceptions are read.
    Global,
    StackGlobal,
    EmptyTuple,
    Tuple1,
    Tuple,
    Reduce,
}

/// What `byte` is as an opcode. With `exceptions`, those of an exception's pickle are read too.
pub(super) fn opcode(byte: u8, exceptions: bool) -> Result<Opcode, PickleError> {
    use Argument::{Counted, Fixed, Line, TwoLines};
    let (op, name, argument) = match byte {
        0x80 => (Op::Proto, "PROTO", Fixed(1)),
        0x95 => (Op::Frame, "FRAME", Fixed(8)),
        b'.' => (Op::Stop, "STOP", Fixed(0)),
        b'(' => (Op::Mark, "MARK", Fixed(0)),
        b'N' => (Op::None, "NONE", Fixed(0)),
        0x88 => (Op::True, "NEWTRUE", Fixed(0)),
        0x89 => (Op::False, "NEWFALSE", Fixed(0)),
        b'K' => (Op::Unsigned, "BININT1", Fixed(1)),
        b'M' => (Op::Unsigned, "BININT2", Fixed(2)),
        b'J' => (Op::Signed, "BININT", Fixed(4)),
        0x8a => (Op::Signed, "LONG1", Counted(1)),
        b'I' => (Op::DecimalInt, "INT", Line),
        b'L' => (Op::DecimalLong, "LONG", Line),
        0x8c => (Op::Utf8, "SHORT_BINUNICODE", Counted(1)),
        b'X' => (Op::Utf8, "BINUNICODE", Counted(4)),
        b'V' => (Op::RawUnicodeEscape, "UNICODE", Line),
        0x94 => (Op::Memoize, "MEMOIZE", Fixed(0)),
        b'q' => (Op::Put, "BINPUT", Fixed(1)),
        b'r' => (Op::Put, "LONG_BINPUT", Fixed(4)),
        b'p' => (Op::DecimalPut, "PUT", Line),
        b'h' => (Op::Get, "BINGET", Fixed(1)),
        b'j' => (Op::Get, "LONG_BINGET", Fixed(4)),
        b'g' => (Op::DecimalGet, "GET", Line),
        b'}' => (Op::EmptyDict, "EMPTY_DICT", Fixed(0)),
        b'd' => (Op::Dict, "DICT", Fixed(0)),
        b's' => (Op::SetItem, "SETITEM", Fixed(0)),
        b'u' => (Op::SetItems, "SETITEMS", Fixed(0)),
        b']' => (Op::EmptyList, "EMPTY_LIST", Fixed(0)),
        b'l' => (Op::List, "LIST", Fixed(0)),
        b'a' => (Op::Append, "APPEND", Fixed(0)),
        b'e' => (Op::Appends, "APPENDS", Fixed(0)),
        b'c' if exceptions => (Op::Global, "GLOBAL", TwoLines),
        0x93 if exceptions => (Op::StackGlobal, "STACK_GLOBAL", Fixed(0)),
        b')' if exceptions => (Op::EmptyTuple, "EMPTY_TUPLE", Fixed(0)),
        0x85 if exceptions => (Op::Tuple1, "TUPLE1", Fixed(0)),
        b't' if exceptions => (Op::Tuple, "TUPLE", Fixed(0)),
        b'R' if exceptions => (Op::Reduce, "REDUCE", Fixed(0)),
        _ => return Err(refusal(byte)),
    };
    Ok(Opcode { op, name, argument })
}

/// The opcodes of Python that are not read.
fn refusal(byte: u8) -> PickleError {
    let executable = match byte {
        b'c' => "GLOBAL",
        0x93 => "STACK_GLOBAL",
        b'R' => "REDUCE",
        b'i' => "INST",
        b'o' => "OBJ",
        b'b' => "BUILD",
        0x81 => "NEWOBJ",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x92 => "NEWOBJ_EX",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        _ => "",
    };
    if !executable.is_empty() {
        return PickleError::Executable(executable);
    }
    PickleError::Unsupported(match byte {
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'F' => "FLOAT",
        b'G' => "BINFLOAT",
        b'S' => "STRING",
        b'T' => "BINSTRING",
        b'U' => "SHORT_BINSTRING",
        b'B' => "BINBYTES",
        b'C' => "SHORT_BINBYTES",
        0x8d => "BINUNICODE8",
        0x8e => "BINBYTES8",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        0x8b => "LONG4",
        b')' => "EMPTY_TUPLE",
        b't' => "TUPLE",
        0x85 => "TUPLE1",
        0x86 => "TUPLE2",
        0x87 => "TUPLE3",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        _ => return PickleError::NotAnOpcode(byte),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_python_would_run_is_refused_by_its_name() {
        let mut names = Vec::new();
        for byte in 0..=255 {
            if let Err(PickleError::Executable(name)) = opcode(byte, false) {
                names.push((byte, name));
            }
        }
        assert_eq!(
            names,
            [
                (0x50, "PERSID"),
                (0x51, "BINPERSID"),
                (0x52, "REDUCE"),
                (0x62, "BUILD"),
                (0x63, "GLOBAL"),
                (0x69, "INST"),
                (0x6f, "OBJ"),
                (0x81, "NEWOBJ"),
                (0x82, "EXT1"),
                (0x83, "EXT2"),
                (0x84, "EXT4"),
                (0x92, "NEWOBJ_EX"),
                (0x93, "STACK_GLOBAL"),
            ]
        );
    }

    #[test]
    fn an_opcode_is_read_or_refused_and_all_of_pythons_have_their_names() {
        // What Python 3.8 and later have, one opcode each.
        let known: &[u8] = b"().0123FGIJKLMNPQRSTUVXBC]abcdeghijlopqrstu}\
            \x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\
            \x90\x91\x92\x93\x94\x95\x96\x97\x98";
        for byte in 0..=255u8 {
            let is_known = known.contains(&byte) && byte != b'3';
            assert_eq!(opcode(byte, false) != Err(PickleError::NotAnOpcode(byte)), is_known, "{byte:#x}");
        }
        assert_eq!(opcode(0x80, false).map(|opcode| opcode.name), Ok("PROTO"));
        assert_eq!(opcode(b'R', true).map(|opcode| opcode.name), Ok("REDUCE"));
        assert_eq!(opcode(b'b', true), Err(PickleError::Executable("BUILD")));
    }
}
