//! One TLS connection, on rustls: the only file that names it.
//!
//! TLS 1.2 and 1.3, whatever the [`ServerConfig`] allows; rustls has no renegotiation, no compression and
//! nothing older. Idle it keeps rustls' state and no buffer of its own but the 4 KiB in which rustls looks
//! for the next record.
//!
//! ```text
//! socket ─▶ open ─▶ plain        (whole records; the part of one waits in rustls, 64 KiB at most)
//! socket ◀─ sealed ◀─ seal ◀─ runs   (one record, and what the handshake has to say)
//! ```

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::server::NoServerSessionStorage;
use rustls::{Error, ServerConfig, ServerConnection};

use super::{Fault, RECORD, RUNS};

/// A certificate and its key, and who may connect: with what TLS connections are answered.
#[derive(Clone, Debug)]
pub struct Acceptor(Arc<ServerConfig>);

impl Acceptor {
    /// Answers with `config`, whose time provider and cryptography are the caller's.
    ///
    /// Sessions are not resumed, whatever `config` says: a host connects once and stays, and what is kept
    /// for those who might come back would grow.
    #[must_use]
    pub fn new(mut config: ServerConfig) -> Self {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Self(Arc::new(config))
    }
}

/// The server's end of one TLS connection.
#[derive(Debug)]
pub(crate) struct Tls {
    session: ServerConnection,
    /// Bytes for the socket: clear ones that go before the first record, then records.
    sealed: Vec<u8>,
    /// How many of them it has taken.
    taken: usize,
    /// Opened bytes that their reader had no room for.
    pub(crate) held: Vec<u8>,
    /// Nothing has been opened: the first byte is still to be looked at.
    fresh: bool,
    /// The peer sends no more.
    pub(crate) ended: bool,
    /// It has failed: nothing is opened or sealed any more.
    pub(crate) failed: bool,
    closed: bool,
}

impl Tls {
    /// A connection whose peer has to begin. `clear` goes out before anything else, as it is.
    pub(crate) fn accept(acceptor: &Acceptor, clear: Vec<u8>) -> Result<Box<Self>, Fault> {
        let session = ServerConnection::new(Arc::clone(&acceptor.0)).map_err(|error| fault(&error))?;
        Ok(Box::new(Self {
            session,
            sealed: clear,
            taken: 0,
            held: Vec::new(),
            fresh: true,
            ended: false,
            failed: false,
            closed: false,
        }))
    }

    /// The handshake is over, and the peer is whom the acceptor wants.
    pub(crate) fn is_up(&self) -> bool {
        !self.session.is_handshaking() && !self.failed
    }

    /// Version and cipher suite, once they are agreed.
    pub(crate) fn terms(&self) -> String {
        let version = self.session.protocol_version().and_then(|version| version.as_str());
        let suite = self.session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        format!("{} {}", version.unwrap_or("TLS"), suite.unwrap_or("of unknown suite"))
    }

    /// Takes bytes off `input`, as the socket brought them, and puts what they say into `plain`. Returns
    /// when `input` is used up, `plain` holds [`ENOUGH`], or the handshake has just ended.
    ///
    /// On failure the alert is among the [`pending`](Self::pending) bytes and there is nothing more to be
    /// had.
    pub(crate) fn open(&mut self, input: &mut &[u8], plain: &mut Vec<u8>) -> Result<(), Fault> {
        if self.closed || self.failed {
            *input = &[];
            return Ok(());
        }
        let was_up = self.is_up();
        let outcome = self.open_records(input, plain, was_up);
        if outcome.is_err() {
            self.failed = true;
            // What came before the fault is as good as if it had come alone. Ends in WouldBlock.
            let _ = self.session.reader().read_to_end(plain);
        }
        self.flush();
        outcome
    }

    fn open_records(&mut self, input: &mut &[u8], plain: &mut Vec<u8>, was_up: bool) -> Result<(), Fault> {
        if let Some(first) = input.first().filter(|_| std::mem::take(&mut self.fresh))
            && *first != HANDSHAKE
        {
            return Err(Fault("it does not speak tls".to_owned()));
        }
        while !input.is_empty() && !self.ended && plain.len() < ENOUGH && self.is_up() == was_up {
            // Cannot fail but for a record or handshake message that never ends.
            self.session.read_tls(input).map_err(|error| Fault(error.to_string()))?;
            let state = self.session.process_new_packets().map_err(|error| fault(&error))?;
            let len = plain.len();
            plain.resize(len + state.plaintext_bytes_to_read(), 0);
            // All of it is there, so that this is a copy and cannot fail.
            let _ = self.session.reader().read_exact(&mut plain[len..]);
            self.ended = state.peer_has_closed();
        }
        if self.ended {
            *input = &[];
        }
        if input.is_empty() {
            self.let_go();
        }
        Ok(())
    }

    /// Has rustls give back all but the least of its buffer if no part of a record is in it.
    fn let_go(&mut self) {
        let _ = self.session.read_tls(&mut Nothing);
    }

    /// Seals up to one record from the front of `runs`; returns how many bytes. 0: it cannot now, because
    /// the peer is not known yet or the socket has not taken what was sealed before.
    pub(crate) fn seal(&mut self, runs: &[IoSlice<'_>]) -> usize {
        if !self.is_up() || self.closed || !self.pending().is_empty() {
            return 0;
        }
        let mut record = [IoSlice::new(&[]); RUNS];
        let mut room = RECORD;
        for (part, run) in record.iter_mut().zip(runs) {
            *part = IoSlice::new(&run[..room.min(run.len())]);
            room -= part.len();
        }
        // Into memory: cannot fail.
        let sealed = self.session.writer().write_vectored(&record).unwrap_or(0);
        self.flush();
        sealed
    }

    /// Tells the peer that nothing follows. Once.
    pub(crate) fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) && !self.failed {
            self.session.send_close_notify();
            self.flush();
        }
    }

    /// Moves what rustls has for the socket to where it can be borrowed.
    fn flush(&mut self) {
        while self.session.wants_write() {
            // Into memory: cannot fail.
            let _ = self.session.write_tls(&mut self.sealed);
        }
    }

    /// Bytes for the socket.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.sealed[self.taken..]
    }

    /// The socket took so many of them.
    pub(crate) fn sent(&mut self, n: usize) {
        self.taken += n.min(self.pending().len());
        if self.taken == self.sealed.len() {
            self.sealed = Vec::new();
            self.taken = 0;
        }
    }
}

/// A reader that has nothing now.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// What went wrong, in words for whoever has to put it right.
fn fault(error: &Error) -> Fault {
    Fault(match error {
        Error::AlertReceived(alert) => format!("the peer ended it with the alert {alert:?}"),
        Error::NoCertificatesPresented => "it shows no certificate, and needs one here".to_owned(),
        Error::InvalidCertificate(why) => format!("its certificate is not accepted: {why:?}"),
        Error::PeerIncompatible(why) => format!("nothing in common: {why:?}"),
        other => other.to_string(),
    })
}

/// The type of a TLS record that a handshake begins with (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;

/// Opened bytes that are enough for one go: four records.
const ENOUGH: usize = 4 * RECORD;
