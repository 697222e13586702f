//! What a run goes through: a server that runs already, one that is started afresh for each run, or the raw
//! relay; and how several runs become one figure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;
use vspc_core::vmware::VmConfig;

use super::LoadError;
use super::process::{Cost, Meter, Started, start_relay, start_server};
use super::relay::BUFFER;
use crate::tunnel::{Dial, Port, TlsArgs, VmForm};

/// Options that every scenario has.
#[derive(Args, Clone, Debug)]
pub(super) struct Common {
    /// The server's VM port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:13370")]
    pub target: SocketAddr,
    /// The server's first client port; consoles are looked for from here upwards
    #[arg(long, value_name = "PORT", default_value_t = 50000)]
    pub client_port_base: u16,
    /// Process to measure: processor time and memory
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Start the server afresh for each run, with ports of its own, and measure it: a command line such as
    /// "target/release/vspc-mio --slow-client wait"
    #[arg(long, value_name = "COMMAND", conflicts_with = "server_pid")]
    pub spawn: Option<String>,
    /// Print one JSON object instead of a line
    #[arg(long)]
    pub json: bool,
    /// Whether and how to speak TLS to the server
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// Options of scenarios that can stand beside the relay.
#[derive(Args, Clone, Debug)]
pub(super) struct Beside {
    /// Go through a raw relay that is started for each run, instead of the server
    #[arg(long)]
    pub through_relay: bool,
    /// Go through the server and the raw relay in turn, and compare
    #[arg(long, conflicts_with = "through_relay")]
    pub beside_relay: bool,
    /// Bytes that one read of the relay may take
    #[arg(long, value_name = "BYTES", default_value_t = BUFFER)]
    pub relay_buffer: usize,
    /// Runs; the median of each figure is told
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
}

/// Where the two ends of a console are.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// A concentrator: VMs introduce themselves, each console has a port of its own.
    Server {
        /// Where VMs connect.
        vms: SocketAddr,
        /// The lowest port on which a console may be.
        first: u16,
        /// How both are reached.
        dial: Dial,
    },
    /// A raw relay: nobody introduces himself, all clients reach the first VM.
    Relay {
        /// Where VMs connect.
        vms: SocketAddr,
        /// Where clients connect.
        clients: SocketAddr,
    },
}

impl Subject {
    /// Where VMs connect.
    #[must_use]
    pub(super) fn vms(&self) -> SocketAddr {
        match *self {
            Self::Server { vms, .. } | Self::Relay { vms, .. } => vms,
        }
    }

    /// How its ends are reached.
    #[must_use]
    pub(super) fn dial(&self) -> Dial {
        match self {
            Self::Server { dial, .. } => dial.clone(),
            Self::Relay { .. } => Dial::default(),
        }
    }

    /// What a host says on it of what it can: no offer to a relay, which would not answer; and inside TLS
    /// that was agreed by option 37, that option is on.
    #[must_use]
    pub(super) fn adapt(&self, config: VmConfig) -> VmConfig {
        let offers_auth = self.is_server() && self.dial().vm_form() != VmForm::InBand;
        VmConfig { offers_auth, ..config }
    }

    /// Whether it takes part in the protocol.
    #[must_use]
    pub(super) fn is_server(&self) -> bool {
        matches!(self, Self::Server { .. })
    }
}

/// A subject that is there for one run, and what to measure of it.
#[derive(Debug)]
pub(super) struct Opened {
    /// Where the ends are.
    pub subject: Subject,
    pid: Option<u32>,
    _process: Option<Started>,
}

impl Opened {
    /// The server as the options say; `consoles` is how many client ports the run needs.
    pub(super) fn server(common: &Common, consoles: usize) -> Result<Self, LoadError> {
        let dial = |target: SocketAddr| {
            let dial = common.tls.open(&target.to_string()).map_err(LoadError::Usage)?;
            if dial.vm_form() != VmForm::Off {
                let trial = dial.try_out(Port::Vm, target);
                trial.map_err(|why| LoadError::Unreachable(format!("{target}: {why}")))?;
            }
            Ok(dial)
        };
        if let Some(command) = &common.spawn {
            let ports = u16::try_from(consoles).unwrap_or(u16::MAX);
            let (process, vms, first) = start_server(command, ports)?;
            return Ok(Self {
                subject: Subject::Server { vms, first, dial: dial(vms)? },
                pid: Some(process.pid()),
                _process: Some(process),
            });
        }
        if !common.target.ip().is_loopback() {
            return Err(LoadError::Usage(format!("{} is not on this machine's loopback", common.target)));
        }
        let dial = dial(common.target)?;
        let subject = Subject::Server { vms: common.target, first: common.client_port_base, dial };
        Ok(Self { subject, pid: common.server_pid, _process: None })
    }

    /// A relay of our own.
    pub(super) fn relay(buffer: usize) -> Result<Self, LoadError> {
        let (process, vms, clients) = start_relay(buffer)?;
        Ok(Self {
            subject: Subject::Relay { vms, clients },
            pid: Some(process.pid()),
            _process: Some(process),
        })
    }

    /// A subject that a test has opened.
    #[cfg(test)]
    pub(super) fn of(subject: Subject) -> Self {
        Self { subject, pid: None, _process: None }
    }

    /// Starts to measure the process in between, if it is known.
    pub(super) fn meter(&self) -> Result<Option<Meter>, LoadError> {
        self.pid.map(Meter::start).transpose()
    }
}

/// Reads a meter that may not be there.
pub(super) fn read(meter: Option<&Meter>) -> Result<Option<Cost>, LoadError> {
    meter.map(Meter::read).transpose()
}

/// What the runs through each subject gave.
#[derive(Debug)]
pub(super) struct Runs<T> {
    /// Through the server.
    pub server: Vec<T>,
    /// Through the relay.
    pub relay: Vec<T>,
}

impl Beside {
    /// Makes the runs, in turn where both ways are asked for, so that both meet the same machine.
    pub(super) fn runs<T>(
        &self,
        common: &Common,
        consoles: usize,
        mut run: impl FnMut(&Opened) -> Result<T, LoadError>,
    ) -> Result<Runs<T>, LoadError> {
        let mut runs = Runs { server: Vec::new(), relay: Vec::new() };
        for _ in 0..self.runs {
            if !self.through_relay {
                runs.server.push(run(&Opened::server(common, consoles)?)?);
            }
            if self.through_relay || self.beside_relay {
                runs.relay.push(run(&Opened::relay(self.relay_buffer)?)?);
            }
        }
        Ok(runs)
    }
}

/// This machine, which is all that load is made for.
pub(super) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
