//! One session, in either role, over a socket that does not block.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ClientConnection, Connection, Error, ServerConnection};
use vspc_trust::Credentials;

use super::load::Server;

/// A session. What it has sealed and the socket has not taken is one write's at most.
#[derive(Debug)]
pub(crate) struct Session {
    inner: Connection,
    /// Opened, and not read yet.
    unread: usize,
}

impl Session {
    pub(crate) fn dial(target: &Credentials) -> io::Result<Self> {
        let (config, name) = (Arc::clone(target.config()), target.name().clone());
        let inner = ClientConnection::new(config, name).map_err(in_words)?;
        Ok(Self { inner: inner.into(), unread: 0 })
    }

    pub(crate) fn serve(server: &Server) -> io::Result<Self> {
        let inner = ServerConnection::new(Arc::clone(&server.config)).map_err(in_words)?;
        Ok(Self { inner: inner.into(), unread: 0 })
    }

    /// Goes on with the handshake as far as the socket lets it. Returns whether it is over.
    pub(crate) fn shake_hands(&mut self, socket: &mut (impl Read + Write)) -> io::Result<bool> {
        while self.inner.is_handshaking() {
            self.flush(socket)?;
            match self.take_in(socket) {
                Ok(0) => return Err(io::Error::other("it ends within the handshake of TLS")),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.flush(socket)?;
        Ok(true)
    }

    /// Whether something waits for the socket to take it.
    pub(crate) fn wants_write(&self) -> bool {
        self.inner.wants_write()
    }

    /// Whether there is something to receive that the socket does not tell of.
    pub(crate) const fn has_unread(&self) -> bool {
        self.unread > 0
    }

    /// As [`Read::read`]; fills the buffer as far as there is something.
    pub(crate) fn receive(&mut self, socket: &mut (impl Read + Write), buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.inner.reader().read(&mut buf[filled..]) {
                Ok(0) => break,
                Ok(n) => {
                    self.unread = self.unread.saturating_sub(n);
                    filled += n;
                    continue;
                }
                // Hosts end TCP and do not say so in TLS.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return if filled > 0 { Ok(filled) } else { Err(error) },
            }
            match self.take_in(socket) {
                Ok(_) => {}
                // It is met again by the next call.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Seals what it is given, or a part; the number of bytes of that is returned. Nothing is taken while the
    /// socket has not taken what was sealed before.
    pub(crate) fn send(&mut self, socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            self.flush(socket)?;
            if self.wants_write() {
                break;
            }
            sent += self.inner.writer().write(&bytes[sent..])?;
        }
        // An error shows again at the next call, and these bytes were taken.
        let _ = self.flush(socket);
        Ok(sent)
    }

    /// Sends what the socket takes of what is sealed.
    pub(crate) fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while self.wants_write() {
            match self.inner.write_tls(socket) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that nothing more will come.
    pub(crate) fn finish(&mut self) {
        self.inner.send_close_notify();
    }

    fn take_in(&mut self, socket: &mut (impl Read + Write)) -> io::Result<usize> {
        let n = self.inner.read_tls(socket)?;
        match self.inner.process_new_packets() {
            Ok(state) => self.unread = state.plaintext_bytes_to_read(),
            Err(error) => {
                // The peer is told why, if it listens.
                let _ = self.flush(socket);
                return Err(in_words(error));
            }
        }
        Ok(n)
    }
}

fn in_words(error: Error) -> io::Error {
    let words = match error {
        Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        Error::AlertReceived(alert) => format!("it ended TLS with the alert {alert:?}"),
        Error::InvalidCertificate(why) => format!("its certificate is not accepted: {why}"),
        other => format!("TLS failed: {other}"),
    };
    io::Error::new(io::ErrorKind::InvalidData, words)
}
