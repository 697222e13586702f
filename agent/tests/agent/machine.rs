//! A machine with an agent in it: a folder of its own, a configuration, the process.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::host::Host;

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vspc-agent-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, and says where.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An agent that runs.
pub(crate) struct Machine {
    pub(crate) folder: Folder,
    listener: UnixListener,
    pub(crate) child: Child,
}

impl Machine {
    /// With a unix socket for its line.
    pub(crate) fn start(config: &str, options: &[&str]) -> Self {
        Self::start_in(Folder::new(), config, options)
    }

    pub(crate) fn start_in(folder: Folder, config: &str, options: &[&str]) -> Self {
        let socket = folder.join("line");
        let listener = UnixListener::bind(&socket).unwrap();
        let file = folder.write("agent.toml", config);
        let child = agent()
            .arg("--config")
            .arg(file)
            .arg("--line")
            .arg(format!("unix:{}", socket.display()))
            .args(options)
            .spawn()
            .unwrap();
        Self { folder, listener, child }
    }

    /// The host's end of the line; a second one is the line that was lost and has come back.
    pub(crate) fn line(&self) -> std::os::unix::net::UnixStream {
        self.listener.accept().unwrap().0
    }

    /// A host that has said hello.
    pub(crate) fn host(&self) -> Host {
        let mut host = Host::raw(self.line());
        host.hello(None).unwrap();
        host
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program.
pub(crate) fn agent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vspc-agent"));
    command.stdin(Stdio::null()).env("RUST_LOG", "debug");
    command
}
