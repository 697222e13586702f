//! One TLS connection, on rustls: the only file that names it.
//!
//! TLS 1.2 and 1.3, whatever its configuration allows; rustls has no renegotiation, no compression and
//! nothing older. Its unbuffered API is used: records are opened where they were read and sealed where they
//! are sent from, and an idle connection keeps no buffer.
//!
//! ```text
//! socket ─▶ open ─▶ plain              whole records; the part of one waits in `partial`
//! socket ◀─ sealed ◀─ seal ◀─ runs     one record, and what the handshake has to say
//! ```
//!
//! The one rule of that API: what rustls has not told to discard it is shown again, the same bytes at the
//! same place, at the next call, whatever that is for; it panics otherwise. So all of an input is opened
//! when it comes, and what rustls has not done with is kept in `partial`, which every later call begins with.

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, PeerIncompatible, ProtocolVersion, ServerConfig};

use super::names::names;
use super::{RECORD, TlsFailure};

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

/// What is trusted, and shown, where TLS connections are begun.
#[derive(Clone, Debug)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Begins with `config`, whose time provider and cryptography are the caller's. Sessions are not resumed,
    /// whatever it says: what is kept for them would grow with the targets.
    #[must_use]
    pub fn new(mut config: ClientConfig) -> Self {
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Self(Arc::new(config))
    }
}

/// Which end of a TLS connection is ours.
enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What a look at what is there has come to.
enum Looked {
    /// There may be more to see.
    Going,
    /// All that is there has been looked at.
    Done,
    /// The peer sends no more.
    PeerClosed,
    /// A record cannot be read.
    Unreadable(Error),
    /// The peer is at fault.
    Failed(Error),
}

/// One end of one TLS connection.
pub(crate) struct Tls {
    session: Session,
    /// What was read and is no whole record yet, or part of a handshake message over several.
    partial: Vec<u8>,
    /// `partial` begins with whole records that rustls still needs: more is to be put behind them.
    awaits_rest: bool,
    /// Bytes for the socket: clear ones that go before the first record, then records.
    sealed: Vec<u8>,
    /// How many of them it has taken.
    taken: usize,
    /// Opened bytes that their reader had no room for.
    pub(crate) unread: Vec<u8>,
    /// Nothing has been opened: the first byte is still to be looked at.
    is_first: bool,
    /// The peer sends no more.
    pub(crate) peer_closed: bool,
    /// The peer neither sends nor reads any more: with TLS 1.2 one end's close is the other's, too (RFC 5246
    /// §7.2.1; not so in TLS 1.3, RFC 8446 §6.1).
    pub(crate) peer_closed_both: bool,
    /// It has failed: nothing is opened or sealed any more.
    pub(crate) failed: bool,
    closed: bool,
}

impl Tls {
    /// A connection whose peer has to begin. `clear` goes out before anything else, as it is.
    pub(crate) fn accept(acceptor: &Acceptor, clear: Vec<u8>) -> Result<Box<Self>, TlsFailure> {
        let session = UnbufferedServerConnection::new(Arc::clone(&acceptor.0));
        Ok(Self::new(Session::Server(session.map_err(|error| failure(&error))?), clear))
    }

