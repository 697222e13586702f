//! Checks provoked both ways, as far as that goes without a server.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process;

use super::finding::Level;
use super::*;
use crate::folder::Folder;
use crate::options::tests::parse;

/// Where something of this name would be, as an option says it.
fn at(folder: &Folder, name: &str) -> String {
    folder.at(name).display().to_string()
}

/// What is found by this check with these options, beside ports that nobody has.
fn found(check: &str, options: &str) -> Vec<(Level, String)> {
    // To look at all of the default range takes its time, and few of these are about ports.
    let range = match options.contains("--backend") || options.contains("--doctor-vms") {
        true => "",
        false => "--port-range-start 0",
    };
    let words = format!("--doctor --proxy-iface 127.0.0.1 --proxy-port 0 --admin-port 0 {range} {options}");
    let report = examine(&parse(&words).unwrap());
    let of_check = report.findings.into_iter().filter(|finding| finding.check == check);
    of_check
        .map(|finding| {
            let remedy = finding.remedy.map(|remedy| format!(" > {remedy}")).unwrap_or_default();
            (finding.level, finding.text + &remedy)
        })
        .collect()
}

/// The one that is found is as bad as this, and says so.
fn expect(check: &str, options: &str, level: Level, words: &str) {
    let found = found(check, options);
    let is_it = |(is, text): &(Level, String)| *is == level && text.contains(words);
    assert!(found.iter().any(is_it), "{options}: no {level:?} {words:?} in {found:?}");
    assert!(found.iter().all(|(is, _)| *is <= level), "{options}: {found:?}");
}

#[test]
fn a_port_that_is_taken_is_told_with_who_has_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let holder = format!("(pid {})", process::id());
    let again = |words: &str| format!("--doctor --proxy-iface 127.0.0.1 {words}");
    let levels = |words: &str, check: &str| -> Vec<(Level, String)> {
        let findings = examine(&parse(&again(words)).unwrap()).findings;
        findings.into_iter().filter(|it| it.check == check).map(|it| (it.level, it.text)).collect()
    };
    let (level, text) = levels(&format!("--proxy-port {port}"), "vm-port").remove(0);
    assert!(level == Level::Error && text.contains(&holder), "{text}");
    let (level, text) = levels(&format!("--proxy-port 0 --admin-port {port}"), "admin-port").remove(0);
    assert!(level == Level::Error && text.contains(&holder), "{text}");
    let range = format!("--proxy-port 0 --port-range-start {port} --port-range-end {port}");
    let (level, text) = levels(&range, "client-ports").remove(0);
    assert!(level == Level::Error && text.contains("0 of 1") && text.contains(&holder), "{text}");
    drop(taken);
    assert_eq!(levels(&format!("--proxy-port {port}"), "vm-port")[0].0, Level::Ok);
    assert_eq!(levels(&range, "client-ports")[0].0, Level::Ok);
}

#[test]
fn an_address_of_nobodys_is_told_with_those_of_this_machine() {
    // TEST-NET-1 (RFC 5737) is nobody's address.
    let report = examine(&parse("--doctor --proxy-port 0 --proxy-iface 192.0.2.1").unwrap());
    let finding = report.findings.iter().find(|finding| finding.check == "vm-port").unwrap();
    assert_eq!(finding.level, Level::Error);
    assert!(finding.remedy.as_ref().unwrap().contains("127.0.0.1"), "{finding:?}");
    expect("client-ports", "--interface 192.0.2.1", Level::Error, "192.0.2.1");
}

#[test]
fn what_the_network_reaches_without_tls_is_a_warning() {
    assert_eq!(found("exposure", ""), []);
    expect("exposure", "--interface 0.0.0.0", Level::Warn, "client ports on 0.0.0.0");
    expect("exposure", "--admin-iface 0.0.0.0", Level::Warn, "the admin port on 0.0.0.0");
}

#[test]
fn a_log_directory_has_to_be_there() {
    let folder = Folder::new();
    let (here, absent, file) = (at(&folder, ""), at(&folder, "absent"), at(&folder, "file"));
    fs::write(&file, "").unwrap();
    expect("log-dir", &format!("--log-dir {here}"), Level::Ok, "can be written in");
    expect("log-dir", &format!("--log-dir {absent}"), Level::Error, "install -d");
    expect("log-dir", &format!("--log-dir {file}"), Level::Error, "no directory");
    expect("log-disk", &format!("--log-dir {here}"), Level::Warn, "nothing keeps logs");
    expect("log-disk", &format!("--log-dir {here} --log-max-size 1 --log-total 1"), Level::Ok, "free of");
    let most = "--log-max-size 1 --log-total 1048576M";
    expect("log-disk", &format!("--log-dir {here} {most}"), Level::Warn, "--log-total");
}

