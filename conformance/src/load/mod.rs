//! `vspc-conformance load`: fleets of simulated VMs and clients, and what a server makes of them.
//!
//! Every scenario ends by itself, checks every byte it sends, prints one line for people (or one JSON object
//! with `--json`) and ends with 0 (all well), 1 (something lost, repeated, changed or against the protocol)
//! or 2 (wrong usage, or nobody to talk to). All of it is meant for loopback: it knows no network in between.
//!
//! Owns the scenarios and what they share: the `pattern` and its proof, the `relay` and the `bare`
//! server that figures stand beside, `stats`, the `process` costs. Refuses to know how any server works
//! inside.

pub mod attaches;
mod bare;
mod bulk;
mod bystanders;
mod channels;
mod fleet;
mod flood;
mod folder;
mod garbage;
mod guests;
mod half_open;
pub mod hostile;
pub mod hosts;
mod keystroke;
mod lines;
mod link;
mod logs;
mod operator;
mod pattern;
mod probe;
pub(crate) mod process;
mod program;
mod proof;
mod relay;
mod report;
mod stalled;
#[cfg(test)]
pub(crate) mod stand_in;
mod stats;
mod storm;
mod strangers;
mod subject;
pub mod vmotion;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub use self::process::raise_descriptor_limit;

/// Options of `load`.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand, Clone, Debug)]
enum Scenario {
    /// A raw relay, the limit of what any server between two sockets can reach
    Relay(relay::RelayArgs),
    /// A bare server, the limit of how fast any server can take in a fleet
    Bare(bare::BareArgs),
    /// One stream through one console, in either direction, to any number of clients
    Bulk(bulk::BulkArgs),
    /// A fleet that connects, and what it costs to keep it
    Storm(storm::StormArgs),
    /// A key there and back while a fleet talks
    Keystroke(keystroke::KeystrokeArgs),
    /// A reader at each console: telnet clients beside attaches of one operator connection
    Attaches(attaches::AttachesArgs),
    /// What logs of consoles cost, and whether they are what was printed
    Logs(logs::LogsArgs),
    /// VMs that move while lines go both ways
    Vmotion(vmotion::VmotionArgs),
    /// The ways from a guest to a client side by side, with what they cost
    Channels(channels::ChannelsArgs),
    /// Copies out of a guest with an agent and into it, beside raw pipes and plain bulk
    Guests(guests::GuestsArgs),
    /// One end of such a copy
    #[command(hide = true)]
    GuestsEnd(guests::EndArgs),
    /// Become a program that ends when the process that started this does
    #[command(hide = true)]
    Bound(program::BoundArgs),
    /// VMs that move between hosts in network namespaces, with relays in between and without
    Hosts(hosts::HostsArgs),
    /// A client that never reads beside one that does
    Stalled(stalled::StalledArgs),
    /// A key there and back while another VM floods
    Flood(flood::FloodArgs),
    /// Garbage on the VM port and on a client port
    Garbage(garbage::GarbageArgs),
    /// Connections that stop in the middle of their session start
    HalfOpen(half_open::HalfOpenArgs),
    /// Drills: strangers, clones, quitters and storms, and what everybody else notices of them
    Hostile(hostile::HostileArgs),
}

/// Runs one scenario.
#[must_use]
pub fn run(args: &LoadArgs) -> ExitCode {
    match &args.scenario {
        Scenario::Relay(args) => relay::run(args),
        Scenario::Bare(args) => bare::run(args),
        Scenario::Bulk(args) => report::conclude("bulk", args.common.json, bulk::run(args)),
        Scenario::Storm(args) => report::conclude("storm", args.common.json, storm::run(args)),
        Scenario::Keystroke(args) => report::conclude("keystroke", args.common.json, keystroke::run(args)),
        Scenario::Attaches(args) => report::conclude("attaches", args.json, attaches::run(args)),
        Scenario::Logs(args) => report::conclude("logs", args.json, logs::run(args)),
        Scenario::Vmotion(args) => report::conclude("vmotion", args.common.json, vmotion::run(args)),
        Scenario::Channels(args) => report::conclude("channels", args.is_json(), channels::run(args)),
        Scenario::Guests(args) => report::conclude("guests", args.is_json(), guests::run(args)),
        Scenario::GuestsEnd(args) => guests::run_end(args),
        Scenario::Bound(args) => program::run_bound(args),
        Scenario::Hosts(args) => report::conclude("hosts", args.json, hosts::run(args)),
        Scenario::Stalled(args) => report::conclude("stalled", args.common.json, stalled::run(args)),
        Scenario::Flood(args) => report::conclude("flood", args.common.json, flood::run(args)),
        Scenario::Garbage(args) => report::conclude("garbage", args.common.json, garbage::run(args)),
        Scenario::HalfOpen(args) => report::conclude("half-open", args.common.json, half_open::run(args)),
        Scenario::Hostile(args) => hostile::run(args),
    }
}

/// Why a scenario has no result, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The run cannot be made as asked.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers, or not as a concentrator does.
    #[error("{0}")]
    Unreachable(String),
    /// The server broke its promise so badly that there is nothing to measure.
    #[error("{0}")]
    Violation(String),
}

impl LoadError {
    /// The same, with what it is about.
    pub(crate) fn of(self, what: &str) -> Self {
        match self {
            Self::Usage(why) => Self::Usage(format!("{what}: {why}")),
            Self::Unreachable(why) => Self::Unreachable(format!("{what}: {why}")),
            Self::Violation(why) => Self::Violation(format!("{what}: {why}")),
        }
    }

    /// The exit code that tells this.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Unreachable(_) => 2,
            Self::Violation(_) => 1,
        }
    }
}
