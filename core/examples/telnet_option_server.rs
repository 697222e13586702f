//! A telnet server with an option of its own, on nothing but the public API.
//!
//! ```text
//! cargo run -p vspc-core --example telnet_option_server            # then: telnet localhost 2323
//! cargo run -p vspc-core --example telnet_option_server -- [::]:4000
//! ```
//!
//! It echoes what is typed and repeats each line. Its option is SHOUT (200, a number nobody has
//! assigned): a client that agrees to it hears everything in capitals, and may say with
//! `IAC SB SHOUT <n> IAC SE` how many exclamation marks it wants. A client that has never heard of
//! SHOUT refuses, and nothing else changes. That is the whole idea of RFC 855.
//!
//! The protocol lives in [`Session`], which reads no socket: bytes go in, bytes come out.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the core may not touch sockets and threads; a server must"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;

use vspc_core::telnet::{
    Change, Command, Decoder, Item, Negotiator, Opt, OptionPolicy, Side, escape_into, fold, put_negotiation,
};

/// Our option. While it is on at our side we shout.
const SHOUT: Opt = Opt(200);

/// What we do when a client asks first; everything else is refused for us.
const POLICY: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::ECHO, us: true, him: false },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: SHOUT, us: true, him: false },
];

/// One client.
struct Session {
    decoder: Decoder,
    negotiator: Negotiator,
    /// Whether the last byte was a carriage return (RFC 854: CR NUL and CR LF are one key).
    after_cr: bool,
    /// What has been typed since the last Enter, up to [`LINE_LIMIT`]; the rest is ignored.
    line: Vec<u8>,
    exclamation_marks: usize,
}

impl Session {
    /// Offers what puts every client into character mode, and our option.
    fn open(out: &mut Vec<u8>) -> Self {
        let mut negotiator = Negotiator::new(POLICY);
        let offers = [(Side::Us, Opt::ECHO), (Side::Us, Opt::SGA), (Side::Him, Opt::SGA), (Side::Us, SHOUT)];
        for (side, opt) in offers {
            if let Some((verb, opt)) = negotiator.want(side, opt, true) {
                put_negotiation(verb, opt, out);
            }
        }
        escape_into(b"Say something; \"quit\" ends.\r\n", out);
        Self { decoder: Decoder::new(), negotiator, after_cr: false, line: Vec::new(), exclamation_marks: 1 }
    }

    /// Handles bytes from the client and appends the answer to `out`; `Break` when the client wants to leave.
    fn handle_received(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> ControlFlow<()> {
        // An item may borrow from the decoder, so the decoder is taken out of `self` while we act on it.
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut flow = ControlFlow::Continue(());
        while let Some(item) = decoder.decode(&mut input) {
            match item {
                Item::Data(typed) => flow = self.type_in(typed, out),
                Item::Negotiation(verb, opt) => {
                    let outcome = self.negotiator.handle(verb, opt);
                    if let Some((verb, opt)) = outcome.send {
                        put_negotiation(verb, opt, out);
                    }
                    if let Some(Change { side: Side::Us, opt: SHOUT, on: true }) = outcome.change {
                        self.say("I can shout", out);
                    }
                }
                Item::Subnegotiation(SHOUT, &[n]) => self.exclamation_marks = usize::from(n),
                Item::Command(Command::AYT) => self.say("yes", out),
                // Other commands mean nothing here, and malformed input does no harm.
                Item::Subnegotiation(..) | Item::Command(_) | Item::Malformed(_) => {}
            }
            if flow.is_break() {
                break;
            }
        }
        self.decoder = decoder;
        flow
    }

    fn type_in(&mut self, mut typed: &[u8], out: &mut Vec<u8>) -> ControlFlow<()> {
        let mut after_cr = self.after_cr;
        while let Some(slice) = fold(&mut after_cr, &mut typed, true) {
            for &key in slice {
                match key {
                    b'\r' | b'\n' => {
                        escape_into(b"\r\n", out);
                        let line = std::mem::take(&mut self.line);
                        if line == b"quit" {
                            return ControlFlow::Break(());
                        }
                        self.say(&format!("you said: {}", String::from_utf8_lossy(&line)), out);
                    }
                    BACKSPACE | DELETE => self.erase(out),
                    _ if self.line.len() < LINE_LIMIT => {
                        self.line.push(key);
                        escape_into(&[key], out);
                    }
                    _ => {}
                }
            }
        }
        self.after_cr = after_cr;
        ControlFlow::Continue(())
    }

    fn erase(&mut self, out: &mut Vec<u8>) {
        if self.line.pop().is_some() {
            escape_into(b"\x08 \x08", out);
        }
    }

    fn say(&self, text: &str, out: &mut Vec<u8>) {
        if self.negotiator.is_on(Side::Us, SHOUT) {
            escape_into(text.to_uppercase().as_bytes(), out);
            escape_into("!".repeat(self.exclamation_marks).as_bytes(), out);
        } else {
            escape_into(text.as_bytes(), out);
        }
        escape_into(b"\r\n", out);
    }
}

const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;

/// A line of a screenful; a client that types more without Enter is not kept waiting for memory.
const LINE_LIMIT: usize = 1024;

fn serve(mut client: TcpStream) -> std::io::Result<()> {
    let mut out = Vec::new();
    let mut session = Session::open(&mut out);
    let mut buffer = [0; 4096];
    loop {
        client.write_all(&out)?;
        out.clear();
        let n = client.read(&mut buffer)?;
        if n == 0 || session.handle_received(&buffer[..n], &mut out).is_break() {
            return client.write_all(&out);
        }
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2323".into());
    let listener = TcpListener::bind(&address)?;
    println!("listening on {}", listener.local_addr()?);
    for client in listener.incoming() {
        // A client that left before it was accepted is not an error.
        let Ok(client) = client else { continue };
        std::thread::spawn(move || {
            if let Err(error) = serve(client) {
                eprintln!("a client left: {error}");
            }
        });
    }
    Ok(())
}
