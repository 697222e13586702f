//! Where the options of a server come from: the command line, then the environment, then a file, then the
//! defaults. What stands further on in this row holds only where nobody before it says something.
//!
//! **Owns** the order, and what is said of faults, with where they are. **Refuses to know** what options
//! mean, which [`Options`] does: all sources become one command line, which clap reads as it would any other.
//!
//! ```text
//! arguments ──▶ [ command_line ] ─┐
//! VSPC_…    ──▶ [ environment  ] ─┼─▶ one command line ─▶ clap ─▶ Options ─▶ whole or refused
//! vspc.toml ──▶ [ file         ] ─┘        ▲
//!               clap's definitions ─▶ [ keys ] ─▶ [ print ], [ manual ]
//! ```

mod changes;
mod command_line;
mod environment;
mod file;
mod keys;
mod manual;
mod print;
mod tables;
mod vspcpy;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches};
use vspc_man::Page;

use crate::doctor::Form;
use crate::fatal::Fatal;
use crate::options::{Command as Instead, Options};
#[cfg(feature = "tls")]
use crate::tls::CertOptions;

pub(crate) use changes::{Change, Comparison, compare};
use command_line::CommandLine;
pub(crate) use environment::Surroundings;
use file::Read;
use keys::Key;
pub(crate) use tables::Tables;

/// The options about the file itself.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct ConfigOptions {
    /// A file with options in TOML (vspc.toml). The command line and the environment win over it [default:
    /// /etc/vspc/vspc.toml, if it is there].
    #[arg(long, value_name = "FILE", help_heading = CONFIGURATION)]
    pub config: Option<PathBuf>,

    /// Look for faults in what is given here, in the environment, in the file and in certificates, say what
    /// they are, and exit.
    #[arg(long, help_heading = CONFIGURATION)]
    pub check_config: bool,

    /// Print what holds, and where each value comes from, as a file, and exit.
    #[arg(long, help_heading = CONFIGURATION)]
    pub print_config: bool,

    /// Print a file with every option, explained, and exit.
    #[arg(long, help_heading = CONFIGURATION)]
    pub print_default_config: bool,

    /// What is to be said of spellings that were given, once each.
    #[arg(skip)]
    pub notes: Vec<String>,

    /// The name of each option, and its value as a file has it.
    #[arg(skip)]
    pub values: Vec<(String, String)>,
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Serve with these options.
    Serve(Box<Options>),
    /// Look whether a server could be started with them.
    Check(Box<Options>),
    /// Look at the machine as a server with them would find it.
    Examine(Box<Options>, Form),
    /// Print this text (help, version, a configuration) and exit.
    Print(String),
    /// Put these manual pages into a folder, or print the first of them, and exit.
    Document(Vec<Page>, Option<PathBuf>),
    /// Make a certificate and exit.
    #[cfg(feature = "tls")]
    Make(CertOptions),
}

/// What one source says of one option.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Setting {
    /// What clap knows the option by.
    id: String,
    /// What it would be on a command line: nothing, where a flag is false.
    args: Vec<OsString>,
    origin: Origin,
}

/// Where a setting comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Origin {
    CommandLine,
    /// A variable.
    Environment(String),
    /// A file and the line in it.
    File(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("the command line"),
            Self::Environment(variable) => write!(f, "{variable} in the environment"),
            Self::File(place) => f.write_str(place),
        }
    }
}

/// Reads all sources; `args` begins with the program's name.
pub(crate) fn read<I>(program: &'static str, args: I, surroundings: &Surroundings) -> Result<Parsed, Fatal>
where
    I: IntoIterator<Item: Into<OsString>>,
{
    let command = command(program);
    let keys = keys::of(&command);
    let line = CommandLine::new(args, &command, &keys);
    let matches = match command.clone().try_get_matches_from(line.args()) {
        Ok(matches) => matches,
        Err(text) if matches!(text.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Parsed::Print(text.to_string()));
        }
        Err(error) => return Err(Fatal::Options(one_line(&error))),
    };
    if matches.subcommand_name().is_some() {
        let options =
            Options::from_arg_matches(&matches).map_err(|error| Fatal::Options(one_line(&error)))?;
        return match options.into_command() {
            #[cfg(feature = "tls")]
            Some(Instead::Cert(cert)) => cert.check().map(|()| Parsed::Make(cert)).map_err(Fatal::Options),
            Some(Instead::Man { folder }) => Ok(Parsed::Document(manual::pages(command, &keys), folder)),
            None => Err(Fatal::Options("there is no such subcommand".to_owned())),
        };
    }
    if matches.get_flag("print_default_config") {
        return Ok(Parsed::Print(print::defaults(program, &keys)));
    }
    let is_given =
        |key: &Key| matches.value_source(&key.id) == Some(ValueSource::CommandLine) || line.denies(key);

    let (mut settings, mut faults) = surroundings.read(&command, &keys);
    let (path, tables) = read_file(&matches, surroundings, &command, &keys, &mut settings, &mut faults)?;
    match &faults[..] {
        [] => {}
        faults if matches.get_flag("check_config") || matches.contains_id("doctor") => {
            return Err(Fatal::Options(faults.join("\n")));
        }
        [fault] => return Err(Fatal::Options(fault.clone())),
        [fault, more @ ..] => {
            let fault = format!("{fault} (and {} more: --check-config tells all)", more.len());
            return Err(Fatal::Options(fault));
        }
    }
    settings.retain(|setting| keys.iter().any(|key| key.id == setting.id && !is_given(key)));

    let mut args = line.args();
    args.extend(settings.iter().flat_map(|setting| setting.args.clone()));
    if let Some(path) = path.filter(|_| matches.value_source("config") != Some(ValueSource::CommandLine)) {
        args.extend(["--config".into(), path.into_os_string()]);
    }
    let merged = command.try_get_matches_from(args).map_err(|error| Fatal::Options(one_line(&error)))?;
    let mut options = Options::from_arg_matches(&merged).map_err(|error| Fatal::Options(one_line(&error)))?;
    options.tables = tables;
    let is_named = |id| merged.value_source(id) == Some(ValueSource::CommandLine);
    options.names_proxy_port =
        !options.vm_listen.is_empty() && (is_named("proxy_port") || is_named("proxy_iface"));
    let mut options =
        options.checked().map_err(|fault| Fatal::Options(with_origins(fault, &keys, &settings)))?;
    options.config.notes = line.notes();
    options.config.values = print::values(&keys, &merged);
    if let Some(form) = options.doctor.doctor {
        return Ok(Parsed::Examine(Box::new(options), form));
    }
    Ok(match (options.config.print_config, options.config.check_config) {
        (true, _) => {
            Parsed::Print(print::effective(program, &keys, &settings, is_given, &merged, &options.tables))
        }
        (false, true) => Parsed::Check(Box::new(options)),
        (false, false) => Parsed::Serve(Box::new(options)),
    })
}

