//! A unix socket as a file: taking its path, from a server that has died if need be, and giving it back.
//!
//! **Owns** whose file may be removed: that of a socket at which nobody listens any more, and our own.
//! **Refuses to know** who connects.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};
use vspc_core::concentrator::SocketFile;

use crate::sockets::BACKLOG;

/// A path that is ours for as long as this lives.
#[derive(Debug)]
pub(crate) struct Claim {
    file: Arc<SocketFile>,
    /// The file's device and number: what somebody else has put in its place is not ours.
    identity: (u64, u64),
}

/// Opens a unix socket that does not block. The file of a server that has died is replaced. `AddrInUse`:
/// somebody listens there. `AlreadyExists`: what is there is no socket, and stays.
///
/// Nobody can connect before its group and permissions are what they are to be: it listens only then.
pub(crate) fn listen(file: &Arc<SocketFile>) -> io::Result<(Socket, Claim)> {
    let address = SockAddr::unix(&file.path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_stale(file, &address)?;
            socket.bind(&address)?;
        }
        outcome => outcome?,
    }
    let claim = Claim { file: Arc::clone(file), identity: identity(&fs::symlink_metadata(&file.path)?) };
    if file.group.is_some() {
        chown(&file.path, None, file.group)?;
    }
    fs::set_permissions(&file.path, Permissions::from_mode(file.mode))?;
    socket.listen(BACKLOG)?;
    Ok((socket, claim))
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
}

impl Drop for Claim {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.file.path).is_ok_and(|found| identity(&found) == self.identity) {
            let _ = fs::remove_file(&self.file.path);
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
#[path = "socket_file_tests.rs"]
mod tests;
