//! Copies through server and agent: programs that the guest runs, and its files (APPLICATION §3, §4).

use std::fs::{self, File};
use std::io::{self, Read};
use std::time::Instant;

use vspc_core::mux::StreamId;
use vspc_guest::copy::{GetOk, PutOk, Whole};
use vspc_guest::{Exec, Get, Header, Key, LineBuffer, MAX_LINE, Put, Refusal, answer};

use super::rig::{GUEST, Rig};
use super::stage::Stage;
use super::{Figures, PIECE, Shares, Way, broken};
use crate::load::LoadError;
use crate::load::operator::{Connection, Source};
use crate::load::process::Meter;
use crate::random::nonce;

/// Copies once, and measures server and agent.
pub(super) fn copy(rig: &Rig, stage: &Stage, way: Way) -> Result<Figures, LoadError> {
    let mut connection = Connection::wide(rig.admin())?;
    let figures = measured(rig, stage, || go(&mut connection, stage, way))?;
    if way == Way::Put {
        fs::remove_file(stage.path(COPY)).map_err(|error| broken(&error))?;
    }
    Ok(figures)
}

/// What one copy takes, and what it costs server and agent.
pub(super) fn measured(
    rig: &Rig,
    stage: &Stage,
    copy: impl FnOnce() -> Result<(), LoadError>,
) -> Result<Figures, LoadError> {
    let [server, agent] = rig.pids().map(Meter::start);
    let (server, agent) = (server?, agent?);
    let begun = Instant::now();
    copy()?;
    let time = begun.elapsed();
    let per_gigabyte = |meter: &Meter| Ok(meter.read()?.cpu() / stage.gigabytes());
    let shares = Shares { server: per_gigabyte(&server)?, agent: Some(per_gigabyte(&agent)?) };
    Ok(Figures { cpu: Some(shares), ..Figures::of(stage, time) })
}

/// Copies the file in one of these ways.
pub(super) fn go(connection: &mut Connection, stage: &Stage, way: Way) -> Result<(), LoadError> {
    match way {
        Way::ExecOut => exec_out(connection, stage),
        Way::ExecIn => exec_in(connection, stage),
        Way::Get => get(connection, stage),
        _ => put(connection, stage),
    }
}

/// What a program in the guest writes to its standard output.
fn exec_out(connection: &mut Connection, stage: &Stage) -> Result<(), LoadError> {
    let stream = run(connection, stage.sender())?;
    let mut proof = stage.proof();
    connection.converse(stream, NOTHING, |bytes| {
        let n = proof.take(bytes).map_err(|error| wrong(&error))?;
        if n < bytes.len() { Err(too_much(&bytes[n..])) } else { Ok(()) }
    })?;
    if proof.is_whole() { Ok(()) } else { Err(too_short(proof.so_far())) }
}

/// What a program in the guest reads from its standard input.
fn exec_in(connection: &mut Connection, stage: &Stage) -> Result<(), LoadError> {
    let stream = run(connection, stage.taker())?;
    let file = File::open(stage.file()).map_err(|error| broken(&error))?;
    let mut said = Vec::new();
    connection.converse(stream, Some(Source::new(file, PIECE)), |bytes| {
        said.extend_from_slice(bytes);
        if said.len() > MAX_LINE { Err(too_much(bytes)) } else { Ok(()) }
    })?;
    if said == format!("{} bytes\n", stage.length).into_bytes() {
        return Ok(());
    }
    Err(LoadError::Violation(format!("the program in the guest says {:?}", String::from_utf8_lossy(&said))))
}

/// A file of the guest's.
fn get(connection: &mut Connection, stage: &Stage) -> Result<(), LoadError> {
    let path = stage.file().display().to_string();
    let header = Header::Get(Get { sum: stage.sum.kind(), ..Get::new(path) });
    let (stream, line) = connection.begin(GUEST, &header)?;
    let ok: GetOk = answer::parse(&line).map_err(refused)?;
    if (ok.offset, ok.size) != (0, stage.length) {
        return Err(LoadError::Violation(format!("the guest has {} bytes from {}", ok.size, ok.offset)));
    }
    let mut proof = stage.proof();
    let mut last = LineBuffer::new(MAX_LINE);
    connection.converse(stream, NOTHING, |bytes| {
        let n = proof.take(bytes).map_err(|error| wrong(&error))?;
        last.take(&bytes[n..]);
        Ok(())
    })?;
    judge(&last, stage)
}

/// A file for the guest, which is on its disk in the end.
fn put(connection: &mut Connection, stage: &Stage) -> Result<(), LoadError> {
    let path = stage.path(COPY);
    let header = Header::Put(Put {
        path: path.display().to_string(),
        size: stage.length,
        mode: 0o600,
        sha256: None,
        tag: Some(stage.sum.digits()[..32].to_owned()),
        sum: stage.sum.kind(),
        pack: None,
    });
    let (stream, line) = connection.begin(GUEST, &header)?;
    let PutOk { offset, .. } = answer::parse(&line).map_err(refused)?;
    if offset != 0 {
        return Err(LoadError::Violation(format!("the guest has {offset} bytes of a file that is new")));
    }
    let file = File::open(stage.file()).map_err(|error| broken(&error))?;
    let whole = answer::done(&Whole { size: stage.length, sum: stage.sum.clone() });
    let file = file.chain(io::Cursor::new(whole));
    let mut last = LineBuffer::new(MAX_LINE);
    connection.converse(stream, Some(Source::new(file, PIECE)), |bytes| {
        last.take(bytes);
        Ok(())
    })?;
    judge(&last, stage)
}

/// Runs a program in the guest.
fn run(connection: &mut Connection, argv: Vec<String>) -> Result<StreamId, LoadError> {
    let header = Header::Exec(Exec { argv, ..Exec::new(key()) });
    let (stream, line) = connection.begin(GUEST, &header)?;
    answer::parse::<answer::Done>(&line).map_err(refused)?;
    Ok(stream)
}

/// The last line of a copy.
fn judge(last: &LineBuffer, stage: &Stage) -> Result<(), LoadError> {
    let line = last.line().ok_or_else(|| too_short(0))?;
    let whole: Whole = line.and_then(answer::parse).map_err(refused)?;
    if whole.size == stage.length && whole.sum == stage.sum {
        return Ok(());
    }
    Err(LoadError::Violation("the guest has another file than was copied".to_owned()))
}

pub(super) fn key() -> Key {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&nonce().to_le_bytes());
    bytes[8..].copy_from_slice(&nonce().to_le_bytes());
    Key::random(bytes)
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
pub(super) fn refused(refusal: Refusal) -> LoadError {
    LoadError::Violation(format!("the guest refuses: {refusal}"))
}

fn wrong(error: &io::Error) -> LoadError {
    LoadError::Violation(error.to_string())
}

fn too_much(bytes: &[u8]) -> LoadError {
    let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    LoadError::Violation(format!("a copy has more than was to come: {begin:?}"))
}

fn too_short(at: u64) -> LoadError {
    LoadError::Violation(format!("a copy ends early; {at} bytes of it had come"))
}

const NOTHING: Option<Source<File>> = None;

/// What the file is called that is copied onto the guest's disk.
const COPY: &str = "copy";
