//! Bytes in, values out: where each pickle ends.
//!
//! **Owns** what has come of one pickle, and the bounds on it. **Refuses to know** what a value is for.
//! **Implements** admin.md §2.

use super::opcode::{Argument, Opcode, opcode};
use super::stack::Stack;
use super::{PickleError, Value};

/// The longest pickle that is read, in bytes, unless the unpickler is given another limit. The protocol has
/// no use for a tenth of it: a name, or one entry of a list.
pub const MESSAGE_LIMIT: usize = 64 << 10;

/// The most items of a list or a dictionary. An entry of a list of consoles has three.
pub const ITEM_LIMIT: usize = 1000;

/// Reads pickles that follow each other in a stream of bytes; holds nothing between two of them.
///
/// ```text
/// state      input                     does                          next
/// Opcode     opcode without argument   steps the stack               Opcode; STOP: a value, all freed
/// Opcode     opcode with fixed bytes                                 Fixed
/// Opcode     opcode with a length                                    Length
/// Opcode     opcode with a line                                      Line
/// Fixed      the last byte             steps the stack               Opcode
/// Length     the last byte             too long: error               Fixed, of that length
/// Line       line feed                 steps the stack               Opcode
/// any        one byte too many         error, for good
/// ```
///
/// However the input is cut, the values are the same. What it holds of a pickle is at most a few times
/// its limit ([`Unpickler::held`]): text is held once, and there are bounds on how many values there may be.
#[derive(Debug)]
pub struct Unpickler {
    state: State,
    argument: Vec<u8>,
    stack: Stack,
    /// How many bytes of this pickle have come.
    len: usize,
    limit: usize,
    /// Bytes of text in the stack and the memo, at the most.
    text: usize,
    exceptions: bool,
    failed: Option<PickleError>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Opcode,
    /// The argument ends when it has so many bytes.
    Fixed(Opcode, usize),
    /// A length of so many bytes.
    Length(Opcode, usize),
    /// The argument ends behind so many more line feeds.
    Line(Opcode, u8),
}

impl Unpickler {
    /// For a peer that may send data and nothing else: pickles of at most [`MESSAGE_LIMIT`] bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limit(MESSAGE_LIMIT)
    }

    /// For pickles of at most `limit` bytes.
    #[must_use]
    pub const fn with_limit(limit: usize) -> Self {
        Self::with(limit, false)
    }

    const fn with(limit: usize, exceptions: bool) -> Self {
        Self {
            state: State::Opcode,
            argument: Vec::new(),
            stack: Stack::new(),
            len: 0,
            limit,
            text: 0,
            exceptions,
            failed: None,
        }
    }

    /// For a server's answers: an exception in an answer's place is read too, as [`Value::Exception`]. Its
    /// class is a name here, and is not called.
    #[must_use]
    pub const fn with_exceptions() -> Self {
        Self::with(MESSAGE_LIMIT, true)
    }

    /// Reads on. `Some` is one whole pickle, and `input` is what follows it; `None`: all input was taken, and
    /// the pickle goes on. Costs a constant for each byte.
    ///
    /// # Errors
    ///
    /// The bytes are no pickle of the kinds that are read. The input is left where that showed, and the same
    /// error comes again whatever follows.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Value>, PickleError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.read(input) {
            Ok(None) => Ok(None),
            Ok(Some(value)) => {
                self.forget();
                Ok(Some(value))
            }
            Err(error) => {
                self.forget();
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// Whether it stands between two pickles.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.len == 0
    }

    /// About how many bytes of heap it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.argument.capacity() + self.text + self.stack.held()
    }

    fn forget(&mut self) {
        *self = Self::with(self.limit, self.exceptions);
    }

    fn read(&mut self, input: &mut &[u8]) -> Result<Option<Value>, PickleError> {
        loop {
            match self.state {
                State::Opcode => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
                    if self.len == self.limit {
                        return Err(PickleError::TooLong);
                    }
                    let opcode = opcode(byte, self.exceptions)?;
                    *input = rest;
                    self.len += 1;
                    self.state = match opcode.argument {
                        Argument::Fixed(len) => State::Fixed(opcode, len.into()),
                        Argument::Counted(len) => State::Length(opcode, len.into()),
                        Argument::Line => State::Line(opcode, 1),
                        Argument::TwoLines => State::Line(opcode, 2),
                    };
                }
                State::Fixed(opcode, len) => {
                    if !self.collect(input, len)? {
                        return Ok(None);
                    }
                    if let Some(value) = self.step(opcode)? {
                        return Ok(Some(value));
                    }
                }
                State::Length(opcode, len) => {
                    if !self.collect(input, len)? {
                        return Ok(None);
                    }
                    let len = self.argument.iter().rev().fold(0u64, |len, &byte| len << 8 | u64::from(byte));
                    self.argument.clear();
                    self.state = State::Fixed(opcode, self.room_for(len)?);
                }
                State::Line(opcode, lines) => {
                    let end = memchr::memchr(b'\n', input);
                    let line = &input[..end.unwrap_or(input.len())];
                    if self.len + line.len() + usize::from(end.is_some()) > self.limit {
                        return Err(PickleError::TooLong);
                    }
                    self.len += line.len();
                    self.argument.extend_from_slice(line);
                    let Some(end) = end else {
                        *input = &[];
                        return Ok(None);
                    };
                    self.len += 1;
                    *input = &input[end + 1..];
                    if lines > 1 {
                        self.argument.push(b'\n');
                        self.state = State::Line(opcode, lines - 1);
                    } else if let Some(value) = self.step(opcode)? {
                        return Ok(Some(value));
                    }
                }
            }
        }
    }

    /// Collects an argument of `len` bytes; whether it is whole.
    fn collect(&mut self, input: &mut &[u8], len: usize) -> Result<bool, PickleError> {
        let (taken, rest) = input.split_at(input.len().min(len - self.argument.len()));
        if self.len + taken.len() > self.limit {
            return Err(PickleError::TooLong);
        }
        self.len += taken.len();
        self.argument.extend_from_slice(taken);
        *input = rest;
        Ok(self.argument.len() == len)
    }

    /// `len`, if so many more bytes may come.
    fn room_for(&self, len: u64) -> Result<usize, PickleError> {
        let len = usize::try_from(len).map_err(|_| PickleError::TooLong)?;
        if len > self.limit - self.len { Err(PickleError::TooLong) } else { Ok(len) }
    }

    fn step(&mut self, opcode: Opcode) -> Result<Option<Value>, PickleError> {
        use super::opcode::Op;
        self.state = State::Opcode;
        if opcode.op == Op::Frame {
            let len = self.argument.iter().rev().fold(0u64, |len, &byte| len << 8 | u64::from(byte));
            self.room_for(len)?;
        }
        // A byte that is no Unicode becomes three, an escape at the most as many as it has.
        if matches!(opcode.op, Op::Utf8 | Op::RawUnicodeEscape | Op::Global) {
            self.text += 3 * self.argument.len();
        }
        let argument = std::mem::take(&mut self.argument);
        let value = self.stack.step(opcode, &argument)?;
        // Short ones come again and again; what a long one took is given back.
        if argument.capacity() <= SHORT {
            self.argument = argument;
            self.argument.clear();
        }
        Ok(value)
    }
}

impl Default for Unpickler {
    fn default() -> Self {
        Self::new()
    }
}

/// An argument's buffer that is kept for the next: names, numbers.
const SHORT: usize = 256;
