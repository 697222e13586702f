//! Starts a server and ends it, in the same way for both: options, log, limits, certificates, signals; then
//! the server itself; then the exit code.

use std::env;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use vspc_core::concentrator::{Address, Concentrator, Config};
use vspc_core::time::Instant;

use crate::askers::Askers;
use crate::audience::Listener;
use crate::commands;
use crate::config::{self, Parsed, Surroundings};
use crate::credentials::Credentials;
use crate::dialer::Dialer;
use crate::doctor::{self, Form};
use crate::fatal::Fatal;
use crate::hangup::Hangup;
use crate::housekeeping::Housekeeping;
use crate::inherited::Inherited;
use crate::limits::{Limits, unused_consoles};
use crate::local_ports;
use crate::logging::{ERROR, Logging, is_journal};
use crate::logs::{self, Logs};
use crate::options::Options;
use crate::outlets::{self, Outlets};
use crate::pid_file::PidFile;
use crate::reload;
use crate::seed::seed;
use crate::signals;
use crate::sockets;
use crate::store::{self, Mirror};
use crate::supervisor::Supervisor;
use crate::tls::CLEAR_ADVICE;
use crate::watching::{self, Watching};

/// All that a server needs to run.
#[derive(Debug)]
pub struct Host {
    /// The engine's configuration.
    pub config: Arc<Config>,
    /// Without its admin port the server does not start.
    pub needs_admin: bool,
    /// The engine's randomness.
    pub seed: [u8; 32],
    /// What TLS connections are answered with at first.
    pub credentials: Credentials,
    /// What is kept over a restart.
    pub store: Mirror,
    /// The logs of consoles.
    pub logs: Logs,
    /// What is looked for in what consoles print.
    pub watching: Watching,
    /// Operators who wait for what comes of a reload.
    pub askers: Askers,
    /// Who is told what happens.
    pub outlets: Outlets,
    /// Who is told that the server serves.
    pub supervisor: Supervisor,
    /// Listeners that the process was started with.
    pub inherited: Inherited,
    /// Connects to what the engine asks for.
    pub dialer: Dialer,
    /// What other threads ask for.
    pub commands: commands::Receiver,
    /// Becomes readable when there are commands.
    pub commands_socket: UnixStream,
}

/// What a server begins with.
#[derive(Debug)]
pub struct Begun {
    /// The engine, which has not been asked for outputs yet.
    pub engine: Concentrator,
    /// What both servers keep beside it.
    pub house: Housekeeping,
    /// What other threads ask for.
    pub commands: commands::Receiver,
    /// Becomes readable when there are commands.
    pub commands_socket: UnixStream,
}

impl Host {
    /// Makes the engine, and puts back what was kept.
    pub fn begin(self, now: Instant) -> Result<Begun, Fatal> {
        let mut engine = Concentrator::new(self.config, self.seed, now);
        self.credentials.take_effect(&mut engine);
        let mut house =
            Housekeeping::new(self.needs_admin).map_err(|error| Fatal::System("open /dev/null", error))?;
        house.logs = self.logs;
        house.watching = self.watching;
        house.askers = self.askers;
        house.restore(self.store, &mut engine, now);
        house.tell(self.outlets);
        house.inherit(self.inherited);
        house.dial_by(self.dialer);
        house.supervise(self.supervisor, now);
        Ok(Begun { engine, house, commands: self.commands, commands_socket: self.commands_socket })
    }
}

