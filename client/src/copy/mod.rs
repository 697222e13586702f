//! `vspc cp`: files into a guest and out of it.
//!
//! Owns when a copy that was cut is tried again. Parts: `place` (what is meant), `into` and `out_of` (one
//! attempt each), `body` (a file's bytes on a stream), `part` (what is there of a file that is being copied),
//! `progress`.

mod body;
mod into;
mod out_of;
mod part;
mod place;
mod progress;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use serde::de::DeserializeOwned;

use self::into::Source;
use self::out_of::Target;
use self::place::{Copy, Place};
use self::progress::Progress;
use crate::args::CpArgs;
use crate::attach::reconnect::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::clock;
use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::guest::{Guest, Joined, Trouble};
use crate::output;
use crate::printable::printable;
use crate::server::Server;
use crate::units;

/// Copies what the command line says.
pub(crate) fn run(server: &Server, args: &CpArgs) -> Result<(), Failure> {
    let places = args.places.iter().map(|text| Place::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let Some((target, sources)) = places.split_last() else {
        return Err(Failure::usage("say what is to be copied, and where to"));
    };
    let copies = place::plan(sources, target, Path::is_dir)?;
    let mut courier =
        Courier { connection: Connection::open(server)?, guests: BTreeMap::new(), args, has_begun: false };
    // A name that is wrong is told before anything is copied.
    for copy in &copies {
        courier.find(copy.guest())?;
    }
    for copy in &copies {
        courier.carry(copy)?;
    }
    courier.connection.part();
    Ok(())
}

/// Whether a copy reads and writes no file of this machine: it is out of a guest, to the standard output.
/// What comes from the standard input would be kept in a file.
pub(crate) fn is_shown(places: &[String]) -> bool {
    let is_in_guest = |place: &String| matches!(Place::parse(place), Ok(Place::Guest { .. }));
    matches!(places, [sources @ .., to] if to == "-" && sources.iter().all(is_in_guest))
}

impl Copy {
    fn guest(&self) -> &str {
        match self {
            Self::Into { guest, .. } | Self::OutOf { guest, .. } => guest,
        }
    }

    fn path(&self) -> &str {
        match self {
            Self::Into { path, .. } | Self::OutOf { path, .. } => path,
        }
    }
}

/// Why an attempt has ended without the file.
enum Stop {
    /// It may be tried again.
    Trouble(Trouble),
    /// What was there of an earlier attempt is of another file: it is to begin anew.
    Anew,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Copies files over one connection.
struct Courier<'a> {
    connection: Connection,
    guests: BTreeMap<String, Guest>,
    args: &'a CpArgs,
    /// A guest has answered: it is known to be there.
    has_begun: bool,
}

/// The two kinds of copies, between attempts.
enum Load {
    Into(Box<Source>),
    OutOf(Box<Target>),
}

impl Courier<'_> {
    fn find(&mut self, name: &str) -> Result<(), Failure> {
        if !self.guests.contains_key(name) {
            let guest = Guest::find(&mut self.connection, name)?;
            self.guests.insert(name.to_owned(), guest);
        }
        Ok(())
    }

    fn carry(&mut self, copy: &Copy) -> Result<(), Failure> {
        let guest = &self.guests[copy.guest()];
        let mut progress =
            Progress::new(format!("{}:{}", guest.name, printable(copy.path())), self.args.quiet);
        let mut load = match copy {
            Copy::Into { from, .. } => {
                Load::Into(Box::new(Source::open(from.as_deref(), self.args.preserve)?))
            }
            Copy::OutOf { to, .. } => Load::OutOf(Box::new(Target::open(to.as_deref(), self.args.preserve)?)),
        };
        let (mut until, mut is_anew) = (None, false);
        loop {
            let guest = &self.guests[copy.guest()];
            let connection = &mut self.connection;
            let outcome = match &mut load {
                Load::Into(source) => source.attempt(connection, guest, copy.path(), &mut progress),
                Load::OutOf(target) => target.attempt(connection, guest, copy.path(), &mut progress),
            };
            let trouble = match outcome {
                Ok(()) => {
                    progress.end();
                    return Ok(());
                }
                Err(Stop::Failed(failure)) => return Err(failure),
                Err(Stop::Anew) if is_anew => {
                    let what = format!("{}: what came is not what was sent", printable(copy.path()));
                    return Err(Failure::error(what));
                }
                Err(Stop::Anew) => {
                    is_anew = true;
                    continue;
                }
                Err(Stop::Trouble(trouble)) => trouble,
            };
            let mut failure = trouble.failure(&guest.name);
            if let (Copy::Into { .. }, Trouble::Guest(refusal)) = (copy, &trouble)
                && refusal.code == vspc_guest::Code::NOT_A_FILE
            {
                failure.message.push_str("; a folder is written with a / at its end");
            }
            self.has_begun |= progress.has_begun();
            if !trouble.may_pass() || !self.has_begun || self.args.retry.is_zero() {
                return Err(failure);
            }
            if progress.take_moved() {
                until = None;
            }
            progress.clear();
            if until.is_none() {
                let retry = units::span(self.args.retry);
                output::tell(format_args!("{failure}; trying again for {retry}"));
            }
            let until = *until.get_or_insert_with(|| clock::now() + self.args.retry);
            self.come_back(copy.guest(), &trouble, until)?.ok_or(failure)?;
        }
    }

    /// Waits, and connects again where that has to be. `None`: it takes too long.
    fn come_back(
        &mut self,
        name: &str,
        trouble: &Trouble,
        until: vspc_core::time::Instant,
    ) -> Result<Option<()>, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            let left = until.duration_since(clock::now());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
            if !matches!(trouble, Trouble::Over(_)) {
                return Ok(Some(()));
            }
            let back = Connection::open(self.connection.server()).and_then(|mut connection| {
                for guest in self.guests.values_mut() {
                    guest.find_again(&mut connection)?;
                }
                Ok(connection)
            });
            match back {
                Ok(connection) => {
                    self.connection = connection;
                    return Ok(Some(()));
                }
                // They are waited for.
                Err(failure) if matches!(failure.code, Code::NoConnection | Code::NoSuchConsole) => {}
                Err(failure) => return Err(Failure::new(failure.code, format!("{name}: {failure}"))),
            }
        }
    }
}

/// Sees what has become of a stream, and waits for more where there is nothing to do.
fn turn(connection: &mut Connection, joined: &Joined) -> Result<(), Stop> {
    while let Some(news) = connection.poll() {
        if let Some(trouble) = joined.lost(&news) {
            return Err(Stop::Trouble(trouble));
        }
    }
    Ok(())
}

/// The guest's answer.
fn answer<T: DeserializeOwned>(connection: &mut Connection, joined: &mut Joined) -> Result<T, Stop> {
    loop {
        turn(connection, joined)?;
        if let Some(outcome) = joined.answer(connection) {
            return outcome.map_err(Stop::Trouble);
        }
        connection.wait(clock::now() + IDLE);
    }
}

/// How often a connection is looked after on which nothing happens.
const IDLE: std::time::Duration = std::time::Duration::from_secs(60);
/// Read and written at a time.
const PIECE: usize = 64 * 1024;
