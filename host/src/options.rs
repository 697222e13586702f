//! The command line of both servers, and how it becomes the engine's configuration. Options that vSPC.py has
//! too have its names.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use vspc_core::admin::operator::{Rule, Rules};
use vspc_core::concentrator::{
    Address, ClientPlace, Config, LinePlace, Proxy, SerialLine, SlowClient, Takeover, Target, TargetPlace,
};

use crate::config::{ConfigOptions, Tables};
use crate::dialer::DialOptions;
use crate::doctor::DoctorOptions;
use crate::guests::GuestOptions;
use crate::hooks::HookOptions;
use crate::listen_address::{client_place, listen_address};
use crate::logging::Place;
use crate::logs::LogOptions;
use crate::option_values::{
    address, client_limit, group, identify_timeout, max_consoles, mode, port, vm_expire_time,
};
use crate::outlets::OutletOptions;
use crate::size::Size;
use crate::store::{BackendArg, StoreOptions};
#[cfg(feature = "tls")]
use crate::tls::CertOptions;
use crate::tls::TlsOptions;

/// The options of a server.
#[derive(Clone, PartialEq, Eq, Debug, Parser)]
#[command(version, about = ABOUT, max_term_width = 100, allow_negative_numbers = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct Options {
    /// Port that ESXi hosts connect to; 0 lets the system choose.
    #[arg(long, short = 'p', value_name = "PORT", default_value_t = 13370, value_parser = port)]
    #[arg(help_heading = VMS)]
    pub proxy_port: u16,

    /// Addresses that ESXi hosts connect to: repeat it or separate by commas. `::` serves IPv4 and IPv6.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "0.0.0.0",
        value_delimiter = ',',
        value_parser = address,
        help_heading = VMS
    )]
    pub proxy_iface: Vec<IpAddr>,

    /// Where hosts connect, in one word, repeat it: tcp://ADDRESS:PORT, unix:/PATH (then ,mode=0660
    /// ,owner=USER ,group=GROUP), vsock:PORT, vsock:CID:PORT, or fd:NAME for a socket that the service
    /// manager hands over. Instead of --proxy-port and --proxy-iface, unless one of those is given, too.
    #[arg(long, value_name = "WHERE", value_parser = listen_address, help_heading = VMS)]
    pub vm_listen: Vec<Address>,

    /// Proxies (HAProxy, a cloud's load balancer) that say for whom they connect, by a PROXY header,
    /// version 1 or 2: their address, their network (192.0.2.0/24), or unix for whoever connects to a unix
    /// socket; repeat it or separate by commas. From them a header has to come, on client ports too; from
    /// others it counts for nothing.
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', help_heading = VMS)]
    pub proxy_protocol_from: Vec<Proxy>,

    /// Serve only VMs whose serial port names this URI (its query string does not count); default: any.
    #[arg(long, value_name = "URI", help_heading = VMS)]
    pub service_uri: Option<String>,

    /// Tell serial ports of one VM apart by their URI: each gets a console and a client port of its own.
    #[arg(long, help_heading = VMS)]
    pub multi_console: bool,

    /// When a connection takes what is typed from a live one of the same VM.
    #[arg(
        long,
        value_name = "POLICY",
        value_enum,
        default_value_t = TakeoverArg::Probe,
        help_heading = VMS
    )]
    pub takeover: TakeoverArg,

    /// Consoles kept that have neither VM nor client, at most; beyond that the one whose VM was connected for
    /// the shortest time is forgotten. By default what a sixteenth of the machine's memory holds.
    #[arg(long, value_name = "NUMBER", value_parser = max_consoles, help_heading = VMS)]
    pub max_consoles: Option<usize>,

    /// How long a connection may take to say which VM it is, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = identify_timeout)]
    #[arg(help_heading = VMS)]
    pub identify_timeout: u32,

    /// How long a VM keeps its client port after it and its clients have gone, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 86400, value_parser = vm_expire_time)]
    #[arg(help_heading = VMS)]
    pub vm_expire_time: u32,

    /// Where clients connect: an address (the default is reachable from this machine only), unix:/FOLDER
    /// (then ,mode=0660 ,owner=USER ,group=GROUP) for a unix socket a VM, called by its port's number, or
    /// vsock: for ports of vsock.
    #[arg(
        long,
        short = 'i',
        value_name = "WHERE",
        default_value = "127.0.0.1",
        value_parser = client_place,
        help_heading = CLIENTS
    )]
    pub interface: ClientPlace,

    /// First client port; each VM gets the lowest free one. 0 lets the system choose.
    #[arg(long, short = 'r', value_name = "PORT", default_value_t = 50000, value_parser = port)]
    #[arg(help_heading = CLIENTS)]
    pub port_range_start: u16,

    /// Last client port [default: 65535].
    #[arg(long, value_name = "PORT", value_parser = port, help_heading = CLIENTS)]
    pub port_range_end: Option<u16>,

    /// Open no client ports.
    #[arg(long, help_heading = CLIENTS)]
    pub no_vm_ports: bool,

    /// How many clients a VM may have, and, counted apart, how many may be in their TLS handshake; `none`: no
    /// limit.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "64",
        value_parser = client_limit,
        help_heading = CLIENTS
    )]
    pub max_clients: ClientLimit,

    /// Treat every client as raw: offer no telnet, show no banner, parse nothing. For ssh or PPP through a
    /// guest's serial port.
    #[arg(long, help_heading = CLIENTS)]
    pub raw_ports: bool,

    /// Do not greet telnet clients with a line about the VM's state.
    #[arg(long, help_heading = CLIENTS)]
    pub no_banner: bool,

    /// How much earlier output a new telnet client is shown, in bytes (also 4K, 1M).
    #[arg(long, value_name = "SIZE", default_value_t = Size(0), help_heading = CLIENTS)]
    pub vm_port_scrollback: Size,

    /// Port for vspc, vSPC.py's vSPCClient and scripts: lists, attaches, locks. 0 lets the system choose. If
    /// neither this nor --admin-iface is given and the port is in use, the server starts without it
    /// [default: 13371].
    #[arg(long, short = 'a', value_name = "PORT", value_parser = port, help_heading = ADMIN)]
    pub admin_port: Option<u16>,

    /// Address of that port; the default is reachable from this machine only [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS", value_parser = address, help_heading = ADMIN)]
    pub admin_iface: Option<IpAddr>,

    /// Open no such port.
    #[arg(long, help_heading = ADMIN)]
    pub no_admin: bool,

    /// Where that port is, in one word as for --vm-listen, repeat it. Instead of --admin-port and
    /// --admin-iface, unless one of those is given, too. Without any of these the server does not start.
    #[arg(long, value_name = "WHERE", value_parser = listen_address, help_heading = ADMIN)]
    pub admin_listen: Vec<Address>,

    /// The same as a unix socket, where the kernel says who comes; with --no-admin instead of the port. A
    /// file that a dead server has left there is replaced.
    #[arg(long, value_name = "PATH", help_heading = ADMIN)]
    pub admin_socket: Option<PathBuf>,

    /// The permissions of that socket, as in chmod: who may connect.
    #[arg(long, value_name = "MODE", default_value = "0660", value_parser = mode, help_heading = ADMIN)]
    pub admin_socket_mode: u32,

    /// The group of that socket, its name or number; by default the server's.
    #[arg(long, value_name = "GROUP", value_parser = group, help_heading = ADMIN)]
    pub admin_socket_group: Option<u32>,

    /// Who may do what there, as WHO=RIGHT: repeat it or separate by commas. WHO is loopback, v3 (whoever
    /// speaks vSPC.py's protocol or VMware's), an address, a network, cert:NAME (a name in the certificate
    /// that it shows, with --admin-ca), on the socket uid:NUMBER or gid:NUMBER, or user:NAME (for whom a
    /// gateway asks); RIGHT is none, spectator, writer or operator, with +delegate for a gateway. Without
    /// a rule loopback and v3 are writers, root and the server's own user operators on the socket, and nobody
    /// else is anything.
    #[arg(long, value_name = "WHO=RIGHT", value_delimiter = ',', help_heading = ADMIN)]
    pub admin_rights: Vec<Rule>,

    /// How many of the latest characters a client of vSPC.py's is shown when it attaches.
    #[arg(long, value_name = "CHARACTERS", default_value_t = 200, help_heading = ADMIN)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=4096))]
    pub context: u32,

    /// What a client of vSPC.py's sends for Enter reaches the VM as it came (LF), or as CR.
    #[arg(long, value_name = "BYTE", value_enum, default_value_t = EnterArg::Lf, help_heading = ADMIN)]
    pub enter: EnterArg,

    /// Clients on a VM's port type even while somebody has locked it from the admin port, as with vSPC.py.
    #[arg(long, help_heading = ADMIN)]
    pub ports_ignore_locks: bool,

    /// What happens to a client that does not keep up with its VM.
    #[arg(
        long,
        value_name = "POLICY",
        value_enum,
        default_value_t = SlowClientArg::Skip,
        help_heading = CLIENTS
    )]
    pub slow_client: SlowClientArg,

    /// Connections that the server makes.
    #[command(flatten)]
    pub(crate) dial: DialOptions,

    /// Agents in VMs.
    #[command(flatten)]
    pub(crate) guests: GuestOptions,

    /// State that outlives the server.
    #[command(flatten)]
    pub store: StoreOptions,

    /// Logs of consoles.
    #[command(flatten)]
    pub logs: LogOptions,

    /// Programs that are told what happens.
    #[command(flatten)]
    pub hooks: HookOptions,

    /// Where events go.
    #[command(flatten)]
    pub outlets: OutletOptions,

    /// TLS, for hosts and for clients.
    #[command(flatten)]
    pub tls: TlsOptions,

    /// How far a client may fall behind its VM before --slow-client applies; at least 1M.
    #[arg(long, value_name = "SIZE", default_value_t = Size(2 << 20), help_heading = MEMORY)]
    pub lag_limit: Size,

    /// How much of each VM's output is kept.
    #[arg(long, value_name = "SIZE", default_value_t = Size(16 << 10), help_heading = MEMORY)]
    pub scrollback: Size,

    /// What the output of all VMs together may take; the longest silent ones lose theirs first.
    #[arg(long, value_name = "SIZE", default_value_t = Size(256 << 20), help_heading = MEMORY)]
    pub journal_memory: Size,

    #[command(subcommand)]
    command: Option<Command>,

    /// What the file has besides options.
    #[arg(skip)]
    pub tables: Tables,

    /// Beside `--vm-listen` somebody gives `--proxy-port` or `--proxy-iface`.
    #[arg(skip)]
    pub names_proxy_port: bool,

    /// The file that options may stand in.
    #[command(flatten)]
    pub config: ConfigOptions,

    /// A look at the machine instead of a server.
    #[command(flatten)]
    pub doctor: DoctorOptions,

    /// Write the process id to this file, which goes when the server ends.
    #[arg(long, value_name = "PATH", help_heading = DIAGNOSTICS)]
    pub pidfile: Option<PathBuf>,

    /// Log to standard output instead of standard error.
    #[arg(long, help_heading = DIAGNOSTICS)]
    pub stdout: bool,

    /// Log to the local syslog instead of standard error, which gets what that does not take.
    #[arg(long, help_heading = DIAGNOSTICS)]
    pub syslog: bool,

    /// Where the local syslog listens.
    #[arg(long, value_name = "PATH", default_value = "/dev/log", help_heading = DIAGNOSTICS)]
    pub syslog_socket: PathBuf,

    /// Log more (RUST_LOG, if set, decides instead).
    #[arg(long, short = 'd', help_heading = DIAGNOSTICS)]
    pub debug: bool,

    /// Print this help.
    #[arg(long, short, action = ArgAction::HelpShort, help_heading = DIAGNOSTICS)]
    help: Option<bool>,

    /// Print the version.
    #[arg(long, short = 'V', action = ArgAction::Version, help_heading = DIAGNOSTICS)]
    version: Option<bool>,
}

