//! The checked-in captures against a server over TCP: one definition for both servers, run by
//! `runtime-*/tests/replay.rs`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use vspc_conformance::replay::play::Speed;
use vspc_conformance::replay::{ReplayArgs, report};
use vspc_conformance::tunnel::TlsArgs;

/// A running server, killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn captures_replay_to_a_server_that_runs() {
    let first_port = 28_000 + (std::process::id() % 40) as u16 * 100;
    let mut child = Command::new(crate::SERVER)
        .args(["--proxy-port", "0", "--proxy-iface", "127.0.0.1"])
        .args(["--port-range-start", &first_port.to_string()])
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let _server = Process(child);
    let target = loop {
        let mut line = String::new();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the server ended at once");
        if let Some((_, address)) = line.split_once("listening on ") {
            break address.trim().to_owned();
        }
    };
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(drop));
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/captures");
    let args = |name: &str, speed| ReplayArgs {
        capture: PathBuf::from(&captures).join(name),
        port: 13370,
        target: Some(target.clone()),
        client_port: first_port,
        client_ports: 2000,
        speed,
        multi_console: false,
        json: false,
        verbose: false,
        tls: TlsArgs::default(),
    };
    // The same VM comes back for each, to the port that it has by then.
    for (name, typed) in [
        ("moved.ethernet.pcap", 12),
        ("aborted.sll2.pcap.gz", 8),
        ("refused.sll.pcap.gz", 8),
        ("all.ipv6.pcap.gz", 18),
    ] {
        for speed in [Speed::Times(1.0), Speed::Max] {
            let report = report(&args(name, speed), |_, _| {}).unwrap();
            let [vm] = &report.vms[..] else { panic!("{report}") };
            assert!(report.is_good() && vm.typed == (typed, typed), "{name} {speed:?}: {report}");
        }
    }
}
