//! Bytes in, items out: the receive state machine of RFC 854 and RFC 855.
//!
//! The decoder borrows. Data comes out as slices of the input, and so does a subnegotiation that arrives in
//! one read and holds no doubled IAC. Any other subnegotiation is collected in a buffer, which is bounded,
//! and freed once the subnegotiation has been delivered.

use super::codes::{Command, IAC, Opt, Verb};
use super::wire_form::{find_iac, guest_prefix, wire_prefix};

/// The longest subnegotiation body that is delivered, in bytes after undoubling, unless the decoder is given
/// another limit.
///
/// A subnegotiation does not announce its length, so the decoder must limit it (telnet.md §2). What clients
/// send has a few hundred bytes; 1024 leaves room, and a stranger can make us hold no more than that per
/// connection. A longer one is parsed to its end, dropped, and reported as
/// [`Malformed::OversizedSubnegotiation`].
pub const SUBNEGOTIATION_LIMIT: usize = 1024;

/// One thing a peer said. Its data comes as `D`: bytes as the peer meant them from [`Decoder::decode`], a
/// [`WireRun`] from [`Decoder::decode_wire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a, D = &'a [u8]> {
    /// Data; never empty.
    Data(D),
    /// A two-byte command from EOF (236) to GA (249), but not SE.
    Command(Command),
    /// `IAC <verb> <option>`.
    Negotiation(Verb, Opt),
    /// `IAC SB <option> <body> IAC SE`; the body undoubled, at most the decoder's limit long.
    Subnegotiation(Opt, &'a [u8]),
    /// Something that breaks the rules. Decoding has gone on; count it, perhaps log it.
    Malformed(Malformed),
}

/// A run of data in wire form: every IAC in it belongs to a pair, and no pair is cut. It can be sent to any
/// telnet peer as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireRun<'a> {
    /// The bytes, IAC doubled; never empty.
    pub bytes: &'a [u8],
    /// How many doubled IACs are among them.
    pub pairs: usize,
}

impl WireRun<'_> {
    /// How many bytes the guest sent: a pair is one.
    pub const fn guest_len(&self) -> usize {
        self.bytes.len() - self.pairs
    }
}

/// What a peer got wrong. Never fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// `IAC SE` with no subnegotiation open, or one that ended before naming its option.
    #[error("IAC SE outside a subnegotiation")]
    StraySubnegotiationEnd,
    /// An IAC inside a subnegotiation was followed by neither IAC nor SE. The subnegotiation is dropped, and
    /// the byte is taken as a command. (The option is 255 if the subnegotiation had not named one yet.)
    #[error("subnegotiation of {0} not ended by IAC SE")]
    UnendedSubnegotiation(Opt),
    /// A subnegotiation whose body was `excess` bytes over the decoder's limit, and is not delivered but for
    /// its first byte.
    #[error("subnegotiation of {opt} too long by {excess} bytes")]
    OversizedSubnegotiation {
        /// Its option.
        opt: Opt,
        /// What its body began with.
        first: u8,
        /// How many bytes too long it was; if it was [given up](Decoder::give_up), how many came after that.
        excess: usize,
    },
    /// `IAC` and a byte without a meaning. Both are dropped, as every client does.
    #[error("unknown command {0}")]
    UnknownCommand(u8),
}

/// The telnet receive state machine: 32 bytes, and no heap unless a subnegotiation has to be collected.
///
/// ```text
/// state       byte        does                                    next
/// Data        not IAC     data                                    Data
/// Data        IAC                                                 Iac
/// Iac         IAC         data 255                                Data
/// Iac         251..=254   keep the verb                           Verb
/// Iac         SB                                                  SbOption
/// Iac         SE          StraySubnegotiationEnd                  Data
/// Iac         236..=249   Command                                 Data
/// Iac         0..=235     UnknownCommand, both bytes gone         Data
/// Verb        any         Negotiation                             Data
/// SbOption    IAC                                                 SbOptionIac
/// SbOption    other       keep the option                         Sb
/// SbOptionIac IAC         option 255                              Sb
/// SbOptionIac SE          StraySubnegotiationEnd                  Data
/// SbOptionIac other       UnendedSubnegotiation                   Iac, same byte again
/// Sb          IAC                                                 SbIac
/// Sb          other       append (beyond the limit: count)        Sb
/// SbIac       IAC         append 255                              Sb
/// SbIac       SE          Subnegotiation, or Oversized            Data
/// SbIac       other       UnendedSubnegotiation                   Iac, same byte again
/// ```
///
/// However the input is cut into reads, the items are the same, except that data may come in other pieces.
#[derive(Debug)]
pub struct Decoder {
    /// The part of a subnegotiation body received so far, undoubled; at most the limit. When it is full it is
    /// freed at once and the rest is counted in `excess`, because an oversized body is never delivered. After
    /// a delivery the next call frees it.
    body: Vec<u8>,
    /// Body bytes beyond the limit; saturates.
    excess: u32,
    state: State,
    opt: Opt,
    /// What a body began with that is longer than the limit.
    first: u8,
    /// The limit, in KiB.
    limit: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Data,
    Iac,
    Verb(Verb),
    SbOption,
    SbOptionIac,
    Sb,
    SbIac,
}

