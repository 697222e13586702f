//! What is to be relayed: the command line and the configuration file together.
//!
//! **Owns** the file's keys, and what does not go together. **Refuses to know** what sockets say to it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};
use vspc_core::vmware::{Uuid, VmConfig};
use vspc_trust::Files;

use crate::args::{Options, RelayOptions, parse_uuid};
use crate::dial::Goal;
use crate::endpoint::{Endpoint, Place, Serial};
use crate::fatal::Fatal;
use crate::identity::uuid_of;
use crate::line::Spec;
use crate::qmp::Watched;
use crate::tls::ServerFiles;

/// All that a relay does.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Settings {
    pub(crate) routes: Vec<Route>,
    pub(crate) lines: Vec<LineRoute>,
    pub(crate) folders: Vec<FolderRoute>,
    /// Where the relay is told of moves.
    pub(crate) control: Option<Endpoint>,
}

/// Where connections come in, and where they go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub(crate) listen: Vec<Endpoint>,
    pub(crate) to: Endpoint,
    pub(crate) connect_timeout: Duration,
    pub(crate) dialer: Files,
    pub(crate) server: ServerFiles,
    pub(crate) proxy_protocol: bool,
}

/// Where lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LineTarget {
    pub(crate) to: Endpoint,
    pub(crate) connect_timeout: Duration,
    pub(crate) dialer: Files,
    uri: String,
    backlog: usize,
}

/// A line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LineRoute {
    pub(crate) from: Serial,
    pub(crate) name: String,
    pub(crate) uuid: Uuid,
    pub(crate) to: LineTarget,
    pub(crate) qmp: Option<Watched>,
}

/// A folder of lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FolderRoute {
    pub(crate) folder: PathBuf,
    pub(crate) to: LineTarget,
}

impl Settings {
    /// What the options say, and the file that they name.
    pub(crate) fn read(options: &Options) -> Result<Self, Fatal> {
        let mut settings = match &options.config {
            None => Self::default(),
            Some(path) => {
                let fault = |why| Fatal::File { path: path.clone(), why };
                let text = fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
                Self::parse_in(&text, path.parent().unwrap_or(path)).map_err(fault)?
            }
        };
        if options.relay != RelayOptions::default() {
            settings.add(options.relay.clone()).map_err(Fatal::Options)?;
        }
        if options.control.is_some() {
            settings.control.clone_from(&options.control);
        }
        if settings.is_empty() {
            return Err(Fatal::Options(
                "there is nothing to relay: --listen ADDRESS, --line LINE or --lines FOLDER, with --to \
                 ADDRESS; or --config FILE"
                    .to_owned(),
            ));
        }
        Ok(settings)
    }

    fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.lines.is_empty() && self.folders.is_empty()
    }

    /// What a configuration file says. Files that it names have to be named from the root.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_in(text, Path::new("/"))
    }

    /// `folder` is where the files are that it names without saying where.
    fn parse_in(file: &str, folder: &Path) -> Result<Self, String> {
        let table = DeTable::parse(file).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut settings = Self::default();
        for (key, value) in table.get_ref() {
            let key = key.get_ref().as_ref();
            if key == "control" {
                settings.control = Some(text(key, value.get_ref())?.parse()?);
                continue;
            }
            let Some((kind, keys)) = KINDS.iter().find(|(kind, _)| *kind == key) else {
                let kinds = KINDS.map(|(kind, _)| format!("[[{kind}]]")).join(", ");
                return Err(format!("{key} is no setting; there are control and {kinds}"));
            };
            let as_array = || format!("{kind} has to be written [[{kind}]]");
            let tables = value.get_ref().as_array().ok_or_else(as_array)?;
            for (number, table) in (1..).zip(tables.iter()) {
                let within = |fault| format!("{kind} {number}: {fault}");
                let table = table.get_ref().as_table().ok_or_else(as_array)?;
                let options = options(table, keys, folder).map_err(within)?;
                // Without these it would be a table of another kind.
                let missing = match *kind {
                    "line" if options.line.is_none() => Some("from"),
                    "lines" if options.lines.is_none() => Some("folder"),
                    _ => None,
                };
                if let Some(key) = missing {
                    return Err(within(format!("{key} is missing")));
                }
                settings.add(options).map_err(within)?;
            }
        }
        Ok(settings)
    }

    /// One relay, one line, or a folder of lines, unless something does not go together.
    fn add(&mut self, mut options: RelayOptions) -> Result<(), String> {
        if let Some(from) = options.line.take() {
            self.lines.push(LineRoute::of(from, options)?);
        } else if let Some(folder) = options.lines.take() {
            self.folders.push(FolderRoute::of(folder, &options)?);
        } else {
            self.routes.push(Route::of(options)?);
        }
        Ok(())
    }
}