    /// A connection that we begin, to a peer whose certificate has to be for `name`: a DNS name or an IP
    /// address. `clear` goes out before anything else, as it is.
    pub(crate) fn connect(
        connector: &Connector,
        name: &str,
        clear: Vec<u8>,
    ) -> Result<Box<Self>, TlsFailure> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            TlsFailure::Other("the target's name is none that a certificate can be for".into())
        })?;
        let session = UnbufferedClientConnection::new(Arc::clone(&connector.0), name);
        let session = session.map_err(|error| failure(&error))?;
        let mut tls = Self::new(Session::Client(session), clear);
        // Its hello.
        tls.process(&mut [], &mut Vec::new())?;
        Ok(tls)
    }

    fn new(session: Session, clear: Vec<u8>) -> Box<Self> {
        Box::new(Self {
            session,
            partial: Vec::new(),
            awaits_rest: false,
            sealed: clear,
            taken: 0,
            unread: Vec::new(),
            is_first: true,
            peer_closed: false,
            peer_closed_both: false,
            failed: false,
            closed: false,
        })
    }

    fn common(&self) -> &CommonState {
        match &self.session {
            Session::Server(end) => end,
            Session::Client(end) => end,
        }
    }

    /// The handshake is over, and the peer is whom the acceptor wants.
    pub(crate) fn has_come_up(&self) -> bool {
        !self.common().is_handshaking()
    }

    /// As [`has_come_up`](Self::has_come_up), and nothing has failed since.
    pub(crate) fn is_up(&self) -> bool {
        self.has_come_up() && !self.failed
    }

    /// Version and cipher suite, once they are agreed.
    pub(crate) fn terms(&self) -> (&'static str, &'static str) {
        let version = self.common().protocol_version().and_then(|version| version.as_str());
        let suite = self.common().negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        (version.unwrap_or("TLS"), suite.unwrap_or("of unknown suite"))
    }

    /// What the peer is called by the certificate that it has shown; the acceptor has verified it. None: it
    /// has shown none, because it was not asked for one.
    pub(crate) fn peer_names(&self) -> Vec<Box<str>> {
        let chain = self.common().peer_certificates().filter(|_| self.has_come_up());
        chain.and_then(<[_]>::first).map(|own| names(own)).unwrap_or_default()
    }

    /// How many bytes it holds of a handshake that is not over.
    pub(crate) fn unfinished(&self) -> usize {
        if self.has_come_up() { 0 } else { self.partial.capacity() }
    }

    /// Fails, because there is no room for what it holds.
    pub(crate) fn give_up(&mut self) -> TlsFailure {
        self.failed = true;
        self.partial = Vec::new();
        TlsFailure::NoRoom
    }

    /// Opens bytes that the socket brought, in place, and puts what they say into `plain`. What a failing
    /// call has put there came before the fault.
    ///
    /// On failure the alert is among the [`pending`](Self::pending) bytes and there is nothing more to be
    /// had.
    pub(crate) fn open(&mut self, input: &mut [u8], plain: &mut Vec<u8>) -> Result<(), TlsFailure> {
        if self.closed || self.failed || self.peer_closed {
            return Ok(());
        }
        let outcome = self.open_records(input, plain);
        if outcome.is_err() {
            self.failed = true;
            self.partial = Vec::new();
        }
        outcome
    }

    fn open_records(&mut self, input: &mut [u8], plain: &mut Vec<u8>) -> Result<(), TlsFailure> {
        if let Some(first) = input.first().filter(|_| std::mem::take(&mut self.is_first))
            && *first != HANDSHAKE
            // Who is connected to may refuse at once.
            && !(*first == ALERT && matches!(self.session, Session::Client(_)))
        {
            return Err(TlsFailure::NotTls);
        }
        let mut rest = input;
        while !self.partial.is_empty() && !rest.is_empty() {
            let missing = if self.awaits_rest { RECORD } else { missing(&self.partial) };
            let (front, back) = rest.split_at_mut(missing.min(rest.len()));
            self.partial.extend_from_slice(front);
            rest = back;
            // Also what is no whole record is looked at: what cannot become one is a fault at once.
            let mut partial = std::mem::take(&mut self.partial);
            let used = self.process(&mut partial, plain)?;
            partial.drain(..used);
            self.keep(partial)?;
        }
        if !rest.is_empty() && !self.peer_closed {
            let used = self.process(rest, plain)?;
            self.keep(rest[used..].to_vec())?;
        }
        Ok(())
    }

    /// Keeps what rustls wants to be shown again. If a whole record is at its front, that is part of a
    /// handshake message that goes on in the next.
    fn keep(&mut self, partial: Vec<u8>) -> Result<(), TlsFailure> {
        if partial.len() > PARTIAL_LIMIT {
            return Err(TlsFailure::EndlessMessage);
        }
        self.awaits_rest = missing(&partial) == 0;
        self.partial = if partial.is_empty() { Vec::new() } else { partial };
        Ok(())
    }

    /// Has rustls look at `records` until it wants more of them; returns how many bytes it needs no more.
    fn process(&mut self, records: &mut [u8], plain: &mut Vec<u8>) -> Result<usize, TlsFailure> {
        let mut done = 0;
        loop {
            let rest = &mut records[done..];
            let (discard, looked) = match &mut self.session {
                Session::Server(end) => look(end.process_tls_records(rest), plain, &mut self.sealed),
                Session::Client(end) => look(end.process_tls_records(rest), plain, &mut self.sealed),
            };
            match looked {
                Looked::Going => done += discard,
                Looked::Done => return Ok(done + discard),
                Looked::PeerClosed => {
                    self.peer_closed = true;
                    let version = self.common().protocol_version();
                    self.peer_closed_both = version == Some(ProtocolVersion::TLSv1_2);
                    return Ok(records.len());
                }
                Looked::Unreadable(error) => return Err(failure(&error)),
                Looked::Failed(error) => return Err(self.fail(&error, &mut records[done + discard..])),
            }
        }
    }

    /// Notes that rustls has given up at the front of `records`, and takes the alert that it has for the
    /// peer.
    ///
    /// If there is one it is to be had at the next call, and only at that: after it rustls would go on with
    /// records that are spoiled.
    fn fail(&mut self, error: &Error, records: &mut [u8]) -> TlsFailure {
        self.failed = true;
        match &mut self.session {
            Session::Server(end) => put_alert(end.process_tls_records(records), &mut self.sealed),
            Session::Client(end) => put_alert(end.process_tls_records(records), &mut self.sealed),
        }
        failure(error)
    }

    /// Seals up to one record from the front of `runs`; returns how many bytes. 0: it cannot now, because
    /// the peer is not known yet or the socket has not taken what was sealed before.
    ///
    /// Fails when the keys have sealed as much as they may and cannot be changed: with TLS 1.2, after 2^24
    /// records.
    pub(crate) fn seal(&mut self, runs: &[IoSlice<'_>]) -> Result<usize, TlsFailure> {
        if !self.is_up() || self.closed || !self.pending().is_empty() {
            return Ok(0);
        }
        let joined;
        let plain = match runs {
            [only] => &only[..RECORD.min(only.len())],
            [first, ..] if first.len() >= RECORD => &first[..RECORD],
            _ => {
                joined = join(runs);
                &joined[..]
            }
        };
        self.with_traffic(Act::Encrypt(plain))?;
        Ok(plain.len())
    }

    /// Tells the peer that nothing follows. Once.
    pub(crate) fn close(&mut self) {
        if !self.closed && self.is_up() {
            // Where that fails there is nothing left to close.
            let _ = self.with_traffic(Act::Close);
        }
        self.closed = true;
    }

    /// Gets to where rustls lets bytes be sealed, and does that.
    fn with_traffic(&mut self, act: Act<'_>) -> Result<(), TlsFailure> {
        let mut partial = std::mem::take(&mut self.partial);
        loop {
            let (discard, outcome) = match &mut self.session {
                Session::Server(end) => do_act(end.process_tls_records(&mut partial), act, &mut self.sealed),
                Session::Client(end) => do_act(end.process_tls_records(&mut partial), act, &mut self.sealed),
            };
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(error) => return Err(self.fail(&error, &mut partial[discard..])),
            };
            partial.drain(..discard);
            if let Some(outcome) = outcome {
                self.failed |= outcome.is_err();
                self.partial = partial;
                return outcome;
            }
        }
    }

    /// Bytes for the socket.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.sealed[self.taken..]
    }

    /// The socket took so many of them.
    pub(crate) fn took(&mut self, n: usize) {
        self.taken += n.min(self.pending().len());
        if self.taken == self.sealed.len() {
            self.sealed = Vec::new();
            self.taken = 0;
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}

/// What is done once rustls lets bytes be sealed.
#[derive(Clone, Copy)]
enum Act<'a> {
    Encrypt(&'a [u8]),
    Close,
}

impl Act<'_> {
    fn carry_out<D>(self, traffic: &mut WriteTraffic<'_, D>, out: &mut Vec<u8>) -> Result<(), EncryptError> {
        match self {
            Self::Encrypt(plain) => write(out, plain.len() + OVERHEAD, |out| traffic.encrypt(plain, out)),
            Self::Close => write(out, OVERHEAD, |out| traffic.queue_close_notify(out)),
        }
    }
}

