//! Where events go: a file, a stream, a syslog, a journal.
//!
//! **Owns** what is open there, and how much of a line it has taken: what fails or does not take more is
//! tried again from there; a file that is opened anew, and a listener that was connected to anew, gets the
//! line whole. **Refuses to know** when that is.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use super::entry::Entry;
use super::message::{journal, syslog};
use super::options::Destination;

/// Where events go.
#[derive(Debug)]
pub(super) struct Sink {
    destination: Destination,
    open: Option<Open>,
    /// How many bytes of the line in hand it has taken.
    taken: usize,
}

#[derive(Debug)]
enum Open {
    File(File),
    Stream(UnixStream),
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Sink {
    pub(super) fn new(destination: Destination) -> Self {
        Self { destination, open: None, taken: 0 }
    }

    /// Writes an entry, or the rest of it; the same is to be given again after an error. May take a second
    /// and longer, where a disk hangs.
    pub(super) fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                self.taken = 0;
                self.open.insert(Open::at(&self.destination)?)
            }
        };
        let written = match open {
            Open::File(file) => write_rest(file, &entry.line, &mut self.taken),
            Open::Stream(stream) => write_rest(stream, &entry.line, &mut self.taken),
            Open::Udp(socket) => socket.send(&syslog(entry)).map(drop),
            Open::Unix(socket) => match self.destination {
                Destination::Journald(_) => socket.send(&journal(entry)).map(drop),
                _ => socket.send(&syslog(entry)).map(drop),
            },
        };
        match &written {
            Ok(()) => self.taken = 0,
            // It is there, and takes no more now.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) if matches!(open, Open::File(_)) => {}
            Err(_) => self.open = None,
        }
        written
    }

    /// Opens the file anew before the next write, which somebody may have moved away.
    pub(super) fn reopen(&mut self) {
        if matches!(self.open, Some(Open::File(_))) {
            self.open = None;
        }
    }
}

impl Open {
    fn at(destination: &Destination) -> io::Result<Self> {
        Ok(match destination {
            Destination::File(path) => {
                Self::File(OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?)
            }
            Destination::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Self::Stream(stream)
            }
            Destination::Syslog(path) | Destination::Journald(path) => Self::Unix(datagrams(path)?),
            Destination::SyslogUdp(address) => {
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                Self::Udp(socket)
            }
        })
    }
}

fn datagrams(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Writes what is left of a line.
fn write_rest(mut to: impl Write, line: &[u8], taken: &mut usize) -> io::Result<()> {
    while *taken < line.len() {
        match to.write(&line[*taken..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => *taken += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How long a peer that does not read is waited for, before the thread looks whether the server ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// Events tell who was where: the owner writes, the group reads.
const FILE_MODE: u32 = 0o640;
