//! The command line.
//!
//! Owns its words and what they say in `--help`. What they mean for a server is the commands' own business.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::attach::escape::Escape;
use crate::server::Protocol;

mod doctor;
mod guest;

pub(crate) use doctor::{DoctorArgs, HostPort};
pub(crate) use guest::{CpArgs, ExecArgs, FactsArgs, ForwardArgs, ShellArgs, StreamsArgs};

/// Lists the consoles of a virtual serial port concentrator, attaches to them, and scripts them.
#[derive(Parser, Debug)]
#[command(name = "vspc", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// HOST, HOST:PORT, tls://HOST:PORT, the path of a unix socket, or a name from the configuration file
    #[arg(short, long, global = true, env = "VSPC_SERVER", value_name = "SERVER")]
    pub(crate) server: Option<String>,

    /// What is spoken with the server: auto, operator, or v3 (vSPC.py's)
    #[arg(long, global = true, value_enum, value_name = "DIALECT", hide_possible_values = true)]
    pub(crate) protocol: Option<Protocol>,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// For a server with TLS (PEM files).
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct TlsOptions {
    /// TLS: trust the certificates in this file, instead of the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// TLS: the certificate to show to the server
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,

    /// TLS: its key, if that is not in the same file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Show the consoles, their VMs and who is there
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Use a console from this terminal
    Attach(AttachArgs),
    /// Show what consoles print
    Tail(TailArgs),
    /// Show what a console has printed, out of its log
    Log(LogArgs),
    /// Type what comes from the standard input, and wait for an answer
    Send(SendArgs),
    /// Run a program in a guest that has an agent
    Exec(ExecArgs),
    /// Use a shell in a guest that has an agent, from this terminal
    Shell(ShellArgs),
    /// Copy files into a guest that has an agent, or out of it
    Cp(CpArgs),
    /// Forward connections into a guest that has an agent, or out of it
    Forward(ForwardArgs),
    /// Show what a guest that has an agent tells of itself, or set what it is told
    Facts(FactsArgs),
    /// Show what is open in a guest that has an agent
    Streams(StreamsArgs),
    /// Show who is at a console, and what feeds it
    Who(WhoArgs),
    /// Send a break to a console's VM
    Break(BreakArgs),
    /// Send people and programs away from a console
    Bump(BumpArgs),
    /// Cut connections of a console: its VM's, or one client's
    Kick(KickArgs),
    /// Give what is typed at a console to one of its VM's connections
    GiveInput(GiveInputArgs),
    /// Show what the server logs, as it happens
    Events(EventsArgs),
    /// Show the server's counters
    Stats(StatsArgs),
    /// Have the server load again what it can load while it serves, such as certificates
    Reload(ReloadArgs),
    /// End the server in order: clients are told, and hosts come back to the next one
    Drain(DrainArgs),
    /// Say what is in a server's way on this machine, or with --esxi what hosts will find at an address
    Doctor(DoctorArgs),
    /// For an sshd's ForceCommand: do what the ssh client asks, for USER and with no more than RIGHT
    Door(DoorArgs),
    /// Print what makes a shell complete commands, options and the names of consoles
    Completions(CompletionsArgs),
    /// Print the manual page of this program
    #[command(hide = true)]
    Man(ManArgs),
    /// Print the names of consoles, for completions
    #[command(hide = true)]
    Names,
}

#[derive(Args, Debug)]
pub(crate) struct DoorArgs {
    /// For whom: shown to others at a console, and logged
    #[arg(value_name = "USER")]
    pub(crate) user: String,

    /// spectator, writer or operator
    #[arg(value_name = "RIGHT", value_enum, default_value_t = Right::Writer, hide_possible_values = true)]
    pub(crate) right: Right,
}

/// What somebody may do (operator.md §3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Right {
    Spectator,
    Writer,
    Operator,
}

impl Right {
    /// Its word in the protocol.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Spectator => "spectator",
            Self::Writer => "writer",
            Self::Operator => "operator",
        }
    }
}

/// Which console is meant.
#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// Name or UUID, or the beginning of one
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct WhoArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BreakArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// For the server's log
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct BumpArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// Only this one; `vspc who` shows the ids
    #[arg(short, long, value_name = "ID")]
    pub(crate) client: Option<String>,

    /// What they are told
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct KickArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// This client or connection of the VM, and no other; `vspc who` shows the ids
    #[arg(short, long, value_name = "ID")]
    pub(crate) client: Option<String>,

    /// What the server logs about it
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct GiveInputArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// Which connection; `vspc who` shows the ids
    #[arg(value_name = "LEG")]
    pub(crate) leg: String,
}

