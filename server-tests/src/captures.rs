//! Captured sessions against a server, over TCP.

use std::path::Path;

use vspc_conformance::replay::play::Speed;
use vspc_conformance::replay::{ReplayArgs, report};
use vspc_conformance::tunnel::TlsArgs;

use super::process::{PORT_STRETCH, Server};

/// Replays the captures that come with the program, at their own speed and as fast as the answers come. The
/// same VM comes back for each, to the port that it has by then.
///
/// # Panics
///
/// The server broke a rule, or lost something.
pub fn replay(server: &str) {
    let (process, first_port) = Server::with_client_ports(server, 28_000, &[]);
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/captures");
    for (name, typed) in [
        ("moved.ethernet.pcap", 12),
        ("aborted.sll2.pcap.gz", 8),
        ("refused.sll.pcap.gz", 8),
        ("all.ipv6.pcap.gz", 18),
    ] {
        for speed in [Speed::Times(1.0), Speed::Max] {
            let args = ReplayArgs {
                capture: captures.join(name),
                port: 13370,
                target: Some(process.vms.to_string()),
                client_port: first_port,
                client_ports: PORT_STRETCH,
                speed,
                multi_console: false,
                json: false,
                verbose: false,
                tls: TlsArgs::default(),
            };
            let report = report(&args, |_, _| {}).unwrap();
            let [vm] = &report.vms[..] else { panic!("{report}") };
            assert!(report.is_good() && vm.typed == (typed, typed), "{name} {speed:?}: {report}");
        }
    }
}
