//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderName;
use clap::{Parser, Subcommand};
use vspc_core::network::Network;

use crate::auth;
use crate::auth::caller::{Proxies, Secret};
use crate::auth::role::Role;
use crate::tls::Generation;

/// Consoles of virtual serial port concentrators in a browser, over HTTP, and as metrics.
#[derive(Parser, Debug)]
#[command(name = "vspc-web", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Where to listen. An address that is not of loopback takes TLS (--cert) and people who are known
    /// (--users or --client-ca), or a proxy that says who they are (--proxy-user-header).
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// A name, or NAME:PORT, by which browsers reach it, beside those of loopback and its address. Repeat it
    /// for several.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// Connections at once; those beyond are closed. A quarter of them may come from one address that is none
    /// of this machine's.
    #[arg(long, value_name = "NUMBER", default_value_t = 4096, value_parser = connections)]
    pub(crate) max_connections: usize,
    /// A concentrator's admin port: HOST, HOST:PORT, tls://HOST, tls://HOST:PORT or the path of a unix
    /// socket, and the name that it is shown by. Repeat it for several.
    #[arg(long, value_name = "[NAME=]ADDRESS", default_value = "127.0.0.1:13371")]
    server: Vec<String>,
    /// The CA that servers with tls:// are trusted by, in place of the system's.
    #[arg(long, value_name = "FILE")]
    server_ca: Option<PathBuf>,
    /// The certificate to show to servers with tls://.
    #[arg(long, value_name = "FILE")]
    server_cert: Option<PathBuf>,
    /// Its key, where that is not in the certificate's file.
    #[arg(long, value_name = "FILE", requires = "server_cert")]
    server_key: Option<PathBuf>,
    /// The certificate, with its chain, to show to browsers: everything is in TLS then. It is read again at
    /// SIGHUP.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its key, where that is not in the certificate's file.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Who may log in, one to a line: NAME:ROLE:PASSWORD, the role read, write or admin, as vspc-web passwd
    /// prints it. It is read again at SIGHUP.
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Certificates that are signed by one in this file say who somebody is, by their common name; his role
    /// is the one in --users, or --other-role.
    #[arg(long, value_name = "FILE", requires = "cert")]
    client_ca: Option<PathBuf>,
    /// A header in which a trusted proxy says who asks; his role is the one in --users, or --other-role.
    #[arg(long, value_name = "NAME", requires = "trusted_proxy")]
    proxy_user_header: Option<HeaderName>,
    /// A proxy that is believed when it says for whom it asks: an address or a network. Repeat it for
    /// several.
    #[arg(long, value_name = "NETWORK")]
    trusted_proxy: Vec<Network>,
    /// A file whose first line trusted proxies have to send as X-Proxy-Secret. Without it, whoever connects
    /// from their addresses is believed.
    #[arg(long, value_name = "FILE", requires = "trusted_proxy")]
    proxy_secret_file: Option<PathBuf>,
    /// What those may do whom a certificate or a proxy names, and --users does not: read, write or admin.
    /// Without it they are refused.
    #[arg(long, value_name = "ROLE")]
    other_role: Option<Role>,
    /// After how many minutes without use one has to log in again.
    #[arg(long, value_name = "MINUTES", default_value_t = 480, value_parser = minutes)]
    session_idle: u64,
    /// After how many minutes one has to log in again, whatever he does.
    #[arg(long, value_name = "MINUTES", default_value_t = 1440, value_parser = minutes)]
    session_most: u64,
    /// A folder for what is to be known after a restart: the key of share links, and which there are. It is
    /// made where it is not there. Without it nobody can share a console.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
}

/// What else the program does.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Ask for a password and print a line for --users. Without a terminal, the password is one line of the
    /// standard input.
    Passwd {
        /// Whose password it is.
        name: String,
        /// What he may do: read, write or admin.
        #[arg(long, value_name = "ROLE", default_value = "read")]
        role: Role,
    },
    /// Print the manual page of this program
    #[command(hide = true)]
    Man {
        /// Where to write it, and those of its commands.
        folder: Option<PathBuf>,
    },
}