#[derive(Args, Debug)]
pub(crate) struct ReloadArgs {
    /// Print what came of it as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DrainArgs {
    /// Do not ask whether it is meant
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// Of these consoles only: part of a name or UUID, or a pattern with * or ?
    #[arg(value_name = "PATTERN")]
    pub(crate) pattern: Option<String>,

    /// Print a JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Part of a name or UUID; with * or ? in it a pattern for the whole of one
    #[arg(value_name = "PATTERN")]
    pub(crate) pattern: Option<String>,

    /// Print one JSON array; with --watch one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,

    /// Show the last line that each has printed
    #[arg(long, conflicts_with = "watch")]
    pub(crate) last_line: bool,

    /// Go on showing what changes
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Args, Debug)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// What others may do meanwhile
    #[arg(short, long, value_enum, value_name = "MODE")]
    pub(crate) lock: Option<Lock>,

    /// Bytes of earlier output to show first
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    pub(crate) scrollback: u64,

    /// The key that opens the menu: ^X, a character, or none; default: ^]
    #[arg(short, long, value_name = "KEY")]
    pub(crate) escape: Option<Escape>,

    /// Append what the console prints to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct TailArgs {
    /// Several, each a name or UUID, or the beginning of one
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub(crate) names: Vec<String>,

    /// All consoles, also those that come later
    #[arg(short, long, conflicts_with = "names")]
    pub(crate) all: bool,

    /// Bytes of earlier output to show first
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub(crate) scrollback: u64,
}

#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// What was printed from this time on: 10min, 2h, yesterday, 22:00, "2026-11-29 22:00", RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,

    /// What was printed up to this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,

    /// Only lines that this regular expression matches
    #[arg(short, long, value_name = "REGEX")]
    pub(crate) grep: Option<String>,

    /// Only so many of the last lines
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub(crate) lines: Option<usize>,

    /// Go on as the log grows
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Leave escape sequences out
    #[arg(long)]
    pub(crate) strip_ansi: bool,

    /// Write an asciicast into this file (-: the standard output), for asciinema to play
    #[arg(long, value_name = "FILE", conflicts_with_all = ["grep", "lines", "follow", "strip_ansi"])]
    pub(crate) cast: Option<PathBuf>,

    /// The terminal that it is to be played on
    #[arg(long, value_name = "COLUMNSxROWS", default_value = "80x24", value_parser = size)]
    #[arg(requires = "cast")]
    pub(crate) size: (u16, u16),

    /// The longest pause when it is played
    #[arg(long, value_name = "SECONDS", requires = "cast")]
    pub(crate) idle: Option<f64>,

    /// Read the files of this log directory, without a server
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) dir: Option<PathBuf>,

    /// Where the server keeps their times (its --log-index)
    #[arg(long, value_name = "DIRECTORY", requires = "dir")]
    pub(crate) index: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Write it, and those of the commands, into this folder
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// Print what the console prints until this regular expression matches it
    #[arg(short, long, value_name = "REGEX")]
    pub(crate) expect: Option<String>,

    /// How long to wait for that, and for the VM to take what is typed
    #[arg(short, long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// What others may do meanwhile
    #[arg(short, long, value_enum, value_name = "MODE")]
    pub(crate) lock: Option<Lock>,

    /// Send bytes as they are; without it, each end of a line is sent as Enter (CR)
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Who may type beside this client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Lock {
    /// Nobody else is at the console
    Exclusive,
    /// Others may watch
    Write,
    /// Others may type as well
    FreeForAll,
    /// The same, or only watch where somebody holds a write lock
    FreeForAllFallback,
    /// Only watch
    ReadOnly,
}

impl Lock {
    /// Its word on the wire (operator.md §6).
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Write => "write",
            Self::FreeForAll => "free-for-all",
            Self::FreeForAllFallback => "free-for-all-fallback",
            Self::ReadOnly => "read-only",
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is needed".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let (columns, rows) = text.split_once('x').ok_or("give it like 80x24")?;
    match (columns.parse(), rows.parse()) {
        (Ok(columns @ 1..), Ok(rows @ 1..)) => Ok((columns, rows)),
        _ => Err("give it like 80x24".to_owned()),
    }
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 error, 2 wrong use, 3 no such console, 4 refused (a lock, or no right),
5 no connection, 6 timed out. exec and shell end as what they ran; 125 to 127: it has not run.

Servers are named in ~/.config/vspc/config.toml; the default is 127.0.0.1:13371.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn modes_are_the_words_of_the_wire() {
        for mode in Lock::value_variants() {
            assert_eq!(mode.to_possible_value().unwrap().get_name(), mode.word());
        }
    }

    #[test]
    fn times_are_seconds_with_a_fraction() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert!(seconds("-1").is_err() && seconds("soon").is_err() && seconds("1e99").is_err());
    }
}
