//! COM-PORT (RFC 2217), the side that sets and asks: its peer, an access server, has the serial line.
//!
//! **Owns** what is said when the option comes on, what the access server's words mean, and which of them
//! answers what. **Refuses to know** what becomes of a break, and who is waiting for an answer.

use super::codes::Opt;
use super::com_port::{self as code, ANSWER, Line, Malformed};
use super::encode::put_subnegotiation;
use super::port_settings::PortSettings;

/// One thing that an access server can be asked, each of which has an answer of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// Bits per second.
    Speed,
    /// Bits of a character.
    Data,
    /// Parity.
    Parity,
    /// Stop bits.
    Stop,
    /// Flow control towards the line.
    FlowOut,
    /// Break.
    Break,
    /// Data terminal ready.
    Dtr,
    /// Request to send.
    Rts,
    /// Flow control from the line.
    FlowIn,
    /// Forgetting what waits.
    Purge,
}

impl Subject {
    /// What a command, or an answer whose code is brought down to its command's, is about. `None`: nothing
    /// that the line has to answer.
    #[must_use]
    pub fn of(body: &[u8]) -> Option<Self> {
        Some(match *body {
            [code::BAUD, _] | [code::BAUD, _, _, _, _] => Self::Speed,
            [code::DATA_SIZE, _] => Self::Data,
            [code::PARITY, _] => Self::Parity,
            [code::STOP_SIZE, _] => Self::Stop,
            [code::CONTROL, value] => match value {
                4..=6 => Self::Break,
                7..=9 => Self::Dtr,
                10..=12 => Self::Rts,
                13..=16 | 18 => Self::FlowIn,
                _ => Self::FlowOut,
            },
            [code::PURGE, 1..=3] => Self::Purge,
            _ => return None,
        })
    }
}

/// What an access server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// This holds now: a line was changed accordingly, and whoever has asked can be answered.
    Confirmed(Subject),
    /// The modem's signals, without their changes.
    Modem(u8),
    /// What has happened on the line: breaks, errors.
    LineState(u8),
    /// It is to be sent no data until [`Resume`](Self::Resume).
    Suspend,
    /// It takes data again.
    Resume,
    /// Nothing that matters: who it is, a mask.
    Nothing,
}

/// What an access server is asked first, once the option is on: the settings that are wanted are made, the
/// others are asked for.
#[must_use]
pub fn opening(wanted: &PortSettings) -> [Vec<u8>; 8] {
    [
        [[code::BAUD].as_slice(), &wanted.speed.unwrap_or(0).to_be_bytes()].concat(),
        vec![code::DATA_SIZE, wanted.data.unwrap_or(0)],
        vec![code::PARITY, wanted.parity.unwrap_or(0)],
        vec![code::STOP_SIZE, wanted.stop.unwrap_or(0)],
        vec![code::CONTROL, wanted.flow.unwrap_or(0)],
        vec![code::CONTROL, DTR_QUERY],
        vec![code::CONTROL, RTS_QUERY],
        vec![code::CONTROL, FLOW_IN_QUERY],
    ]
}

/// The modem's signals and the line's faults are to be told.
pub fn put_masks(out: &mut Vec<u8>) {
    put(&[code::LINE_MASK, FAULTS], out);
    put(&[code::MODEM_MASK, ALL_SIGNALS], out);
}

/// Whether there is the value that a command sets, or it is a query.
#[must_use]
pub fn has_known_value(body: &[u8]) -> bool {
    match *body {
        [code::BAUD, old] => old == 0 || code::old_rate(old).is_some(),
        [code::DATA_SIZE, value] => value == 0 || (5..=8).contains(&value),
        [code::PARITY, value] => value <= 5,
        [code::STOP_SIZE, value] => value <= 3,
        [code::CONTROL, value] => value <= 19,
        _ => true,
    }
}

