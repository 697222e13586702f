//! What runs inside a fake VM: a greeting, a numbered line now and then, and an echo.
//!
//! Bytes in, bytes out; it knows neither sockets nor telnet nor time.

/// The inside of one serial port.
#[derive(Debug)]
pub(super) struct Echo {
    name: String,
    text: String,
    lines: u64,
    typed: Vec<u8>,
    after_cr: bool,
}

impl Echo {
    /// A machine that is switched off. `text` is what its lines say.
    #[must_use]
    pub(super) fn new(name: &str, text: &str) -> Self {
        Self { name: name.into(), text: text.into(), lines: 0, typed: Vec::new(), after_cr: false }
    }

    /// Starts, and greets.
    pub(super) fn boot(&mut self, out: &mut Vec<u8>) {
        self.lines = 0;
        self.typed.clear();
        let hello = format!(
            "\r\n{} is up: a fake VM behind a real serial port.\r\n\
             What you type comes back. Try a few words and Enter.\r\n\r\n",
            self.name
        );
        out.extend_from_slice(hello.as_bytes());
        self.prompt(out);
    }

    /// Prints the next numbered line, above whatever is being typed.
    pub(super) fn line(&mut self, out: &mut Vec<u8>) {
        self.lines += 1;
        out.extend_from_slice(format!("\r\n{} {}\r\n", self.text, self.lines).as_bytes());
        self.prompt(out);
        out.extend_from_slice(&self.typed);
    }

    /// Takes what was typed and echoes it: CR as CR LF, backspace as a terminal expects it.
    pub(super) fn typed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        for &byte in input {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                // Enter is CR LF or CR NUL to some terminals.
                b'\n' | 0 if after_cr => {}
                b'\r' | b'\n' => {
                    out.extend_from_slice(b"\r\n");
                    if !self.typed.is_empty() {
                        out.extend_from_slice(b"you typed: ");
                        out.append(&mut self.typed);
                        out.extend_from_slice(b"\r\n");
                    }
                    self.prompt(out);
                }
                8 | 127 => {
                    // A character of several bytes goes as a whole.
                    while self.typed.pop_if(|last| *last & 0xC0 == 0x80).is_some() {}
                    if self.typed.pop().is_some() {
                        out.extend_from_slice(b"\x08 \x08");
                    }
                }
                3 => {
                    self.typed.clear();
                    out.extend_from_slice(b"^C\r\n");
                    self.prompt(out);
                }
                byte if byte < 32 => out.extend_from_slice(&[b'^', byte | 64]),
                byte if self.typed.len() < LINE_LIMIT => {
                    self.typed.push(byte);
                    out.push(byte);
                }
                _ => out.push(BELL),
            }
        }
    }

    /// A break arrived on the line.
    pub(super) fn broken(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n[break]\r\n");
        self.prompt(out);
        out.extend_from_slice(&self.typed);
    }

    /// Says that it goes down.
    pub(super) fn shut_down(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("\r\n{} is going down for a reboot.\r\n", self.name).as_bytes());
    }

    fn prompt(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{}> ", self.name).as_bytes());
    }
}

/// A line that is never ended rings the bell from here on.
const LINE_LIMIT: usize = 1024;
const BELL: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn type_into(guest: &mut Echo, input: &[u8]) -> String {
        let mut out = Vec::new();
        guest.typed(input, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn enter_is_one_line_whichever_way_it_comes() {
        let mut guest = Echo::new("web01", "web01 line");
        for enter in [&b"hi\r"[..], b"hi\r\n", b"hi\r\0", b"hi\n"] {
            assert_eq!(type_into(&mut guest, enter), "hi\r\nyou typed: hi\r\nweb01> ");
        }
    }

    #[test]
    fn backspace_takes_back_whole_characters_and_stops_at_the_prompt() {
        let mut guest = Echo::new("web01", "web01 line");
        assert_eq!(type_into(&mut guest, "aé\x7f\x7f\x7f".as_bytes()).matches("\x08 \x08").count(), 2);
        assert_eq!(type_into(&mut guest, b"\r"), "\r\nweb01> ");
    }

    #[test]
    fn a_line_leaves_what_is_being_typed_intact() {
        let mut guest = Echo::new("web01", "tick");
        let mut out = Vec::new();
        guest.typed(b"half", &mut out);
        out.clear();
        guest.line(&mut out);
        assert_eq!(out, b"\r\ntick 1\r\nweb01> half");
    }

    #[test]
    fn an_endless_line_is_bounded() {
        let mut guest = Echo::new("web01", "tick");
        type_into(&mut guest, &[b'x'; 5000]);
        assert_eq!(guest.typed.len(), LINE_LIMIT);
    }
}
