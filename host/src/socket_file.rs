//! A unix socket as a file: taking its path, from a server that has died if need be, and giving it back.
//!
//! **Owns** whose file may be removed: that of a socket at which nobody listens any more, and our own; and
//! that of servers which start at one moment one does it.
//! **Refuses to know** who connects.

use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use socket2::{Domain, SockAddr, Socket, Type};
use vspc_core::concentrator::SocketFile;

use crate::sockets::MOST_WAITING;

/// A path that is ours for as long as this lives.
#[derive(Debug)]
pub(crate) struct Claim {
    file: Arc<SocketFile>,
    /// The file's device and number: what somebody else has put in its place is not ours.
    identity: (u64, u64),
}

/// Opens a unix socket that does not block. The file of a server that has died is replaced. `AddrInUse`:
/// somebody listens there, or is about to. `AlreadyExists`: what is there is no socket, and stays.
///
/// Nobody can connect before its owner, group and permissions are what they are to be: it listens only then.
pub(crate) fn listen(file: &Arc<SocketFile>) -> io::Result<(Socket, Claim)> {
    let address = SockAddr::unix(&file.path)?;
    // Until it listens its socket looks like that of a server that has died.
    let _turn = Turn::take(&file.path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_stale(file, &address)?;
            socket.bind(&address)?;
        }
        outcome => outcome?,
    }
    let claim = Claim { file: Arc::clone(file), identity: identity(&fs::symlink_metadata(&file.path)?) };
    match set_up(file, &socket) {
        Ok(()) => Ok((socket, claim)),
        Err(error) => {
            // While the turn is ours: the claim would not get it.
            claim.remove();
            Err(error)
        }
    }
}

fn set_up(file: &SocketFile, socket: &Socket) -> io::Result<()> {
    if file.owner.is_some() || file.group.is_some() {
        chown(&file.path, file.owner, file.group)?;
    }
    fs::set_permissions(&file.path, Permissions::from_mode(file.mode))?;
    socket.listen(MOST_WAITING)
}

/// Removes the file of a socket at which nobody listens.
fn remove_stale(file: &SocketFile, address: &SockAddr) -> io::Result<()> {
    match fs::symlink_metadata(&file.path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
        // Its owner has just removed it.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // It does not block: where a crowd waits already, somebody lives.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match probe.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(&file.path),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        _ => Err(ErrorKind::AddrInUse.into()),
    }
}

impl Claim {
    /// The socket that this is the path of.
    pub(crate) fn file(&self) -> Arc<SocketFile> {
        Arc::clone(&self.file)
    }

    /// Removes the file, if it is still ours.
    fn remove(&self) {
        if fs::symlink_metadata(&self.file.path).is_ok_and(|found| identity(&found) == self.identity) {
            let _ = fs::remove_file(&self.file.path);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Who has the turn finds nobody listening here, and replaces the file.
        let Ok(_turn) = Turn::take(&self.file.path) else { return };
        self.remove();
    }
}

/// Among servers that ask for one path, the only one that may put something there or take it away. Ends with
/// the process, however that ends.
#[derive(Debug)]
pub(crate) struct Turn {
    /// A file beside that, which is locked and goes with this.
    path: PathBuf,
    _locked: File,
}

impl Turn {
    /// Somebody has it, or was killed that had.
    pub(crate) fn was_taken(place: &Path) -> bool {
        fs::symlink_metadata(Self::path(place)).is_ok()
    }

    fn path(place: &Path) -> PathBuf {
        let mut path = place.as_os_str().to_owned();
        path.push(".lock");
        PathBuf::from(path)
    }

    /// `AddrInUse`: another server has it.
    pub(crate) fn take(place: &Path) -> io::Result<Self> {
        let path = Self::path(place);
        let mut open = OpenOptions::new();
        open.write(true).create(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        loop {
            let file = open.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(ErrorKind::AddrInUse.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Who had the turn before has removed the file that this is: others lock another one.
            let ours = identity(&file.metadata()?);
            if fs::symlink_metadata(&path).is_ok_and(|found| identity(&found) == ours) {
                return Ok(Self { path, _locked: file });
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
#[path = "socket_file_tests.rs"]
mod tests;
