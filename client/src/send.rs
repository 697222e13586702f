//! `vspc send`: the standard input typed at a console, for scripts.

use std::io::{self, Read, Write};

use regex_lite::Regex;
use vspc_core::mux::StreamId;
use vspc_core::time::Instant;

use crate::args::{Lock, SendArgs};
use crate::clock;
use crate::connection::{Attached, Connection, Wish};
use crate::endings::{describe, failure};
use crate::failure::{Code, Failure};
use crate::names::{name_of, reference, resolve};
use vspc_operator::News;

pub(crate) fn run(mut connection: Connection, args: &SendArgs) -> Result<(), Failure> {
    let expect = args.expect.as_deref().map(Regex::new).transpose();
    let expect = expect.map_err(|error| Failure::usage(error.to_string()))?;
    let console = resolve(&mut connection, &args.console.name)?;
    let name = name_of(&console);
    let wish = Wish {
        console: reference(&console),
        lock: Some(args.lock.unwrap_or(Lock::FreeForAll).word()),
        ..Wish::default()
    };
    let Attached { stream, answer } = connection.attach(&wish)?.map_err(|refusal| failure(&refusal))?;
    if answer["access"] == "read" {
        return Err(Failure::new(Code::Refused, format!("at {name} you may only watch")));
    }
    if answer["console"]["state"] == "waiting" {
        return Err(Failure::error(format!("the VM of {name} is not connected")));
    }
    let mut input = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut input)
        .map_err(|error| Failure::error(format!("cannot read the input: {error}")))?;
    if !args.raw {
        input = enter(&input);
    }
    let sending = Sending {
        stream,
        room: connection.room(stream),
        input: &input,
        expect: expect.as_ref(),
        deadline: clock::now() + args.timeout,
        printed: Vec::new(),
    };
    sending.run(&mut connection, &name)?;
    connection.part();
    Ok(())
}

/// Each end of a line as the Enter key sends it.
fn enter(input: &[u8]) -> Vec<u8> {
    let mut typed = Vec::with_capacity(input.len());
    let mut last = 0;
    for &byte in input {
        match byte {
            // CR LF is one end of a line, too.
            b'\n' if last == b'\r' => {}
            b'\n' => typed.push(b'\r'),
            byte => typed.push(byte),
        }
        last = byte;
    }
    typed
}

struct Sending<'a> {
    stream: StreamId,
    /// What the stream takes while the server has nothing of it.
    room: usize,
    input: &'a [u8],
    expect: Option<&'a Regex>,
    deadline: Instant,
    /// The end of what was printed.
    printed: Vec<u8>,
}

impl Sending<'_> {
    fn run(mut self, connection: &mut Connection, name: &str) -> Result<(), Failure> {
        loop {
            let n = connection.write(self.stream, self.input);
            self.input = &self.input[n..];
            connection.turn();
            let ended = self.print(connection)?;
            if self.matches() {
                return Ok(());
            }
            // All of it was taken by the server, which gives it to the VM whoever stays.
            let sent = self.input.is_empty() && connection.room(self.stream) == self.room;
            if sent && self.expect.is_none() {
                return Ok(());
            }
            let mut lost = ended.then(|| "the server ended the attach".to_owned());
            while let Some(news) = connection.poll() {
                match news {
                    News::Over(ending) => lost = Some(describe(&ending)),
                    News::Reset(of) if of == self.stream => {
                        lost = Some("the server ended the attach".to_owned());
                    }
                    _ => {}
                }
            }
            if let Some(why) = lost {
                return Err(Failure::no_connection(why));
            }
            if clock::now() >= self.deadline {
                return Err(Failure::new(
                    Code::TimedOut,
                    match self.expect {
                        Some(_) if self.input.is_empty() => format!("{name} did not print what was expected"),
                        _ => format!("{name} did not take what was typed"),
                    },
                ));
            }
            if n == 0 {
                connection.wait(self.deadline);
            }
        }
    }

    /// Passes the output on. Returns whether it has ended.
    fn print(&mut self, connection: &mut Connection) -> Result<bool, Failure> {
        let from = self.printed.len();
        let ended = connection.read(self.stream, usize::MAX, |bytes| self.printed.extend_from_slice(bytes));
        if self.expect.is_some() && self.printed.len() > from {
            let mut out = io::stdout().lock();
            let written = out.write_all(&self.printed[from..]).and_then(|()| out.flush());
            written.map_err(|error| Failure::output(&error))?;
        }
        Ok(ended)
    }

    fn matches(&mut self) -> bool {
        let Some(expect) = self.expect else {
            self.printed.clear();
            return false;
        };
        let matches = expect.is_match(&String::from_utf8_lossy(&self.printed));
        self.printed.drain(..self.printed.len().saturating_sub(KEPT));
        matches
    }
}

/// What a match may stretch over at most.
const KEPT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_a_line_is_sent_as_enter() {
        assert_eq!(enter(b"root\nls\r\n\n"), b"root\rls\r\r");
    }
}
