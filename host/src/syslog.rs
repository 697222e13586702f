//! The local syslog as a place for lines: a datagram for each (RFC 3164 §4.1).
//!
//! **Owns** the socket, which it connects again when the syslog was restarted. **Refuses to know** what the
//! lines are. A line that the syslog does not take goes to another writer instead, so that none is lost
//! because nobody listens.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// A writer whose lines are the syslog's messages.
#[derive(Debug)]
pub(crate) struct Syslog<W> {
    path: PathBuf,
    /// Connected to `path`, as soon as there is something to say.
    socket: Option<UnixDatagram>,
    /// Takes what the syslog does not.
    otherwise: W,
}

impl<W: Write> Syslog<W> {
    pub(crate) const fn new(path: PathBuf, otherwise: W) -> Self {
        Self { path, socket: None, otherwise }
    }

    /// Waits for a syslog that is slow.
    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(socket) = &self.socket
            && socket.send(line).is_ok()
        {
            return Ok(());
        }
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        let sent = socket.send(line);
        self.socket = Some(socket);
        sent.map(|_| ())
    }
}

impl<W: Write> Write for Syslog<W> {
    /// Takes whole lines only.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.send(line.trim_ascii_end()).is_err() {
                self.otherwise.write_all(line)?;
            }
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.otherwise.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::process;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_line_is_a_message_and_none_is_lost_while_nobody_listens() {
        let path = env::temp_dir().join(format!("vspc-syslog-{}", process::id()));
        let listen = || {
            let _ = fs::remove_file(&path);
            let listener = UnixDatagram::bind(&path).unwrap();
            listener.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            listener
        };
        let hear = |listener: &UnixDatagram| {
            let mut message = [0; 64];
            let length = listener.recv(&mut message).unwrap();
            String::from_utf8(message[..length].to_vec()).unwrap()
        };
        let mut syslog = Syslog::new(path.clone(), Vec::new());
        syslog.write_all(b"before\n").unwrap();
        let listener = listen();
        syslog.write_all(b"one\ntwo\n").unwrap();
        assert_eq!((hear(&listener), hear(&listener)), ("one".to_owned(), "two".to_owned()));
        drop(listener);
        syslog.write_all(b"between\n").unwrap();
        let listener = listen();
        syslog.write_all(b"three\n").unwrap();
        assert_eq!(hear(&listener), "three");
        assert_eq!(syslog.otherwise, b"before\nbetween\n");
        let _ = fs::remove_file(path);
    }
}
