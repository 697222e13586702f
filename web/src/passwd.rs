//! `vspc-web passwd`: asks for a password, and prints a line for the file of users.
//!
//! Owns the terminal while the password is typed: nothing of it is shown, and whatever ends the typing leaves
//! the terminal as it was.

use std::io::{self, BufRead, IsTerminal, Read};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::auth::role::Role;
use crate::auth::{passwords, users};

/// Asks twice at a terminal; takes one line of what is none.
pub(crate) fn run(name: &str, role: Role) -> Result<(), String> {
    if !users::is_name(name) {
        return Err(format!("{name:?} is no name: {}", users::NAMES));
    }
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        // Before anything is asked: what is typed fast is not shown either.
        let _hidden = Hidden::new().map_err(|error| format!("the terminal cannot be used: {error}"))?;
        let first = ask(&format!("Password for {name}: "))?;
        if ask("Again: ")? != first {
            return Err("the two are not the same".to_owned());
        }
        first
    } else {
        let mut line = String::new();
        let most = passwords::LONGEST as u64 + 2;
        stdin.lock().take(most).read_line(&mut line).map_err(|error| error.to_string())?;
        line.strip_suffix('\n').map_or(&*line, |line| line.strip_suffix('\r').unwrap_or(line)).to_owned()
    };
    if password.is_empty() || password.len() > passwords::LONGEST {
        return Err(format!("a password has 1 to {} bytes", passwords::LONGEST));
    }
    println!("{name}:{role}:{}", passwords::make(&password)?);
    Ok(())
}

fn ask(words: &str) -> Result<String, String> {
    eprint!("{words}");
    let typed = line(&mut io::stdin().lock());
    eprintln!();
    typed
        .map_err(|error| format!("the terminal cannot be read: {error}"))?
        .ok_or_else(|| "given up".to_owned())
}

/// A line, byte by byte, as a terminal gives it where it edits nothing itself. `None`: it was given up.
fn line(typed: &mut impl Read) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        if typed.read(&mut byte)? == 0 {
            return Ok(None);
        }
        match byte[0] {
            b'\r' | b'\n' => return Ok(String::from_utf8(line).ok()),
            // Ctrl+C, Ctrl+D, Ctrl+\.
            0x03 | 0x04 | 0x1c => return Ok(None),
            0x08 | 0x7f => {
                // The last character, however many bytes it has.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            0x15 => line.clear(),
            byte if line.len() <= passwords::LONGEST => line.push(byte),
            _ => {}
        }
    }
}

/// The terminal, while what is typed is not shown.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let found = tcgetattr(io::stdin())?;
        let mut hidden = found.clone();
        // Without signals of its own: one would end us before the terminal is given back.
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(found))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_edited_as_at_a_terminal_and_may_be_given_up() {
        let of = |typed: &str| line(&mut typed.as_bytes()).unwrap();
        assert_eq!(of("secret\r").as_deref(), Some("secret"));
        assert_eq!(of("sex\u{7f}cr\u{e4}\u{7f}et\n").as_deref(), Some("secret"));
        assert_eq!(of("wrong\u{15}secret\n").as_deref(), Some("secret"));
        for given_up in ["sec\u{3}ret\n", "\u{4}", "no end"] {
            assert_eq!(of(given_up), None, "{given_up:?}");
        }
    }
}
