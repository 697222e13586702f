//! The host's (or client's) end of a TLS connection, without sockets: what the far end sent goes in, what it
//! is to be sent comes out.

use std::io::{self, Read, Write};

use rustls::{ClientConnection, Error};

use super::upgrade::{Step, Upgrade};

/// One connection's end.
#[derive(Debug)]
pub struct Secure {
    /// Until TLS begins.
    upgrade: Option<Upgrade>,
    /// Clear bytes for the far end, and how many of them it has.
    clear: Vec<u8>,
    sent: usize,
    tls: ClientConnection,
    /// The far end has said that nothing follows.
    ended: bool,
}

impl Secure {
    /// An end that begins with TLS, or with the upgrade by option 37.
    #[must_use]
    pub fn new(mut tls: ClientConnection, in_band: bool) -> Self {
        // One read of the near end is sealed at a time, and no other is made before that is sent.
        tls.set_buffer_limit(None);
        let begun = in_band.then(Upgrade::begin);
        let (upgrade, clear) = match begun {
            Some((upgrade, first)) => (Some(upgrade), first.to_vec()),
            None => (None, Vec::new()),
        };
        Self { upgrade, clear, sent: 0, tls, ended: false }
    }

    /// Whether the handshake is over.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.upgrade.is_none() && !self.tls.is_handshaking()
    }

    /// The far end has said that nothing follows; what comes nevertheless is not read.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes what the far end sent; what it says is appended to `plain`.
    ///
    /// # Errors
    ///
    /// There is no TLS with it; why, in words. An alert that tells it so may be left to send.
    pub fn open(&mut self, mut sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
        while let Some(upgrade) = &mut self.upgrade {
            let Some((byte, rest)) = sealed.split_first() else { return Ok(()) };
            sealed = rest;
            match upgrade.read(*byte, plain)? {
                Step::Wait => {}
                Step::Say(bytes) => self.clear.extend_from_slice(&bytes),
                Step::Tls => self.upgrade = None,
            }
        }
        while !sealed.is_empty() && !self.ended {
            // Takes a few KiB; none only when it has no room, and everything opened is taken out below.
            self.tls.read_tls(&mut sealed).map_err(|error| error.to_string())?;
            let was_up = !self.tls.is_handshaking();
            let state = self.tls.process_new_packets().map_err(|error| why(&error, was_up))?;
            let at = plain.len();
            plain.resize(at + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut plain[at..]).map_err(|error| error.to_string())?;
            self.ended = state.peer_has_closed();
        }
        Ok(())
    }

    /// Seals `plain` for the far end; not before it is up.
    pub fn seal(&mut self, plain: &[u8]) {
        // Into memory, without a limit.
        let _ = self.tls.writer().write_all(plain);
    }

    /// Says that nothing follows.
    pub fn close(&mut self) {
        self.tls.send_close_notify();
    }

    /// Whether there is something to send.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.sent < self.clear.len() || (self.upgrade.is_none() && self.tls.wants_write())
    }

    /// Sends what `to` takes in one go.
    ///
    /// # Errors
    ///
    /// Those of `to`.
    pub fn write_to(&mut self, to: &mut impl Write) -> io::Result<()> {
        if self.sent < self.clear.len() {
            self.sent += to.write(&self.clear[self.sent..])?;
        } else if self.upgrade.is_none() {
            self.tls.write_tls(to)?;
        }
        Ok(())
    }
}

/// An error in words.
fn why(error: &Error, was_up: bool) -> String {
    match error {
        // The judge's own words.
        Error::General(why) => why.clone(),
        Error::InvalidMessage(_) if !was_up => format!("it does not answer in TLS ({error})"),
        _ => error.to_string(),
    }
}