/// The value behind a command or an answer, a rate of one byte as what it stands for. 0: it is a query.
#[must_use]
pub fn value(body: &[u8]) -> u32 {
    match *body {
        [code::CONTROL, 0 | 4 | 7 | 10 | 13] => 0,
        [command, old] if command % ANSWER == code::BAUD => code::old_rate(old).unwrap_or(0),
        [_, a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
        [_, value] => u32::from(value),
        _ => 0,
    }
}

/// A break begins, or is over.
pub fn put_break(is_on: bool, out: &mut Vec<u8>) {
    put(&[code::CONTROL, if is_on { 5 } else { 6 }], out);
}

/// A command that whoever uses the line gives, for the line itself; a rate of one byte becomes one of four.
pub fn put_command_of(body: &[u8], out: &mut Vec<u8>) {
    match *body {
        [code::BAUD, old] => {
            let rate = code::old_rate(old).unwrap_or(0);
            put(&[[code::BAUD].as_slice(), &rate.to_be_bytes()].concat(), out);
        }
        _ => put(body, out),
    }
}

/// Handles the body of a subnegotiation, undoubled: what it confirms is noted in `line`. Constant cost.
///
/// # Errors
///
/// [`Malformed`]: nothing that an access server may say, or cut short, or a value that does not exist. Count
/// it, and go on.
pub fn handle(body: &[u8], line: &mut Line) -> Result<Heard, Malformed> {
    let (&command, value) = body.split_first().ok_or(Malformed)?;
    let command = command.checked_sub(ANSWER).ok_or(Malformed)?;
    match (command, value) {
        (code::SIGNATURE, _) | (code::LINE_MASK | code::MODEM_MASK, [_]) => return Ok(Heard::Nothing),
        (code::LINE_STATE, &[state]) => return Ok(Heard::LineState(state)),
        (code::MODEM_STATE, &[state]) => return Ok(Heard::Modem(state & SIGNALS)),
        (code::SUSPEND, []) => return Ok(Heard::Suspend),
        (code::RESUME, []) => return Ok(Heard::Resume),
        (code::BAUD, &[a, b, c, d]) => match u32::from_be_bytes([a, b, c, d]) {
            0 => {}
            baud => line.baud = baud,
        },
        (code::BAUD, &[old]) => line.baud = code::old_rate(old).unwrap_or(line.baud),
        (code::DATA_SIZE, &[data @ 5..=8]) => line.data = data,
        // It does not know.
        (code::DATA_SIZE | code::PARITY | code::STOP_SIZE | code::CONTROL, &[0]) => {}
        (code::PARITY, &[parity @ 1..=5]) => line.parity = parity,
        (code::STOP_SIZE, &[stop @ 1..=3]) => line.stop = stop,
        (code::CONTROL, &[value]) => match value {
            1..=3 | 17 | 19 => line.flow_out = value,
            14..=16 | 18 => line.flow_in = value,
            8 | 9 => line.dtr = value == 8,
            11 | 12 => line.rts = value == 11,
            5 | 6 => {}
            _ => return Err(Malformed),
        },
        (code::PURGE, &[1..=3]) => {}
        _ => return Err(Malformed),
    }
    let subject = Subject::of(&[&[command], value].concat()).ok_or(Malformed)?;
    Ok(Heard::Confirmed(subject))
}

impl PortSettings {
    /// These are wanted as the line has them now, as far as this subject goes.
    pub fn want_as(&mut self, subject: Subject, line: &Line) {
        match subject {
            Subject::Speed => self.speed = Some(line.baud),
            Subject::Data => self.data = Some(line.data),
            Subject::Parity => self.parity = Some(line.parity),
            Subject::Stop => self.stop = Some(line.stop),
            Subject::FlowOut if line.flow_out <= 3 => self.flow = Some(line.flow_out),
            Subject::FlowOut
            | Subject::Break
            | Subject::Dtr
            | Subject::Rts
            | Subject::FlowIn
            | Subject::Purge => {}
        }
    }
}

fn put(body: &[u8], out: &mut Vec<u8>) {
    put_subnegotiation(Opt::COM_PORT, body, out);
}

const DTR_QUERY: u8 = 7;
const RTS_QUERY: u8 = 10;
const FLOW_IN_QUERY: u8 = 13;

/// Break, framing, parity and overrun errors: not the transmitter's states, of which there is one a byte.
const FAULTS: u8 = 0x1e;

const ALL_SIGNALS: u8 = 0xff;

/// Carrier, ring, data set ready, clear to send; the four bits below are their changes.
const SIGNALS: u8 = 0xf0;

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::telnet::{Decoder, Item};

    fn bodies(mut wire: &[u8]) -> Vec<Vec<u8>> {
        let (mut decoder, mut bodies) = (Decoder::new(), Vec::new());
        while let Some(item) = decoder.decode(&mut wire) {
            let Item::Subnegotiation(Opt::COM_PORT, body) = item else { panic!("{item:?}") };
            bodies.push(body.to_vec());
        }
        bodies
    }

    #[test]
    fn what_is_wanted_is_set_and_the_rest_is_asked_for() {
        let mut out = Vec::new();
        for body in opening(&"speed=65535&parity=even".parse().unwrap()) {
            put_command_of(&body, &mut out);
        }
        put_masks(&mut out);
        let expected: [&[u8]; 10] = [
            &[1, 0, 0, 0xff, 0xff],
            &[2, 0],
            &[3, 3],
            &[4, 0],
            &[5, 0],
            &[5, 7],
            &[5, 10],
            &[5, 13],
            &[10, 0x1e],
            &[11, 0xff],
        ];
        assert_eq!(bodies(&out), expected);
    }

    #[test]
    fn every_confirmation_is_noted_and_answers_its_own_subject() {
        let mut line = Line::default();
        for (said, subject) in [
            (&[101, 0, 0, 0x25, 0x80][..], Subject::Speed),
            (&[102, 7], Subject::Data),
            (&[103, 3], Subject::Parity),
            (&[104, 2], Subject::Stop),
            (&[105, 2], Subject::FlowOut),
            (&[105, 16], Subject::FlowIn),
            (&[105, 5], Subject::Break),
            (&[105, 9], Subject::Dtr),
            (&[105, 12], Subject::Rts),
            (&[112, 3], Subject::Purge),
        ] {
            assert_eq!(handle(said, &mut line), Ok(Heard::Confirmed(subject)), "{said:?}");
        }
        let expected = Line {
            baud: 9600,
            data: 7,
            parity: 3,
            stop: 2,
            flow_out: 2,
            flow_in: 16,
            dtr: false,
            rts: false,
        };
        assert_eq!(line, expected);
        assert_eq!(handle(&[101, 8], &mut line), Ok(Heard::Confirmed(Subject::Speed)));
        assert_eq!(handle(&[107, 0xbf], &mut line), Ok(Heard::Modem(0xb0)));
        assert_eq!(handle(&[108], &mut line), Ok(Heard::Suspend));
        assert_eq!(handle(&[100, b'x'], &mut line), Ok(Heard::Nothing));
    }

    #[test]
    fn what_no_access_server_may_say_changes_nothing() {
        let mut line = Line::default();
        for body in [&[][..], &[1, 0, 0, 1, 0], &[101, 1, 2], &[102, 9], &[102], &[105, 4], &[112, 0], &[113]]
        {
            assert_eq!(handle(body, &mut line), Err(Malformed), "{body:?}");
        }
        assert_eq!(line, Line::default());
    }

    quickcheck! {
        fn no_body_leaves_a_line_with_a_setting_that_does_not_exist(bodies: Vec<Vec<u8>>) -> bool {
            let mut line = Line::default();
            for body in &bodies {
                let _ = handle(body, &mut line);
            }
            line.baud > 0 && (5..=8).contains(&line.data) && (1..=5).contains(&line.parity)
                && (1..=3).contains(&line.stop)
        }
    }
}
