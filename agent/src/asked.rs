//! What the host asks for: from a header to a task, and from an answer to what it was announced for.
//!
//! Owns the answers. Refuses to know how any of it is done.

use vspc_core::mux::{Priority, StreamId};
use vspc_guest::answer::{self, Done};
use vspc_guest::{Announcement, Belongs, Code, Connect, Get, Header, Key, LogOk, Name, Pty, Put, Refusal};

use crate::agent::{Agent, Thing};
use crate::connection::Connection;
use crate::copy::{GetTask, PutTask};
use crate::process::{self, Process, Ready, Streams, Wanted};
use crate::say::{refuse, say};
use crate::task::Task;

impl Agent {
    /// A stream has a header.
    pub(crate) fn begin(&mut self, id: StreamId, header: Header) {
        log::debug!("stream {id}: {}", header.op());
        let outcome = match header {
            Header::Shell(shell) => {
                self.settings.shell(&shell).and_then(|_| self.wait_for(id, Wanted::Shell(shell)))
            }
            Header::Exec(exec) => {
                self.settings.exec(&exec).and_then(|_| self.wait_for(id, Wanted::Exec(exec)))
            }
            Header::Err { key } => self.belongs(id, &key, Belongs::Err),
            Header::Control { key } => self.belongs(id, &key, Belongs::Control),
            Header::Window { name } => self.window(id, &name),
            Header::Put(put) => self.put(id, put),
            Header::Get(get) => self.get(id, get),
            Header::Connect(connect) => self.connect(id, &connect),
            // It was taken out before.
            Header::Hello(_) => Err(Refusal::new(Code::BAD_LINE, "hello was said")),
        };
        if let Err(refusal) = outcome {
            log::debug!("stream {id}: {refusal}");
            refuse(&mut self.wire.session, id, &refusal);
        }
    }

    fn put(&mut self, id: StreamId, mut put: Put) -> Result<(), Refusal> {
        put.pack.take_if(|_| !self.settings.pack);
        let put = PutTask::begin(id, put, &self.settings.roots, &self.ends, &mut self.wire.session)?;
        self.add(Task::Put(Box::new(put)), [id]);
        Ok(())
    }

    fn get(&mut self, id: StreamId, mut get: Get) -> Result<(), Refusal> {
        get.pack.take_if(|_| !self.settings.pack);
        let get = GetTask::begin(id, get, &self.settings.roots, &mut self.wire.session)?;
        self.add(Task::Get(Box::new(get)), [id]);
        Ok(())
    }

    fn connect(&mut self, id: StreamId, connect: &Connect) -> Result<(), Refusal> {
        let target = self.settings.target(connect)?;
        let connection = Connection::connect(id, &target, self.now)?;
        self.add(Task::Connection(connection), [id]);
        Ok(())
    }