/// What one step found. The collected body is borrowed only after the step, hence a variant of its own.
enum Step<'i, D> {
    Item(Item<'i, D>),
    Collected(Opt),
}

/// The form in which data is taken off the input.
trait Data<'i>: Sized {
    /// Takes the longest run of data off the front of `input`; `None` if it does not begin with data.
    fn take(input: &mut &'i [u8]) -> Option<Self>;
    /// A pair that was cut between two reads; `second` is its second half.
    fn pair(second: &'i [u8]) -> Self;
}

impl<'i> Data<'i> for &'i [u8] {
    #[inline]
    fn take(input: &mut &'i [u8]) -> Option<Self> {
        let (len, skip) = guest_prefix(input);
        let data = &input[..len];
        *input = &input[len + skip..];
        (len > 0).then_some(data)
    }

    fn pair(second: &'i [u8]) -> Self {
        second
    }
}

impl<'i> Data<'i> for WireRun<'i> {
    #[inline]
    fn take(input: &mut &'i [u8]) -> Option<Self> {
        let (len, pairs) = wire_prefix(input);
        let (bytes, rest) = input.split_at(len);
        *input = rest;
        (len > 0).then_some(WireRun { bytes, pairs })
    }

    fn pair(_: &'i [u8]) -> Self {
        WireRun { bytes: &[IAC; 2], pairs: 1 }
    }
}

impl Decoder {
    /// A decoder at the start of a connection.
    pub const fn new() -> Self {
        Self::with_limit(1)
    }

    /// A decoder that delivers subnegotiations of up to so many KiB. It may hold as much.
    pub const fn with_limit(kib: u8) -> Self {
        Self { body: Vec::new(), excess: 0, state: State::Data, opt: Opt(0), first: 0, limit: kib }
    }

