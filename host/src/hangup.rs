//! What a SIGHUP leads to: the configuration and the certificates are read anew. What can change while the
//! server runs is changed; of the rest the log says, line by line, that it takes a restart.
//!
//! **Owns** the options in use. **Refuses to know** threads: `Hangup::load` is called in one that may wait
//! for a disk, `Hangup::take` in one that does not, and `Reloaded` is carried out by the loop.

use std::ffi::OsString;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::Level;
use vspc_core::concentrator::{Concentrator, Config};
use vspc_core::time::Instant;

use crate::audience;
use crate::commands::Sender;
use crate::config::{self, Comparison, Parsed, Surroundings};
use crate::console_rules::Rules;
use crate::credentials::Credentials;
use crate::fatal::Fatal;
use crate::logging;
use crate::logs::Logs;
use crate::options::Options;
use crate::outlets::{Ending, Outlets};
use crate::watching::{self, Watching};

/// What is read anew, and what it was.
pub(crate) struct Hangup {
    program: &'static str,
    /// The command line that the server was started with.
    args: Vec<OsString>,
    /// The engine's configuration, as options have it in this process.
    configure: Box<dyn Fn(&Options) -> Config + Send + Sync>,
    /// For the threads of those who are told what happens.
    ending: Ending,
    commands: Sender,
    in_use: Mutex<Options>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    options: Options,
    /// Something in them is new.
    is_new: bool,
    credentials: Option<Credentials>,
    notes: Vec<(Level, String)>,
}

/// What changes in a server's loop; by default nothing.
#[derive(Debug, Default)]
pub struct Reloaded {
    config: Option<Config>,
    credentials: Option<Credentials>,
    audience: Option<audience::Change>,
    watching: Option<Watching>,
    consoles: Option<Rules>,
    /// Lines for the log.
    notes: Vec<(Level, String)>,
}

impl Hangup {
    /// For a server that was started with this command line, of which these options came.
    pub(crate) fn new(
        program: &'static str,
        args: Vec<OsString>,
        options: Options,
        configure: impl Fn(&Options) -> Config + Send + Sync + 'static,
        ending: Ending,
        commands: Sender,
    ) -> Self {
        let (configure, in_use) = (Box::new(configure), Mutex::new(options));
        Self { program, args, configure, ending, commands, in_use }
    }

    /// Reads all of it. Waits for the disk.
    pub(crate) fn load(&self) -> Loaded {
        self.load_from(&Surroundings::of_process())
    }

    fn load_from(&self, surroundings: &Surroundings) -> Loaded {
        let in_use = self.lock().clone();
        let mut notes = Vec::new();
        let read = match config::read(self.program, self.args.iter().cloned(), surroundings) {
            Ok(Parsed::Serve(read)) => Ok(*read),
            // What a command line asks for does not change.
            Ok(_) => Ok(in_use.clone()),
            Err(fatal) => Err(fatal.to_string()),
        };
        let compare = |takes_files| {
            read.as_ref().map_err(Clone::clone).and_then(|read| config::compare(&in_use, read, takes_files))
        };
        let mut compared = compare(true);
        let wanted = compared.as_ref().map_or(&in_use, |compared| &compared.options);
        let credentials = match wanted.tls.loader(wanted).map(|loader| loader.load()) {
            Some(Ok(credentials)) => Some(credentials),
            Some(Err(fatal)) => {
                notes.push((Level::Error, format!("the certificate in use stays: {fatal}")));
                compared = compare(false);
                None
            }
            None => None,
        };
        match compared {
            Ok(Comparison { options, applied, waiting }) => {
                if applied.is_empty() && waiting.is_empty() {
                    notes.push((Level::Info, "no option has changed".to_owned()));
                }
                notes.extend(applied.iter().map(|change| (Level::Info, change.applied())));
                notes.extend(waiting.iter().map(|change| (Level::Warn, change.waits())));
                Loaded { options, is_new: !applied.is_empty(), credentials, notes }
            }
            Err(fault) => {
                notes.push((Level::Error, format!("the options in use stay: {fault}")));
                Loaded { options: in_use, is_new: false, credentials, notes }
            }
        }
    }

    /// Takes what was read for what is in use. Returns what the loop has to do about it.
    pub(crate) fn take(&self, loaded: Loaded) -> Reloaded {
        let Loaded { options, is_new, credentials, mut notes } = loaded;
        let mut in_use = self.lock();
        let change = audience::Change::between(&in_use, &options, &self.ending, &self.commands);
        let audience = change.unwrap_or_else(|fatal: Fatal| {
            notes.push((Level::Error, format!("who is told of events stays: {fatal}")));
            None
        });
        let watching = (in_use.tables.watches != options.tables.watches)
            .then(|| watching::start(&options.tables.watches, self.commands.clone()));
        let watching = watching.transpose().unwrap_or_else(|error| {
            notes.push((Level::Error, format!("what is watched for stays: cannot start a thread: {error}")));
            None
        });
        let consoles =
            (in_use.tables.consoles != options.tables.consoles).then(|| options.tables.consoles.clone());
        logging::set_debug(options.debug);
        let config = is_new.then(|| (self.configure)(&options));
        *in_use = options;
        Reloaded { config, credentials, audience, watching, consoles, notes }
    }

    /// Ignores poison: nobody who holds the lock can panic in the middle of a change.
    fn lock(&self) -> MutexGuard<'_, Options> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hangup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hangup").field("args", &self.args).finish_non_exhaustive()
    }
}

impl Reloaded {
    /// Has the engine, and those who are told what happens, go by this from now on, and logs what has
    /// changed.
    pub(crate) fn take_effect(
        self,
        engine: &mut Concentrator,
        logs: &mut Logs,
        outlets: &mut Outlets,
        watching: &mut Watching,
        now: Instant,
    ) {
        if let Some(config) = self.config {
            engine.reconfigure(&config, now);
        }
        if let Some(credentials) = self.credentials {
            credentials.take_effect(engine);
        }
        if let Some(change) = self.audience {
            outlets.keep(&change.names);
            change.new.into_iter().for_each(|tap| outlets.add(tap, Some(engine)));
        }
        if let Some(rules) = self.consoles {
            logs.choose_anew(rules, engine, now);
        }
        if let Some(new) = self.watching {
            watching.replace(new, engine, now);
        }
        for (level, note) in self.notes {
            log::log!(level, "SIGHUP: {note}");
        }
    }
}
