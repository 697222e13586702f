//! What is to be relayed: the command line and the configuration file together.
//!
//! **Owns** the file's keys, and what does not go together. **Refuses to know** what sockets say to it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::args::{Options, RelayOptions};
use crate::endpoint::Endpoint;
use crate::fatal::Fatal;
use crate::tls::{DialerFiles, ServerFiles};

/// All that a relay does.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Settings {
    pub(crate) routes: Vec<Route>,
}

/// Where connections come in, and where they go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub(crate) listen: Vec<Endpoint>,
    pub(crate) to: Endpoint,
    pub(crate) connect_timeout: Duration,
    pub(crate) dialer: DialerFiles,
    pub(crate) server: ServerFiles,
}

impl Settings {
    /// What the options say, and the file that they name.
    pub(crate) fn read(options: &Options) -> Result<Self, Fatal> {
        let mut settings = match &options.config {
            None => Self::default(),
            Some(path) => {
                let fault = |why| Fatal::Config { path: path.clone(), why };
                let text = fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
                Self::parse_in(&text, path.parent().unwrap_or(path)).map_err(fault)?
            }
        };
        if is_asked_for(&options.relay) {
            settings.routes.push(Route::of(options.relay.clone()).map_err(Fatal::Options)?);
        }
        if settings.routes.is_empty() {
            return Err(Fatal::Options(
                "there is nothing to relay: --listen ADDRESS --to ADDRESS, or --config FILE".to_owned(),
            ));
        }
        Ok(settings)
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
    fn parse_in(text: &str, folder: &Path) -> Result<Self, String> {
        let table = DeTable::parse(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut settings = Self::default();
        for (key, value) in table.get_ref() {
            match key.get_ref().as_ref() {
                "relay" => {
                    let relays = value.get_ref().as_array().ok_or("relay has to be written [[relay]]")?;
                    for (number, relay) in (1..).zip(relays.iter()) {
                        let within = |fault| format!("relay {number}: {fault}");
                        let relay = relay.get_ref().as_table().ok_or("relay has to be written [[relay]]")?;
                        let options = relay_options(relay, folder).map_err(within)?;
                        settings.routes.push(Route::of(options).map_err(within)?);
                    }
                }
                other => return Err(format!("{other} is no setting; there is [[relay]]")),
            }
        }
        Ok(settings)
    }
}

/// What one `[[relay]]` says: the options of the command line, by the same names.
fn relay_options(table: &DeTable<'_>, folder: &Path) -> Result<RelayOptions, String> {
    let mut options = RelayOptions::default();
    for (key, value) in table {
        let (key, value) = (key.get_ref().as_ref(), value.get_ref());
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
            "to" => options.to = Some(text(key, value)?.parse()?),
            "connect-timeout" => {
                let seconds = value.as_integer().and_then(|number| number.as_str().parse().ok());
                let seconds = seconds.filter(|seconds| (1..=3600).contains(seconds));
                options.connect_timeout = Some(seconds.ok_or("connect-timeout is in seconds, 1 to 3600")?);
            }
            "ca" => options.ca = path()?,
            "cert" => options.cert = path()?,
            "key" => options.key = path()?,
            "server-name" => options.server_name = Some(text(key, value)?.to_owned()),
            "listen-cert" => options.listen_cert = path()?,
            "listen-key" => options.listen_key = path()?,
            "listen-ca" => options.listen_ca = path()?,
            other => return Err(format!("{other} is no setting; there are {}", KEYS.join(", "))),
        }
    }
    Ok(options)
}

fn text<'a>(key: &str, value: &'a DeValue<'_>) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{key} has to be text, in quotes"))
}

fn is_asked_for(options: &RelayOptions) -> bool {
    let RelayOptions { listen, to, connect_timeout, ca, cert, key, server_name, .. } = options;
    let files: [&Option<PathBuf>; 6] =
        [ca, cert, key, &options.listen_cert, &options.listen_key, &options.listen_ca];
    !listen.is_empty()
        || to.is_some()
        || connect_timeout.is_some()
        || server_name.is_some()
        || files.into_iter().any(Option::is_some)
}

impl Route {
    /// One relay, unless something does not go together.
    fn of(options: RelayOptions) -> Result<Self, String> {
        let Some(to) = options.to else {
            return Err("where to? --to ADDRESS (to = in the file)".to_owned());
        };
        if options.listen.is_empty() {
            return Err(format!("who connects to {to}? --listen ADDRESS (listen = in the file)"));
        }
        for at in &options.listen {
            at.check_listen()?;
        }
        let dialer = DialerFiles {
            ca: options.ca,
            cert: options.cert,
            key: options.key,
            server_name: options.server_name,
        };
        let server =
            ServerFiles { cert: options.listen_cert, key: options.listen_key, ca: options.listen_ca };
        if !to.tls && dialer != DialerFiles::default() {
            return Err(format!("ca, cert, key and server-name are for a target with TLS, and {to} is none"));
        }
        if dialer.key.is_some() && dialer.cert.is_none() {
            return Err("key is that of cert, which is missing".to_owned());
        }
        let is_served = options.listen.iter().any(|at| at.tls);
        if !is_served && server != ServerFiles::default() {
            return Err("listen-cert, listen-key and listen-ca are for a listener with tls://".to_owned());
        }
        if is_served && server.cert.is_none() {
            return Err("to listen with TLS takes a certificate: listen-cert".to_owned());
        }
        let connect_timeout =
            options.connect_timeout.map_or(CONNECT_TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
        Ok(Self { listen: options.listen, to, connect_timeout, dialer, server })
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for route in &self.routes {
            for at in &route.listen {
                writeln!(f, "relay {at} to {}", route.to)?;
            }
        }
        Ok(())
    }
}

const KEYS: &[&str] = &[
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
];

/// How long each address of a target is given: three lost SYNs of a local network, and less than hosts wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    fn what_means_nothing_is_refused_and_named() {
        let relay = |lines: &str| format!("[[relay]]\n{lines}");
        for (text, named) in [
            ("relay = 1".to_owned(), "[[relay]]"),
            ("listen = 'tcp://0.0.0.0:1'".to_owned(), "listen"),
            (relay("to = 'a:1'"), "--listen"),
            (relay("listen = '0.0.0.0:1'"), "--to"),
            (relay("listen = 'a:1'\nto = 'a:1'"), "0.0.0.0"),
            (relay("listen = '0.0.0.0:1'\nto = 'a:1'\nca = 'x'"), "TLS"),
            (relay("listen = '0.0.0.0:1'\nto = 'tls://a:1'\nkey = 'x'"), "cert"),
            (relay("listen = 'tls://0.0.0.0:1'\nto = 'a:1'"), "listen-cert"),
            (relay("listen = '0.0.0.0:1'\nto = 'a:1'\nlisten-ca = 'x'"), "tls://"),
            (relay("listen = '0.0.0.0:1'\nto = 'a:1'\nconnect-timeout = 0"), "seconds"),
            (relay("lissten = '0.0.0.0:1'"), "lissten"),
            (relay("listen = [1]"), "text"),
        ] {
            let fault = Settings::parse(&text).unwrap_err();
            assert!(fault.contains(named), "{text}: {fault}");
        }
    }
}
