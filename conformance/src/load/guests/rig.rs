//! A server, and an agent on a line of its own: a unix socket.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::stage::Stage;
use super::{GuestsArgs, broken};
use crate::load::LoadError;
use crate::load::operator::Connection;
use crate::load::process::{Launch, Started};
use crate::load::program::{Program, named_or_beside};
use crate::load::subject::Subject;
use crate::tunnel::Dial;

/// Both, as long as this lives.
#[derive(Debug)]
pub(super) struct Rig {
    // Ended first, so that the agent does not look for another server.
    agent: Program,
    server: Started,
    subject: Subject,
}

impl Rig {
    /// Starts them, and waits until the server has heard the agent.
    pub(super) fn start(args: &GuestsArgs, stage: &Stage) -> Result<Self, LoadError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let line = stage.path(&format!("line{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let line = line.display();
        let options = ["--no-banner", "--line", &format!("{GUEST}=unix:{line}?listen&mux=s2")];
        let launch = Launch {
            command: &args.spawn,
            ports: 4,
            is_bound: true,
            options: options.map(str::to_owned).to_vec(),
            ..Launch::default()
        };
        let (server, vms, first) = launch.start()?;
        let mut connection = Connection::wide(server.admin())?;
        connection.ask("subscribe", json!({"to": "events"}))?;
        let config = format!(
            "line = 'unix:{line}'\n[shell]\ncommand = ['/bin/sh', '-c', '{SHELL}']\n\
             [exec]\nprograms = ['*']\n[[copy]]\nroot = '{}'\nwrite = true\n",
            stage.folder().display()
        );
        let path = stage.path("agent.toml");
        fs::write(&path, config).map_err(|error| broken(&error))?;
        let program = named_or_beside(args.agent.as_deref(), "vspc-agent")?;
        let agent = Program::start_bound(&program, &["--config", &path.display().to_string()])?;
        connection.await_event("guest-up")?;
        Ok(Self { agent, server, subject: Subject::Server { vms, first, dial: Dial::default() } })
    }

    /// Where operators connect.
    pub(super) fn admin(&self) -> SocketAddr {
        self.server.admin()
    }

    /// Where other VMs and their clients connect.
    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The server's process, and the agent's.
    pub(super) fn pids(&self) -> [u32; 2] {
        [self.server.pid(), self.agent.pid()]
    }
}

/// What the guest's console is called.
pub(super) const GUEST: &str = "web01";

/// What a shell is: it says that it is there, and then every key that it is given.
const SHELL: &str = "stty raw -echo; echo ready; exec cat";