/// How many clients a VM may have; `None`: any number.
pub(crate) type ClientLimit = Option<usize>;

/// The values of `--slow-client`: what happens to a client that does not keep up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum SlowClientArg {
    /// It skips ahead and is told how much it missed.
    Skip,
    /// It is disconnected.
    Disconnect,
    /// The VM waits for it, at most two seconds.
    Wait,
}

/// The values of `--enter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum EnterArg {
    /// As it came.
    Lf,
    /// As CR.
    Cr,
}

/// The values of `--takeover`: when a connection takes a VM's input from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum TakeoverArg {
    /// When the other was asked and gives no sign of life.
    Probe,
    /// At once.
    Newest,
    /// Not before the other has ended.
    Refuse,
}

/// What the program can do instead of serving.
#[derive(Clone, PartialEq, Eq, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a certificate for --cert, and its key.
    #[cfg(feature = "tls")]
    Cert(CertOptions),
    /// Print the manual page of this program.
    #[command(hide = true)]
    Man {
        /// Write it, and that of the configuration file, into this folder.
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

impl Options {
    /// These, if they make sense together; otherwise what does not, and what to do.
    pub(crate) fn checked(mut self) -> Result<Self, String> {
        self.validate()?;
        self.drop_covered_interfaces();
        Ok(self)
    }

    /// What is to be done instead of serving, if anything is.
    pub(crate) fn into_command(self) -> Option<Command> {
        self.command
    }

    /// The engine's configuration, for a process in which it may use `max_descriptors`.
    #[must_use]
    pub(crate) fn config(&self, max_descriptors: usize) -> Config {
        let mut config = Config {
            vm_listen: self.vm_addresses(),
            proxies: self.proxy_protocol_from.clone(),
            client_interface: self.interface.clone(),
            client_ports: (!self.no_vm_ports).then(|| self.port_range()),
            ports_by_grant: self.store.backend == BackendArg::Redis,
            vm_expire: Duration::from_secs(self.vm_expire_time.into()),
            multi_console: self.multi_console,
            multi_console_by_uuid: self.tables.multi_consoles.clone(),
            service_uri: self.service_uri.clone(),
            slow_client: match self.slow_client {
                SlowClientArg::Skip => SlowClient::Skip,
                SlowClientArg::Disconnect => SlowClient::Disconnect,
                SlowClientArg::Wait => SlowClient::Wait,
            },
            takeover: match self.takeover {
                TakeoverArg::Probe => Takeover::Probe,
                TakeoverArg::Newest => Takeover::Newest,
                TakeoverArg::Refuse => Takeover::Refuse,
            },
            lag_limit: self.lag_limit.0,
            scrollback: self.scrollback.0,
            client_scrollback: self.vm_port_scrollback.0,
            journal_memory: self.journal_memory.0,
            has_logs: self.logs.log_dir.is_some(),
            restored_output: if self.logs.gives_back() { self.scrollback.0 } else { 0 },
            banner: !self.no_banner,
            raw_ports: self.raw_ports,
            max_clients: self.max_clients,
            max_consoles: self.max_consoles.unwrap_or(Config::default().max_consoles),
            admin_listen: self.admin_addresses(),
            admin_rights: Rules::new(self.admin_rights.clone()),
            admin_context: self.context as usize,
            admin_enter_cr: self.enter == EnterArg::Cr,
            ports_ignore_locks: self.ports_ignore_locks,
            identify_timeout: Duration::from_secs(self.identify_timeout.into()),
            max_descriptors,
            console_rules: self.tables.consoles.engines(),
            forwards: self.dial.forwards(),
            dial_allow: self.dial.dial_allow.clone(),
            guest_key: self.guests.guest_key_file.as_ref().map(|file| file.0.clone()),
            lines: self.lines(),
            ..Config::default()
        };
        self.tls.configure(&mut config);
        config
    }

    /// The server may connect to somebody.
    pub(crate) fn dials(&self) -> bool {
        !self.dial.dial_allow.is_empty() || self.targets().next().is_some()
    }

    /// It is known that it will, over TLS.
    pub(crate) fn dials_by_tls(&self) -> bool {
        self.targets().any(Target::is_tls)
    }

    /// Serial lines connect to the server over TLS.
    pub(crate) fn listens_for_lines_by_tls(&self) -> bool {
        let mut lines = self.dial.line.iter().chain(&self.tables.lines);
        lines.any(|line| matches!(line.place, LinePlace::Listen { is_tls: true, .. }))
    }

    /// Serial lines that are consoles, those of the command line first.
    pub(crate) fn lines(&self) -> Vec<SerialLine> {
        [&self.dial.line[..], &self.tables.lines].concat()
    }

    /// How many of them are this machine's own.
    pub(crate) fn local_lines(&self) -> usize {
        self.targets().filter(|target| matches!(target.place(), TargetPlace::Local(_))).count()
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        let ruled = self.tables.consoles.0.iter().flat_map(|rule| &rule.engines);
        let ruled = ruled.filter_map(|rule| rule.forward.as_deref());
        let lines = self.dial.line.iter().chain(&self.tables.lines).filter_map(|line| match &line.place {
            LinePlace::Dial(target) => Some(target.as_ref()),
            LinePlace::Listen { .. } => None,
        });
        self.dial.forward.iter().map(|forward| &*forward.target).chain(ruled).chain(lines)
    }

    /// Where the server's own log goes.
    pub(crate) fn log_place(&self) -> Place {
        match (self.syslog, self.stdout) {
            (true, _) => Place::Syslog(self.syslog_socket.clone()),
            (false, true) => Place::Stdout,
            (false, false) => Place::Stderr,
        }
    }

    /// A rule is about whoever shows a certificate.
    pub(crate) fn names_certificates(&self) -> bool {
        let lists = self.tables.consoles.lists().flat_map(Rules::iter);
        self.admin_rights.iter().chain(lists).any(Rule::is_about_certificates)
    }
}

const ABOUT: &str = "Virtual serial port concentrator: VMs' serial ports come in from ESXi hosts, people and \
    programs attach to them with telnet, and VMs move between hosts without either noticing.";
const VMS: &str = "VMs (ESXi hosts connect here)";
const CLIENTS: &str = "Clients (people, debuggers, scripts)";
const ADMIN: &str = "Admin port";

const MEMORY: &str = "Memory (sizes in bytes, or with K, M, G or T)";
const DIAGNOSTICS: &str = "Process and diagnostics";

#[cfg(test)]
#[path = "options_tests.rs"]
pub(crate) mod tests;
