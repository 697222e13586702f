//! How a process starts: on a terminal or on pipes, in a group of its own, with an environment of its own.
//!
//! Owns the descriptors between it and its streams. What only the new process itself can do (a session of
//! its own, its terminal) is done by this same program ([`on_terminal`]), which then becomes it: so nothing
//! here needs a fork. Refuses to know whether it may be.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use rustix::fs::{Access, OFlags};
use rustix::pipe::PipeFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use vspc_core::mux::{Priority, Session, StreamId};
use vspc_guest::{Key, LineBuffer, MAX_LINE, Pty, Refusal};

use super::group::Group;
use super::{Control, Grace, Main, Process};
use crate::flow::{AtEnd, Sink, Source};
use crate::users::User;

/// What is to be started, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) user: Option<User>,
    pub(crate) kind: Kind,
}

/// What it is started on.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Terminal(Pty),
    Pipes,
}

/// Its streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams {
    pub(crate) main: StreamId,
    pub(crate) err: Option<StreamId>,
    pub(crate) control: Option<StreamId>,
}

/// Starts it.
pub(crate) fn start(
    recipe: &Recipe,
    key: Key,
    streams: Streams,
    announced: Option<usize>,
    session: &mut Session,
) -> Result<Process, Refusal> {
    let program = recipe.argv.first().map_or("", String::as_str);
    let started = match &recipe.kind {
        Kind::Terminal(pty) => on_pty(recipe, pty, streams),
        Kind::Pipes => on_pipes(recipe, streams),
    };
    let Started { child, main, err, terminal } = started.map_err(|error| Refusal::system(program, &error))?;
    // Keystrokes and what is said of a process go ahead of what copies carry.
    let typed = terminal.is_some().then_some(streams.main);
    for id in typed.into_iter().chain(streams.control) {
        let _ = session.set_priority(id, Priority::High);
    }
    if let Some(err) = streams.err {
        // The host says nothing on it.
        let _ = session.stop_reading(err);
    }
    let control = streams.control.map(|id| Control { id, line: LineBuffer::new(MAX_LINE), told: false });
    Ok(Process {
        key,
        group: Group::new(child),
        terminal,
        main: Some(main),
        err,
        control,
        ending: None,
        grace: Grace::None,
        announced,
    })
}

/// A stream of a terminal's.
pub(super) fn terminal_flow(id: StreamId, terminal: &Rc<OwnedFd>) -> Main {
    let source = Source::new(id, Rc::clone(terminal));
    Main { id, source, sink: Sink::new(id, Rc::clone(terminal), AtEnd::LetGo) }
}

struct Started {
    child: Child,
    main: Main,
    err: Option<(StreamId, Source)>,
    terminal: Option<Rc<OwnedFd>>,
}

fn on_pipes(recipe: &Recipe, streams: Streams) -> io::Result<Started> {
    let (input, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (from, output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = command(recipe, &recipe.argv[0]);
    command.args(&recipe.argv[1..]).process_group(0);
    let (err, error) = match streams.err {
        Some(id) => {
            let (from, error) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            (Some((id, Source::new(id, not_blocking(from)?))), error)
        }
        None => (None, output.try_clone()?),
    };
    for end in [&from, &to] {
        // As much at a time as the line takes; where there may be no more of that, 64 KiB do.
        let _ = rustix::pipe::fcntl_setpipe_size(end, PIPE);
    }
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(error));
    let source = Source::new(streams.main, not_blocking(from)?);
    let sink = Sink::new(streams.main, not_blocking(to)?, AtEnd::LetGo);
    Ok(Started {
        child: command.spawn()?,
        main: Main { id: streams.main, source, sink },
        err,
        terminal: None,
    })
}

fn on_pty(recipe: &Recipe, pty: &Pty, streams: Streams) -> io::Result<Started> {
    // What fails in the new process is only seen on its terminal.
    let path = recipe.env.get("PATH").map_or(PATH, String::as_str);
    let program = find(&recipe.argv[0], path)?;
    if let Some(cwd) = &recipe.cwd {
        rustix::fs::access(cwd, Access::EXEC_OK)?;
    }
    let terminal = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&terminal)?;
    rustix::pty::unlockpt(&terminal)?;
    let theirs = rustix::pty::ioctl_tiocgptpeer(
        &terminal,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    let size = Winsize {
        ws_row: pty.rows.unwrap_or(24),
        ws_col: pty.cols.unwrap_or(80),
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&terminal, size)?;
    if let Some(user) = &recipe.user {
        // As root only; anybody else is the terminal's owner already, or cannot be another one.
        let _ = rustix::fs::fchown(&theirs, Some(rustix::fs::Uid::from_raw(user.uid)), None);
    }
    let mut command = command(recipe, "/proc/self/exe");
    command.arg0(NAME).arg(ON_TERMINAL).arg(program).args(&recipe.argv);
    command.env("TERM", pty.term.as_deref().unwrap_or("vt220"));
    command
        .stdin(Stdio::from(theirs.try_clone()?))
        .stdout(Stdio::from(theirs.try_clone()?))
        .stderr(Stdio::from(theirs));
    let child = command.spawn()?;
    let terminal = not_blocking(terminal)?;
    let main = terminal_flow(streams.main, &terminal);
    Ok(Started { child, main, err: None, terminal: Some(terminal) })
}

/// What a pipe to or from a process holds.
const PIPE: usize = 256 * 1024;

/// As whom it runs, where, and what it finds around it; all else of the agent's stays away from it.
fn command(recipe: &Recipe, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH);
    for name in ["LANG", "TZ"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(user) = &recipe.user {
        let User { name, uid, gid, home, shell } = user;
        command.uid(*uid).gid(*gid);
        command.env("USER", name).env("LOGNAME", name).env("HOME", home).env("SHELL", shell);
        if recipe.cwd.is_none() {
            // Users that nobody logs in as often have none.
            command.current_dir(if home.is_dir() { home } else { Path::new("/") });
        }
    } else if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
    if let Some(cwd) = &recipe.cwd {
        command.current_dir(cwd);
    }
    command.envs(&recipe.env);
    command
}

fn not_blocking(fd: OwnedFd) -> io::Result<Rc<OwnedFd>> {
    rustix::fs::fcntl_setfl(fd.as_fd(), OFlags::NONBLOCK)?;
    Ok(Rc::new(fd))
}

/// The file that a program's name stands for.
fn find(program: &str, path: &str) -> io::Result<PathBuf> {
    if program.contains('/') {
        rustix::fs::access(program, Access::EXEC_OK)?;
        return Ok(program.into());
    }
    let folders = path.split(':').map(|folder| Path::new(folder).join(program));
    let mut found =
        folders.filter(|file| file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok());
    found.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// What the new process does: it leads a session of its own, has its standard input for its terminal, and
/// becomes the program. Returns only what went wrong.
pub(crate) fn on_terminal(program: &Path, argv: &[OsString]) -> io::Error {
    let become_it = || -> io::Result<io::Error> {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        let mut command = Command::new(program);
        if let [name, arguments @ ..] = argv {
            command.arg0(name).args(arguments);
        }
        Ok(command.exec())
    };
    become_it().unwrap_or_else(|error| error)
}

/// What this program is called by itself.
const NAME: &str = "vspc-agent";
/// The command by which it becomes another program.
pub(crate) const ON_TERMINAL: &str = "on-terminal";
/// Where programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
