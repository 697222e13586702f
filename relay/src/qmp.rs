//! A QEMU's control socket (QMP), watched by a thread, which tells the QEMU's line when its VM leaves this
//! host and when it comes.
//!
//! **Owns** what QEMU says: at the source MIGRATION and STOP, at the target RESUME. **Refuses to know** what
//! the concentrator is told. With `pause-before-switchover` QEMU stands still and waits until it is told to
//! go on: nobody types into a machine whose state is on its way, as nobody does on ESXi.
//!
//! | QEMU says | of the source | of the target |
//! |---|---|---|
//! | at first: `inmigrate`, `postmigrate` | has left | is expected |
//! | at first: it runs, and a migration has completed just now | | runs |
//! | MIGRATION setup, active | may stop soon | |
//! | MIGRATION pre-switchover, STOP | begins; then QEMU may go on | |
//! | MIGRATION completed | has left | runs |
//! | MIGRATION failed, cancelled | stays | is off |
//! | RESUME | stays | runs |

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::endpoint::Place;
use crate::orders::{Answer, Orders, Watch, What, Whom};
use crate::secret::Secret;

/// What is watched, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Watched {
    pub(crate) socket: PathBuf,
    /// Somebody else tells QEMU to go on.
    pub(crate) watches_only: bool,
    /// The file by which the source's relay tells the target's.
    pub(crate) secret_file: Option<PathBuf>,
}

/// Watches until the loop is over, or this line.
pub(crate) fn start(
    watched: Watched,
    name: String,
    port: Place,
    watch: Watch,
    orders: Orders,
) -> io::Result<()> {
    thread::Builder::new().name("qmp".to_owned()).spawn(move || {
        let mut complained = false;
        while !orders.is_over() && watch.line.strong_count() > 0 {
            let outcome = UnixStream::connect(&watched.socket).and_then(|socket| {
                let mut qemu = Qemu::new(socket, &watched, &name, &port, &watch, &orders)?;
                complained = false;
                qemu.watch()
            });
            if let Err(error) = outcome {
                let is_news = !std::mem::replace(&mut complained, true);
                let level = if is_news { log::Level::Info } else { log::Level::Debug };
                log::log!(level, "{name}: {} is not watched: {error}", watched.socket.display());
            }
            // There is nothing to wait for: a file comes, and a listener, and nobody tells.
            thread::sleep(RETRY);
        }
    })?;
    Ok(())
}

/// A QEMU that is connected to.
struct Qemu<'a> {
    socket: UnixStream,
    reader: BufReader<UnixStream>,
    /// A line of which the rest has not come.
    begun: Vec<u8>,
    /// What it has told while an answer was waited for.
    events: VecDeque<Value>,
    commands: u64,
    /// It is a migration's target whose VM does not run yet.
    is_target: bool,
    /// It is a migration's source.
    is_source: bool,
    /// The secret has come.
    has_secret: bool,
    /// Until when a secret may come for a VM that runs; `None`: none is wanted.
    secret_until: Option<Instant>,
    watched: &'a Watched,
    name: &'a str,
    /// Where its serial port is.
    port: &'a Place,
    watch: &'a Watch,
    orders: &'a Orders,
}

impl<'a> Qemu<'a> {
    fn new(
        socket: UnixStream,
        watched: &'a Watched,
        name: &'a str,
        port: &'a Place,
        watch: &'a Watch,
        orders: &'a Orders,
    ) -> io::Result<Self> {
        socket.set_read_timeout(Some(LOOK))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(socket.try_clone()?);
        Ok(Self {
            socket,
            reader,
            begun: Vec::new(),
            events: VecDeque::new(),
            commands: 0,
            is_target: false,
            is_source: false,
            has_secret: false,
            secret_until: None,
            watched,
            name,
            port,
            watch,
            orders,
        })
    }

    fn watch(&mut self) -> io::Result<()> {
        let outcome = self.serve();
        self.tell(What::Unknown);
        outcome
    }