fn minutes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(minutes @ 1..=525_600) => Ok(minutes),
        _ => Err("give a number of minutes, up to a year".to_owned()),
    }
}

/// A concentrator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Server {
    /// What it is called here: letters, digits, `.`, `_`, `-`.
    pub(crate) name: String,
    /// As it was given.
    pub(crate) written: String,
    pub(crate) address: Address,
    pub(crate) tls: Option<vspc_trust::Files>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Options {
    /// Says why it would not be safe to start.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.other_role.is_some() && self.client_ca.is_none() && self.proxy_user_header.is_none() {
            return Err("--other-role is for --client-ca and --proxy-user-header".to_owned());
        }
        if self.state_dir.is_some() && !self.knows_people() {
            return Err(
                "--state-dir is for share links, which take people who are known: --users, --client-ca \
                        or --proxy-user-header"
                    .to_owned(),
            );
        }
        let is_vouched_for = self.proxy_user_header.is_some();
        let has_people = self.users.is_some() || self.client_ca.is_some();
        if self.listen.ip().is_loopback() || is_vouched_for || (has_people && self.cert.is_some()) {
            return Ok(());
        }
        let why = match has_people {
            true => "passwords would cross the network in clear: give a certificate (--cert)",
            false => {
                "whoever reaches the port could use the consoles: give a certificate (--cert), and say \
                      who may log in (--users or --client-ca)"
            }
        };
        Err(format!(
            "--listen {}: {why}; or have a proxy say who asks (--proxy-user-header, --trusted-proxy)",
            self.listen
        ))
    }

    fn knows_people(&self) -> bool {
        self.users.is_some() || self.client_ca.is_some() || self.proxy_user_header.is_some()
    }

    /// By what people are known.
    pub(crate) fn auth(&self) -> Result<auth::Config, String> {
        Ok(auth::Config {
            users: self.users.clone(),
            proxies: Proxies {
                trusted: self.trusted_proxy.clone(),
                user_header: self.proxy_user_header.clone(),
                secret: self.proxy_secret_file.as_deref().map(Secret::load).transpose()?,
            },
            has_certificates: self.client_ca.is_some(),
            generation: Generation::default(),
            other_role: self.other_role,
            idle: Duration::from_secs(self.session_idle * 60),
            most: Duration::from_secs(self.session_most * 60),
            state: self.state_dir.clone(),
        })
    }

    /// What the listener shows, if it is to speak TLS.
    pub(crate) fn tls(&self) -> Option<vspc_trust::ServerFiles> {
        let (cert, key) = (self.cert.clone()?, self.key.clone());
        Some(vspc_trust::ServerFiles { cert, key, ca: self.client_ca.clone(), is_optional: true })
    }

    pub(crate) fn servers(&self) -> Result<Vec<Server>, String> {
        let mut servers: Vec<Server> = Vec::new();
        for text in &self.server {
            let server = self.server(text)?;
            if servers.iter().any(|other| other.name == server.name) {
                return Err(format!("--server {text}: there is one that is called {} already", server.name));
            }
            servers.push(server);
        }
        Ok(servers)
    }

    fn server(&self, text: &str) -> Result<Server, String> {
        let invalid = |why: &str| Err(format!("--server {text}: {why}"));
        let (name, written) = match text.split_once('=') {
            Some((name, written)) => (Some(name), written),
            None => (None, text),
        };
        let (rest, is_tls) = match written.strip_prefix("tls://") {
            Some(rest) => (rest, true),
            None => (written, false),
        };
        let Some(address) = parse(rest) else {
            return invalid(
                "that is no address: HOST, HOST:PORT, [IPV6]:PORT, tls://HOST or a socket's path",
            );
        };
        if is_tls && matches!(address, Address::Unix(_)) {
            return invalid("there is no TLS on a unix socket");
        }
        let name = match (name, &address) {
            (Some(name), _) => name.to_owned(),
            (None, Address::Tcp(host, _)) => host.replace(':', "_"),
            (None, Address::Unix(_)) => "local".to_owned(),
        };
        if name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)) {
            return invalid("a name has letters, digits, dots, dashes and underscores");
        }
        let tls = is_tls.then(|| vspc_trust::Files {
            ca: self.server_ca.clone(),
            cert: self.server_cert.clone(),
            key: self.server_key.clone(),
            server_name: None,
        });
        Ok(Server { name, written: written.to_owned(), address, tls })
    }
}