/// Runs a server: options, log, limits and signals first, then `serve`, which returns when it was told to
/// stop. What keeps it from starting is one line on stderr.
pub fn run(program: &'static str, serve: impl FnOnce(Host) -> Result<(), Fatal>) -> ExitCode {
    let options = match config::read(program, env::args_os(), &Surroundings::of_process()) {
        Ok(Parsed::Serve(options)) => options,
        Ok(Parsed::Check(options)) => {
            return match check(&options) {
                Ok(text) => print(&text),
                Err(fatal) => refuse(program, &fatal),
            };
        }
        Ok(Parsed::Examine(options, form)) => {
            let report = doctor::examine(&options);
            print(&match form {
                Form::Text => report.to_string(),
                Form::Json => report.json(),
            });
            return ExitCode::from(u8::from(report.has_errors()));
        }
        Ok(Parsed::Print(text)) => return print(&text),
        Ok(Parsed::Document(pages, folder)) => {
            return match vspc_man::put(&pages, folder.as_deref()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => refuse(program, &Fatal::System("write the manual pages", error)),
            };
        }
        #[cfg(feature = "tls")]
        Ok(Parsed::Make(cert)) => {
            return match cert.make(program) {
                Ok(text) => print(&text),
                Err(error) => refuse(program, &Fatal::MakeCertificate(error)),
            };
        }
        Err(fatal) => return refuse(program, &fatal),
    };
    // Before anything else is opened.
    let inherited = match Inherited::of_process() {
        Ok(inherited) => inherited,
        Err(error) => return refuse(program, &Fatal::Options(error.to_string())),
    };
    let log = match Logging::start(program, options.debug, options.log_place()) {
        Ok(log) => log,
        Err(error) => return refuse(program, &Fatal::System("start the log's thread", error)),
    };
    let outcome = prepare(program, &options, inherited).and_then(|(host, endings)| {
        let _pid_file = options.pidfile.as_deref().map(write_pid_file).transpose()?;
        let outcome = serve(host);
        endings.wait();
        outcome
    });
    match &outcome {
        Ok(()) => log::info!("stopped"),
        // Who has the log elsewhere looks for it there.
        Err(fatal) if options.syslog || options.stdout => log::error!("{fatal}"),
        Err(_) => {}
    }
    log.flush(FLUSH_PATIENCE);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => refuse(program, &fatal),
    }
}

/// The threads that have something to do still when the loop has ended.
struct Endings {
    store: store::Ending,
    logs: logs::Ending,
    events: outlets::Ending,
}

impl Endings {
    fn wait(self) {
        self.store.wait(STATE_PATIENCE);
        self.logs.wait(LOG_PATIENCE);
        self.events.wait();
    }
}

fn prepare(
    program: &'static str,
    options: &Options,
    mut inherited: Inherited,
) -> Result<(Host, Endings), Fatal> {
    let mut limits = Limits::raise();
    if options.logs.log_dir.is_some() {
        limits = limits.with_logs();
    }
    limits = limits.with_local_lines(options.local_lines());
    if options.dials() {
        limits = limits.with_dials();
    }
    let for_engine = limits.for_engine()?;
    let configure = move |options: &Options| engine_config(program, options, for_engine);
    let mut config = configure(options);
    inherited
        .expand(&mut [&mut config.vm_listen, &mut config.admin_listen])
        .map_err(|error| Fatal::Options(error.to_string()))?;
    if let Err(error) = limits.lengthen_table() {
        log::debug!("the table of descriptors grows as it is needed: {error}");
    }
    log::info!(
        "{program} {}: {limits}, {}; at most {} unused consoles are kept",
        env!("CARGO_PKG_VERSION"),
        room(options, &limits),
        config.max_consoles
    );
    for note in &options.config.notes {
        log::warn!("{note}");
    }
    if let Some(path) = &options.config.config {
        log::info!("options are read from {}", path.display());
    }
    for name in inherited.drop_others(&[&config.vm_listen, &config.admin_listen]) {
        log::warn!(
            "the service manager has handed over a socket that no option takes: --vm-listen fd:{name} or \
             --admin-listen fd:{name} would"
        );
    }
    let config = Arc::new(config);
    if let Some(ports) = config.client_ports {
        let place = config.client_interface.clone();
        sockets::check_place(&place).map_err(|error| Fatal::Interface(place, error))?;
        if config.client_interface.ip().is_some()
            && let Some(line) = local_ports::advice(ports)
        {
            log::warn!("{line}");
        }
    }
    if let Some(limit) = sockets::short_backlog() {
        log::warn!(
            "net.core.somaxconn is {limit}; with less than {}, part of a fleet that connects at one moment \
             waits for seconds",
            sockets::BACKLOG
        );
    }
    if let Some(ip) = options.exposed().filter(|_| !config.client_tls) {
        log::warn!("client ports on {ip} are open to the network without TLS: {CLEAR_ADVICE}");
    }
    if let (Some(ip), Some(risk)) = (options.exposed_admin(), options.tls.admin_risk()) {
        log::warn!(
            "the admin port on {ip} is open to the network {risk}; whoever reaches it by vSPC.py's protocol \
             is {} (--admin-rights)",
            config.admin_rights.of_v3()
        );
    }
    if config.admin_listen.iter().any(|address| matches!(address, Address::Vsock { .. })) {
        log::warn!(
            "the admin port is open to virtual machines by vsock; whoever reaches it by vSPC.py's protocol \
             is {} (--admin-rights)",
            config.admin_rights.of_v3()
        );
    }
    let credentials = load_first(options)?;
    let seed = seed().map_err(|error| Fatal::System("get randomness from the system", error))?;
    let (sender, commands, commands_socket) =
        commands::pair().map_err(|error| Fatal::System("create a pair of sockets", error))?;
    let (store, store_end) = store::open(options, sender.clone())?;
    let index = options.logs.index(env::var_os("STATE_DIRECTORY").as_deref(), options.store.file.as_deref());
    let log_settings = options.logs.settings(limits.for_logs, index, config.restored_output);
    let (mut logs, logs_end) = logs::open(log_settings, sender.clone())?;
    logs.choose(options.tables.consoles.clone());
    let watching = watching::start(&options.tables.watches, sender.clone())
        .map_err(|error| Fatal::System("start the thread of watches", error))?;
    let (mut outlets, events_end) = (Outlets::default(), outlets::Ending::default());
    for listener in Listener::all(options) {
        outlets.add(listener.start(&events_end, &sender)?, None);
    }
    let dialer = Dialer::new(sender.clone(), events_end.clone(), limits.for_dials);
    let args = env::args_os().collect();
    let askers = Askers::default();
    let hangup = Hangup::new(program, args, options.clone(), configure, events_end.clone(), sender.clone());
    let hangup = hangup.answering(askers.clone());
    let hangup = Arc::new(hangup);
    let loading = Arc::clone(&hangup);
    signals::register(sender, move || loading.load(), move |loaded| hangup.take(loaded))
        .map_err(|error| Fatal::System("set up signals", error))?;
    let needs_admin = options.needs_admin();
    let supervisor = Supervisor::of_process();
    let host = Host {
        config,
        needs_admin,
        seed,
        credentials,
        store,
        logs,
        watching,
        askers,
        outlets,
        supervisor,
        inherited,
        dialer,
        commands,
        commands_socket,
    };
    Ok((host, Endings { store: store_end, logs: logs_end, events: events_end }))
}

