//! The options that say where state is kept, and which of them contradict each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::options::Options;

use super::redis::{RedisError, Settings};

/// The options for state.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct StoreOptions {
    /// Where client ports and what is known of VMs are kept: in memory, which a restart empties, in a file,
    /// or in Redis, which several servers may share.
    #[arg(long, value_name = "WHERE", value_enum, ignore_case = true, help_heading = STATE)]
    #[arg(default_value_t = BackendArg::Memory)]
    pub backend: BackendArg,

    /// That file. It is made if it is not there; one server has it at a time.
    #[arg(long = "file", short, alias = "persist-file", value_name = "PATH", help_heading = STATE)]
    pub file: Option<PathBuf>,

    /// That Redis: redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS, or unix:///PATH.
    #[arg(long, value_name = "URL", help_heading = STATE)]
    pub redis_url: Option<String>,

    /// A file with the password for it, instead of one in the URL, which `ps` would show.
    #[arg(long, value_name = "PATH", help_heading = STATE)]
    pub redis_password_file: Option<PathBuf>,

    /// What this server is called there: the same after a restart, and another than other servers' [default:
    /// the machine's name and --proxy-port].
    #[arg(long, value_name = "NAME", help_heading = STATE)]
    pub redis_owner: Option<String>,

    /// What is put before a VM's name where its present port is published.
    #[arg(long, value_name = "PREFIX", default_value = "Active:VM:Port", help_heading = STATE)]
    pub redis_active: String,

    /// What is put before a VM's name where the port that it had last is published.
    #[arg(long, value_name = "PREFIX", default_value = "Saved:VM:Port", help_heading = STATE)]
    pub redis_saved: String,

    /// The hash in which ports are published by VMs' names.
    #[arg(long, value_name = "KEY", default_value = "VM:Port", help_heading = STATE)]
    pub redis_hash: String,
}

/// The values of `--backend`: where state is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum BackendArg {
    /// Nowhere else.
    Memory,
    /// In a file.
    File,
    /// In Redis.
    Redis,
}

impl StoreOptions {
    /// Says which options contradict each other, and what to do.
    pub(crate) fn fault(&self, options: &Options) -> Option<String> {
        let is_ranged = options.no_vm_ports || options.port_range_start != 0;
        let fault = match self.backend {
            BackendArg::File if self.file.is_none() => "--backend file needs a file: add --file PATH",
            BackendArg::Memory | BackendArg::Redis if self.file.is_some() => {
                "--file is for --backend file: add that, or drop --file"
            }
            BackendArg::Redis if self.redis_url.is_none() => "--backend redis needs --redis-url URL",
            BackendArg::Memory | BackendArg::File if self.redis_url.is_some() => {
                "--redis-url is for --backend redis: add that, or drop --redis-url"
            }
            BackendArg::Memory | BackendArg::File if self.redis_owner.is_some() => {
                "--redis-owner is for --backend redis: add that, or drop --redis-owner"
            }
            BackendArg::Memory | BackendArg::File if self.redis_password_file.is_some() => {
                "--redis-password-file is for --backend redis: add that, or drop --redis-password-file"
            }
            BackendArg::File | BackendArg::Redis if !is_ranged => {
                "--backend keeps ports, and with --port-range-start 0 the system chooses others at each \
                 start: give a range"
            }
            _ => return None,
        };
        Some(fault.to_owned())
    }

    /// What is to be known of Redis.
    pub(super) fn redis_settings(&self, options: &Options, url: &str) -> Result<Settings, RedisError> {
        let owner = self.redis_owner.clone().unwrap_or_else(|| {
            let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}:{}", machine.trim(), options.proxy_port)
        });
        let range = options.port_range();
        let password = self.redis_password_file.as_deref().map(password).transpose()?;
        Settings::new(url, password.as_deref(), owner).map(|settings| Settings {
            ports: (!options.no_vm_ports).then_some((range.first, range.last)),
            lease: Duration::from_secs(options.vm_expire_time.into()) + LEASE_BEYOND,
            active: self.redis_active.clone(),
            saved: self.redis_saved.clone(),
            hash: self.redis_hash.clone(),
            ..settings
        })
    }
}

/// What a file has on its first line.
fn password(path: &Path) -> Result<String, RedisError> {
    let wrong = |why| RedisError::Password { path: path.to_owned(), why };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let first = text.lines().next().unwrap_or_default();
    match first.is_empty() {
        true => Err(wrong("it is empty".to_owned())),
        false => Ok(first.to_owned()),
    }
}

