//! `vspc` on a terminal of its own: a pseudo terminal whose other end the test holds.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::server::{FakeServer, PATIENCE};

/// A terminal with `vspc` in it.
pub(crate) struct Terminal {
    controller: File,
    line: File,
    child: Child,
    output: Arc<(Mutex<Vec<u8>>, Condvar)>,
    modes: String,
}

impl Terminal {
    /// Starts `vspc` with these arguments, in a session whose terminal this is.
    pub(crate) fn start(server: &FakeServer, args: &[&str]) -> Self {
        Self::start_with(server, args, &[])
    }

    pub(crate) fn start_with(server: &FakeServer, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_as(server, args, env, None)
    }

    /// On a terminal of so many rows and columns.
    pub(crate) fn start_sized(server: &FakeServer, args: &[&str], size: (u16, u16)) -> Self {
        Self::start_as(server, args, &[], Some(size))
    }

    fn start_as(server: &FakeServer, args: &[&str], env: &[(&str, &str)], size: Option<(u16, u16)>) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(name).unwrap();
        if let Some((ws_row, ws_col)) = size {
            tcsetwinsize(&line, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        }
        let modes = format!("{:?}", tcgetattr(&line).unwrap());
        let end = || line.try_clone().unwrap();
        // setsid executes the program in its own place, so that the child is `vspc`.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(env!("CARGO_BIN_EXE_vspc")).args(args);
        crate::surround(&mut command, server);
        command.env("TERM", "xterm").env_remove("NO_COLOR").envs(env.iter().copied());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let controller = File::from(controller);
        let output = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (mut reader, read) = (controller.try_clone().unwrap(), Arc::clone(&output));
        thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n) = reader.read(&mut buf)
                && n > 0
            {
                read.0.lock().unwrap().extend_from_slice(&buf[..n]);
                read.1.notify_all();
            }
        });
        Self { controller, line, child, output, modes }
    }

    pub(crate) fn press(&self, keys: &[u8]) {
        (&self.controller).write_all(keys).unwrap();
    }

    /// Waits until the text was shown, and returns what was shown up to its end. What comes next is looked
    /// for behind it.
    pub(crate) fn await_shown(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let (output, changed) = &*self.output;
        let mut output = output.lock().unwrap();
        loop {
            if let Some(at) = output.windows(text.len()).position(|window| window == text.as_bytes()) {
                let shown: Vec<u8> = output.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&shown).into_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let shown = String::from_utf8_lossy(&output).into_owned();
            assert!(!left.is_zero(), "not shown: {text:?}, but {shown:?}");
            output = changed.wait_timeout(output, left).unwrap().0;
        }
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.line, size).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).unwrap()
    }

    /// Whether the terminal is as it was before the program started.
    pub(crate) fn is_as_found(&self) -> bool {
        format!("{:?}", tcgetattr(&self.line).unwrap()) == self.modes
    }

    /// Waits for the end; the terminal has to be as it was found. Returns the exit code, or of a signal its
    /// number, negative.
    pub(crate) fn ends(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        assert!(self.is_as_found(), "the terminal is not as it was found");
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