/// What one table says: the options of the command line, by the same names.
fn options(table: &DeTable<'_>, keys: &[&str], folder: &Path) -> Result<RelayOptions, String> {
    let mut options = RelayOptions::default();
    for (key, value) in table {
        let (key, value) = (key.get_ref().as_ref(), value.get_ref());
        if !keys.contains(&key) {
            return Err(format!("{key} is no setting here; there are {}", keys.join(", ")));
        }
        let path = || text(key, value).map(|name| Some(folder.join(name)));
        match key {
            "listen" => match value.as_array() {
                Some(several) => {
                    for one in several {
                        options.listen.push(text(key, one.get_ref())?.parse()?);
                    }
                }
                None => options.listen.push(text(key, value)?.parse()?),
            },
            "from" => options.line = Some(text(key, value)?.parse()?),
            "folder" => options.lines = path()?,
            "to" => options.to = Some(text(key, value)?.parse()?),
            "connect-timeout" => options.connect_timeout = Some(number(key, value, 1, 3600)?),
            "ca" => options.ca = path()?,
            "cert" => options.cert = path()?,
            "key" => options.key = path()?,
            "server-name" => options.server_name = Some(text(key, value)?.to_owned()),
            "listen-cert" => options.listen_cert = path()?,
            "listen-key" => options.listen_key = path()?,
            "listen-ca" => options.listen_ca = path()?,
            "proxy-protocol" => {
                options.proxy_protocol = value.as_bool().ok_or("proxy-protocol is true or false")?;
            }
            "name" => options.name = Some(text(key, value)?.to_owned()),
            "uuid" => options.uuid = Some(parse_uuid(text(key, value)?)?),
            "uri" => options.uri = Some(text(key, value)?.to_owned()),
            "qmp" => options.qmp = Some(text(key, value)?.parse()?),
            "qmp-watch-only" => {
                options.qmp_watch_only = value.as_bool().ok_or("qmp-watch-only is true or false")?;
            }
            "secret-file" => options.secret_file = path()?,
            // The last of them.
            _ => options.backlog = Some(number(key, value, 4096, 1 << 30)?),
        }
    }
    Ok(options)
}

fn text<'a>(key: &str, value: &'a DeValue<'_>) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{key} has to be text, in quotes"))
}

fn number(key: &str, value: &DeValue<'_>, least: u32, most: u32) -> Result<u32, String> {
    let number = value.as_integer().and_then(|number| number.as_str().parse().ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("{key} is a number, {least} to {most}"))
}

impl Route {
    fn of(options: RelayOptions) -> Result<Self, String> {
        let (to, dialer, connect_timeout) = target(&options)?;
        if options.listen.is_empty() {
            return Err(format!("who connects to {to}? --listen ADDRESS (listen = in the file)"));
        }
        if options.name.is_some()
            || options.uuid.is_some()
            || options.uri.is_some()
            || options.backlog.is_some()
        {
            return Err("name, uuid, uri and backlog are a line's; who listens adds nothing".to_owned());
        }
        for at in &options.listen {
            at.check_listen()?;
        }
        let server =
            ServerFiles { cert: options.listen_cert, key: options.listen_key, ca: options.listen_ca };
        let is_served = options.listen.iter().any(|at| at.tls);
        if !is_served && server != ServerFiles::default() {
            return Err("listen-cert, listen-key and listen-ca are for a listener with tls://".to_owned());
        }
        if is_served && server.cert.is_none() {
            return Err("to listen with TLS takes a certificate: listen-cert".to_owned());
        }
        let proxy_protocol = options.proxy_protocol;
        Ok(Self { listen: options.listen, to, connect_timeout, dialer, server, proxy_protocol })
    }
}