/// The engine's configuration in a process in which it may use so many descriptors.
fn engine_config(program: &str, options: &Options, max_descriptors: usize) -> Config {
    let mut config = options.config(max_descriptors);
    if options.max_consoles.is_none() {
        config.max_consoles = unused_consoles();
    }
    config.server = format!("{program} {}", env!("CARGO_PKG_VERSION"));
    config
}

fn write_pid_file(path: &Path) -> Result<PidFile, Fatal> {
    PidFile::write(path).map_err(|error| {
        Fatal::Options(format!("cannot write --pidfile {}: {error}; choose another", path.display()))
    })
}

/// Whether a server could be started with these options, as far as can be told without one, in words.
fn check(options: &Options) -> Result<String, Fatal> {
    load_first(options)?;
    Ok(match &options.config.config {
        Some(path) => format!("{}: no faults\n", path.display()),
        None => "no faults; no configuration file is read\n".to_owned(),
    })
}

/// Loads the certificates that a server starts with.
fn load_first(options: &Options) -> Result<Credentials, Fatal> {
    let (loader, trust) = (options.tls.loader(options), options.tls.trust_loader(options));
    if loader.is_none() && trust.is_none() {
        return Ok(Credentials::default());
    }
    let load = move || {
        let credentials = loader.map_or_else(|| Ok(Credentials::default()), |loader| loader.load())?;
        let connector = trust.map_or(Ok(None), |trust| trust.load())?;
        Ok(Credentials { connector, ..credentials })
    };
    reload::within(reload::PATIENCE, load).ok_or(Fatal::Unanswered(reload::PATIENCE))?
}

/// How many VMs the descriptors are enough for, in words.
fn room(options: &Options, limits: &Limits) -> String {
    match options.no_vm_ports {
        true => format!("room for {} VMs", limits.fleet(1)),
        false => format!(
            "room for {} VMs with a client port each, one less for every two clients",
            limits.fleet(2)
        ),
    }
}

fn print(text: &str) -> ExitCode {
    // A reader that closes the pipe early (`| head`) is not an error.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn refuse(program: &str, fatal: &Fatal) -> ExitCode {
    let _ = match is_journal(io::stderr()) {
        true => writeln!(io::stderr(), "<{ERROR}>{fatal}"),
        false => writeln!(io::stderr(), "{program}: {fatal}"),
    };
    ExitCode::from(fatal.exit_code())
}

/// How long the end waits for a disk that does not take the last changes of the state.
const STATE_PATIENCE: Duration = Duration::from_secs(3);

/// How long the end waits for a disk that does not take what consoles have printed last.
const LOG_PATIENCE: Duration = Duration::from_secs(3);

/// How long the end waits for a stderr that does not take the last lines.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);
