//! What an operator decides. Plain data; the runtime fills it from its command line.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::admin::operator::Rules;

use super::address::{Address, ClientPlace};
use super::guest::GuestKey;
use super::proxies::Proxy;
use super::rules::{ConsoleRule, Pattern};
use super::serial_line::SerialLine;
use super::target::Target;

/// Settings of a [`Concentrator`](super::Concentrator), some of which may
/// [change](super::Concentrator::reconfigure) while it runs. `Default` gives vSPC.py's defaults where it has
/// them. Values that contradict each other harm nothing: each field says what they are taken as.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where ESXi hosts connect. One listener each.
    pub vm_listen: Vec<Address>,
    /// Who says, by a PROXY header in front of all else, for whom it connects: to hosts' and clients' ports.
    /// Without one its connections are closed, and from others none is looked for.
    pub proxies: Vec<Proxy>,
    /// Where each console's client port is opened.
    pub client_interface: ClientPlace,
    /// Client ports are taken from this range, lowest free one first. `None`: no client ports. A range that
    /// ends before it begins is its first port.
    pub client_ports: Option<PortRange>,
    /// Client ports are given out only once they are [granted](super::Concentrator::grant_ports): others may
    /// have the rest.
    pub ports_by_grant: bool,
    /// How long a console without VM and without clients keeps its entry and its port.
    pub vm_expire: Duration,
    /// Tell serial ports of one VM apart by their service URI.
    pub multi_console: bool,
    /// Whether that is done for VMs of these UUIDs, as in a [`ConsoleRule`], whatever `multi_console` says;
    /// the first that matches counts. A name cannot decide it: it may come after all else is known.
    pub multi_console_by_uuid: Vec<(Pattern, bool)>,
    /// Serve only VMs whose port names this service URI (its query string does not count).
    pub service_uri: Option<String>,
    /// TLS where hosts connect.
    pub vm_tls: VmTls,
    /// What becomes of a host's offer to go over to TLS on a telnet connection.
    pub in_band_tls: InBandTls,
    /// TLS where clients connect.
    pub client_tls: bool,
    /// TLS where those connect who ask about consoles. Unix and vsock sockets have none.
    pub admin_tls: AdminTls,
    /// Where those connect who ask about consoles, by whatever protocol. One listener each.
    pub admin_listen: Vec<Address>,
    /// Who of those may do what, beyond what is so by default.
    pub admin_rights: Rules,
    /// How many of the latest characters a client of vSPC.py's is shown when it attaches.
    pub admin_context: usize,
    /// LF from a client of vSPC.py's is typed as CR.
    pub admin_enter_cr: bool,
    /// Who is at a console's client port types whatever lock somebody holds.
    pub ports_ignore_locks: bool,
    /// The server's name and version, for those who ask.
    pub server: String,
    /// What happens to a client that does not keep up.
    pub slow_client: SlowClient,
    /// How far a reader may fall behind its VM, in bytes. Less than
    /// [`LEAST_LAG_LIMIT`](super::LEAST_LAG_LIMIT) or than `scrollback` is taken as the greater of them. Of
    /// more than `journal_memory` a reader gets what that leaves it, under `SlowClient::Wait` too.
    pub lag_limit: usize,
    /// How much of a console's output is kept for later, in bytes, as far as `journal_memory` lasts.
    pub scrollback: usize,
    /// How much of that a new client is shown once it has proved to be a telnet client, in bytes; of more
    /// than there is, what there is.
    pub client_scrollback: usize,
    /// How much output from before the start each console can be
    /// [given back](super::Concentrator::restore_output), in bytes, rounded up to 16 KiB, 4 MiB at most: as
    /// many offsets are left free before those of its own.
    pub restored_output: usize,
    /// What consoles print is logged, and whoever runs the engine reads logs for operators
    /// ([`Output::Log`](super::Output::Log)).
    pub has_logs: bool,
    /// What all journals together may take, in bytes. Where it is too little for what readers have not taken,
    /// they miss some, and are told.
    pub journal_memory: usize,
    /// Greet telnet clients with one line about the VM's state.
    pub banner: bool,
    /// Clients are raw from their first byte on, whatever they send: nothing is offered, held or parsed.
    pub raw_ports: bool,
    /// Clients per console, and handshakes of such; `None`: any number. 0 lets nobody in.
    pub max_clients: Option<usize>,
    /// Consoles at which some of that is otherwise.
    pub console_rules: Vec<ConsoleRule>,
    /// What consoles of these names or UUIDs, as in a [`ConsoleRule`], are connected to as to one of their
    /// clients, where their rule does not say; the first that matches counts. Not those of which a rule says
    /// who may use them.
    pub forwards: Vec<(Pattern, Arc<Target>)>,
    /// What VMs may ask to be connected to (direction `C`): targets as they are
    /// [shown](std::fmt::Display), without `?hello`. None: nothing.
    pub dial_allow: Vec<Pattern>,
    /// What agents in VMs have to know, where no rule says so; `None`: nothing.
    pub guest_key: Option<GuestKey>,
    /// Serial lines that come without a concentrator's protocol. They stay as they are.
    pub lines: Vec<SerialLine>,
    /// When a connection takes the input from a live one of the same VM.
    pub takeover: Takeover,
    /// Consoles kept that have neither VM nor client; the one whose VM was connected for the shortest time in
    /// total is forgotten first. Each takes up to some 4 KiB.
    pub max_consoles: usize,
    /// How long a connection may take to say which VM it is.
    pub identify_timeout: Duration,
    /// How many connections and listeners together the process can hold (its descriptors, less what it
    /// needs itself).
    pub max_descriptors: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vm_listen: vec![Address::Ip((Ipv4Addr::UNSPECIFIED, 13370).into())],
            proxies: Vec::new(),
            client_interface: ClientPlace::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            client_ports: Some(PortRange { first: 50000, last: 65535 }),
            ports_by_grant: false,
            vm_expire: Duration::from_secs(86400),
            multi_console: false,
            multi_console_by_uuid: Vec::new(),
            service_uri: None,
            vm_tls: VmTls::Off,
            in_band_tls: InBandTls::Off,
            client_tls: false,
            admin_tls: AdminTls::Off,
            admin_listen: Vec::new(),
            admin_rights: Rules::default(),
            admin_context: 200,
            admin_enter_cr: false,
            ports_ignore_locks: false,
            server: concat!("vspc ", env!("CARGO_PKG_VERSION")).into(),
            slow_client: SlowClient::Skip,
            lag_limit: 2 << 20,
            scrollback: 16 << 10,
            restored_output: 0,
            client_scrollback: 0,
            has_logs: false,
            journal_memory: 256 << 20,
            banner: true,
            raw_ports: false,
            max_clients: Some(64),
            console_rules: Vec::new(),
            forwards: Vec::new(),
            dial_allow: Vec::new(),
            guest_key: None,
            lines: Vec::new(),
            takeover: Takeover::Probe,
            max_consoles: 100_000,
            identify_timeout: Duration::from_secs(30),
            max_descriptors: 1 << 20,
        }
    }
}