impl LineTarget {
    fn of(options: &RelayOptions) -> Result<Self, String> {
        let (to, dialer, connect_timeout) = target(options)?;
        if options.listen_cert.is_some() || options.listen_key.is_some() || options.listen_ca.is_some() {
            return Err("listen-cert, listen-key and listen-ca are for a listener with tls://".to_owned());
        }
        let uri = options.uri.clone().unwrap_or_else(|| VmConfig::default().uri);
        let backlog = options.backlog.map_or(BACKLOG, |bytes| bytes as usize);
        Ok(Self { to, connect_timeout, dialer, uri, backlog })
    }
}

impl LineRoute {
    fn of(from: Serial, options: RelayOptions) -> Result<Self, String> {
        let place = from.at.to_string();
        let stem = match &from.at.place {
            Place::Unix(path) => path.file_stem().map(|stem| stem.to_string_lossy().into_owned()),
            Place::Tcp(..) | Place::Vsock(..) => None,
        };
        let uuid = options.uuid.or_else(|| uuid_of(&place));
        let uuid = uuid.ok_or("this machine has no /etc/machine-id that a UUID could follow from: uuid")?;
        let to = LineTarget::of(&options)?;
        let qmp = watched(&options)?;
        Ok(Self { from, name: options.name.or(stem).unwrap_or(place), uuid, to, qmp })
    }

    /// The line of a socket in a folder, with what the file beside it says: name, uuid, uri, backlog.
    pub(crate) fn of_socket(socket: &Path, folder: &FolderRoute) -> Result<Self, String> {
        let at = Endpoint { place: Place::Unix(socket.to_owned()), tls: false };
        let file = socket.with_extension("toml");
        let said = match fs::read_to_string(&file) {
            Ok(text) => {
                let table = DeTable::parse(&text).map_err(|error| error.to_string().trim_end().to_owned())?;
                options(table.get_ref(), BESIDE, &folder.folder)?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => RelayOptions::default(),
            Err(error) => return Err(format!("{}: {error}", file.display())),
        };
        let all = RelayOptions { to: Some(folder.to.to.clone()), ..said.clone() };
        let mut line = Self::of(Serial { at, is_listener: false }, all)?;
        line.to = LineTarget {
            uri: said.uri.unwrap_or_else(|| folder.to.uri.clone()),
            backlog: said.backlog.map_or(folder.to.backlog, |bytes| bytes as usize),
            ..folder.to.clone()
        };
        Ok(line)
    }

    /// What the loop needs of it.
    pub(crate) fn spec(&self, to: Arc<Goal>) -> Spec {
        let config = VmConfig {
            name: self.name.clone(),
            vc_uuid: Some(self.uuid),
            uri: self.to.uri.clone(),
            ..VmConfig::default()
        };
        let from = (!self.from.is_listener).then(|| {
            Arc::new(Goal {
                endpoint: self.from.at.clone(),
                tls: None,
                patience: self.to.connect_timeout,
                is_told_for_whom: false,
            })
        });
        Spec {
            config: Arc::new(config),
            from,
            place: self.from.to_string(),
            to,
            backlog: self.to.backlog,
            qmp: self.qmp.clone(),
        }
    }
}

impl FolderRoute {
    fn of(folder: PathBuf, options: &RelayOptions) -> Result<Self, String> {
        if options.name.is_some() || options.uuid.is_some() {
            return Err("name and uuid are one line's: write them into NAME.toml beside NAME.sock".to_owned());
        }
        Ok(Self { folder, to: LineTarget::of(options)? })
    }
}

/// The QEMU whose line it is.
fn watched(options: &RelayOptions) -> Result<Option<Watched>, String> {
    let secret_file = options.secret_file.clone();
    match &options.qmp {
        Some(Endpoint { place: Place::Unix(socket), .. }) => {
            Ok(Some(Watched { socket: socket.clone(), watches_only: options.qmp_watch_only, secret_file }))
        }
        Some(other) => Err(format!("qmp is a unix socket, unix:/PATH, and {other} is none")),
        None if secret_file.is_some() || options.qmp_watch_only => {
            Err("qmp-watch-only and secret-file are for a line with qmp".to_owned())
        }
        None => Ok(None),
    }
}

/// What all kinds have in common.
fn target(options: &RelayOptions) -> Result<(Endpoint, Files, Duration), String> {
    let Some(to) = options.to.clone() else {
        return Err("where to? --to ADDRESS (to = in the file)".to_owned());
    };
    let dialer = Files {
        ca: options.ca.clone(),
        cert: options.cert.clone(),
        key: options.key.clone(),
        server_name: options.server_name.clone(),
    };
    if !to.tls && dialer != Files::default() {
        return Err(format!("ca, cert, key and server-name are for a target with TLS, and {to} is none"));
    }
    if dialer.key.is_some() && dialer.cert.is_none() {
        return Err("key is that of cert, which is missing".to_owned());
    }
    let seconds = options.connect_timeout;
    Ok((to, dialer, seconds.map_or(CONNECT_TIMEOUT, |seconds| Duration::from_secs(seconds.into()))))
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for route in &self.routes {
            for at in &route.listen {
                writeln!(f, "relay {at} to {}", route.to)?;
            }
        }
        for line in &self.lines {
            write!(f, "line {} to {} as {:?} {}", line.from, line.to.to, line.name, line.uuid)?;
            if let Some(qmp) = &line.qmp {
                write!(f, ", which follows {}", qmp.socket.display())?;
            }
            writeln!(f)?;
        }
        for lines in &self.folders {
            writeln!(f, "lines in {} to {}", lines.folder.display(), lines.to.to)?;
        }
        if let Some(at) = &self.control {
            writeln!(f, "told of moves by {at}")?;
        }
        Ok(())
    }
}

