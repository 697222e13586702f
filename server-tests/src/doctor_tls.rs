//! What `vspc doctor --esxi` finds at a server with TLS (docs/doctor.md).

use super::doctor::Found;
use super::peer::Peer;
use super::process::{Server, run};
use super::secure::Files;

pub(super) fn what_a_host_finds_is_told_in_each_way_to_tls() {
    let files = Files::new("doctor-tls");
    let print = run(&[
        "--doctor=json",
        "--proxy-iface",
        "127.0.0.1",
        "--tls",
        "on",
        "--cert",
        &files.cert,
        "--key",
        &files.key,
    ]);
    let thumbprint = String::from_utf8(print.stdout).unwrap();
    let thumbprint = thumbprint.split_once("#thumbprint=").unwrap().1.split('"').next().unwrap().to_owned();
    for (options, scheme, telnet) in [
        (&["--tls", "on"][..], "telnets", "does not serve hosts in clear"),
        (&["--tls", "auto"], "telnets", "takes telnet://"),
        (&["--in-band-tls", "offer"], "telnet", "takes telnet://"),
        (&["--in-band-tls", "require"], "telnet", "does not serve hosts in clear"),
        (&["--tls", "auto", "--in-band-tls", "require"], "telnets", "does not serve hosts in clear"),
    ] {
        let server = Server::start(&files.options(options));
        let Some(found) = Found::at(server.vms) else { return };
        assert!(!found.has_error(), "{options:?}: {:#?}", found.0);
        assert_eq!(found.uri(), format!("{scheme}://{}#thumbprint={thumbprint}", server.vms), "{options:?}");
        found.expect("ok", "telnet", telnet);
        assert_eq!(
            found.tells_of("in-band-tls"),
            options.contains(&"--in-band-tls"),
            "{options:?}: {:#?}",
            found.0
        );
        // A host that comes next is served as if nobody had looked.
        let mut vm = match options {
            ["--tls", ..] => files.connect(server.vms),
            [_, "offer"] => Peer::connect(server.vms),
            _ => continue,
        };
        vm.introduce(1);
        vm.hear(71);
    }
}
