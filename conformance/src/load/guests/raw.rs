//! Copies without a protocol, which hardly anything that has one can outdo.
//!
//! *Socat*: what users have, one unix socket with `socat -u` at both ends, each of which waits for either of
//! its sides before it reads. *Pipe*: the same without waiting; the sender's program writes, this one reads,
//! 64 KiB at a time, and holds every byte against the file. *Relay*: as pipe, with the raw relay in between,
//! as the server stands between an agent and an operator; both of its sockets are TCP.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::stage::Stage;
use super::{LONGEST, PATIENCE, PIECE, broken};
use crate::load::LoadError;
use crate::load::process::start_relay;
use crate::load::program::Program;
use crate::load::relay::BUFFER;

/// Whether there is a `socat`.
pub(super) fn has_socat() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join("socat").is_file())
}

/// Through one socket, from the file to nowhere.
pub(super) fn socat(stage: &Stage) -> Result<Duration, LoadError> {
    let (near, far) = UnixStream::pair().map_err(|error| broken(&error))?;
    let start = |from: &str, to: &str, input: Stdio, output: Stdio| {
        let mut command = Command::new("socat");
        command.args(["-b", &PIECE.to_string(), "-u", from, to]).stdin(input).stdout(output);
        Program::spawn(command)
    };
    let begun = Instant::now();
    let mut taker = start("STDIN", "OPEN:/dev/null", OwnedFd::from(near).into(), Stdio::null())?;
    let file = format!("OPEN:{}", stage.file().display());
    let mut sender = start(&file, "STDOUT", Stdio::null(), OwnedFd::from(far).into())?;
    sender.succeed("socat", LONGEST)?;
    taker.succeed("socat", PATIENCE)?;
    Ok(begun.elapsed())
}

/// Through one socket.
pub(super) fn pipe(stage: &Stage) -> Result<Duration, LoadError> {
    let (mut near, far) = UnixStream::pair().map_err(|error| broken(&error))?;
    near.set_read_timeout(Some(PATIENCE)).map_err(|error| broken(&error))?;
    let _sender = stage.send_into(far.into(), &[])?;
    let begun = stage.proof().read(&mut near, PIECE).map_err(|error| broken(&error))?;
    Ok(begun.elapsed())
}

/// Through two, and a relay.
pub(super) fn relay(stage: &Stage) -> Result<Duration, LoadError> {
    let (_relay, vms, clients) = start_relay(BUFFER)?;
    let meet = || -> io::Result<(TcpStream, TcpStream)> {
        let mut far = TcpStream::connect(vms)?;
        let mut near = TcpStream::connect(clients)?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        // What comes before there is a client is dropped.
        near.write_all(b"?")?;
        far.read_exact(&mut [0])?;
        Ok((near, far))
    };
    let (mut near, far) = meet().map_err(|error| broken(&error))?;
    let _sender = stage.send_into(far.into(), &[])?;
    let begun = stage.proof().read(&mut near, PIECE).map_err(|error| broken(&error))?;
    Ok(begun.elapsed())
}
