//! What is to run in the guest, as its header says it (APPLICATION §3).

use std::env;

use vspc_guest::{Belongs, Exec, Header, Key, Pty, Shell};

use crate::args::ExecArgs;
use crate::terminal;

/// What is asked of the guest.
pub(super) struct Asked {
    /// Of its main stream.
    pub(super) header: Header,
    pub(super) key: Key,
    /// Its standard error comes with its output.
    pub(super) has_terminal: bool,
}

impl Asked {
    /// A program, as the command line says.
    pub(super) fn exec(args: &ExecArgs, key: Key) -> Self {
        let mut with = vec![Belongs::Control];
        if !args.pty {
            with.insert(0, Belongs::Err);
        }
        let exec = Exec {
            argv: args.command.clone(),
            env: args.env.iter().cloned().collect(),
            cwd: args.cwd.clone(),
            pty: args.pty.then(pty),
            with,
            ..Exec::new(key.clone())
        };
        Self { header: Header::Exec(exec), key, has_terminal: args.pty }
    }

    /// The guest's shell.
    pub(super) fn shell(key: Key) -> Self {
        let shell = Shell { key: key.clone(), pty: pty(), with: vec![Belongs::Control] };
        Self { header: Header::Shell(shell), key, has_terminal: true }
    }
}

/// A terminal like this one.
fn pty() -> Pty {
    let size = terminal::size();
    let term = env::var("TERM").ok().filter(|term| is_term(term));
    Pty { rows: size.map(|(rows, _)| rows), cols: size.map(|(_, cols)| cols), term }
}

/// Whether a guest takes it for a terminal's name.
fn is_term(term: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    (1..=64).contains(&term.len()) && term.bytes().all(is_plain)
}
