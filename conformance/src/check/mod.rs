//! `vspc-conformance check`: a black-box suite for any virtual serial port concentrator.
//!
//! The cases are the transcripts of the corpus that bind every concentrator; with `--own`, also those that
//! bind this project's. A case is played over fresh connections, under UUIDs, names and sequences that
//! nobody else uses. How a server words its banners and allocates its client ports does not matter: the
//! port of a VM is found by what the VM prints.

mod report;
mod suite;

pub use suite::{Case, Checked, Selection, Server, Verdict, judge};

use crate::drive::{ClientPort, LiveOptions, Ports};
use crate::random::nonce;
use crate::transcript::{ParseError, Setting, Transcript, corpus, parse_setting};
use crate::tunnel::{Port, TlsArgs};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;

/// What to check, and how to tell.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Where VMs connect to the server.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "list")]
    target: Option<String>,

    /// The server gives each VM a client port of its own, from this one upwards; the right one is found by
    /// what the VM prints.
    #[arg(long, value_name = "PORT", conflicts_with = "client_port")]
    client_port_base: Option<u16>,

    /// How many client ports to look at.
    #[arg(long, value_name = "COUNT", default_value_t = 2000)]
    client_ports: u16,

    /// The server has one client port, that of the VM with --vm-uuid.
    #[arg(long, value_name = "PORT")]
    client_port: Option<u16>,

    /// The UUID of the one VM behind --client-port: 32 hex digits, dashes allowed.
    #[arg(long, value_name = "UUID", value_parser = uuid, requires = "client_port")]
    vm_uuid: Option<[u8; 16]>,

    /// Where clients connect, if that is another address than the target's.
    #[arg(long, value_name = "ADDRESS")]
    client_host: Option<IpAddr>,

    /// Where the admin listener is, which speaks vSPC.py's protocol, version 3; without it nothing is asked
    /// of it. By --own it is also asked for the operator protocol and the others of that port.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,

    /// The service URI that VMs name.
    #[arg(long, value_name = "URI", default_value = "vSPC.py")]
    service_uri: String,

    /// Only the case of this id (also one that --own or --slow would have to add); or the cases of this
    /// section (rfc854, rfc855, rfc1143, vmware, identity, vmotion, robustness, clients, admin); or those
    /// whose ids begin (text*), end (*text) or contain this. May be repeated.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,

    /// Also cases that take longer than four seconds each.
    #[arg(long)]
    slow: bool,

    /// Also cases about what the documents leave open, as this project's servers decide it.
    #[arg(long)]
    own: bool,

    /// A setting that the server was started with, as the transcripts name it ("multi-console",
    /// "service-uri x"); only cases that need exactly these are played. May be repeated.
    #[arg(long, value_name = "SETTING", value_parser = parse_setting)]
    config: Vec<Setting>,

    /// How many cases to play at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    jobs: usize,

    /// Allow so many times the time that a case gives to what must come: for busy machines and long lines.
    #[arg(long, value_name = "FACTOR", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    slack: u32,

    /// Show the whole dialogue of each case that fails.
    #[arg(long, short)]
    verbose: bool,

    /// Print one JSON object instead of the table. Each case stands on a line of its own, and is printed as
    /// soon as it ends.
    #[arg(long)]
    json: bool,

    /// List the cases and play none.
    #[arg(long)]
    list: bool,

    #[command(flatten)]
    tls: TlsArgs,
}

/// Runs the suite. Exit code 0: nothing failed; 1: something did; 2: it could not be run.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    match checked(args) {
        Ok(failed) => ExitCode::from(u8::from(failed)),
        Err(why) => {
            eprintln!("vspc-conformance check: {why}");
            ExitCode::from(2)
        }
    }
}

fn checked(args: &CheckArgs) -> Result<bool, String> {
    let corpus: Vec<Transcript> = corpus().map_err(|error: ParseError| error.to_string())?;
    let selection = Selection { only: args.only.clone(), own: args.own, slow: args.slow };
    let chosen = selection.choose(&corpus);
    if chosen.is_empty() {
        return Err("no case is called so; --list shows them".to_owned());
    }
    let all = Selection { slow: true, ..selection }.choose(&corpus);
    let left_out = all.len() - chosen.len();
    if args.list {
        report::list(&chosen, args.json);
        return Ok(false);
    }
    let server = args.server()?;
    if !server.is_there() {
        return Err(format!("nobody takes connections at {}", server.live.target));
    }
    let trial = server.live.dial.try_out(Port::Vm, server.live.target);
    trial.map_err(|why| format!("{}: {why}", server.live.target))?;
    let seed = nonce();
    let target = args.target.as_deref().unwrap_or_default();
    let checked = if args.json {
        let mut stream = report::Stream::begin(target);
        let checked = server.check(&chosen, args.jobs, seed, |case| stream.case(case));
        stream.end(&checked, left_out);
        checked
    } else {
        let checked = server.check(&chosen, args.jobs, seed, |_| {});
        report::table(target, &checked, left_out, args.verbose);
        checked
    };
    Ok(checked.cases.iter().any(|case| matches!(case.verdict, Verdict::Fail(_) | Verdict::NotRun)))
}

impl CheckArgs {
    fn server(&self) -> Result<Server, String> {
        let target = self.target.as_deref().unwrap_or_default();
        let dial = self.tls.open(target)?;
        let target = address("--target", target)?;
        let client_host = self.client_host.unwrap_or(target.ip());
        let clients = match (self.client_port, self.client_port_base) {
            (Some(port), _) => ClientPort::Fixed(port),
            (None, Some(base)) => {
                let ports = Ports::new(client_host, base, self.client_ports, dial.clone());
                ClientPort::Among(Arc::new(ports))
            }
            (None, None) => ClientPort::Unknown,
        };
        let admin = self.admin.as_ref().map(|admin| address("--admin", admin)).transpose()?;
        Ok(Server {
            live: LiveOptions { target, clients, client_host, admin, dial },
            config: self.config.clone(),
            service_uri: self.service_uri.clone(),
            slack: self.slack,
            uuid: self.vm_uuid.unwrap_or(*b"\x42\x1f\x0c\x5avspc\x8echeck-\x00"),
        })
    }
}

fn address(option: &str, text: &str) -> Result<SocketAddr, String> {
    text.to_socket_addrs()
        .map_err(|error| format!("{option} {text}: {error}; write host:port"))?
        .next()
        .ok_or_else(|| format!("{option} {text}: no address"))
}

fn uuid(text: &str) -> Result<[u8; 16], String> {
    let digits: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let bytes: Option<Vec<u8>> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| "a UUID has 32 hex digits".to_owned())
}
