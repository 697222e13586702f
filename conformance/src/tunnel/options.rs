//! The options about TLS that every tool has which talks to a server.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::{Dial, Thumbprint, Trust, VmForm};

/// Whether and how to speak TLS.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// How the server's VM port is spoken to
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub tls: VmForm,
    /// Clients speak TLS
    #[arg(long)]
    pub client_tls: bool,
    /// Take only a server certificate that is signed by one of these (PEM) and is for --server-name. Without
    /// this and --thumbprint, any certificate is taken: who answers is not verified
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Whom the server's certificate must be for; otherwise the host of --target
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Take only the server certificate with this thumbprint
    #[arg(long, value_name = "SHA256")]
    pub thumbprint: Option<Thumbprint>,
    /// Show this certificate (PEM, the ones that signed it behind it) to a server that asks for one
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// The key of --client-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// How many descriptors so many connections take in this process, at most.
    #[must_use]
    pub fn descriptors(&self, connections: usize) -> usize {
        let is_any = self.tls != VmForm::Off || self.client_tls;
        // Both ends of the near one and the far one.
        if is_any { connections.saturating_mul(3) } else { connections }
    }

    /// The way to `target`, a host and a port.
    ///
    /// # Errors
    ///
    /// Why there is none, in words: a file is of no use, options do not go together.
    pub fn open(&self, target: &str) -> Result<Dial, String> {
        if self.tls == VmForm::Off && !self.client_tls {
            let idle = [
                ("--ca", self.ca.is_some()),
                ("--server-name", self.server_name.is_some()),
                ("--thumbprint", self.thumbprint.is_some()),
                ("--client-cert", self.client_cert.is_some()),
            ];
            return match idle.iter().find(|(_, is_given)| *is_given) {
                Some((option, _)) => Err(format!("{option} does nothing without --tls or --client-tls")),
                None => Ok(Dial::default()),
            };
        }
        let identity = match (&self.client_cert, &self.client_key) {
            (Some(chain), Some(key)) => Some((certificates(chain)?, private_key(key)?)),
            _ => None,
        };
        let trust = Trust {
            roots: self.ca.as_deref().map(roots).transpose()?,
            thumbprint: self.thumbprint,
            identity,
        };
        let host = self.server_name.as_deref().unwrap_or_else(|| host(target));
        // A host that is no name is an address with a zone at most, which no certificate is for.
        let name = match (ServerName::try_from(host.to_owned()), &self.server_name) {
            (Ok(name), _) => Some(name),
            (Err(_), None) => None,
            (Err(error), Some(name)) => return Err(format!("--server-name {name}: {error}")),
        };
        let config = trust.into_config()?;
        Dial::through(self.tls, self.client_tls, config, name).map_err(|error| error.to_string())
    }
}

/// The host of `host:port`; brackets of an address are not part of it.
fn host(target: &str) -> &str {
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().map_err(|error| format!("{}: {error}", path.display()))?;
    if certificates.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(certificates)
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_target_is_what_stands_before_its_port() {
        assert_eq!(host("vspc.example:13370"), "vspc.example");
        assert_eq!(host("[::1]:13370"), "::1");
        assert_eq!(host("127.0.0.1:1"), "127.0.0.1");
    }

    #[test]
    fn options_that_would_do_nothing_are_told() {
        let args = TlsArgs { ca: Some("ca.pem".into()), ..TlsArgs::default() };
        assert!(args.open("localhost:1").unwrap_err().contains("--ca does nothing"));
        assert!(TlsArgs::default().open("localhost:1").is_ok());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let args = TlsArgs { client_tls: true, ca: Some("/nowhere/ca.pem".into()), ..TlsArgs::default() };
        assert!(args.open("localhost:1").unwrap_err().starts_with("/nowhere/ca.pem: "));
    }
}
