//! COM-PORT (RFC 2217), the side that has the serial line: its peer sets and asks, it applies and confirms.
//!
//! **Owns** what the codes and their values mean, the settings of a line ([`Line`]) and what one connection
//! has ordered for itself ([`Session`]). **Refuses to know** what the line really is: a break, a purge and a
//! change of the modem's state are handed on or handed in.
//!
//! A command is confirmed with the value that holds now, whatever was asked for: one that is unknown changes
//! nothing. Commands that only the side with the line may send are ignored, as is one that is cut short.

use super::codes::Opt;
use super::encode::put_subnegotiation;

/// The settings of a serial line: the latest that anybody asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// Bits per second.
    pub baud: u32,
    /// Bits of a character: 5 to 8.
    pub data: u8,
    /// 1 none, 2 odd, 3 even, 4 mark, 5 space.
    pub parity: u8,
    /// 1: one stop bit, 2: two, 3: one and a half.
    pub stop: u8,
    /// Towards the line: 1 none, 2 XON/XOFF, 3 hardware, 17 DCD, 19 DSR.
    pub flow_out: u8,
    /// From the line: 14 none, 15 XON/XOFF, 16 hardware, 18 DTR.
    pub flow_in: u8,
    /// Data terminal ready.
    pub dtr: bool,
    /// Request to send.
    pub rts: bool,
}

/// What Linux programs its consoles to.
impl Default for Line {
    fn default() -> Self {
        Self {
            baud: 115_200,
            data: 8,
            parity: 1,
            stop: 1,
            flow_out: 1,
            flow_in: FLOW_IN_NONE,
            dtr: true,
            rts: true,
        }
    }
}

/// What a command asks for beyond settings.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// A break on the line.
    Break,
    /// Forget what came from the line and the peer does not have yet, what goes to the line and is not sent
    /// yet, or both.
    Purge {
        /// What came from the line.
        received: bool,
        /// What goes to the line.
        unsent: bool,
    },
    /// Send nothing, neither data nor commands, until [`Resume`](Self::Resume).
    Suspend,
    /// Send again.
    Resume,
}

/// It is not a command that a peer may send, or is cut short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// What one connection has ordered for itself, and was told. Lasts as long as the option is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    modem_mask: u8,
    line_mask: u8,
    /// The modem's state that it was told of.
    modem: Option<u8>,
    is_suspended: bool,
    /// It holds the line at break.
    is_break: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self { modem_mask: 0xff, line_mask: 0, modem: None, is_suspended: false, is_break: false }
    }
}

impl Session {
    /// Nothing may be sent to it now.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    /// Handles the body of a subnegotiation, undoubled, and appends the answer to `out`: at most one message,
    /// for SIGNATURE as long as `signature`, else at most 12 bytes. Constant cost.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: nothing was changed and nothing answered. Count it, and go on.
    pub fn handle(
        &mut self,
        body: &[u8],
        line: &mut Line,
        signature: &str,
        out: &mut Vec<u8>,
    ) -> Result<Option<Asked>, Malformed> {
        let mut asked = None;
        match *body {
            [SIGNATURE] => answer(SIGNATURE, signature.as_bytes(), out),
            // It tells what it is.
            [SIGNATURE, ..] => {}
            [BAUD, a, b, c, d] => {
                let baud = u32::from_be_bytes([a, b, c, d]);
                line.baud = if baud == 0 { line.baud } else { baud };
                answer(BAUD, &line.baud.to_be_bytes(), out);
            }
            // As before the RFC, and still by some routers: a code for the rate.
            [BAUD, code] => {
                line.baud = old_rate(code).unwrap_or(line.baud);
                match OLD_RATES.iter().find(|&&(_, rate)| rate == line.baud) {
                    Some(&(code, _)) => answer(BAUD, &[code], out),
                    None => answer(BAUD, &line.baud.to_be_bytes(), out),
                }
            }
            [DATA_SIZE, value] => {
                line.data = if (5..=8).contains(&value) { value } else { line.data };
                answer(DATA_SIZE, &[line.data], out);
            }
            [PARITY, value] => {
                line.parity = if (1..=5).contains(&value) { value } else { line.parity };
                answer(PARITY, &[line.parity], out);
            }
            [STOP_SIZE, value] => {
                line.stop = if (1..=3).contains(&value) { value } else { line.stop };
                answer(STOP_SIZE, &[line.stop], out);
            }
            [CONTROL, value] => {
                let was_break = self.is_break;
                answer(CONTROL, &[self.control(value, line)], out);
                asked = (self.is_break && !was_break).then_some(Asked::Break);
            }
            [SUSPEND] => {
                self.is_suspended = true;
                asked = Some(Asked::Suspend);
            }
            [RESUME] => {
                self.is_suspended = false;
                asked = Some(Asked::Resume);
            }
            [LINE_MASK, mask] => {
                self.line_mask = mask;
                answer(LINE_MASK, &[mask], out);
            }
            [MODEM_MASK, mask] => {
                self.modem_mask = mask;
                answer(MODEM_MASK, &[mask], out);
            }
            [PURGE, what @ 1..=3] => {
                answer(PURGE, &[what], out);
                asked = Some(Asked::Purge { received: what & 1 != 0, unsent: what & 2 != 0 });
            }
            _ => return Err(Malformed),
        }
        Ok(asked)
    }

