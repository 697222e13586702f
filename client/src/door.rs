//! `vspc door`: the command that an sshd forces on whoever comes by a key of its own (vspc.md, "By ssh").
//!
//! Owns what may be asked through it. The one who asks is not the user of the account that runs this, so
//! nothing is done that would touch that account's files or run its programs.

use std::env;

use clap::Parser;

use crate::args::{Command, DoorArgs, Options};
use crate::copy;
use crate::failure::Failure;
use crate::server::Behalf;

/// What the ssh client asked for, as options of this program; the list of consoles where that was nothing.
///
/// # Errors
///
/// It asked for something that has no place here.
pub(crate) fn asked(args: &DoorArgs) -> Result<(Options, Behalf), Failure> {
    let words = env::var("SSH_ORIGINAL_COMMAND").unwrap_or_default();
    let options = parse(&words)?;
    // The address is the first word: of the client's end of the connection.
    let address = env::var("SSH_CONNECTION").ok().and_then(|ends| Some(ends.split(' ').next()?.to_owned()));
    Ok((options, Behalf { user: args.user.clone(), address, right: args.right.word() }))
}

fn parse(words: &str) -> Result<Options, Failure> {
    let mut words: Vec<&str> = words.split_ascii_whitespace().collect();
    if words.first() == Some(&"vspc") {
        words.remove(0);
    }
    if words.is_empty() {
        words.push("list");
    }
    let options = Options::try_parse_from(std::iter::once("vspc").chain(words.iter().copied()))
        .map_err(|error| Failure::usage(error.to_string().trim_end().to_owned()))?;
    // What stands behind -- is the program's that is to run.
    let own = || words.iter().take_while(|word| **word != "--");
    let of_the_way = [("server", Some('s')), ("protocol", None), ("ca", None), ("cert", None), ("key", None)];
    if let Some((long, _)) =
        of_the_way.into_iter().find(|&(long, short)| own().any(|word| is_option(word, long, short)))
    {
        return Err(Failure::usage(format!("this door leads to one server: --{long} has no place here")));
    }
    match &options.command {
        Command::Attach(args) if args.record.is_some() => {
            Err(Failure::usage("nothing is recorded on the server's machine: --record has no place here"))
        }
        Command::Log(args) if args.cast.as_ref().is_some_and(|cast| cast.as_os_str() != "-") => {
            Err(Failure::usage("nothing is recorded on the server's machine: give --cast - instead"))
        }
        Command::Log(args) if args.dir.is_some() => {
            Err(Failure::usage("this door leads to a server: --dir has no place here"))
        }
        Command::Cp(args) if !copy::is_shown(&args.places) => {
            Err(Failure::usage("no file of the server's machine is read or written: cp NAME:/PATH -"))
        }
        Command::Forward(_) => Err(Failure::usage(
            "nothing of the server's machine is forwarded: this command has no place here",
        )),
        Command::Door(_) | Command::Doctor(_) | Command::Completions(_) | Command::Man(_) => {
            Err(Failure::usage("this command has no place here"))
        }
        _ => Ok(options),
    }
}

/// Whether a word of the command line is this option.
fn is_option(word: &str, long: &str, short: Option<char>) -> bool {
    let name = word.split('=').next().unwrap_or(word);
    match name.strip_prefix("--") {
        Some(name) => !name.is_empty() && long.starts_with(name),
        None => {
            name.strip_prefix('-').is_some_and(|shorts| short.is_some_and(|short| shorts.starts_with(short)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_pass_with_the_programs_name_before_them_or_without() {
        for (words, is_it) in [
            ("", (|command| matches!(command, Command::List(_))) as fn(&Command) -> bool),
            ("vspc", |command| matches!(command, Command::List(_))),
            ("attach web01", |command| matches!(command, Command::Attach(_))),
            ("vspc attach --lock write web01", |command| matches!(command, Command::Attach(_))),
            ("log --cast - web01", |command| matches!(command, Command::Log(_))),
            ("exec web01 -- cat /etc/hostname", |command| matches!(command, Command::Exec(_))),
            ("exec web01 -- ls -s --key=x", |command| matches!(command, Command::Exec(_))),
            ("cp web01:/srv/x -", |command| matches!(command, Command::Cp(_))),
            ("who web01", |command| matches!(command, Command::Who(_))),
        ] {
            let options = parse(words).unwrap();
            assert!(is_it(&options.command), "{words}: {:?}", options.command);
        }
    }

    #[test]
    fn what_would_touch_the_accounts_files_or_leave_for_another_server_does_not_pass() {
        for words in [
            "attach --record /root/.ssh/authorized_keys web01",
            "--server evil.example list",
            "-s evil.example list",
            "list --server=evil.example",
            "exec -s evil.example web01 -- ls",
            "--protocol v3 list",
            "--key /etc/shadow list",
            "list --ca=/etc/shadow",
            "list --cert /etc/shadow",
            "door root operator",
            "doctor --program /bin/sh -- -c id",
            "doctor --esxi 10.0.0.1",
            "man /etc",
            "completions bash",
            "log --cast /root/.profile web01",
            "log --dir /etc passwd",
            "cp /etc/shadow web01:/srv/x",
            "cp web01:/srv/x /root/.profile",
            "cp - web01:/srv/x",
            "cp -p web01:/srv/x",
            "forward web01 -L 0:127.0.0.1:22",
            "sh -c id",
            "attach web01; id",
        ] {
            let refused = parse(words).map(|options| options.command);
            assert!(refused.is_err(), "{words}: {refused:?}");
        }
    }
}