    /// Takes the next item off the front of `input`, data undoubled; `None` when the input is used up. Call
    /// it until then: the last call also frees the buffer of a delivered subnegotiation.
    ///
    /// A run of pairs ends a slice: of its 2n bytes the first n are what the peer meant. Costs one pass over
    /// the bytes taken.
    pub fn decode<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Option<Item<'s>> {
        match self.step(input)? {
            Step::Item(item) => Some(item),
            Step::Collected(opt) => Some(Item::Subnegotiation(opt, &self.body)),
        }
    }

    /// As [`decode`](Self::decode), but data stays in wire form, in runs as long as possible. A pair that was
    /// cut between two reads comes out as a run of its own.
    pub fn decode_wire<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Option<Item<'s, WireRun<'s>>> {
        match self.step(input)? {
            Step::Item(item) => Some(item),
            Step::Collected(opt) => Some(Item::Subnegotiation(opt, &self.body)),
        }
    }

    /// Whether no command is half received: the next byte is data or begins a command.
    pub fn is_idle(&self) -> bool {
        self.state == State::Data
    }

    /// Whether the last byte was an IAC whose second byte has not come yet.
    pub fn pending_iac(&self) -> bool {
        self.state == State::Iac
    }

    /// How many bytes of heap it holds: a subnegotiation that has not ended yet.
    pub fn held(&self) -> usize {
        self.body.capacity()
    }

    /// Frees what it holds: for a caller who has no more room for it. The subnegotiation is reported as
    /// [`Malformed::OversizedSubnegotiation`] when it ends. Does nothing if it holds nothing.
    pub fn give_up(&mut self) {
        if let Some(&first) = self.body.first() {
            self.overflow(first, 1);
        }
    }

    #[inline]
    fn step<'i, D: Data<'i>>(&mut self, input: &mut &'i [u8]) -> Option<Step<'i, D>> {
        if self.state == State::Data {
            if self.body.capacity() != 0 {
                self.body = Vec::new();
            }
            if let Some(data) = D::take(input) {
                return Some(Step::Item(Item::Data(data)));
            }
        }
        self.step_command(input)
    }

    /// Decodes everything but a run of data. If the state is Data on entry, the input is empty or begins with
    /// an IAC whose second half is not in this input.
    fn step_command<'i, D: Data<'i>>(&mut self, input: &mut &'i [u8]) -> Option<Step<'i, D>> {
        loop {
            if self.state == State::Sb {
                if let Some(step) = self.take_body(input) {
                    return Some(step);
                }
                continue_or_end(input)?;
            }
            let (&byte, rest) = input.split_first()?;
            let item = match (self.state, byte) {
                (State::Data, _) => {
                    debug_assert_eq!(byte, IAC);
                    *input = rest;
                    self.state = State::Iac;
                    continue;
                }
                (State::Iac, IAC) => {
                    let (second, after) = input.split_at(1);
                    *input = after;
                    self.state = State::Data;
                    Item::Data(D::pair(second))
                }
                (State::Iac, _) => {
                    *input = rest;
                    match self.command(byte) {
                        Some(item) => item,
                        None => continue,
                    }
                }
                (State::Verb(verb), _) => {
                    *input = rest;
                    self.state = State::Data;
                    Item::Negotiation(verb, Opt(byte))
                }
                (State::SbOption, IAC) => {
                    *input = rest;
                    self.state = State::SbOptionIac;
                    continue;
                }
                (State::SbOption, _) | (State::SbOptionIac, IAC) => {
                    *input = rest;
                    self.opt = Opt(byte);
                    self.state = State::Sb;
                    continue;
                }
                (State::SbOptionIac, SE) => {
                    *input = rest;
                    self.state = State::Data;
                    Item::Malformed(Malformed::StraySubnegotiationEnd)
                }
                (State::SbOptionIac, _) => {
                    self.state = State::Iac;
                    Item::Malformed(Malformed::UnendedSubnegotiation(Opt(IAC)))
                }
                (State::SbIac, IAC) => {
                    *input = rest;
                    self.append(&[IAC]);
                    self.state = State::Sb;
                    continue;
                }
                (State::SbIac, SE) => {
                    *input = rest;
                    self.state = State::Data;
                    match std::mem::take(&mut self.excess) {
                        0 => return Some(Step::Collected(self.opt)),
                        excess => Item::Malformed(Malformed::OversizedSubnegotiation {
                            opt: self.opt,
                            first: self.first,
                            excess: excess as usize,
                        }),
                    }
                }
                (State::SbIac, _) => {
                    self.body = Vec::new();
                    self.excess = 0;
                    self.state = State::Iac;
                    Item::Malformed(Malformed::UnendedSubnegotiation(self.opt))
                }
                (State::Sb, _) => continue,
            };
            return Some(Step::Item(item));
        }
    }

    /// Decodes the byte after an IAC, which is not an IAC. `None`: more bytes belong to the command.
    fn command<D>(&mut self, byte: u8) -> Option<Item<'static, D>> {
        self.state = State::Data;
        match byte {
            0..=235 => Some(Item::Malformed(Malformed::UnknownCommand(byte))),
            SE => Some(Item::Malformed(Malformed::StraySubnegotiationEnd)),
            SB => {
                self.state = State::SbOption;
                None
            }
            _ => match Verb::from_byte(byte) {
                Some(verb) => {
                    self.state = State::Verb(verb);
                    None
                }
                None => Some(Item::Command(Command(byte))),
            },
        }
    }

    /// In state Sb: takes body bytes up to and including the next IAC. Delivers straight from the input if
    /// the whole body is there and holds no doubled IAC.
    fn take_body<'i, D>(&mut self, input: &mut &'i [u8]) -> Option<Step<'i, D>> {
        let Some(len) = find_iac(input) else {
            self.append(input);
            *input = &[];
            return None;
        };
        let (body, rest) = input.split_at(len);
        if self.body.is_empty() && self.excess == 0 && len <= self.limit() && rest.get(1) == Some(&SE) {
            *input = &rest[2..];
            self.state = State::Data;
            return Some(Step::Item(Item::Subnegotiation(self.opt, body)));
        }
        self.append(body);
        self.state = State::SbIac;
        *input = &rest[1..];
        None
    }

    /// Appends to the body up to the limit, and counts the rest.
    fn append(&mut self, bytes: &[u8]) {
        let needed = self.body.len() + bytes.len();
        if self.excess == 0 && needed <= self.limit() {
            if needed > self.body.capacity() {
                // Left to itself, a Vec could take a capacity beyond the limit.
                let capacity = needed.max(2 * self.body.capacity()).clamp(64, self.limit());
                self.body.reserve_exact(capacity - self.body.len());
            }
            self.body.extend_from_slice(bytes);
        } else if self.excess > 0 {
            self.excess = self.excess.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        } else if let Some(&first) = self.body.first().or(bytes.first()) {
            self.overflow(first, needed - self.limit());
        }
    }

    /// The body is not going to be delivered: it is freed, and the rest of it counted.
    fn overflow(&mut self, first: u8, excess: usize) {
        self.body = Vec::new();
        self.first = first;
        self.excess = u32::try_from(excess).unwrap_or(u32::MAX);
    }

    fn limit(&self) -> usize {
        usize::from(self.limit) << 10
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// `None` when nothing is left to read.
fn continue_or_end(input: &[u8]) -> Option<()> {
    (!input.is_empty()).then_some(())
}

const _: () = assert!(SUBNEGOTIATION_LIMIT == 1 << 10, "what Decoder::new takes");

const SB: u8 = Command::SB.0;
const SE: u8 = Command::SE.0;

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
