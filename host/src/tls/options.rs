//! The options for TLS, which of them contradict each other, and how they become the engine's configuration.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vspc_core::concentrator::{AdminTls, Config, InBandTls, VmTls};

use crate::options::Options;

use super::connecting::TrustLoader;
use super::load::{Loader, ProxyUri};

/// The options for TLS.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct TlsOptions {
    /// What ESXi hosts begin with: TLS (on: telnets://), telnet (off: telnet://), or either (auto)
    /// [default: off].
    #[arg(long, value_name = "WHEN", value_enum, hide_possible_values = true, help_heading = TLS)]
    pub tls: Option<VmTlsArg>,

    /// The same as --tls on.
    #[arg(long, help_heading = TLS)]
    pub ssl: bool,

    /// The server's certificate, and behind it those up to its CA, in PEM; `cert` makes one.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub cert: Option<PathBuf>,

    /// The certificate's private key, in PEM; default: it is in the same file.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub key: Option<PathBuf>,

    /// Hosts that begin with telnet: leave them in clear (off), take their offer to go over to TLS
    /// (offer), serve only those that do (require).
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = InBandTlsArg::Off, help_heading = TLS)]
    #[arg(hide_possible_values = true)]
    pub in_band_tls: InBandTlsArg,

    /// TLS on client ports.
    #[arg(long, help_heading = TLS)]
    pub client_tls: bool,

    /// Let in only clients with a certificate that a CA in this file has signed, in PEM.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub client_ca: Option<PathBuf>,

    /// TLS on the admin port: on, off, or auto, which takes those who begin with it and those who do not.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = AdminTlsArg::Off, help_heading = TLS)]
    #[arg(hide_possible_values = true)]
    pub admin_tls: AdminTlsArg,

    /// Let in only operators with a certificate that a CA in this file has signed, in PEM; its names are what
    /// --admin-rights cert:NAME means. With --admin-tls auto those in clear show none, and are let in.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub admin_ca: Option<PathBuf>,

    /// Where the server connects to somebody over TLS (--forward, --dial-allow): trust the certificates in
    /// this file, in PEM, instead of the system's.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub dial_ca: Option<PathBuf>,

    /// The certificate to show there, with its chain, in PEM.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub dial_cert: Option<PathBuf>,

    /// Its private key, in PEM; default: it is in the same file.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub dial_key: Option<PathBuf>,

    /// Do not start with client ports or an admin port that are open to the network without TLS.
    #[arg(long, help_heading = TLS)]
    pub require_tls: bool,
}

/// The values of `--tls`: what a connection from a host begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum VmTlsArg {
    /// Telnet.
    Off,
    /// TLS.
    On,
    /// Either.
    Auto,
}

/// The values of `--in-band-tls`: what becomes of a host's offer to go over to TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum InBandTlsArg {
    /// It is declined.
    Off,
    /// It is taken.
    Offer,
    /// Only those that make it are served.
    Require,
}

/// The values of `--admin-tls`: what a connection to the admin port begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum AdminTlsArg {
    /// One of the protocols that are spoken there.
    Off,
    /// TLS.
    On,
    /// Either.
    Auto,
}

impl TlsOptions {
    /// Says which options contradict each other, and what to do.
    pub(crate) fn fault(&self, options: &Options) -> Option<String> {
        let user = self.user(options);
        let fault = match (self.ssl, self.tls) {
            (true, Some(VmTlsArg::Off)) => "--ssl and --tls off contradict each other: drop one",
            (true, Some(VmTlsArg::Auto)) => "--ssl and --tls auto contradict each other: drop one",
            _ if self.in_band_tls != InBandTlsArg::Off && self.on_connect() == VmTlsArg::On => {
                "--in-band-tls is for hosts that begin with telnet, and with --tls on none does: drop it, or \
                 give --tls auto"
            }
            _ if self.client_ca.is_some() && !self.client_tls => {
                "--client-ca asks clients for certificates, which takes TLS on their ports: add --client-tls"
            }
            _ if self.client_tls && options.no_vm_ports => {
                "--client-tls is for client ports, and --no-vm-ports opens none: drop one"
            }
            _ if self.admin_ca.is_some() && self.admin_tls == AdminTlsArg::Off => {
                "--admin-ca asks operators for certificates, which takes TLS on the admin port: add \
                 --admin-tls on (or auto)"
            }
            _ if self.admin_tls != AdminTlsArg::Off && options.no_admin => {
                "--admin-tls is for the admin port, and --no-admin opens none: drop one"
            }
            _ if self.admin_ca.is_none() && options.names_certificates() => {
                "--admin-rights cert:… (or may, in [[console]]) is for operators with certificates, which \
                 nobody asks for: add --admin-ca FILE"
            }
            _ if self.dial_key.is_some() && self.dial_cert.is_none() => {
                "--dial-key is given without its certificate: add --dial-cert FILE"
            }
            _ if (self.dial_ca.is_some() || self.dial_cert.is_some()) && !options.dials() => {
                "--dial-ca and --dial-cert are for what the server connects to: add --forward or \
                 --dial-allow, or drop them"
            }
            _ if self.key.is_some() && self.cert.is_none() => {
                "--key is given without its certificate: add --cert FILE"
            }
            _ if self.cert.is_some() && user.is_none() => {
                "--cert is given, but nothing uses it: add --tls on (or auto), --in-band-tls, --client-tls, \
                 --admin-tls or --line NAME=tls://:PORT"
            }
            _ => match (user, exposed_in_clear(options), admin_in_clear(options)) {
                (Some(user), ..) if self.cert.is_none() => {
                    return Some(format!(
                        "{user} needs a certificate: add --cert FILE (the subcommand `cert` makes one)"
                    ));
                }
                (_, Some(ip), _) if self.require_tls => {
                    return Some(format!(
                        "--require-tls: client ports on {ip} would be open to the network without TLS: add \
                         --client-tls, or --interface 127.0.0.1"
                    ));
                }
                (_, _, Some(ip)) if self.require_tls => {
                    return Some(format!(
                        "--require-tls: the admin port on {ip} would be open to the network without TLS: add \
                         --admin-tls on, or --admin-iface 127.0.0.1"
                    ));
                }
                _ => return None,
            },
        };
        Some(fault.to_owned())
    }