    fn serve(&mut self) -> io::Result<()> {
        // One that is watched by somebody else says nothing.
        let until = Instant::now() + PATIENCE;
        while self.message()?.is_none() {
            if Instant::now() > until || self.is_over() {
                return Err(io::Error::new(ErrorKind::TimedOut, "it has another client"));
            }
        }
        self.ask("qmp_capabilities", &json!({}))?;
        let capability = |name| json!({"capability": name, "state": true});
        let mut capabilities = vec![capability("events")];
        if !self.watched.watches_only {
            capabilities.push(capability("pause-before-switchover"));
        }
        // Refused while a migration is under way, which has what it was begun with.
        if let Err(error) = self.ask("migrate-set-capabilities", &json!({"capabilities": capabilities})) {
            log::debug!("{}: {error}", self.name);
        }
        let status = self.ask("query-status", &json!({}))?;
        let migration = self.ask("query-migrate", &json!({}))?;
        log::info!("{}: {} is watched", self.name, self.watched.socket.display());
        match status["status"].as_str() {
            Some("inmigrate") => {
                self.is_target = true;
                self.tell(What::Expect(None));
            }
            Some("postmigrate") => self.tell(What::Left),
            Some("finish-migrate") => self.is_source = true,
            _ if migration["status"] == "completed" && self.has_just_come() => {
                self.is_target = true;
                self.tell(What::Expect(None));
                self.runs();
            }
            _ => self.tell(What::Runs),
        }
        if let Some(status @ ("setup" | "active" | "pre-switchover")) = migration["status"].as_str()
            && !self.is_target
        {
            self.migration(status)?;
        }
        while !self.is_over() {
            while let Some(event) = self.events.pop_front() {
                self.handle(&event)?;
            }
            self.look_for_secret();
            while self.watch.breaks.try_recv().is_ok() {
                let refused = self.send_break().err().map(|error| error.to_string());
                self.tell(What::Broke(refused));
            }
            if let Some(message) = self.message()? {
                self.events.push_back(message);
            }
        }
        Ok(())
    }

    /// Gives the guest a BREAK.
    fn send_break(&mut self) -> io::Result<()> {
        let ports = self.ask("query-chardev", &json!({}))?;
        let port =
            label(&ports, self.port).ok_or_else(|| io::Error::other("QEMU has no such serial port"))?;
        self.ask("chardev-send-break", &json!({"id": port})).map(drop)
    }

    /// Nobody wants to know any more.
    fn is_over(&self) -> bool {
        self.orders.is_over() || self.watch.line.strong_count() == 0
    }

    /// Whether a VM that has come from another host has done so in this moment, while QEMU was asked.
    fn has_just_come(&self) -> bool {
        let has_come =
            |event: &Value| event["event"] == "MIGRATION" && event["data"]["status"] == "completed";
        let has_secret = || self.watched.secret_file.as_ref().is_some_and(|path| path.exists());
        self.events.iter().any(has_come) || has_secret()
    }

    fn handle(&mut self, event: &Value) -> io::Result<()> {
        match event["event"].as_str() {
            Some("MIGRATION") => {
                if let Some(status) = event["data"]["status"].as_str() {
                    self.migration(status)?;
                }
            }
            Some("STOP") if self.is_source && self.watched.watches_only => self.begin(),
            Some("RESUME") => self.runs(),
            _ => {}
        }
        Ok(())
    }

    fn migration(&mut self, status: &str) -> io::Result<()> {
        match (self.is_target, status) {
            (true, "completed") => self.runs(),
            (true, "failed") => self.tell(What::Abort),
            (false, "setup" | "active") if !self.is_source => {
                self.is_source = true;
            }
            (false, "pre-switchover") if !self.watched.watches_only => {
                self.tell(What::Still);
                // What it can take of that it has taken when it has answered another question.
                self.ask("query-status", &json!({}))?;
                self.begin();
                self.ask("migrate-continue", &json!({"state": "pre-switchover"}))?;
            }
            // After "completed" RESUME of a target may have come before.
            (false, "completed") if self.is_source => {
                self.is_source = false;
                self.tell(What::Left);
            }
            (false, "failed" | "cancelled") if self.is_source => {
                self.is_source = false;
                self.tell(What::Abort);
            }
            _ => {}
        }
        Ok(())
    }

    fn runs(&mut self) {
        if std::mem::replace(&mut self.is_target, false) && !self.has_secret {
            self.secret_until = Some(Instant::now() + LATE);
        }
        self.is_source = false;
        self.tell(What::Runs);
    }

    fn begin(&mut self) {
        // The next one is not for this VM, which leaves.
        self.secret_until = None;
        match self.order(What::Begin) {
            Some(Ok(secret)) => {
                let Some(path) = &self.watched.secret_file else { return };
                if let Err(error) = write_secret(path, &secret) {
                    log::error!("{}: cannot write {}: {error}", self.name, path.display());
                }
            }
            Some(Err(why)) => {
                log::warn!("{}: the VM leaves, and the concentrator is not told: {why}", self.name);
            }
            None => {}
        }
    }

    fn look_for_secret(&mut self) {
        if self.secret_until.is_some_and(|until| until < Instant::now()) {
            self.secret_until = None;
        }
        if self.has_secret || !self.is_target && self.secret_until.is_none() {
            return;
        }
        let Some(path) = &self.watched.secret_file else { return };
        match take_secret(path) {
            Ok(None) => {}
            Ok(Some(secret)) => match self.order(What::Expect(Some(secret))) {
                Some(Err(why)) => {
                    log::warn!("{}: the secret of its move is of no use: {why}", self.name);
                }
                _ => self.has_secret = true,
            },
            Err(error) => log::error!("{}: cannot read {}: {error}", self.name, path.display()),
        }
    }

