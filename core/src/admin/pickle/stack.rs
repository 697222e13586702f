//! The machine that a pickle is a program for, as far as it holds data.
//!
//! **Owns** the stack and the memo of one pickle, and their bounds. **Refuses to know** bytes: it is given an
//! opcode with its whole argument. **Implements** admin.md §2.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::opcode::{Op, Opcode};
use super::unpickler::ITEM_LIMIT;
use super::{PickleError, Value};

/// The values of one pickle that has not ended.
#[derive(Debug)]
pub(super) struct Stack {
    slots: Vec<Slot>,
    memo: BTreeMap<u32, Slot>,
}

/// What is on the stack.
#[derive(Clone, Debug)]
enum Slot {
    Value(Value),
    Mark,
    /// A class, by its name: a name and no more.
    Class(Arc<str>),
    /// The arguments of a call that is not going to be made: the text of the last.
    Arguments(Arc<str>),
}

impl Stack {
    /// Nothing on it.
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), memo: BTreeMap::new() }
    }

    /// Does what the opcode says. `Some` if that was STOP: the pickle's value.
    pub(super) fn step(&mut self, opcode: Opcode, argument: &[u8]) -> Result<Option<Value>, PickleError> {
        let name = opcode.name;
        let wrong = || PickleError::Argument(name);
        match opcode.op {
            Op::Proto if argument[0] > NEWEST => return Err(PickleError::Version(argument[0])),
            // Where frames end does not matter to who reads opcode by opcode.
            Op::Proto | Op::Frame => {}
            Op::Stop => return self.stop(name).map(Some),
            Op::Mark => self.push(Slot::Mark)?,
            Op::None => self.push_value(Value::None)?,
            Op::True => self.push_value(Value::Bool(true))?,
            Op::False => self.push_value(Value::Bool(false))?,
            Op::Unsigned => self.push_value(Value::Int(unsigned(argument).into()))?,
            Op::Signed => self.push_value(Value::Int(signed(argument)))?,
            Op::DecimalInt if argument == b"01" => self.push_value(Value::Bool(true))?,
            Op::DecimalInt if argument == b"00" => self.push_value(Value::Bool(false))?,
            Op::DecimalInt => self.push_value(Value::Int(decimal(argument).ok_or_else(wrong)?))?,
            Op::DecimalLong => {
                let digits = argument.strip_suffix(b"L").unwrap_or(argument);
                self.push_value(Value::Int(decimal(digits).ok_or_else(wrong)?))?;
            }
            Op::Utf8 => self.push_value(Value::Str(String::from_utf8_lossy(argument).into()))?,
            Op::RawUnicodeEscape => {
                self.push_value(Value::Str(raw_unicode_escape(argument).ok_or_else(wrong)?.into()))?;
            }
            Op::Memoize => self.put(u32::try_from(self.memo.len()).map_err(|_| wrong())?, name)?,
            Op::Put => self.put(unsigned(argument), name)?,
            Op::DecimalPut => self.put(index(argument).ok_or_else(wrong)?, name)?,
            Op::Get => self.get(unsigned(argument), name)?,
            Op::DecimalGet => self.get(index(argument).ok_or_else(wrong)?, name)?,
            Op::EmptyDict => self.push_value(Value::Dict(Vec::new()))?,
            Op::EmptyList => self.push_value(Value::List(Vec::new()))?,
            Op::Dict => {
                let items = pairs(self.take_marked(name)?, name)?;
                self.push_value(Value::Dict(items))?;
            }
            Op::List => {
                let items = values(self.take_marked(name)?, name)?;
                self.push_value(Value::List(items))?;
            }
            Op::SetItem => {
                let value = self.pop(name)?;
                let key = self.pop(name)?;
                self.set_items(pairs(vec![key, value], name)?, name)?;
            }
            Op::SetItems => {
                let items = pairs(self.take_marked(name)?, name)?;
                self.set_items(items, name)?;
            }
            Op::Append => {
                let item = self.pop(name)?;
                self.append(values(vec![item], name)?, name)?;
            }
            Op::Appends => {
                let items = values(self.take_marked(name)?, name)?;
                self.append(items, name)?;
            }
            Op::Global => {
                let class = argument.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
                self.push(Slot::Class(String::from_utf8_lossy(class).into()))?;
            }
            Op::StackGlobal => match (self.pop(name)?, self.pop(name)?) {
                (Slot::Value(Value::Str(class)), Slot::Value(Value::Str(_))) => {
                    self.push(Slot::Class(class))?;
                }
                _ => return Err(PickleError::OutOfPlace(name)),
            },
            Op::EmptyTuple => self.push(Slot::Arguments("".into()))?,
            Op::Tuple1 => {
                let argument = self.pop(name)?;
                self.push(Slot::Arguments(last_text(&[argument])))?;
            }
            Op::Tuple => {
                let arguments = self.take_marked(name)?;
                self.push(Slot::Arguments(last_text(&arguments)))?;
            }
            Op::Reduce => match (self.pop(name)?, self.pop(name)?) {
                (Slot::Arguments(text), Slot::Class(class)) => {
                    self.push_value(Value::Exception { class, text })?;
                }
                _ => return Err(PickleError::OutOfPlace(name)),
            },
        }
        Ok(None)
    }

    /// About how many bytes of heap it holds beside the text of strings.
    pub(super) fn held(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.memo.len() * size_of::<(u32, Slot)>()
    }

    fn stop(&mut self, name: &'static str) -> Result<Value, PickleError> {
        match (self.slots.pop(), self.slots.is_empty()) {
            (Some(Slot::Value(value)), true) => Ok(value),
            _ => Err(PickleError::OutOfPlace(name)),
        }
    }

    fn push(&mut self, slot: Slot) -> Result<(), PickleError> {
        if self.slots.len() == STACK_LIMIT {
            return Err(PickleError::TooMany);
        }
        self.slots.push(slot);
        Ok(())
    }

    fn push_value(&mut self, value: Value) -> Result<(), PickleError> {
        self.push(Slot::Value(value))
    }

    /// Takes the top of the stack, which is no mark.
    fn pop(&mut self, name: &'static str) -> Result<Slot, PickleError> {
        match self.slots.pop() {
            None | Some(Slot::Mark) => Err(PickleError::OutOfPlace(name)),
            Some(slot) => Ok(slot),
        }
    }

    /// Takes what is above the last mark, and the mark.
    fn take_marked(&mut self, name: &'static str) -> Result<Vec<Slot>, PickleError> {
        let mark = self.slots.iter().rposition(|slot| matches!(slot, Slot::Mark));
        let mark = mark.ok_or(PickleError::OutOfPlace(name))?;
        let items = self.slots.split_off(mark + 1);
        self.slots.truncate(mark);
        Ok(items)
    }

    fn set_items(&mut self, items: Vec<(Value, Value)>, name: &'static str) -> Result<(), PickleError> {
        match self.slots.last_mut() {
            Some(Slot::Value(Value::Dict(dict))) => extend(dict, items),
            _ => Err(PickleError::OutOfPlace(name)),
        }
    }

    fn append(&mut self, items: Vec<Value>, name: &'static str) -> Result<(), PickleError> {
        match self.slots.last_mut() {
            Some(Slot::Value(Value::List(list))) => extend(list, items),
            _ => Err(PickleError::OutOfPlace(name)),
        }
    }

    /// Remembers the top of the stack. A string is shared, a container remembered as being one.
    fn put(&mut self, index: u32, name: &'static str) -> Result<(), PickleError> {
        let slot = match self.slots.last() {
            None | Some(Slot::Mark) => return Err(PickleError::OutOfPlace(name)),
            Some(Slot::Value(Value::List(_))) => Slot::Value(Value::List(Vec::new())),
            Some(Slot::Value(Value::Dict(_))) => Slot::Value(Value::Dict(Vec::new())),
            Some(slot) => slot.clone(),
        };
        if self.memo.len() == STACK_LIMIT && !self.memo.contains_key(&index) {
            return Err(PickleError::TooMany);
        }
        self.memo.insert(index, slot);
        Ok(())
    }

    fn get(&mut self, index: u32, name: &'static str) -> Result<(), PickleError> {
        match self.memo.get(&index) {
            None => Err(PickleError::OutOfPlace(name)),
            // The same container twice is a container within one.
            Some(Slot::Value(Value::List(_) | Value::Dict(_))) => Err(PickleError::Nested),
            Some(slot) => {
                let slot = slot.clone();
                self.push(slot)
            }
        }
    }
}

