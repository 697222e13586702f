//! Which server is meant: addresses, and the configuration file that gives them names.
//!
//! Owns the form of an address and of `config.toml` (vspc.md). Refuses to know how to connect.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use toml::de::{DeTable, DeValue};
use vspc_trust::Files;

use crate::args::TlsOptions;
use crate::failure::Failure;

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    /// A host, by name or number, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// What is spoken with a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum Protocol {
    /// Ours where the server speaks it, else vSPC.py's.
    #[default]
    Auto,
    /// The operator protocol.
    Operator,
    /// vSPC.py's query protocol, version 3.
    V3,
}

/// A server, and what is spoken with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Server {
    pub(crate) address: Address,
    /// Everything is said within TLS.
    pub(crate) tls: Option<Files>,
    pub(crate) protocol: Protocol,
    /// For whom it is asked, if that is not the one who runs this.
    pub(crate) behalf: Option<Behalf>,
    /// Streams of a connection to it are few, and carry much.
    pub(crate) wide: bool,
}

/// For whom a server is asked (operator.md §3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Behalf {
    pub(crate) user: String,
    /// Where that one is.
    pub(crate) address: Option<String>,
    /// What that one may do at most.
    pub(crate) right: &'static str,
}

/// What the configuration file says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Config {
    /// The server that is meant where none is named.
    default: Option<String>,
    /// The escape character.
    pub(crate) escape: Option<String>,
    servers: BTreeMap<String, Server>,
}

impl Config {
    /// Reads the user's file. There need not be one.
    pub(crate) fn load() -> Result<Self, Failure> {
        let Some(path) = config_path() else { return Ok(Self::default()) };
        let folder = path.parent().unwrap_or(&path);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, folder)
                .map_err(|message| Failure::usage(format!("{}: {message}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::usage(format!("{}: {error}", path.display()))),
        }
    }

    /// `folder` is where the files are that it names without saying where.
    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let table = DeTable::parse(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut config = Self::default();
        for (key, value) in table.get_ref() {
            let value = value.get_ref();
            match key.get_ref().as_ref() {
                "default" => config.default = Some(text_of("default", value)?),
                "escape" => config.escape = Some(text_of("escape", value)?),
                "servers" => {
                    let servers = value.as_table().ok_or("servers has to be a table")?;
                    for (name, entry) in servers {
                        let name = name.get_ref().to_string();
                        let server = parse_entry(&name, entry.get_ref(), folder)?;
                        config.servers.insert(name, server);
                    }
                }
                other => return Err(format!("{other} is no setting; there are default, escape and servers")),
            }
        }
        Ok(config)
    }

    /// The server that `named` means: a name from the file, or an address. Without it the file's default, and
    /// without that one this machine's.
    pub(crate) fn server(&self, named: Option<&str>) -> Result<Server, Failure> {
        let named = named.or(self.default.as_deref()).unwrap_or("127.0.0.1");
        if let Some(server) = self.servers.get(named) {
            return Ok(server.clone());
        }
        named.parse().map_err(Failure::usage)
    }
}

impl Server {
    /// Takes over what the command line says of TLS.
    pub(crate) fn take(&mut self, options: &TlsOptions) -> Result<(), Failure> {
        let TlsOptions { ca, cert, key } = options;
        let given = [("--ca", ca), ("--cert", cert), ("--key", key)];
        let Some((name, _)) = given.into_iter().find(|(_, file)| file.is_some()) else { return Ok(()) };
        let Some(tls) = &mut self.tls else {
            return Err(Failure::usage(format!("{name} is for a server with TLS: --server tls://HOST")));
        };
        if ca.is_some() {
            tls.ca.clone_from(ca);
        }
        // A key belongs to its certificate.
        if cert.is_some() {
            (tls.cert, tls.key) = (cert.clone(), key.clone());
        } else if key.is_some() {
            tls.key.clone_from(key);
        }
        if tls.cert.is_none() && tls.key.is_some() {
            return Err(Failure::usage("--key belongs to a certificate: --cert FILE"));
        }
        Ok(())
    }
}

fn parse_entry(name: &str, value: &DeValue<'_>, folder: &Path) -> Result<Server, String> {
    let table =
        value.as_table().ok_or_else(|| format!("servers.{name} has to be a table with an address"))?;
    let fault = |what: &str| Err(format!("servers.{name}: {what}"));
    let (mut server, mut protocol) = (None::<Server>, Protocol::Auto);
    let (mut is_tls, mut tls) = (None, Files::default());
    for (key, value) in table {
        let (key, value) = (key.get_ref().as_ref(), value.get_ref());
        let file = || text_of(key, value).map(|path| Some(folder.join(path)));
        match key {
            "address" => server = Some(text_of("address", value)?.parse()?),
            "protocol" => {
                let text = text_of("protocol", value)?;
                protocol = Protocol::from_str(&text, false)
                    .map_err(|_| format!("servers.{name}: protocol is auto, operator or v3, not {text}"))?;
            }
            "tls" => match value.as_bool() {
                Some(value) => is_tls = Some(value),
                None => return fault("tls is true or false"),
            },
            "ca" => tls.ca = file()?,
            "cert" => tls.cert = file()?,
            "key" => tls.key = file()?,
            "server_name" => tls.server_name = Some(text_of(key, value)?),
            other => {
                let what = format!(
                    "{other} is no setting; there are address, protocol, tls, ca, cert, key and server_name"
                );
                return fault(&what);
            }
        }
    }
    let mut server = server.ok_or_else(|| format!("servers.{name} has no address"))?;
    server.protocol = protocol;
    match (is_tls.unwrap_or(server.tls.is_some()), &server.address) {
        (true, Address::Unix(_)) => return fault("there is no TLS on a unix socket"),
        (false, _) if server.tls.is_some() => return fault("its address says tls://, and tls says false"),
        (false, _) if tls != Files::default() => {
            return fault("ca, cert, key and server_name need tls = true");
        }
        (true, _) if tls.key.is_some() && tls.cert.is_none() => return fault("key needs cert"),
        (true, _) => server.tls = Some(tls),
        (false, _) => {}
    }
    Ok(server)
}

fn text_of(key: &str, value: &DeValue<'_>) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{key} has to be a string"))
}

fn config_path() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let configs = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")))?;
    Some(configs.join("vspc").join("config.toml"))
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, tls) = match text.strip_prefix("tls://") {
            Some(address) => (address, Some(Files::default())),
            None => (text, None),
        };
        let address = address.parse()?;
        if tls.is_some() && matches!(address, Address::Unix(_)) {
            return Err(format!("{text:?} is no address: tls://HOST or tls://HOST:PORT"));
        }
        Ok(Self { address, tls, protocol: Protocol::Auto, behalf: None, wide: false })
    }
}