/// Takes what rustls has found: what the peer says into `plain`, what the handshake says behind what is to be
/// sent. Returns how many bytes it needs no more.
fn look<D>(
    UnbufferedStatus { mut discard, state }: UnbufferedStatus<'_, '_, D>,
    plain: &mut Vec<u8>,
    sealed: &mut Vec<u8>,
) -> (usize, Looked) {
    let looked = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Looked::Going,
                Some(Err(error)) => break Looked::Unreadable(error),
                Some(Ok(record)) => {
                    plain.extend_from_slice(record.payload);
                    discard += record.discard;
                }
            }
        },
        Ok(ConnectionState::EncodeTlsData(data)) => {
            put(data, sealed);
            Looked::Going
        }
        // It is in `sealed`, which is as good as sent.
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Looked::Going
        }
        Ok(ConnectionState::PeerClosed) => Looked::PeerClosed,
        Ok(_) => Looked::Done,
        Err(error) => Looked::Failed(error),
    };
    (discard, looked)
}

/// Does it, if rustls is there. `None`: it is to be asked again.
fn do_act<D>(
    UnbufferedStatus { discard, state }: UnbufferedStatus<'_, '_, D>,
    act: Act<'_>,
    sealed: &mut Vec<u8>,
) -> (usize, Result<Option<Result<(), TlsFailure>>, Error>) {
    let outcome = match state {
        Ok(ConnectionState::EncodeTlsData(data)) => {
            put(data, sealed);
            None
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            None
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            Some(act.carry_out(&mut traffic, sealed).map_err(|_| TlsFailure::KeysUsedUp))
        }
        // All that is there has been looked at: there is nothing else to come.
        Ok(other) => Some(Err(TlsFailure::Other(format!("{other:?} out of place").into()))),
        Err(error) => return (discard, Err(error)),
    };
    (discard, Ok(outcome))
}

