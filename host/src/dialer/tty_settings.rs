//! A serial port's settings, in the words of RFC 2217 and in those of the kernel (termios(3)).
//!
//! **Owns** what of one is which of the other. What the kernel has no word for is left as it is: who has set
//! something reads what holds.

use std::io;
use std::time::Duration;

use rustix::termios::{ControlModes, InputModes, Termios};
use vspc_core::telnet::com_port::Line;

/// What holds. The signals are not among what the kernel tells here: they are those of `before`.
pub(super) fn read(termios: &Termios, before: Line) -> Line {
    let modes = termios.control_modes;
    let data = match modes & ControlModes::CSIZE {
        ControlModes::CS5 => 5,
        ControlModes::CS6 => 6,
        ControlModes::CS7 => 7,
        _ => 8,
    };
    let parity = match [ControlModes::PARENB, ControlModes::CMSPAR, ControlModes::PARODD]
        .map(|mode| modes.contains(mode))
    {
        [false, ..] => NONE,
        [true, false, true] => ODD,
        [true, false, false] => EVEN,
        [true, true, true] => MARK,
        [true, true, false] => SPACE,
    };
    let stop = match (modes.contains(ControlModes::CSTOPB), data) {
        (false, _) => 1,
        (true, 5) => ONE_AND_A_HALF,
        (true, _) => 2,
    };
    let is_hardware = modes.contains(ControlModes::CRTSCTS);
    let [out, into] = [InputModes::IXON, InputModes::IXOFF].map(|mode| termios.input_modes.contains(mode));
    let flow = |is_software| if is_hardware { HARDWARE } else { NONE + u8::from(is_software) };
    let (flow_out, flow_in) = (flow(out), flow(into) + INWARDS);
    Line { baud: termios.output_speed(), data, parity, stop, flow_out, flow_in, ..before }
}

/// How long so many bytes take on the line.
pub(super) fn time_for(bytes: usize, line: &Line) -> Duration {
    // A start bit, and a stop bit or two; parity.
    let bits = 2 + u32::from(line.data) + u32::from(line.stop != 1) + u32::from(line.parity != NONE);
    Duration::from_secs(1) * bits / line.baud.max(1) * u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Has `termios` say what differs between these two.
pub(super) fn write(before: &Line, wanted: &Line, termios: &mut Termios) -> io::Result<()> {
    let modes = &mut termios.control_modes;
    if wanted.data != before.data {
        modes.remove(ControlModes::CSIZE);
        modes.insert(match wanted.data {
            5 => ControlModes::CS5,
            6 => ControlModes::CS6,
            7 => ControlModes::CS7,
            _ => ControlModes::CS8,
        });
    }
    if wanted.parity != before.parity {
        modes.set(ControlModes::PARENB, wanted.parity != NONE);
        modes.set(ControlModes::PARODD, matches!(wanted.parity, ODD | MARK));
        modes.set(ControlModes::CMSPAR, matches!(wanted.parity, MARK | SPACE));
    }
    if wanted.stop != before.stop {
        // One and a half is what two are with five bits (8250 and its kind).
        modes.set(ControlModes::CSTOPB, wanted.stop != 1);
    }
    if (wanted.flow_out, wanted.flow_in) != (before.flow_out, before.flow_in) {
        // By RTS and CTS both ways, or neither: what was asked for last counts.
        let is_hardware = match wanted.flow_out == before.flow_out {
            true => wanted.flow_in == HARDWARE + INWARDS,
            false => wanted.flow_out == HARDWARE,
        };
        modes.set(ControlModes::CRTSCTS, is_hardware);
        termios.input_modes.set(InputModes::IXON, !is_hardware && wanted.flow_out == SOFTWARE);
        termios.input_modes.set(InputModes::IXOFF, !is_hardware && wanted.flow_in == SOFTWARE + INWARDS);
    }
    if wanted.baud != before.baud {
        termios.set_speed(wanted.baud)?;
    }
    Ok(())
}

const NONE: u8 = 1;
const ODD: u8 = 2;
const EVEN: u8 = 3;
const MARK: u8 = 4;
const SPACE: u8 = 5;

const ONE_AND_A_HALF: u8 = 3;

const SOFTWARE: u8 = 2;
const HARDWARE: u8 = 3;

/// Flow control from the line has the number of that towards the line, and this.
const INWARDS: u8 = 13;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, openpt};
    use rustix::termios::tcgetattr;

    /// What holds once this is written over what a new terminal has.
    fn written(change: impl FnOnce(&mut Line)) -> Line {
        let mut termios = tcgetattr(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap()).unwrap();
        termios.make_raw();
        let before = read(&termios, Line::default());
        let mut wanted = before;
        change(&mut wanted);
        write(&before, &wanted, &mut termios).unwrap();
        read(&termios, before)
    }

    #[test]
    fn what_is_set_is_what_holds() {
        for parity in 1..=5 {
            let line = written(|line| (line.baud, line.data, line.parity, line.stop) = (9600, 7, parity, 2));
            assert_eq!((line.baud, line.data, line.parity, line.stop), (9600, 7, parity, 2));
        }
        let line = written(|line| (line.baud, line.data, line.stop) = (250_000, 5, 3));
        assert_eq!((line.baud, line.data, line.stop), (250_000, 5, 3), "a rate that has no name");
        for (flow_out, flow_in) in [(1, 14), (2, 15), (3, 16), (2, 14), (1, 15)] {
            let line = written(|line| (line.flow_out, line.flow_in) = (flow_out, flow_in));
            assert_eq!((line.flow_out, line.flow_in), (flow_out, flow_in));
        }
    }

    #[test]
    fn what_there_is_no_word_for_is_answered_with_what_holds() {
        assert_eq!(written(|line| line.stop = 3).stop, 2, "one and a half, with eight bits");
        assert_eq!(written(|line| line.flow_out = 17).flow_out, 1, "by DCD");
        assert_eq!(written(|line| line.flow_in = 16).flow_out, 3, "hardware is both ways");
    }
}