/// A URL without the password that may be in it.
pub(crate) fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (who, place) = rest.rsplit_once('@').map_or((None, rest), |(who, place)| (Some(who), place));
    let who = who.map(|who| match who.split_once(':') {
        Some((user, _)) => format!("{user}:***@"),
        None => format!("{who}@"),
    });
    let (path, query) = place.split_once('?').map_or((place, None), |(path, query)| (path, Some(query)));
    let hidden = |pair: &str| if pair.starts_with("pass=") { "pass=***".to_owned() } else { pair.to_owned() };
    let query = query.map(|query| query.split('&').map(hidden).collect::<Vec<_>>().join("&"));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{}{path}{query}", who.unwrap_or_default())
}

/// For how long ports and records stay a server's that has gone, beyond the time that it keeps consoles
/// itself.
const LEASE_BEYOND: Duration = Duration::from_secs(3600);

const STATE: &str = "State (kept over a restart)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::parse;

    #[test]
    fn a_file_is_meant_in_each_way_that_people_are_used_to() {
        for words in [
            "--backend file --file /f",
            "--backend File -f /f",
            "--backend FILE --persist-file /f",
            "--backend=file -f/f",
        ] {
            let store = parse(words).unwrap().store;
            assert_eq!((store.backend, store.file.as_deref()), (BackendArg::File, Some(Path::new("/f"))));
        }
        for words in ["", "--backend memory", "--backend Memory"] {
            assert_eq!(parse(words).unwrap().store.backend, BackendArg::Memory);
        }
    }

    #[test]
    fn what_cannot_be_together_is_refused_by_name() {
        for (words, option) in [
            ("--backend file", "--file PATH"),
            ("--file /f", "--backend file"),
            ("--backend file -f /f --port-range-start 0", "--port-range-start"),
            ("--backend dbm", "--backend"),
            ("--backend redis", "--redis-url URL"),
            ("--redis-url redis://h", "--backend redis"),
            ("--redis-owner o", "--backend redis"),
            ("--redis-password-file /f", "--backend redis"),
            ("--backend Foo", "--on-event"),
            ("--backend redis --redis-url redis://h --port-range-start 0", "--port-range-start"),
            ("--backend redis --redis-url redis://h -f /f", "--file"),
        ] {
            let why = parse(words).unwrap_err();
            assert!(why.contains(option) && !why.contains('\n'), "{words}: {why}");
        }
        parse("--backend file -f /f --port-range-start 0 --no-vm-ports").unwrap();
    }

    #[test]
    fn with_redis_ports_are_given_out_as_they_are_granted() {
        let options =
            parse("--backend redis --redis-url redis://h --redis-owner a --vm-expire-time 60").unwrap();
        assert!(options.config(10).ports_by_grant);
        let settings = options.store.redis_settings(&options, "redis://u:secret@h/2").unwrap();
        assert_eq!(settings.owner, "a");
        assert_eq!(settings.lease, Duration::from_secs(3660));
        assert!(!settings.place().contains("secret"), "{}", settings.place());
        let why = options.store.redis_settings(&options, "http://u:secret@h").unwrap_err().to_string();
        assert!(why.contains("--redis-url") && !why.contains("secret"), "{why}");
    }

    #[test]
    fn a_password_is_taken_from_the_first_line_of_a_file() {
        let path = std::env::temp_dir().join(format!("vspc-redis-password-{}", std::process::id()));
        let options = parse(&format!(
            "--backend redis --redis-url redis://u@h --redis-password-file {}",
            path.display()
        ))
        .unwrap();
        let settings = || options.store.redis_settings(&options, "redis://u@h");
        assert!(settings().unwrap_err().to_string().contains("--redis-password-file"));
        fs::write(&path, "").unwrap();
        assert!(settings().unwrap_err().to_string().contains("is empty"));
        fs::write(&path, "secret\nnot this\n").unwrap();
        let redis = settings().unwrap().client.get_connection_info().redis_settings().clone();
        assert_eq!((redis.username(), redis.password()), (Some("u"), Some("secret")));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("redis://u:sec:ret@h:6379/0", "redis://u:***@h:6379/0"),
            ("redis://:secret@h", "redis://:***@h"),
            ("rediss://h/1", "rediss://h/1"),
            ("redis://u@h", "redis://u@h"),
            ("unix:///run/r.sock?user=u&pass=secret&db=1", "unix:///run/r.sock?user=u&pass=***&db=1"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
