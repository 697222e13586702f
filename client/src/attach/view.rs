//! How output is shown: as it is, with a time before each line, or as hexadecimal.
//!
//! Owns where lines begin. Takes the time as an argument.

use std::time::Duration;

use vspc_core::time::Instant;

/// What stands before each line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Stamps {
    #[default]
    None,
    /// The time of day.
    Clock,
    /// Since the console was attached to.
    SinceStart,
    /// Since the line before.
    SinceLast,
}

impl Stamps {
    /// The next in turn.
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::None => Self::Clock,
            Self::Clock => Self::SinceStart,
            Self::SinceStart => Self::SinceLast,
            Self::SinceLast => Self::None,
        }
    }

    /// What it is, for people.
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::None => "no times",
            Self::Clock => "the time of day before each line",
            Self::SinceStart => "the time since the start before each line",
            Self::SinceLast => "the time since the last line before each line",
        }
    }
}

/// When output came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    /// Time of day, where the user is.
    pub(crate) of_day: Duration,
}

/// The view of one console.
#[derive(Clone, Debug)]
pub(crate) struct View {
    stamps: Stamps,
    hex: bool,
    started: Instant,
    last_line: Instant,
    at_line_start: bool,
}

impl View {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { stamps: Stamps::None, hex: false, started: now, last_line: now, at_line_start: true }
    }

    /// The next kind of times; which it is now.
    pub(crate) fn turn_stamps(&mut self) -> Stamps {
        self.stamps = self.stamps.next();
        self.stamps
    }

    /// Hexadecimal or not; which it is now.
    pub(crate) fn turn_hex(&mut self) -> bool {
        self.hex = !self.hex;
        self.hex
    }

    /// Something else was shown, and ended its line.
    pub(crate) const fn line_ended(&mut self) {
        self.at_line_start = true;
    }

    /// Whether what is shown next begins a line.
    pub(crate) const fn is_at_line_start(&self) -> bool {
        self.at_line_start
    }

    /// Appends to `shown` what is to be shown for output that begins at this offset.
    pub(crate) fn show(&mut self, output: &[u8], offset: u64, now: Moment, shown: &mut Vec<u8>) {
        if self.hex {
            return self.show_hex(output, offset, now, shown);
        }
        if self.stamps == Stamps::None {
            shown.extend_from_slice(output);
        } else {
            for line in output.split_inclusive(|&byte| byte == b'\n') {
                // A CR alone goes back in its line and begins none.
                let returns = line.iter().take_while(|&&byte| byte == b'\r').count();
                if self.at_line_start && returns < line.len() {
                    self.stamp(now, shown);
                }
                self.at_line_start &= returns == line.len();
                shown.extend_from_slice(line);
                self.at_line_start |= line.ends_with(b"\n");
            }
        }
        self.at_line_start = match output.last() {
            Some(b'\n') => true,
            Some(b'\r') | None => self.at_line_start,
            Some(_) => false,
        };
    }

    fn show_hex(&mut self, output: &[u8], offset: u64, now: Moment, shown: &mut Vec<u8>) {
        if !self.at_line_start {
            shown.extend_from_slice(b"\r\n");
        }
        for (row, at) in output.chunks(ROW).zip((offset..).step_by(ROW)) {
            if self.stamps != Stamps::None {
                self.stamp(now, shown);
            }
            let mut line = format!("{at:08x} ");
            for byte in row {
                line.push_str(&format!(" {byte:02x}"));
            }
            let text = row.iter().map(|&byte| match byte {
                b' '..=b'~' => char::from(byte),
                _ => '.',
            });
            line.push_str(&format!(
                "{:width$}  |{}|\r\n",
                "",
                text.collect::<String>(),
                width = 3 * (ROW - row.len())
            ));
            shown.extend_from_slice(line.as_bytes());
        }
        self.at_line_start = true;
    }

    fn stamp(&mut self, now: Moment, shown: &mut Vec<u8>) {
        let text = match self.stamps {
            Stamps::None => return,
            Stamps::Clock => {
                let (seconds, millis) = (now.of_day.as_secs(), now.of_day.subsec_millis());
                format!(
                    "{:02}:{:02}:{:02}.{millis:03} ",
                    seconds / 3600 % 24,
                    seconds / 60 % 60,
                    seconds % 60
                )
            }
            Stamps::SinceStart => since(now.at.duration_since(self.started)),
            Stamps::SinceLast => since(now.at.duration_since(self.last_line)),
        };
        self.last_line = now.at;
        shown.extend_from_slice(text.as_bytes());
    }
}

fn since(time: Duration) -> String {
    format!("+{:>4}.{:03} ", time.as_secs(), time.subsec_millis())
}

/// Bytes in a row of hexadecimal.
const ROW: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(millis: u64) -> Moment {
        let of_day = Duration::from_millis(12 * 3_600_000 + 34 * 60_000 + millis);
        Moment { at: Instant::from_millis(millis), of_day }
    }

    fn shown(view: &mut View, output: &[(u64, &str)]) -> String {
        let mut shown = Vec::new();
        let mut offset = 0;
        for (millis, text) in output {
            view.show(text.as_bytes(), offset, moment(*millis), &mut shown);
            offset += text.len() as u64;
        }
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn output_is_shown_as_it_is() {
        let mut view = View::new(Instant::ZERO);
        assert_eq!(shown(&mut view, &[(1, "a\r\n\x1b[31m"), (2, "b")]), "a\r\n\x1b[31mb");
        assert!(!view.is_at_line_start());
    }

    #[test]
    fn a_time_stands_before_each_line_once_however_it_is_cut() {
        let mut view = View::new(Instant::ZERO);
        assert_eq!(view.turn_stamps(), Stamps::Clock);
        let cut = [(1000, "on"), (1500, "e\r"), (1500, "\ntwo\r\n"), (2000, "\r\nlog"), (2500, "in: ")];
        let expected = "12:34:01.000 one\r\n12:34:01.500 two\r\n12:34:02.000 \r\n12:34:02.000 login: ";
        assert_eq!(shown(&mut view, &cut), expected);
    }

    #[test]
    fn times_since_the_start_and_since_the_last_line() {
        let mut view = View::new(Instant::from_millis(100));
        view.turn_stamps();
        view.turn_stamps();
        assert_eq!(shown(&mut view, &[(1100, "a\n"), (2350, "b\n")]), "+   1.000 a\n+   2.250 b\n");
        view.turn_stamps();
        assert_eq!(shown(&mut view, &[(2400, "c\n"), (12_400, "d\n")]), "+   0.050 c\n+  10.000 d\n");
        assert_eq!(view.turn_stamps(), Stamps::None);
    }

    #[test]
    fn hexadecimal_has_offsets_and_what_is_text() {
        let mut view = View::new(Instant::ZERO);
        view.turn_hex();
        let mut rows = Vec::new();
        view.show(b"0123456789abcdef\x00\x1b", 0x20, moment(0), &mut rows);
        assert_eq!(
            String::from_utf8(rows).unwrap(),
            "00000020  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  |0123456789abcdef|\r\n\
             00000030  00 1b                                            |..|\r\n"
        );
        view.turn_hex();
        let mut rows = Vec::new();
        view.show(b"login: ", 0, moment(0), &mut rows);
        view.turn_hex();
        view.show(b"A", 0, moment(0), &mut rows);
        assert!(rows.starts_with(b"login: \r\n00000000  41"), "hexadecimal begins a line of its own");
    }
}