/// As it is written.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls.is_some() { "tls://" } else { "" })?;
        self.address.fmt(f)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        let invalid =
            || format!("{text:?} is no address: HOST, HOST:PORT, [IPV6]:PORT, a socket's path, tls://HOST…");
        let port = |text: &str| text.parse().ok().filter(|&port| port > 0).ok_or_else(invalid);
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => match rest.split_once(']').ok_or_else(invalid)? {
                (host, "") => (host, DEFAULT_PORT),
                (host, rest) => (host, port(rest.strip_prefix(':').ok_or_else(invalid)?)?),
            },
            None => match text.rsplit_once(':') {
                // A bare IPv6 address has more colons than one.
                Some((host, _)) if host.contains(':') => (text, DEFAULT_PORT),
                Some((host, number)) => (host, port(number)?),
                None => (text, DEFAULT_PORT),
            },
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(invalid());
        }
        Ok(Self::Tcp(host.to_owned(), port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => Path::display(path).fmt(f),
        }
    }
}

/// The admin port of vSPC.py, and so ours.
const DEFAULT_PORT: u16 = 13371;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_or_without_a_port_and_paths() {
        let tcp = |host: &str, port| Ok(Address::Tcp(host.to_owned(), port));
        assert_eq!("lab".parse(), tcp("lab", 13371));
        assert_eq!("lab:4000".parse(), tcp("lab", 4000));
        assert_eq!("192.0.2.1:1".parse(), tcp("192.0.2.1", 1));
        assert_eq!("::1".parse(), tcp("::1", 13371));
        assert_eq!("[::1]".parse(), tcp("::1", 13371));
        assert_eq!("[::1]:4000".parse(), tcp("::1", 4000));
        assert_eq!("/run/vspc.sock".parse(), Ok(Address::Unix("/run/vspc.sock".into())));
        assert_eq!("unix:vspc.sock".parse(), Ok(Address::Unix("vspc.sock".into())));
        for wrong in ["", ":1", "lab:", "lab:0", "lab:65536", "lab:ssh", "[::1", "[::1]4000", "a b"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
        for text in ["lab:4000", "[::1]:4000", "/run/vspc.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/vspc"))
    }

    #[test]
    fn the_file_tells_what_tls_needs_and_the_command_line_more() {
        let config = parse(
            "[servers.a]\naddress = 'a'\ntls = true\nca = 'ca.pem'\ncert = '/me.pem'\nkey = '/me.key'\n\
             server_name = 'b'\n[servers.c]\naddress = 'tls://c'\n",
        )
        .unwrap();
        let mut server = config.server(Some("a")).unwrap();
        let tls = |ca: &str, cert: &str, key: Option<&str>, server_name: &str| {
            Some(Files {
                ca: Some(ca.into()),
                cert: Some(cert.into()),
                key: key.map(Into::into),
                server_name: Some(server_name.to_owned()),
            })
        };
        assert_eq!(server.tls, tls("/etc/vspc/ca.pem", "/me.pem", Some("/me.key"), "b"));
        assert_eq!(server.to_string(), "tls://a:13371");
        let options = TlsOptions { cert: Some("both.pem".into()), ..TlsOptions::default() };
        server.take(&options).unwrap();
        assert_eq!(server.tls, tls("/etc/vspc/ca.pem", "both.pem", None, "b"));
        assert_eq!(config.server(Some("c")).unwrap().tls, Some(Files::default()));
        assert_eq!("tls://[::1]:4000".parse::<Server>().unwrap().to_string(), "tls://[::1]:4000");
        assert!("tls:///run/vspc.sock".parse::<Server>().is_err());
        let key_alone = TlsOptions { key: Some("me.key".into()), ..TlsOptions::default() };
        for (server, options) in [("a", &options), ("tls://a", &key_alone)] {
            let refused = server.parse::<Server>().unwrap().take(options);
            assert_eq!(refused.unwrap_err().code, crate::failure::Code::Usage, "{server} {options:?}");
        }
    }

    #[test]
    fn the_file_names_servers_and_which_of_them_is_meant() {
        let config = parse(
            "default = 'lab'\nescape = '^A'\n[servers.lab]\naddress = 'lab.example'\n\
             [servers]\nold = { address = '192.0.2.7:4000', protocol = 'v3' }\n",
        )
        .unwrap();
        let lab: Server = "lab.example:13371".parse().unwrap();
        let old = Server { protocol: Protocol::V3, ..Server::from_str("192.0.2.7:4000").unwrap() };
        assert_eq!(config.server(None), Ok(lab.clone()));
        assert_eq!(config.server(Some("lab")), Ok(lab));
        assert_eq!(config.server(Some("old")), Ok(old));
        assert_eq!(config.server(Some("::1")).unwrap().address, Address::Tcp("::1".into(), 13371));
        assert_eq!(config.escape.as_deref(), Some("^A"));
        assert_eq!(Config::default().server(None).unwrap().address.to_string(), "127.0.0.1:13371");
    }

    #[test]
    fn a_fault_in_the_file_is_named() {
        for (text, fault) in [
            ("sever = 1", "sever is no setting"),
            ("default = 1", "default has to be a string"),
            ("[servers.a]", "servers.a has no address"),
            ("[servers.a]\naddress = ':'", "\":\" is no address"),
            ("[servers.a]\naddress = 'b'\nport = 1", "port is no setting"),
            ("[servers.a]\naddress = 'b'\nprotocol = 'v4'", "not v4"),
            ("default = ", "line 1"),
            (
                "[servers.a]\naddress = 'b'\nca = 'c'",
                "servers.a: ca, cert, key and server_name need tls = true",
            ),
            ("[servers.a]\naddress = 'b'\ntls = 'yes'", "tls is true or false"),
            ("[servers.a]\naddress = 'tls://b'\ntls = false", "its address says tls://"),
            ("[servers.a]\naddress = '/b'\ntls = true", "no TLS on a unix socket"),
            ("[servers.a]\naddress = 'tls://b'\nkey = 'c'", "key needs cert"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(fault), "{text}: {message}");
        }
    }
}
