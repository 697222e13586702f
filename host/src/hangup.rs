//! What a SIGHUP leads to: the configuration and the certificates are read anew. What can change while the
//! server runs is changed; of the rest the log says, line by line, that it takes a restart.
//!
//! **Owns** the options in use. **Refuses to know** threads: `Hangup::load` is called in one that may wait
//! for a disk, `Hangup::take` in one that does not, and `Reloaded` is carried out by the loop.

use std::ffi::OsString;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::Level;
use vspc_core::admin::operator::ReloadOutcome;
use vspc_core::concentrator::{Concentrator, Config, ConnId};
use vspc_core::time::Instant;

use crate::askers::Askers;
use crate::audience;
use crate::commands::Sender;
use crate::config::{self, Change, Comparison, Parsed, Surroundings};
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
    /// Who waits for what comes of it.
    askers: Askers,
    in_use: Mutex<Options>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    options: Options,
    /// Something in them is new.
    is_new: bool,
    credentials: Option<Credentials>,
    outcome: ReloadOutcome,
}

/// What changes in a server's loop; by default nothing.
#[derive(Debug, Default)]
pub struct Reloaded {
    config: Option<Config>,
    credentials: Option<Credentials>,
    audience: Option<audience::Change>,
    watching: Option<Watching>,
    consoles: Option<Rules>,
    /// What is said of it, in the log and to those who wait for it.
    outcome: ReloadOutcome,
    askers: Vec<ConnId>,
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
        Self { program, args, configure, ending, commands, askers: Askers::default(), in_use }
    }

    /// The same, that tells these what comes of it.
    pub(crate) fn answering(self, askers: Askers) -> Self {
        Self { askers, ..self }
    }

    /// Reads all of it. Waits for the disk.
    pub(crate) fn load(&self) -> Loaded {
        self.askers.begin();
        self.load_from(&Surroundings::of_process())
    }

    fn load_from(&self, surroundings: &Surroundings) -> Loaded {
        let in_use = self.lock().clone();
        let mut outcome = ReloadOutcome::default();
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
        let trusted = wanted.tls.trust_loader(wanted).map(|loader| loader.load());
        let mut credentials = match wanted.tls.loader(wanted).map(|loader| loader.load()) {
            Some(Ok(credentials)) => Some(credentials),
            Some(Err(fatal)) => {
                outcome.faults.push(format!("the certificate in use stays: {fatal}"));
                compared = compare(false);
                None
            }
            None => None,
        };
        match trusted {
            Some(Ok(connector)) => credentials.get_or_insert_default().connector = connector,
            Some(Err(fatal)) => outcome.faults.push(format!("the trust in targets stays as it was: {fatal}")),
            None => {}
        }
        match compared {
            Ok(Comparison { options, applied, waiting }) => {
                outcome.changed.extend(applied.iter().map(Change::applied));
                outcome.restart.extend(waiting.iter().map(Change::waits));
                Loaded { options, is_new: !applied.is_empty(), credentials, outcome }
            }
            Err(fault) => {
                outcome.faults.push(format!("the options in use stay: {fault}"));
                Loaded { options: in_use, is_new: false, credentials, outcome }
            }
        }
    }

    /// Takes what was read for what is in use, or that nothing was. Returns what the loop has to do about it.
    pub(crate) fn take(&self, loaded: Result<Loaded, String>) -> Reloaded {
        let Loaded { options, is_new, credentials, mut outcome } = match loaded {
            Ok(loaded) => loaded,
            Err(fault) => {
                // Whoever has asked since hears the same of the same disk.
                self.askers.begin();
                let outcome = ReloadOutcome { faults: vec![fault], ..ReloadOutcome::default() };
                return Reloaded { outcome, askers: self.askers.end(), ..Reloaded::default() };
            }
        };
        let mut in_use = self.lock();
        let change = audience::Change::between(&in_use, &options, &self.ending, &self.commands);
        let audience = change.unwrap_or_else(|fatal: Fatal| {
            outcome.faults.push(format!("who is told of events stays: {fatal}"));
            None
        });
        let watching = (in_use.tables.watches != options.tables.watches)
            .then(|| watching::start(&options.tables.watches, self.commands.clone()));
        let watching = watching.transpose().unwrap_or_else(|error| {
            outcome.faults.push(format!("what is watched for stays: cannot start a thread: {error}"));
            None
        });
        let consoles =
            (in_use.tables.consoles != options.tables.consoles).then(|| options.tables.consoles.clone());
        logging::set_debug(options.debug);
        let config = is_new.then(|| (self.configure)(&options));
        *in_use = options;
        let askers = self.askers.end();
        Reloaded { config, credentials, audience, watching, consoles, outcome, askers }
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
    /// Has the engine, and those who are told what happens, go by this from now on, logs what has changed,
    /// and tells those who have asked for it.
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
        let ReloadOutcome { changed, restart, faults } = &self.outcome;
        for (level, lines) in [(Level::Error, faults), (Level::Info, changed), (Level::Warn, restart)] {
            lines.iter().for_each(|line| log::log!(level, "SIGHUP: {line}"));
        }
        if self.outcome == ReloadOutcome::default() {
            log::info!("SIGHUP: no option has changed");
        }
        for who in self.askers {
            engine.handle_reloaded(who, &self.outcome, now);
        }
    }
}