fn put_alert<D>(status: UnbufferedStatus<'_, '_, D>, sealed: &mut Vec<u8>) {
    if let Ok(ConnectionState::EncodeTlsData(alert)) = status.state {
        put(alert, sealed);
    }
}

/// Puts what the handshake has to say behind what is to be sent.
fn put<D>(mut data: EncodeTlsData<'_, D>, sealed: &mut Vec<u8>) {
    if let Err(EncodeError::InsufficientSize(wanted)) = data.encode(&mut []) {
        let at = sealed.len();
        sealed.resize(at + wanted.required_size, 0);
        let written = data.encode(&mut sealed[at..]).unwrap_or(0);
        sealed.truncate(at + written);
    }
}

/// Puts what `seal` writes, `guess` bytes or as many as it says it needs, behind what is to be sent.
fn write(
    out: &mut Vec<u8>,
    guess: usize,
    mut seal: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    let at = out.len();
    out.resize(at + guess, 0);
    let mut written = seal(&mut out[at..]);
    if let Err(EncryptError::InsufficientSize(wanted)) = &written {
        out.resize(at + wanted.required_size, 0);
        written = seal(&mut out[at..]);
    }
    out.truncate(at + written.as_ref().map_or(0, |&written| written));
    written.map(|_| ())
}

/// The front of `runs` in one piece, up to a record.
fn join(runs: &[IoSlice<'_>]) -> Vec<u8> {
    let len: usize = runs.iter().map(|run| run.len()).sum();
    let mut joined = Vec::with_capacity(len.min(RECORD));
    for run in runs {
        let room = RECORD - joined.len();
        joined.extend_from_slice(&run[..room.min(run.len())]);
    }
    joined
}

/// How many bytes the record at the front of `partial` lacks; of its header, if that is not whole.
fn missing(partial: &[u8]) -> usize {
    match partial {
        [_, _, _, high, low, body @ ..] => {
            usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(body.len())
        }
        short => HEADER - short.len(),
    }
}

/// What went wrong, in words for whoever has to put it right.
fn failure(error: &Error) -> TlsFailure {
    let text = |shown: &dyn fmt::Debug| format!("{shown:?}").into();
    match error {
        Error::AlertReceived(alert) => TlsFailure::Alert(text(alert)),
        Error::NoCertificatesPresented => TlsFailure::NoPeerCertificate,
        Error::InvalidCertificate(why) => TlsFailure::PeerCertificate(text(why)),
        // What peers look like that have nothing newer.
        Error::PeerIncompatible(
            PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => TlsFailure::TooOld,
        Error::PeerIncompatible(why) => TlsFailure::Incompatible(text(why)),
        other => TlsFailure::Other(other.to_string().into()),
    }
}

/// The type of a TLS record that a handshake begins with (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;

/// That of an alert.
const ALERT: u8 = 0x15;

/// Type, version and length of a record (RFC 8446 §5.1).
const HEADER: usize = 5;

/// What sealing adds: header, nonce, type and tag (RFC 5246 §6.2.3.3, RFC 8446 §5.2); and an alert's room.
const OVERHEAD: usize = 64;

/// A handshake message may have 64 KiB (rustls), and be in pieces; what is more than that in tiny ones has
/// no good reason.
const PARTIAL_LIMIT: usize = 128 << 10;

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
