//! The subcommand `cert`: a self-signed certificate and its key, in files that the server can use as they
//! are, and what to type next.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use clap::{ArgAction, Args};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::ServerName;
use time::{Duration, OffsetDateTime};

use super::certificate::Thumbprints;
use super::load::ProxyUri;

/// The options of `cert`.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
#[command(disable_help_flag = true, about = ABOUT)]
pub(crate) struct CertOptions {
    /// Name by which hosts and clients reach the server: repeat it or separate by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub hostname: Vec<String>,

    /// Address by which they reach it: repeat it or separate by commas.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub ip: Vec<IpAddr>,

    /// For how long it is valid.
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = days)]
    pub days: u32,

    /// File for the certificate.
    #[arg(long, value_name = "FILE", default_value = "vspc-cert.pem")]
    pub cert: PathBuf,

    /// File for the key; only its owner may read it.
    #[arg(long, value_name = "FILE", default_value = "vspc-key.pem")]
    pub key: PathBuf,

    /// Replace files that are there.
    #[arg(long)]
    pub force: bool,

    /// Print this help.
    #[arg(long, short, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// It would replace a file.
    #[error("{} is there already: name another file, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {path}: {1}", path = .0.display())]
    Write(PathBuf, io::Error),
    /// The certificate itself cannot be made.
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl CertOptions {
    /// Says what is wrong with the options, and what to do.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.hostname.is_empty() && self.ip.is_empty() {
            return Err(
                "cert needs to know by which name the server is reached: add --hostname NAME, or --ip \
                        ADDRESS"
                    .to_owned(),
            );
        }
        if self.cert == self.key {
            return Err("--cert and --key name the same file: give each its own".to_owned());
        }
        self.hostname.iter().try_for_each(|name| match ServerName::try_from(name.as_str()) {
            Ok(ServerName::DnsName(_)) => Ok(()),
            Ok(_) => Err(format!("--hostname {name} is an address: give it with --ip")),
            Err(_) => Err(format!("--hostname {name:?} is no host name: letters, digits, hyphens and dots")),
        })
    }

    /// Makes certificate and key and writes both; returns the text to print.
    pub(crate) fn make(&self, program: &str) -> Result<String, MakeError> {
        let taken = [&self.cert, &self.key].into_iter().find(|path| path.symlink_metadata().is_ok());
        if let Some(path) = taken.filter(|_| !self.force) {
            return Err(MakeError::Exists(path.clone()));
        }
        let params = self.params()?;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key_made = self.write(&self.key, &key.serialize_pem(), 0o600)?;
        let made = self.write(&self.cert, &certificate.pem(), 0o644).and_then(|cert_made| {
            let put = |made: &Path, path: &Path| {
                fs::rename(made, path).map_err(|error| MakeError::Write(path.to_owned(), error))
            };
            let placed = put(&cert_made, &self.cert).and_then(|()| put(&key_made, &self.key));
            placed.inspect_err(|_| drop(fs::remove_file(&cert_made)))
        });
        // A key without its certificate is of no use, and would be in the way next time.
        made.inspect_err(|_| drop(fs::remove_file(&key_made)))?;
        Ok(self.story(program, certificate.der(), &params))
    }

    /// What the help of the subcommand ends with.
    pub(crate) fn examples(program: &str) -> String {
        format!(
            "\
Examples:
  {program} cert --hostname vspc.example.com
      makes vspc-cert.pem and vspc-key.pem, and tells what to do with them
  {program} cert --hostname vspc.example.com,vspc --ip 10.1.2.3 --cert cert.pem --key key.pem
      several names; other files
  {program} cert --hostname vspc.example.com --force && kill -HUP $(pidof {program})
      a new certificate for a server that runs; hosts need its new thumbprint"
        )
    }

    /// A certificate for a server and nothing else, with a key for ECDSA on P-256.
    fn params(&self) -> Result<CertificateParams, MakeError> {
        let names: Vec<String> =
            self.hostname.iter().cloned().chain(self.ip.iter().map(ToString::to_string)).collect();
        let mut subject = DistinguishedName::new();
        let common_name = names.first().filter(|name| name.len() <= LONGEST_COMMON_NAME);
        subject.push(DnType::CommonName, common_name.map_or("vspc", String::as_str));
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = subject;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = OffsetDateTime::now_utc();
        // A host whose clock is behind must not have to wait for it.
        params.not_before = now - Duration::DAY;
        params.not_after = now + Duration::days(self.days.into());
        Ok(params)
    }

    /// Writes a file that is whole or not there, and never more readable than it should be; returns where:
    /// beside the one that it is to replace, so that a server that loads anew meanwhile finds the old one,
    /// and the old one stays if the other file cannot be made.
    fn write(&self, path: &Path, text: &str, mode: u32) -> Result<PathBuf, MakeError> {
        let fault = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => MakeError::Exists(path.to_owned()),
            _ => MakeError::Write(path.to_owned(), error),
        };
        let mut made = path.as_os_str().to_owned();
        if self.force {
            made.push(format!(".{}", process::id()));
        }
        let made = PathBuf::from(made);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&made).map_err(fault)?;
        match file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
            Ok(()) => Ok(made),
            Err(error) => {
                let _ = fs::remove_file(made);
                Err(fault(error))
            }
        }
    }

    fn story(&self, program: &str, certificate: &[u8], params: &CertificateParams) -> String {
        let Thumbprints { sha1, sha256 } = Thumbprints::of(certificate);
        let (cert, key) = (quoted(&self.cert), quoted(&self.key));
        let names: Vec<String> =
            self.hostname.iter().cloned().chain(self.ip.iter().map(ToString::to_string)).collect();
        let uri = ProxyUri { scheme: "telnets", port: DEFAULT_PORT }.with(names.first().map(String::as_str));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\
Certificate in {cert}, key in {key}: for {names}, valid until {until}

Thumbprint
  SHA-1    {sha1}
  SHA-256  {sha256}

Start the server
  {program} --tls on --cert {cert} --key {key}

Proxy URI for serial ports (ESXi compares the thumbprint; which of the two depends on its version)
  {uri}#thumbprint={sha1}
  {uri}#thumbprint={sha256}
",
            names = names.join(", "),
            until = params.not_after.date(),
        );
        text
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    match text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte)) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn days(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|days| (1..=MOST_DAYS).contains(days))
        .ok_or_else(|| format!("give a number of days, from 1 to {MOST_DAYS}"))
}

const ABOUT: &str = "Make a self-signed certificate for --cert, and its key for --key.";

/// Where hosts connect if nothing else is said.
const DEFAULT_PORT: u16 = 13370;

/// A hundred years. Dates end with the year 9999, and clocks of hosts earlier.
const MOST_DAYS: u32 = 36_500;

/// RFC 5280, appendix A: `ub-common-name`.
const LONGEST_COMMON_NAME: usize = 64;

#[cfg(test)]
#[path = "make_tests.rs"]
mod tests;