fn extend<T>(items: &mut Vec<T>, more: Vec<T>) -> Result<(), PickleError> {
    if items.len() + more.len() > ITEM_LIMIT {
        return Err(PickleError::TooMany);
    }
    items.extend(more);
    Ok(())
}

/// What a container may hold.
fn values(slots: Vec<Slot>, name: &'static str) -> Result<Vec<Value>, PickleError> {
    if slots.len() > 2 * ITEM_LIMIT {
        return Err(PickleError::TooMany);
    }
    slots
        .into_iter()
        .map(|slot| match slot {
            Slot::Value(Value::List(_) | Value::Dict(_)) => Err(PickleError::Nested),
            Slot::Value(Value::Exception { .. }) | Slot::Mark | Slot::Class(_) | Slot::Arguments(_) => {
                Err(PickleError::OutOfPlace(name))
            }
            Slot::Value(value) => Ok(value),
        })
        .collect()
}

fn pairs(slots: Vec<Slot>, name: &'static str) -> Result<Vec<(Value, Value)>, PickleError> {
    if slots.len() % 2 == 1 {
        return Err(PickleError::OutOfPlace(name));
    }
    let mut values = values(slots, name)?.into_iter();
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn last_text(arguments: &[Slot]) -> Arc<str> {
    let texts = arguments.iter().rev().filter_map(|slot| match slot {
        Slot::Value(Value::Str(text)) => Some(Arc::clone(text)),
        _ => None,
    });
    texts.into_iter().next().unwrap_or_else(|| "".into())
}

fn unsigned(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

/// Little-endian, two's complement, of any length.
fn signed(bytes: &[u8]) -> i64 {
    let is_negative = bytes.last().is_some_and(|&top| top >= 0x80);
    let fill = if is_negative { 0xff } else { 0 };
    let mut low = [fill; 8];
    let len = bytes.len().min(8);
    low[..len].copy_from_slice(&bytes[..len]);
    let number = i64::from_le_bytes(low);
    let fits = bytes.get(8..).is_none_or(|high| high.iter().all(|&byte| byte == fill));
    match (fits && (number < 0) == is_negative, is_negative) {
        (true, _) => number,
        (false, true) => i64::MIN,
        (false, false) => i64::MAX,
    }
}

/// Digits with or without a sign, of any length.
fn decimal(digits: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(digits).ok()?.trim();
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let most = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    Some(text.parse().unwrap_or(most))
}

fn index(digits: &[u8]) -> Option<u32> {
    decimal(digits).and_then(|index| u32::try_from(index).ok())
}

/// Latin-1 but for `\uXXXX` and `\UXXXXXXXX`.
fn raw_unicode_escape(mut bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    while let Some((&byte, rest)) = bytes.split_first() {
        let len = match (byte, rest.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(byte));
                bytes = rest;
                continue;
            }
        };
        let digits = std::str::from_utf8(rest.get(1..=len)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let number = u32::from_str_radix(digits, 16).ok()?;
        if number > u32::from(char::MAX) {
            return None;
        }
        text.push(char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER));
        bytes = &rest[1 + len..];
    }
    Some(text)
}