    /// The modem's signals are these now, of [`CARRIER`], [`DATA_SET_READY`] and [`CLEAR_TO_SEND`]. Appends
    /// what the peer is to be told of that: nothing where it was told so before, or its mask leaves nothing.
    pub fn tell_modem(&mut self, signals: u8, out: &mut Vec<u8>) {
        // Each signal has its change four bits below it.
        let changes = self.modem.map_or(0, |before| (before ^ signals) >> 4);
        let before = self.modem.replace(signals);
        let told = (signals | changes) & self.modem_mask;
        // That there is no signal at all is the first thing that some wait for.
        let is_first = before.is_none() && self.modem_mask != 0;
        if before != Some(signals) && (told != 0 || is_first) {
            answer(MODEM_STATE, &[told], out);
        }
    }

    /// Appends what is to be told of what has happened on the line: nothing where its mask leaves nothing.
    pub fn tell_line(&mut self, state: u8, out: &mut Vec<u8>) {
        let told = state & self.line_mask;
        if told != 0 {
            answer(LINE_STATE, &[told], out);
        }
    }

    /// Carries out a SET-CONTROL. Returns what holds now of what it is about.
    fn control(&mut self, value: u8, line: &mut Line) -> u8 {
        match value {
            1..=3 => (line.flow_out, line.flow_in) = (value, value + FLOW_IN_NONE - 1),
            17 | 19 => line.flow_out = value,
            14..=16 | 18 => line.flow_in = value,
            5 | 6 => self.is_break = value == 5,
            8 | 9 => line.dtr = value == 8,
            11 | 12 => line.rts = value == 11,
            _ => {}
        }
        match value {
            4..=6 => 6 - u8::from(self.is_break),
            7..=9 => 9 - u8::from(line.dtr),
            10..=12 => 12 - u8::from(line.rts),
            13..=16 | 18 => line.flow_in,
            _ => line.flow_out,
        }
    }
}

/// Appends the answer to a command that says what holds, whatever was asked for.
pub fn put_what_holds(body: &[u8], line: &Line, out: &mut Vec<u8>) {
    let query = match *body {
        [BAUD, _] => &[BAUD, 0][..],
        [BAUD, ..] => &[BAUD, 0, 0, 0, 0],
        [CONTROL, value] => match value {
            4..=6 => &[CONTROL, 4],
            7..=9 => &[CONTROL, 7],
            10..=12 => &[CONTROL, 10],
            13..=16 | 18 => &[CONTROL, 13],
            _ => &[CONTROL, 0],
        },
        [PURGE, _] => body,
        [command, _] => &[command, 0],
        _ => return,
    };
    // A query changes nothing, and asks for nothing.
    let _ = Session::default().handle(query, &mut line.clone(), "", out);
}

/// Carrier detect, in the modem's state.
pub const CARRIER: u8 = 0x80;
/// Data set ready.
pub const DATA_SET_READY: u8 = 0x20;
/// Clear to send.
pub const CLEAR_TO_SEND: u8 = 0x10;

fn answer(code: u8, value: &[u8], out: &mut Vec<u8>) {
    let body = [&[code + ANSWER], value].concat();
    put_subnegotiation(Opt::COM_PORT, &body, out);
}

pub(super) fn old_rate(code: u8) -> Option<u32> {
    OLD_RATES.iter().find(|&&(known, _)| known == code).map(|&(_, rate)| rate)
}

pub(super) const SIGNATURE: u8 = 0;
pub(super) const BAUD: u8 = 1;
pub(super) const DATA_SIZE: u8 = 2;
pub(super) const PARITY: u8 = 3;
pub(super) const STOP_SIZE: u8 = 4;
pub(super) const CONTROL: u8 = 5;
pub(super) const LINE_STATE: u8 = 6;
pub(super) const MODEM_STATE: u8 = 7;
pub(super) const SUSPEND: u8 = 8;
pub(super) const RESUME: u8 = 9;
pub(super) const LINE_MASK: u8 = 10;
pub(super) const MODEM_MASK: u8 = 11;
/// PURGE-DATA.
pub(crate) const PURGE: u8 = 12;

/// What the side with the line says has the code that it answers, and this.
pub(super) const ANSWER: u8 = 100;

const FLOW_IN_NONE: u8 = 14;

/// Rates that are one byte.
const OLD_RATES: &[(u8, u32)] = &[
    (3, 300),
    (4, 600),
    (5, 1200),
    (6, 2400),
    (7, 4800),
    (8, 9600),
    (10, 19_200),
    (12, 38_400),
    (13, 57_600),
    (14, 115_200),
    (15, 230_400),
];

#[cfg(test)]
#[path = "com_port_tests.rs"]
mod tests;