    pub(crate) fn configure(&self, config: &mut Config) {
        config.vm_tls = match self.on_connect() {
            VmTlsArg::Off => VmTls::Off,
            VmTlsArg::On => VmTls::On,
            VmTlsArg::Auto => VmTls::Auto,
        };
        config.in_band_tls = match self.in_band_tls {
            InBandTlsArg::Off => InBandTls::Off,
            InBandTlsArg::Offer => InBandTls::Offer,
            InBandTlsArg::Require => InBandTls::Require,
        };
        config.client_tls = self.client_tls;
        config.admin_tls = match self.admin_tls {
            AdminTlsArg::Off => AdminTls::Off,
            AdminTlsArg::On => AdminTls::On,
            AdminTlsArg::Auto => AdminTls::Auto,
        };
    }

    /// Loads what TLS is begun with, if anything may need it.
    pub(crate) fn trust_loader(&self, options: &Options) -> Option<TrustLoader> {
        let is_needed = options.dials_by_tls() || self.dial_ca.is_some() || self.dial_cert.is_some();
        let [ca, cert, key] = [&self.dial_ca, &self.dial_cert, &self.dial_key].map(Clone::clone);
        options.dials().then(|| TrustLoader::new(ca, cert, key, is_needed))
    }

    /// Loads the files, if the options need any.
    pub(crate) fn loader(&self, options: &Options) -> Option<Loader> {
        let cert = self.cert.clone()?;
        let scheme = match (self.on_connect(), self.in_band_tls) {
            (VmTlsArg::On | VmTlsArg::Auto, _) => Some("telnets"),
            (VmTlsArg::Off, InBandTlsArg::Offer | InBandTlsArg::Require) => Some("telnet"),
            (VmTlsArg::Off, InBandTlsArg::Off) => None,
        };
        Some(Loader {
            cert,
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
            clients: self.client_tls,
            admin: self.admin_tls != AdminTlsArg::Off,
            lines: options.listens_for_lines_by_tls(),
            admin_ca: self.admin_ca.clone(),
            hosts: scheme.map(|scheme| ProxyUri { scheme, port: options.vm_port() }),
        })
    }

    /// Why the admin port is a way in for strangers where the network reaches it, in words; `None`: those who
    /// come have to show a certificate.
    pub(crate) fn admin_risk(&self) -> Option<&'static str> {
        match (self.admin_tls, &self.admin_ca) {
            (AdminTlsArg::On, Some(_)) => None,
            (AdminTlsArg::On, None) => Some("to everybody: --admin-ca asks for certificates"),
            (AdminTlsArg::Off | AdminTlsArg::Auto, _) => Some("without TLS: add --admin-tls on"),
        }
    }

    fn on_connect(&self) -> VmTlsArg {
        self.tls.unwrap_or(if self.ssl { VmTlsArg::On } else { VmTlsArg::Off })
    }

    /// The option that makes use of a certificate.
    fn user(&self, options: &Options) -> Option<&'static str> {
        match (self.on_connect(), self.in_band_tls) {
            _ if self.ssl => Some("--ssl"),
            (VmTlsArg::On, _) => Some("--tls on"),
            (VmTlsArg::Auto, _) => Some("--tls auto"),
            (VmTlsArg::Off, InBandTlsArg::Offer) => Some("--in-band-tls offer"),
            (VmTlsArg::Off, InBandTlsArg::Require) => Some("--in-band-tls require"),
            (VmTlsArg::Off, InBandTlsArg::Off) => match self.admin_tls {
                _ if self.client_tls => Some("--client-tls"),
                AdminTlsArg::On => Some("--admin-tls on"),
                AdminTlsArg::Auto => Some("--admin-tls auto"),
                AdminTlsArg::Off if options.listens_for_lines_by_tls() => Some("a line at tls://:PORT"),
                AdminTlsArg::Off => None,
            },
        }
    }
}

/// Where client ports are reachable from other machines, without TLS.
fn exposed_in_clear(options: &Options) -> Option<IpAddr> {
    options.exposed().filter(|_| !options.tls.client_tls)
}

/// Where the admin port is reachable from other machines, also without TLS.
fn admin_in_clear(options: &Options) -> Option<IpAddr> {
    options.exposed_admin().filter(|_| options.tls.admin_tls != AdminTlsArg::On)
}

/// What to do about client ports in clear.
pub(crate) const CLEAR_ADVICE: &str = "add --client-tls, or keep them in a network you trust";

const TLS: &str = "TLS";

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
