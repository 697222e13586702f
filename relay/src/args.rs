//! The command line.
//!
//! Owns its words and what they say in `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::endpoint::Endpoint;

/// Carries the connections of serial ports on to a virtual serial port concentrator, byte for byte.
#[derive(Parser, Debug)]
#[command(
    name = "vspc-relay",
    version,
    max_term_width = 100,
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) relay: RelayOptions,

    /// Relays of this file, besides those of the command line
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Say what would be done, and what is wrong with it, and end
    #[arg(long)]
    pub(crate) check_config: bool,

    /// Log more
    #[arg(long)]
    pub(crate) debug: bool,

    /// Log to the local syslog instead of the standard error
    #[arg(long)]
    pub(crate) syslog: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// One relay.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Relay")]
pub(crate) struct RelayOptions {
    /// Where hosts connect; can be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<Endpoint>,

    /// Where their connections are carried on to
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: Option<Endpoint>,

    /// How long each address of the target is given to answer
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) connect_timeout: Option<u32>,

    /// TLS to the target: trust the certificates in this file, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// TLS to the target: the certificate to show to it
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,

    /// TLS to the target: its key, if that is not in the same file
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// TLS to the target: the name that its certificate has to be for, if that is not the address's
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,

    /// TLS on the listeners: the certificate, with its chain
    #[arg(long, value_name = "FILE")]
    pub(crate) listen_cert: Option<PathBuf>,

    /// TLS on the listeners: its key, if that is not in the same file
    #[arg(long, value_name = "FILE")]
    pub(crate) listen_key: Option<PathBuf>,

    /// TLS on the listeners: let only those in whose certificate is signed by one of this file
    #[arg(long, value_name = "FILE")]
    pub(crate) listen_ca: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Print the manual page of this program
    #[command(hide = true)]
    Man(ManArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Write the page into this folder instead
    pub(crate) folder: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Addresses: what --listen and --to take.
  tcp://HOST:PORT
      TCP; telnet:// is the same, and so is HOST:PORT alone
  tls://HOST:PORT
      TLS; telnets:// is the same
  unix:/PATH
      a unix socket
  vsock:CID:PORT
      the vsock of virtual machines; to listen, vsock:PORT is every CID of this machine's

Examples:
  vspc-relay --listen tcp://0.0.0.0:13370 --to tcp://concentrator:13370
      hosts connect here, and the concentrator sees this machine
  vspc-relay --listen unix:/run/vspc.sock --to tls://concentrator:13370 --ca ca.pem
      in clear on this machine, in TLS on the network
  vspc-relay --config /etc/vspc/relay.toml
      many relays at once (docs/channels.md)

A connection whose target is not reached is closed at once, so that the host tries again.";