/// The tables of the file, and their keys.
const KINDS: [(&str, &[&str]); 3] = [
    (
        "relay",
        &[
            "listen",
            "to",
            "connect-timeout",
            "ca",
            "cert",
            "key",
            "server-name",
            "listen-cert",
            "listen-key",
            "listen-ca",
            "proxy-protocol",
        ],
    ),
    (
        "line",
        &[
            "from",
            "to",
            "name",
            "uuid",
            "uri",
            "backlog",
            "qmp",
            "qmp-watch-only",
            "secret-file",
            "connect-timeout",
            "ca",
            "cert",
            "key",
            "server-name",
        ],
    ),
    ("lines", &["folder", "to", "uri", "backlog", "connect-timeout", "ca", "cert", "key", "server-name"]),
];

/// The keys of the file beside a socket.
const BESIDE: &[&str] = &["name", "uuid", "uri", "backlog"];

/// How long each address of a target is given: three lost SYNs of a local network, and less than hosts wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is kept of a line's output: a boot's worth of text, or a kernel's last words many times over.
const BACKLOG: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_many_relays() {
        let text = "
            [[relay]]
            listen = ['tcp://0.0.0.0:13370', 'unix:/run/vspc.sock']
            to = 'tcp://concentrator:13370'
            [[relay]]
            listen = 'tls://[::]:13371'
            to = 'telnets://concentrator:13371'
            connect-timeout = 2
            ca = 'ca.pem'
            listen-cert = '/etc/relay.pem'";
        let settings = Settings::parse_in(text, Path::new("/etc/vspc")).unwrap();
        assert_eq!(
            settings.to_string(),
            "relay tcp://0.0.0.0:13370 to tcp://concentrator:13370\n\
             relay unix:/run/vspc.sock to tcp://concentrator:13370\n\
             relay tls://[::]:13371 to tls://concentrator:13371\n"
        );
        let second = &settings.routes[1];
        assert_eq!(second.connect_timeout, Duration::from_secs(2));
        assert_eq!(second.dialer.ca.as_deref(), Some(Path::new("/etc/vspc/ca.pem")));
        assert_eq!(second.server.cert.as_deref(), Some(Path::new("/etc/relay.pem")));
    }

    #[test]
    fn a_file_has_lines_and_folders_of_them() {
        let text = "
            [[line]]
            from = 'unix:/run/vms/web01.sock'
            uuid = '00112233-4455-6677-8899-aabbccddeeff'
            to = 'tcp://concentrator:13370'
            [[line]]
            from = 'tcp-listen://127.0.0.1:4001'
            name = 'router'
            uuid = '00112233-4455-6677-8899-aabbccddee00'
            to = 'tcp://concentrator:13370'
            [[lines]]
            folder = '/run/vms'
            to = 'tcp://concentrator:13370'";
        assert_eq!(
            Settings::parse(text).unwrap().to_string(),
            "line unix:/run/vms/web01.sock to tcp://concentrator:13370 as \"web01\" \
             00112233-4455-6677-8899-aabbccddeeff\n\
             line tcp-listen://127.0.0.1:4001 to tcp://concentrator:13370 as \"router\" \
             00112233-4455-6677-8899-aabbccddee00\n\
             lines in /run/vms to tcp://concentrator:13370\n"
        );
    }

    #[test]
    fn what_means_nothing_is_refused_and_named() {
        let relay = |lines: &str| format!("[[relay]]\n{lines}");
        for (text, named) in [
            ("relay = 1".to_owned(), "[[relay]]"),
            ("[[line]]\nfrom = 'unix:/a'".to_owned(), "--to"),
            ("[[line]]\nto = 'a:1'".to_owned(), "from is missing"),
            ("[[line]]\nfrom = 'tls://a:1'\nto = 'a:1'".to_owned(), "TLS"),
            ("[[line]]\nfrom = 'unix:/a'\nto = 'a:1'\nuuid = '1'".to_owned(), "UUID"),
            ("[[line]]\nfrom = 'unix:/a'\nto = 'a:1'\nbacklog = 1".to_owned(), "4096"),
            ("[[lines]]\nfolder = '/a'\nto = 'a:1'\nname = 'x'".to_owned(), "name"),
            ("[[line]]\nfrom = 'unix:/a'\nto = 'a:1'\nqmp = 'a:1'".to_owned(), "unix:/PATH"),
            ("[[line]]\nfrom = 'unix:/a'\nto = 'a:1'\nsecret-file = '/a'".to_owned(), "qmp"),
            ("listen = 'tcp://0.0.0.0:1'".to_owned(), "listen"),
            (relay("to = 'a:1'"), "--listen"),
            (relay("listen = '0.0.0.0:1'"), "--to"),
            (relay("listen = 'a:1'\nto = 'a:1'"), "0.0.0.0"),
            (relay("listen = '0.0.0.0:1'\nto = 'a:1'\nca = 'x'"), "TLS"),
            (relay("listen = '0.0.0.0:1'\nto = 'tls://a:1'\nkey = 'x'"), "cert"),
            (relay("listen = 'tls://0.0.0.0:1'\nto = 'a:1'"), "listen-cert"),
            (relay("listen = '0.0.0.0:1'\nto = 'a:1'\nlisten-ca = 'x'"), "tls://"),
            (relay("listen = '0.0.0.0:1'\nto = 'a:1'\nconnect-timeout = 0"), "3600"),
            (relay("listen = '0.0.0.0:1'\nto = 'a:1'\nproxy-protocol = 1"), "true or false"),
            (relay("lissten = '0.0.0.0:1'"), "lissten"),
            (relay("listen = [1]"), "text"),
        ] {
            let fault = Settings::parse(&text).unwrap_err();
            assert!(fault.contains(named), "{text}: {fault}");
        }
    }
}
