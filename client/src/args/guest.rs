//! The words of the commands that reach into a guest: programs, copies, connections, facts.

use std::time::Duration;

use clap::Args;

use super::{NameArgs, seconds};
use crate::attach::escape::Escape;
use crate::forward::spec::{Local, Remote};

#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// Give it a terminal
    #[arg(short = 't', long)]
    pub(crate) pty: bool,

    /// The folder in which it starts
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) cwd: Option<String>,

    /// Set in its environment; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub(crate) env: Vec<(String, String)>,

    /// With a terminal, the key that opens the menu: ^X, a character, or none; default: ^]
    #[arg(long, value_name = "KEY", requires = "pty")]
    pub(crate) escape: Option<Escape>,

    /// The program and what it is given
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// The key that opens the menu: ^X, a character, or none; default: ^]
    #[arg(short, long, value_name = "KEY")]
    pub(crate) escape: Option<Escape>,
}

#[derive(Args, Debug)]
pub(crate) struct CpArgs {
    /// Keep the permissions, whatever the umask says
    #[arg(short, long)]
    pub(crate) preserve: bool,

    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// For how long a copy that was cut is tried again; 0: not at all
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) retry: Duration,

    /// Files, and where they go: paths here, or NAME:/PATH in a guest; - is the standard input or output
    #[arg(value_name = "FILE", required = true, num_args = 2.., allow_hyphen_values = false)]
    pub(crate) places: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ForwardArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// Connect who connects here to something in the guest; either side may be unix:/PATH
    #[arg(short = 'L', long, value_name = "[ADDRESS:]PORT:HOST:PORT")]
    pub(crate) local: Vec<Local>,

    /// Connect who connects to the guest's listener of this name to something here, or to unix:/PATH
    #[arg(short = 'R', long, value_name = "NAME:HOST:PORT")]
    pub(crate) remote: Vec<Remote>,

    /// Take one connection, and end with it
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Args, Debug)]
pub(crate) struct FactsArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// A KEY: its value alone; "set KEY=VALUE" or "unset KEY", several at once: for the guest to read
    #[arg(value_name = "KEY")]
    pub(crate) words: Vec<String>,

    /// Go on showing what changes
    #[arg(short, long)]
    pub(crate) watch: bool,

    /// Print a JSON object; with --watch one a line
    #[arg(long)]
    pub(crate) json: bool,

    /// Show what was set for the guest
    #[arg(long)]
    pub(crate) host: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StreamsArgs {
    #[command(flatten)]
    pub(crate) console: NameArgs,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give it like KEY=VALUE".to_owned()),
    }
}