#[test]
fn a_state_file_has_to_be_whole_and_in_a_directory_that_is_there() {
    let folder = Folder::new();
    let options = |path: &str| format!("--backend file --file {path}");
    expect("state-file", &options(&at(&folder, "new")), Level::Ok, "can be made");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was made");
    fs::write(at(&folder, "damaged"), "x").unwrap();
    expect("state-file", &options(&at(&folder, "damaged")), Level::Error, "line 1");
    expect("state-file", &options(&at(&folder, "no/state")), Level::Error, "--file");
    fs::write(at(&folder, "whole"), "vspc-state 1\nend\n").unwrap();
    expect("state-file", &options(&at(&folder, "whole")), Level::Ok, "has 0 consoles");
    expect("state-disk", &options(&at(&folder, "whole")), Level::Ok, "free");
    let lock = fs::File::create(at(&folder, "whole.lock")).unwrap();
    lock.lock().unwrap();
    expect("state-file", &options(&at(&folder, "whole")), Level::Error, &format!("(pid {})", process::id()));
}

#[test]
fn an_admin_socket_has_to_be_one_that_can_be_made() {
    let folder = Folder::new();
    let option = |name: &str| format!("--admin-socket {}", at(&folder, name));
    expect("admin-socket", &option("new"), Level::Ok, "can be made");
    expect("admin-socket", &option("no/socket"), Level::Error, "No such file");
    expect("admin-socket", &option(&"long".repeat(30)), Level::Error, "107 bytes");
    fs::write(at(&folder, "file"), "").unwrap();
    expect("admin-socket", &option("file"), Level::Error, "no socket");
    let listener = UnixListener::bind(at(&folder, "live")).unwrap();
    expect("admin-socket", &option("live"), Level::Ok, "by the server that runs");
    drop(listener);
    expect("admin-socket", &option("live"), Level::Ok, "will be replaced");
}

#[test]
fn files_that_are_written_have_to_be_ones_that_can_be() {
    let folder = Folder::new();
    for (check, option) in [("pidfile", "--pidfile "), ("events-to", "--events-to file:")] {
        expect(check, &format!("{option}{}", at(&folder, "new")), Level::Ok, "can be written");
        expect(check, &format!("{option}{}", at(&folder, "no/file")), Level::Error, "cannot be used");
        expect(check, &format!("{option}{}", at(&folder, "")), Level::Error, "cannot be used");
    }
    let events = format!("--events-to unix:{}", at(&folder, "socket"));
    expect("events-to", &events, Level::Warn, "no socket");
    let _listener = UnixListener::bind(at(&folder, "socket")).unwrap();
    expect("events-to", &events, Level::Ok, "there is a socket");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was made");
}

#[test]
fn a_redis_that_is_not_there_is_an_error() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = |url: &str| format!("--backend redis --redis-url {url}");
    expect("redis", &options(&format!("redis://u:secret@{free}")), Level::Error, "does not answer");
    let said = found("redis", &options(&format!("redis://u:secret@{free}")));
    assert!(!said[0].1.contains("secret"), "{said:?}");
    expect("redis", &options("http://h"), Level::Error, "--redis-url");
}

#[test]
fn the_fleet_that_is_asked_for_has_to_fit() {
    expect("port-range", "--doctor-vms 100", Level::Ok, "15536 client ports");
    expect("port-range", "--doctor-vms 20000", Level::Error, "--port-range-start 45536");
    expect("descriptors", "--doctor-vms 20000000", Level::Error, "LimitNOFILE=");
    expect("descriptors", "--doctor-vms 1", Level::Ok, "enough for");
}

#[cfg(feature = "tls")]
#[test]
fn a_certificate_has_to_go_with_its_key_and_be_valid_for_a_while() {
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{CertificateParams, KeyPair};
    use time::{Duration, OffsetDateTime};

    let folder = Folder::new();
    let (cert, key) = (at(&folder, "cert.pem"), at(&folder, "key.pem"));
    let make = |days: i64| {
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["vspc.example.com".to_owned()]).unwrap();
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
        fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let options = format!("--tls on --cert {cert} --key {key}");
    make(100);
    expect("certificate", &options, Level::Ok, "for vspc.example.com, valid until");
    expect("certificate", &options, Level::Ok, "#thumbprint=");
    make(10);
    expect("certificate", &options, Level::Warn, "valid for 9 days more");
    make(-1);
    expect("certificate", &options, Level::Warn, "has expired");
    fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    expect("certificate", &options, Level::Error, "the key is not that of the certificate");
    make(100);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    expect("certificate", &options, Level::Warn, "> chmod 600");
    assert_eq!(found("certificate", ""), []);
}

#[test]
fn listeners_that_are_none_of_tcps_are_looked_at_too() {
    let folder = Folder::new();
    let unix = |name: &str| format!("--vm-listen {}", at(&folder, name));
    expect("vm-socket", &unix("new"), Level::Ok, "can be made");
    expect("vm-socket", &unix("no/socket"), Level::Error, "--vm-listen");
    let admin = format!("--admin-listen {}", at(&folder, &"long".repeat(30)));
    expect("admin-socket", &admin, Level::Error, "choose a shorter --admin-listen");
    let told = found("vm-port", "--vm-listen fd:vm --vm-listen vsock:4294967295");
    assert!(told.iter().any(|(is, text)| *is == Level::Ok && text.contains("fd:vm is for the service")));
    assert!(told.iter().any(|(_, text)| text.starts_with("vsock:4294967295 ")), "{told:?}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("--vm-listen {}", taken.local_addr().unwrap());
    expect("vm-port", &place, Level::Error, "choose another --vm-listen");
}