    fn tell(&self, what: What) {
        let shown = format!("{what:?}");
        if let Some(Err(why)) = self.order(what) {
            log::debug!("{}: {shown}: {why}", self.name);
        }
    }

    fn order(&self, what: What) -> Option<Answer> {
        self.orders.ask(Whom::Line(*self.watch.line.upgrade()?), what, ANSWER)
    }

    /// Asks and waits for the answer. What QEMU tells meanwhile is kept.
    fn ask(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        self.commands += 1;
        let mut text = json!({"execute": command, "arguments": arguments, "id": self.commands}).to_string();
        text.push('\n');
        self.socket.write_all(text.as_bytes())?;
        let until = Instant::now() + ANSWER;
        while Instant::now() < until {
            let Some(mut message) = self.message()? else { continue };
            if message["id"] != json!(self.commands) {
                self.events.push_back(message);
            } else if let Some(fault) = message["error"]["desc"].as_str() {
                return Err(io::Error::other(format!("{command}: {fault}")));
            } else {
                return Ok(message["return"].take());
            }
        }
        Err(io::Error::new(ErrorKind::TimedOut, format!("{command} is not answered")))
    }

    /// The next message, if one comes in a moment.
    fn message(&mut self) -> io::Result<Option<Value>> {
        match self.reader.read_until(b'\n', &mut self.begun) {
            Ok(_) if self.begun.ends_with(b"\n") => {
                let message = serde_json::from_slice(&self.begun).map_err(io::Error::other);
                self.begun.clear();
                message.map(Some)
            }
            Ok(_) => Err(io::Error::new(ErrorKind::UnexpectedEof, "it has ended")),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// By what name QEMU knows a serial port that is there; the only one, where none says that it is there.
fn label<'a>(ports: &'a Value, place: &Place) -> Option<&'a str> {
    let place = match place {
        Place::Unix(path) => format!("unix:{}", path.display()),
        Place::Tcp(_, port) => format!(":{port}"),
        Place::Vsock(_, port) => format!(":{port}"),
    };
    let text = |port: &'a Value, key: &str| port[key].as_str();
    let is_there = |port: &&'a Value| {
        let at = text(port, "filename").unwrap_or_default();
        at.split([',', ' ']).any(|word| word.ends_with(&place))
    };
    let ports = ports.as_array()?;
    if let Some(port) = ports.iter().find(is_there) {
        return text(port, "label");
    }
    let mut serial = ports.iter().filter_map(|port| text(port, "label")).filter(|it| it.contains("serial"));
    serial.next().filter(|_| serial.next().is_none())
}

/// Writes a secret so that nobody else reads it, and nobody half of it.
pub(crate) fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Takes a secret that is there: the file is gone then.
pub(crate) fn take_secret(path: &Path) -> io::Result<Option<Secret>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    fs::remove_file(path)?;
    text.parse().map(Some).map_err(io::Error::other)
}

/// How long QEMU's socket is read before the file is looked at. It may lie on a file system that tells nobody
/// of changes.
const LOOK: Duration = Duration::from_millis(20);

/// When a QEMU is looked for again.
const RETRY: Duration = Duration::from_millis(50);

/// How long a QEMU is given to greet: it has one client at a time.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long QEMU, or the line, is given to answer: the latter waits five seconds for the concentrator, after
/// two for what has been printed.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a secret is looked for when the VM runs already.
const LATE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_port_is_found_by_its_place_or_because_there_is_no_other() {
        let port = |label: &str, filename: &str| json!({"label": label, "filename": filename});
        let ports = json!([
            port("compat_monitor0", "unix:/run/vms/a.qmp,server=on"),
            port("serial0", "unix:/run/vms/a.sock,server=on"),
            port("charserial1", "disconnected:unix:/run/vms/b.sock,server=on"),
            port("charserial2", "tcp:127.0.0.1:4001,server=on <-> 127.0.0.1:33333"),
        ]);
        let find = |place: Place| label(&ports, &place);
        assert_eq!(find(Place::Unix("/run/vms/a.sock".into())), Some("serial0"));
        assert_eq!(find(Place::Unix("/run/vms/b.sock".into())), Some("charserial1"));
        assert_eq!(find(Place::Tcp("host".to_owned(), 4001)), Some("charserial2"));
        assert_eq!(find(Place::Unix("/elsewhere/c.sock".into())), None);
        // QEMU was given a path of its own folder, or of another name space.
        let one = json!([port("compat_monitor0", "unix:m"), port("serial0", "unix:c.sock,server=on")]);
        assert_eq!(label(&one, &Place::Unix("/elsewhere/c.sock".into())), Some("serial0"));
    }
}