fn connections(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "a number above 0".to_owned())
}

fn parse(text: &str) -> Option<Address> {
    if text.contains('/') {
        return Some(Address::Unix(text.into()));
    }
    let port = |text: &str| text.parse().ok().filter(|&port: &u16| port > 0);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (host, "") => (host, DEFAULT_PORT),
            (host, rest) => (host, port(rest.strip_prefix(':')?)?),
        },
        None => match text.rsplit_once(':') {
            // A bare IPv6 address has more colons than one.
            Some((host, _)) if host.contains(':') => (text, DEFAULT_PORT),
            Some((host, number)) => (host, port(number)?),
            None => (text, DEFAULT_PORT),
        },
    };
    let is_fit = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    is_fit.then(|| Address::Tcp(host.to_owned(), port))
}

/// The admin port of a concentrator.
const DEFAULT_PORT: u16 = 13371;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        Options::parse_from([&["vspc-web"], words].concat())
    }

    #[test]
    fn servers_have_names_of_their_own_or_are_called_by_their_hosts() {
        let servers =
            options(&["--server", "east=10.0.0.1:4000", "--server", "tls://west", "--server", "::1"])
                .servers()
                .unwrap();
        let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["east", "west", "__1"]);
        assert_eq!(servers[0].address, Address::Tcp("10.0.0.1".into(), 4000));
        assert_eq!(servers[1].address, Address::Tcp("west".into(), 13371));
        assert!(servers[1].tls.is_some() && servers[0].tls.is_none());
        for wrong in ["", "a=", "=b", "a/b=c", "tls:///run/vspc.sock", "lab:0", "lab:ssh"] {
            assert!(options(&["--server", wrong]).servers().is_err(), "{wrong}");
        }
        assert!(options(&["--server", "a=b", "--server", "a=c"]).servers().is_err());
    }

    #[test]
    fn what_is_not_loopback_takes_tls_and_people_or_a_proxy() {
        for (words, fault) in [
            ("127.0.0.1:0", None),
            ("[::1]:80", None),
            ("127.0.0.1:0 --users u", None),
            ("0.0.0.0:80", Some("could use the consoles")),
            ("[::]:80", Some("could use the consoles")),
            ("0.0.0.0:80 --cert c", Some("could use the consoles")),
            ("0.0.0.0:80 --trusted-proxy 10.0.0.1", Some("could use the consoles")),
            ("0.0.0.0:80 --users u", Some("in clear")),
            ("0.0.0.0:80 --users u --cert c", None),
            ("0.0.0.0:80 --client-ca a --cert c", None),
            ("0.0.0.0:80 --proxy-user-header x-user --trusted-proxy 10.0.0.1", None),
            ("127.0.0.1:0 --other-role read", Some("--other-role")),
        ] {
            let words: Vec<_> = ["--listen"].into_iter().chain(words.split(' ')).collect();
            let verdict = options(&words).check();
            match (verdict, fault) {
                (Ok(()), None) => {}
                (Err(why), Some(words)) if why.contains(words) && !why.contains("  ") => {}
                (verdict, _) => panic!("{words:?}: {verdict:?}"),
            }
        }
    }

    #[test]
    fn what_needs_something_else_says_so() {
        for words in [&["--client-ca", "a"][..], &["--proxy-user-header", "x"], &["--trusted-proxy", "x"]] {
            assert!(Options::try_parse_from([&["vspc-web"], words].concat()).is_err(), "{words:?}");
        }
    }
}
