//! The real `vspc` within TLS, at an admin port that asks for certificates.

use std::io::Write;

use super::client_tour::Client;
use super::peer::Peer;
use super::process::Server;
use super::secure::{ClientFiles, Files};

pub(super) fn all_of_it_is_said_within_tls_to_a_server_that_asks_for_certificates() {
    let (files, alice, mallory) =
        (Files::new("tour"), ClientFiles::new("tour-alice"), ClientFiles::new("tour-mallory"));
    let ca = alice.ca.to_str().unwrap();
    let rights = ["--admin-tls", "on", "--admin-ca", ca, "--admin-rights", "cert:alice=operator"];
    let server = Server::start(&files.options(&rights));
    let at = format!("tls://{}", server.admin_port());
    let shown = |who: &ClientFiles| [&who.cert, &who.key].map(|file| file.to_str().unwrap().to_owned());
    let [cert, key] = shown(&alice);
    let way = ["--server", &at, "--ca", &files.cert];
    let Some(client) = Client::new(&[&way[..], &["--cert", &cert, "--key", &key]].concat()) else { return };
    let (mut vm, _) = Peer::vm(&server, 1);
    let mut attach = client.program(&["attach", "vm1", "--lock", "write"]);
    vm.print(b"login: ");
    attach.expect(b"login: ");
    let who = client.says(&["who", "vm1"]);
    assert!(who.contains("cert alice@127.0.0.1"), "{who}");
    attach.input.write_all(b"root\r").unwrap();
    vm.expect(b"root\r");
    assert_eq!(client.says(&["bump", "vm1"]), "1 sent away from vm1\n");
    attach.end();

    let [cert, key] = shown(&mallory);
    for (options, words) in [
        (vec!["--ca", &files.cert, "--cert", &cert, "--key", &key], "it does not accept your certificate"),
        (vec!["--ca", &files.cert], "it wants a certificate from you"),
        (vec!["--ca", ca], "signed by nobody that is trusted here"),
    ] {
        let refused = Client::new(&[&["--server", &at][..], &options].concat()).unwrap().run(&["list"]);
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(5) && error.contains(words), "{options:?}: {error}");
    }
}
