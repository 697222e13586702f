//! `vspc`: the console client and operator's tool of a virtual serial port concentrator (vspc.md).
//!
//! Owns which command does what. The layers, from the wire up: `link` (sockets) and `tls`, `speech` (the
//! protocols, without I/O: `operator` and `v3`), `connection` (both, and calls that wait), `names` (what a
//! user means), `guest` (streams into VMs with an agent), and one file or folder for each command.

mod args;
mod attach;
mod clock;
mod complete;
mod connection;
mod copy;
mod doctor;
mod door;
mod endings;
mod events;
mod facts;
mod failure;
mod forward;
mod guest;
mod link;
mod list;
mod log;
mod names;
mod operate;
mod output;
mod printable;
mod process;
mod send;
mod server;
mod signals;
mod speech;
mod stats;
mod streams;
mod table;
mod tail;
mod terminal;
mod tls;
mod units;
mod v3;
mod who;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Command, Options};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::server::Config;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                output::tell(&failure);
            }
            failure.exit_code()
        }
    }
}

fn run(options: Options) -> Result<(), Failure> {
    if let Command::Doctor(args) = &options.command {
        return doctor::run(args);
    }
    let config = Config::load()?;
    let (options, behalf) = match &options.command {
        Command::Door(args) => {
            let (asked, behalf) = door::asked(args)?;
            let Options { server, protocol, tls, .. } = options;
            (Options { server, protocol, tls, ..asked }, Some(behalf))
        }
        _ => (options, None),
    };
    let mut server = config.server(options.server.as_deref().filter(|server| !server.is_empty()))?;
    server.protocol = options.protocol.unwrap_or(server.protocol);
    server.behalf = behalf;
    server.take(&options.tls)?;
    server.wide = matches!(
        options.command,
        Command::Exec(_) | Command::Shell(_) | Command::Cp(_) | Command::Forward(_)
    );
    let open = || Connection::open(&server);
    match options.command {
        Command::List(args) => list::run(&mut open()?, &args),
        Command::Attach(args) => attach::run(&server, &config, &args),
        Command::Tail(args) => tail::run(open()?, &args),
        Command::Log(args) => log::run(open, &args),
        Command::Send(args) => send::run(open()?, &args),
        Command::Exec(args) => process::exec(open, &config, &args),
        Command::Shell(args) => process::shell(open, &config, &args),
        Command::Cp(args) => copy::run(&server, &args),
        Command::Forward(args) => forward::run(open()?, &args),
        Command::Facts(args) => facts::run(open()?, &args),
        Command::Streams(args) => streams::run(&mut open()?, &args),
        Command::Who(args) => who::run(&mut open()?, &args),
        Command::Break(args) => operate::send_break(&mut open()?, &args),
        Command::Bump(args) => operate::bump(&mut open()?, &args),
        Command::Kick(args) => operate::kick(&mut open()?, &args),
        Command::GiveInput(args) => operate::give_input(&mut open()?, &args),
        Command::Reload(args) => operate::reload(&mut open()?, &args),
        Command::Drain(args) => operate::drain(&mut open()?, &args),
        Command::Events(args) => events::run(&mut open()?, &args),
        Command::Stats(args) => stats::run(&mut open()?, &args),
        Command::Door(_) | Command::Doctor(_) => Err(Failure::usage("this command has no place here")),
        Command::Names => complete::names(open),
        Command::Completions(args) => complete::completions(&args),
        Command::Man(args) => complete::man(&args),
    }
}