    /// Somebody has connected to a listener.
    pub(crate) fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTED {
            let Some((socket, from)) = self.listeners[listener].accept(self.now) else { return };
            // Without a host, or where there are too many already, it is closed again.
            let opened = if self.is_let_in() { self.wire.session.open_announced().ok() } else { None };
            let Some(id) = opened else { continue };
            let name = self.listeners[listener].name.clone();
            say(&mut self.wire.session, id, &Announcement::Connection { name, from }.line());
            self.add(Task::Connection(Connection::accepted(id, socket)), [id]);
        }
    }

    /// The process with this key.
    fn process(&mut self, key: &Key) -> Option<(u64, &mut Process)> {
        self.tasks.iter_mut().find_map(|(number, task)| match task {
            Task::Process(process) if process.key == *key => Some((*number, &mut **process)),
            _ => None,
        })
    }

    /// Sizes for a shell that is announced under this name. Where that has not begun, it is waited for:
    /// streams have no order.
    fn window(&mut self, id: StreamId, name: &Name) -> Result<(), Refusal> {
        let which = self.announcing.position(name);
        let Some(Thing::Shell(key, _)) = which.and_then(|which| self.things.get(which)) else {
            let message = format!("no shell is announced as {}", name.as_str());
            return Err(Refusal::new(Code::NO_SUCH_KEY, message));
        };
        self.belongs(id, &key.clone(), Belongs::Control)
    }

    fn wait_for(&mut self, id: StreamId, wanted: Wanted) -> Result<(), Refusal> {
        if self.process(wanted.key()).is_some() {
            return Err(Refusal::new(Code::IN_USE, "another process has this key"));
        }
        if let Some(ready) = self.waiting.handle_main(id, wanted, self.now)? {
            self.start(&ready);
        }
        Ok(())
    }

    fn belongs(&mut self, id: StreamId, key: &Key, which: Belongs) -> Result<(), Refusal> {
        if let Some((number, process)) = self.process(key) {
            if which == Belongs::Err {
                return Err(Refusal::new(Code::IN_USE, "the process has started without err"));
            }
            process.join(id)?;
            say(&mut self.wire.session, id, &answer::ok(&Done {}));
            self.give(number, [id]);
            return Ok(());
        }
        if let Some(ready) = self.waiting.handle_other(id, key, which, self.now)? {
            self.start(&ready);
        }
        Ok(())
    }

    /// All streams of a process are there.
    fn start(&mut self, ready: &Ready) {
        let streams = Streams { main: ready.main, err: ready.err, control: ready.control };
        let all = [Some(ready.main), ready.err, ready.control].into_iter().flatten();
        let recipe = match &ready.wanted {
            Wanted::Shell(shell) => self.settings.shell(shell),
            Wanted::Exec(exec) => self.settings.exec(exec),
        };
        let key = ready.wanted.key().clone();
        let started = recipe.and_then(|recipe| {
            self.has_room()?;
            let process = process::start(&recipe, key, streams, None, &mut self.wire.session)?;
            log::info!("{} was started", recipe.argv[0]);
            Ok(process)
        });
        match started {
            Ok(process) => {
                for id in all.clone() {
                    say(&mut self.wire.session, id, &answer::ok(&Done {}));
                }
                self.add(Task::Process(Box::new(process)), all);
            }
            Err(refusal) => {
                log::info!("not started: {refusal}");
                for id in all {
                    refuse(&mut self.wire.session, id, &refusal);
                }
            }
        }
    }

    fn has_room(&self) -> Result<(), Refusal> {
        let is_hosts = |task: &&Task| matches!(task, Task::Process(process) if process.announced.is_none());
        let processes = self.tasks.values().filter(is_hosts).count();
        if processes < self.settings.processes {
            return Ok(());
        }
        Err(Refusal::new(Code::TOO_MANY, format!("{processes} processes are running")))
    }

    /// Processes that have waited for their streams too long.
    pub(crate) fn refuse_late(&mut self) {
        let late = Refusal::new(Code::NO_SUCH_KEY, "not all streams of this key came");
        for id in self.waiting.handle_timeout(self.now) {
            refuse(&mut self.wire.session, id, &late);
        }
    }

    /// The host takes what was announced.
    pub(crate) fn handle_taken(&mut self, which: usize, id: StreamId, line: &[u8]) {
        let number = match &self.things[which] {
            Thing::Task(number) | Thing::Shell(_, Some(number)) => *number,
            Thing::Shell(key, None) => return self.start_announced(which, id, key.clone()),
        };
        let _ = self.wire.session.keep_window(id);
        match self.tasks.get_mut(&number) {
            Some(Task::Process(process)) => {
                let _ = self.wire.session.set_priority(id, Priority::High);
                process.attach(id);
            }
            Some(Task::Log(log)) => {
                let ok: LogOk = answer::parse(line).unwrap_or_default();
                log.attach(id, ok, self.settings.pack, &mut self.wire.session);
            }
            Some(Task::Facts(facts)) => facts.attach(id),
            _ => {}
        }
        self.give(number, [id]);
    }

    fn start_announced(&mut self, which: usize, id: StreamId, key: Key) {
        let Some(shell) = &self.settings.shell else { return };
        let recipe = shell.recipe(Pty::default());
        let _ = self.wire.session.keep_window(id);
        let control = self.waiting.take_control(&key);
        let streams = Streams { main: id, err: None, control };
        match process::start(&recipe, key, streams, Some(which), &mut self.wire.session) {
            Ok(process) => {
                log::info!("{} was started", recipe.argv[0]);
                if let Some(control) = control {
                    say(&mut self.wire.session, control, &answer::ok(&Done {}));
                }
                let number = self.add(Task::Process(Box::new(process)), [id].into_iter().chain(control));
                if let Thing::Shell(_, task) = &mut self.things[which] {
                    *task = Some(number);
                }
            }
            Err(refusal) => {
                log::error!("a shell cannot be started: {refusal}");
                if let Some(control) = control {
                    refuse(&mut self.wire.session, control, &refusal);
                }
                crate::say::leave(&mut self.wire.session, id);
                self.announcing.handle_over(which, self.now);
            }
        }
    }
}

/// Connections that are taken in a row before others have their turn.
const ACCEPTED: usize = 16;
