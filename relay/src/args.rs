//! The command line.
//!
//! Owns its words and what they say in `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vspc_core::vmware::Uuid;

use crate::endpoint::{Endpoint, Serial};

/// Carries the connections of serial ports on to a virtual serial port concentrator, and speaks its protocol
/// for serial lines that do not.
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

    /// Relays and lines of this file, besides those of the command line
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Be told of moves of lines' VMs by this socket, unix:/PATH (vspc-relay migrate)
    #[arg(long, value_name = "SOCKET")]
    pub(crate) control: Option<Endpoint>,

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

/// One relay, one line, or a folder of lines.
#[derive(Args, Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct RelayOptions {
    /// Carry the connections of hosts on that come here; can be repeated
    #[arg(long, value_name = "ADDRESS", help_heading = "What is carried")]
    pub(crate) listen: Vec<Endpoint>,

    /// Speak for the serial line that is here, as a VM's host does
    #[arg(long, value_name = "LINE", help_heading = "What is carried", conflicts_with = "listen")]
    pub(crate) line: Option<Serial>,

    /// Speak for each socket NAME.sock in this folder, as for a VM that is called NAME
    #[arg(
        long,
        value_name = "FOLDER",
        help_heading = "What is carried",
        conflicts_with_all = ["listen", "line"]
    )]
    pub(crate) lines: Option<PathBuf>,

    /// Tell the target for whom each connection is, by a PROXY header of version 1
    #[arg(long, help_heading = "What is carried", conflicts_with_all = ["line", "lines"])]
    pub(crate) proxy_protocol: bool,

    /// Where it is carried to
    #[arg(long, value_name = "ADDRESS", help_heading = "The target")]
    pub(crate) to: Option<Endpoint>,

    /// How long each address of the target is given to answer [default: 5]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=3600),
        help_heading = "The target"
    )]
    pub(crate) connect_timeout: Option<u32>,

    /// TLS: trust the certificates in this file, instead of the system's
    #[arg(long, value_name = "FILE", help_heading = "The target")]
    pub(crate) ca: Option<PathBuf>,

    /// TLS: the certificate to show to the target
    #[arg(long, value_name = "FILE", help_heading = "The target")]
    pub(crate) cert: Option<PathBuf>,

    /// TLS: its key, if that is not in the same file
    #[arg(long, value_name = "FILE", help_heading = "The target")]
    pub(crate) key: Option<PathBuf>,

    /// TLS: the name that the target's certificate has to be for, if that is not the address's
    #[arg(long, value_name = "NAME", help_heading = "The target")]
    pub(crate) server_name: Option<String>,

    /// The certificate, with its chain
    #[arg(long, value_name = "FILE", help_heading = "TLS on listeners")]
    pub(crate) listen_cert: Option<PathBuf>,

    /// Its key, if that is not in the same file
    #[arg(long, value_name = "FILE", help_heading = "TLS on listeners")]
    pub(crate) listen_key: Option<PathBuf>,

    /// Let only those in whose certificate is signed by one of this file
    #[arg(long, value_name = "FILE", help_heading = "TLS on listeners")]
    pub(crate) listen_ca: Option<PathBuf>,

    /// The VM's name [default: that of the line's socket]
    #[arg(long, value_name = "NAME", help_heading = "Lines")]
    pub(crate) name: Option<String>,

    /// The VM's UUID [default: one that follows from this machine's id and the line's place]
    #[arg(long, value_name = "UUID", value_parser = parse_uuid, help_heading = "Lines")]
    pub(crate) uuid: Option<Uuid>,

    /// The service URI that the concentrator is asked for [default: vSPC.py]
    #[arg(long, value_name = "URI", help_heading = "Lines")]
    pub(crate) uri: Option<String>,

    /// How much is kept of what a line prints while the concentrator is away [default: 262144]
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = clap::value_parser!(u32).range(4096..=1 << 30),
        help_heading = "Lines"
    )]
    pub(crate) backlog: Option<u32>,

    /// The control socket of the QEMU whose line it is, unix:/PATH: follow its VM when it is migrated
    #[arg(long, value_name = "SOCKET", help_heading = "Migration of VMs", requires = "line")]
    pub(crate) qmp: Option<Endpoint>,

    /// Let others, such as libvirt, say when QEMU goes on with a migration
    #[arg(long, help_heading = "Migration of VMs", requires = "qmp")]
    pub(crate) qmp_watch_only: bool,

    /// The file by which the source's relay tells the target's what the concentrator wants to hear
    #[arg(long, value_name = "FILE", help_heading = "Migration of VMs", requires = "qmp")]
    pub(crate) secret_file: Option<PathBuf>,
}

/// Reads a UUID.
pub(crate) fn parse_uuid(text: &str) -> Result<Uuid, String> {
    Uuid::parse(text.as_bytes()).map_err(|error| error.to_string())
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Tell a relay that runs here that a line's VM leaves this host, or comes to it
    Migrate(MigrateArgs),
    /// Print the manual page of this program
    #[command(hide = true)]
    Man(ManArgs),
}

#[derive(Args, Debug)]
pub(crate) struct MigrateArgs {
    /// What happens
    pub(crate) step: Step,

    /// The VM's name
    pub(crate) name: String,

    /// The socket that the relay was started with
    #[arg(long, value_name = "SOCKET", default_value = "unix:/run/vspc-relay/control")]
    pub(crate) control: Endpoint,

    /// expect: the word that begin has printed; - reads it from the standard input
    #[arg(long, value_name = "WORD", conflicts_with = "secret_file")]
    pub(crate) secret: Option<String>,

    /// begin, secret: write the word into this file; expect: take it from there as soon as it is there
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,

    /// How long expect waits for the file
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u32,
}

/// A step of a move.
#[derive(Clone, Copy, ValueEnum, Debug)]
pub(crate) enum Step {
    /// At the source: the VM stands still and leaves. Prints the secret for the target
    Begin,
    /// At the source: prints the secret of the next move, whoever begins it
    Secret,
    /// At the target: the VM comes. With its secret the concentrator is told, without it nobody is yet
    Expect,
    /// At the target: the VM runs
    Complete,
    /// At either: the move has failed
    Abort,
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

Lines: what --line takes.
  unix:/PATH, tcp://HOST:PORT, vsock:CID:PORT
      the relay connects to the line, again and again
  unix-listen:/PATH, tcp-listen://ADDRESS:PORT, vsock-listen:PORT
      the line connects to the relay

Examples:
  vspc-relay --listen tcp://0.0.0.0:13370 --to tcp://concentrator:13370
      hosts connect here, and the concentrator sees this machine
  vspc-relay --line unix:/run/vm1.sock --name vm1 --to tls://concentrator:13370 --ca ca.pem
      a machine of QEMU's (-serial unix:/run/vm1.sock,server=on,wait=off)
  vspc-relay --lines /run/vms --to tcp://concentrator:13370
      all machines whose serial ports are sockets there
  vspc-relay --config /etc/vspc-relay/relay.toml
      many of them at once (docs/channels.md)

A connection whose target is not reached is closed at once, so that the host tries again. A line
is not: what it prints meanwhile is kept, up to --backlog.";