/// An inclusive range of TCP ports. One that starts at 0 lets the system choose each port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    /// The lowest port of the range.
    pub first: u16,
    /// The highest port of the range.
    pub last: u16,
}

/// How a connection to a VM listener begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmTls {
    /// With telnet (`telnet://`).
    Off,
    /// With TLS (`telnets://`).
    On,
    /// With whichever the host begins: the first byte tells. A host that says nothing is greeted in
    /// telnet after 2 s.
    Auto,
}

/// How a connection to an admin listener begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdminTls {
    /// With one of the protocols that are spoken there.
    Off,
    /// With TLS.
    On,
    /// With either: the first bytes tell.
    Auto,
}

/// Whether option 37 (AUTHENTICATION, type SSL) may turn a telnet connection into a TLS one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InBandTls {
    /// The host's offer is declined.
    Off,
    /// The host's offer is taken; who makes none within 300 ms is served in clear. A host whose upgrade
    /// failed is served in clear for 10 minutes.
    Offer,
    /// Who does not go over to TLS is not served.
    Require,
}

/// When a newcomer of a VM's UUID, URI and name takes the input from a connection that holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takeover {
    /// When that one was asked and is found dead.
    Probe,
    /// At once.
    Newest,
    /// Never: when that one has ended.
    Refuse,
}

/// What happens to a client that falls behind by the lag limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlowClient {
    /// It skips ahead and is told in one line how much it missed. A raw client is disconnected instead: a
    /// gap or a line of text would be corruption to it.
    Skip,
    /// It is disconnected.
    Disconnect,
    /// The VM is paused for it, for at most two seconds; then the client is disconnected.
    Wait,
}
