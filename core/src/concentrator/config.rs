//! What an operator decides. Plain data; the runtime fills it from its command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Settings of a [`Concentrator`](super::Concentrator). `Default` gives vSPC.py's defaults where it has
/// them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where ESXi hosts connect. One listener each.
    pub vm_listen: Vec<SocketAddr>,
    /// Addresses on which each console's client port is opened.
    pub client_interface: IpAddr,
    /// Client ports are taken from this range, lowest free one first. `None`: no client ports.
    pub client_ports: Option<PortRange>,
    /// How long a console without VM and without clients keeps its entry and its port.
    pub vm_expire: Duration,
    /// Tell serial ports of one VM apart by their service URI.
    pub multi_console: bool,
    /// Serve only VMs whose port names this service URI (its query string does not count).
    pub service_uri: Option<String>,
    /// What happens to a client that does not keep up.
    pub slow_client: SlowClient,
    /// How far a reader may fall behind its VM, in bytes.
    pub lag_limit: usize,
    /// How much of a console's output is kept for later, in bytes.
    pub scrollback: usize,
    /// How much of that a new client is shown once it has proved to be a telnet client, in bytes.
    pub client_scrollback: usize,
    /// What all journals together may take, in bytes.
    pub journal_memory: usize,
    /// Greet telnet clients with one line about the VM's state.
    pub banner: bool,
    /// Clients per console; `None`: any number.
    pub max_clients: Option<usize>,
    /// How long a connection may take to say which VM it is.
    pub identify_timeout: Duration,
    /// How many connections and listeners together the process can hold (its descriptors, less what it
    /// needs itself).
    pub max_descriptors: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vm_listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 13370)],
            client_interface: IpAddr::V4(Ipv4Addr::LOCALHOST),
            client_ports: Some(PortRange { first: 50000, last: 65535 }),
            vm_expire: Duration::from_secs(86400),
            multi_console: false,
            service_uri: None,
            slow_client: SlowClient::Skip,
            lag_limit: 2 << 20,
            scrollback: 16 << 10,
            client_scrollback: 0,
            journal_memory: 256 << 20,
            banner: true,
            max_clients: None,
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