/// The newest version of pickles: Python 3.8 to 3.14 know it.
const NEWEST: u8 = 5;

/// The most values on the stack, and in the memo: the keys and values of the largest dictionary, the
/// dictionary, the mark, and one opcode's own.
const STACK_LIMIT: usize = 2 * ITEM_LIMIT + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length_are_the_nearest_that_fits() {
        assert_eq!(signed(&[]), 0);
        assert_eq!(signed(&[0xff]), -1);
        assert_eq!(signed(&[0, 1]), 256);
        assert_eq!(signed(&[0, 0, 0, 0x80]), i64::from(i32::MIN));
        assert_eq!(signed(&[0xff; 20]), -1);
        assert_eq!(signed(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0]), i64::MAX);
        assert_eq!(signed(&[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0x80]), i64::MIN);
        assert_eq!(signed(&i64::MIN.to_le_bytes()), i64::MIN);
        assert_eq!(decimal(b"-12"), Some(-12));
        assert_eq!(decimal(b"99999999999999999999"), Some(i64::MAX));
        assert_eq!(decimal(b"-99999999999999999999"), Some(i64::MIN));
        assert_eq!(decimal(b""), None);
        assert_eq!(decimal(b"-"), None);
        assert_eq!(decimal(b"0x10"), None);
    }

    #[test]
    fn raw_unicode_escapes_are_undone() {
        assert_eq!(
            raw_unicode_escape(b"a\\u005cb\xe9\\U0001f600\\n").as_deref(),
            Some("a\\b\u{e9}\u{1f600}\\n")
        );
        assert_eq!(raw_unicode_escape(b"\\ud800").as_deref(), Some("\u{fffd}"));
        for wrong in [&b"\\u12"[..], b"\\u+123", b"\\U00110000", b"\\U0000"] {
            assert_eq!(raw_unicode_escape(wrong), None);
        }
    }
}
