//! The command line.
//!
//! Owns its words and what they say in `--help`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use vspc_guest::Name;

use crate::carrier::Place;

/// Gives whoever is at the other end of a serial line shells, processes, copies, connections, logs and facts
/// of this machine: what of it the file allows, and no more.
#[derive(Parser, Debug)]
#[command(
    name = "vspc-agent",
    version,
    max_term_width = 100,
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Options {
    /// The line: /dev/ttyS1, /dev/virtio-ports/NAME or unix:/PATH
    #[arg(long, value_name = "LINE")]
    pub(crate) line: Option<Place>,

    /// Set the serial port to this speed [default: leave it as it is]
    #[arg(long, value_name = "BITS")]
    pub(crate) speed: Option<u32>,

    /// Expect that the line loses bytes [default: on a serial port]
    #[arg(long, conflicts_with = "raw")]
    pub(crate) sl: bool,

    /// Trust the line to lose nothing [default: but on a serial port]
    #[arg(long)]
    pub(crate) raw: bool,

    /// Show this file as it grows; can be repeated
    #[arg(long, value_name = "NAME=PATH")]
    pub(crate) log: Vec<LogFile>,

    /// What is allowed, and more
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Where programs of this machine set facts and ask for the host's
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) control: Option<PathBuf>,

    /// Say what is wrong with the options and the file, and end
    #[arg(long)]
    pub(crate) check_config: bool,

    /// Log more
    #[arg(long)]
    pub(crate) debug: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What else the program does.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Tell the host facts of this machine
    Publish {
        /// What they are called, and what they are
        #[arg(value_name = "KEY=VALUE", required = true)]
        facts: Vec<String>,
    },
    /// Tell the host that they are nothing any more
    Unpublish {
        /// What they are called
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Print a fact that the host has told, or all of them
    Get {
        /// What it is called
        key: Option<String>,
    },
    /// Print the manual page, or write it into a folder
    #[command(hide = true)]
    Man { folder: Option<PathBuf> },
    /// Become a program on a terminal
    #[command(hide = true, name = crate::process::ON_TERMINAL)]
    OnTerminal {
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<OsString>,
    },
}

/// A file that grows, and what it is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LogFile {
    pub(crate) name: Name,
    pub(crate) path: PathBuf,
}

impl LogFile {
    /// A name is one part, and stands below `log/`.
    pub(crate) fn new(name: &str, path: PathBuf) -> Result<Self, String> {
        let name = Name::new(format!("log/{name}")).map_err(|refusal| refusal.message)?;
        if path.is_absolute() {
            Ok(Self { name, path })
        } else {
            Err(format!("{} is not written from the root", path.display()))
        }
    }
}

impl FromStr for LogFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').ok_or("a log is NAME=PATH")?;
        Self::new(name, path.into())
    }
}

/// Where the agent that runs is asked.
pub(crate) const CONTROL: &str = "/run/vspc-agent/control";

const AFTER_HELP: &str = "Without a file nothing but facts and the logs of --log can be seen, and nothing \
can be done.";