/// Adds what the file says to `settings` where no variable says it, and returns the path of the file, if
/// there is one, and its tables.
fn read_file(
    matches: &ArgMatches,
    surroundings: &Surroundings,
    command: &Command,
    keys: &[Key],
    settings: &mut Vec<Setting>,
    faults: &mut Vec<String>,
) -> Result<(Option<PathBuf>, Tables), Fatal> {
    let named = matches.get_one::<PathBuf>("config").cloned();
    let named = named.or_else(|| surroundings.value("VSPC_CONFIG").map(PathBuf::from));
    let Some(path) = named.clone().or_else(|| surroundings.file.clone()) else {
        return Ok((None, Tables::default()));
    };
    match file::read(&path, command, keys) {
        Ok(Read { settings: read, tables, faults: wrong }) => {
            faults.extend(wrong);
            for setting in read {
                if settings.iter().all(|other| other.id != setting.id) {
                    settings.push(setting);
                }
            }
            Ok((Some(path), tables))
        }
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Ok((None, Tables::default()))
        }
        Err(error) => Err(Fatal::Options(cannot_read(&path, &error))),
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("cannot read the configuration file {}: {error}; --config names another", path.display())
}

fn command(program: &'static str) -> Command {
    let command =
        Options::command().name(program).bin_name(program).after_help(command_line::examples(program));
    #[cfg(feature = "tls")]
    let command = command.mut_subcommand("cert", |cert| cert.after_help(CertOptions::examples(program)));
    command
}

/// Whether clap takes what a source says of this option; if not, why.
fn check(command: &Command, key: &Key, setting: &Setting) -> Result<(), String> {
    let args = [OsString::from(command.get_name())].into_iter().chain(setting.args.iter().cloned());
    match command.clone().try_get_matches_from(args) {
        Ok(_) => Ok(()),
        Err(error) => {
            let option = match key.value_name.as_str() {
                "" => format!("'--{}'", key.name),
                value => format!("'--{} <{value}>'", key.name),
            };
            Err(words(&error).replace(&option, &key.name))
        }
    }
}

/// Says of options that contradict each other where they come from, unless they stand on the command line.
fn with_origins(fault: String, keys: &[Key], settings: &[Setting]) -> String {
    let named = fault.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let named: Vec<&str> = named.filter_map(|word| word.strip_prefix("--")).collect();
    let origins = settings.iter().filter_map(|setting| {
        let key = keys.iter().find(|key| key.id == setting.id)?;
        named.contains(&key.name.as_str()).then(|| format!("--{} is from {}", key.name, setting.origin))
    });
    let origins: Vec<String> = origins.collect();
    match origins.is_empty() {
        true => fault,
        false => format!("{fault} ({})", origins.join(", ")),
    }
}

/// Puts clap's explanation of an error, which is several lines and the usage, on one line.
fn words(error: &clap::Error) -> String {
    let explanation = error.to_string();
    let lines = explanation.lines().map(str::trim);
    let lines =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let words: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let words = words.join(" ").trim_start_matches("error: ").to_owned();
    let option = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    match option.starts_with("--backend ") {
        true => format!("{words}; what a backend of your own did in vSPC.py a program does: --on-event"),
        false => words,
    }
}

fn one_line(error: &clap::Error) -> String {
    format!("{}; --help shows all options", words(error))
}

/// The file that is read if it is there and none is named.
const DEFAULT_FILE: &str = "/etc/vspc/vspc.toml";

const CONFIGURATION: &str = "Configuration";

#[cfg(test)]
mod tests;
