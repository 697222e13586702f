//! What is wrong with files, row by row.

use std::fs::{self, Permissions};

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustix::fs::{CWD, Mode, mknodat};

use crate::folder::Folder;

use super::*;

/// A certificate and a key, in PEM.
fn pair(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(vec!["vspc.example.com".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn loader(cert: PathBuf, key: Option<PathBuf>) -> Loader {
    Loader {
        cert,
        key,
        client_ca: None,
        clients: true,
        admin: false,
        admin_ca: None,
        lines: true,
        hosts: Some(ProxyUri { scheme: "telnets", port: 13370 }),
    }
}

/// What is told about files that can be used, most serious first.
fn notes(loader: &Loader) -> Vec<String> {
    let mut notes = loader.read().unwrap().notes;
    notes.sort_by_key(|(level, _)| *level);
    notes.into_iter().map(|(level, note)| format!("{level} {note}")).collect()
}

#[test]
fn certificate_and_key_may_be_in_two_files_or_in_one() {
    let folder = Folder::new();
    let (cert, key) = pair(|_| {});
    let both = folder.file("both", format!("{cert}{key}"));
    let (cert, key) = (folder.file("cert", cert), folder.file("key", key));
    for loader in [loader(cert, Some(key)), loader(both, None)] {
        let acceptors = loader.read().unwrap().acceptors;
        let acceptors = acceptors.unwrap();
        assert!(acceptors.vms.is_some() && acceptors.clients.is_some());
    }
}

#[test]
fn only_who_has_tls_is_answered() {
    let folder = Folder::new();
    let (cert, key) = pair(|_| {});
    let file = folder.file("both", format!("{cert}{key}"));
    let none_for_hosts = Loader { hosts: None, ..loader(file.clone(), None) };
    assert!(none_for_hosts.read().unwrap().acceptors.unwrap().vms.is_none());
    assert!(!notes(&none_for_hosts).iter().any(|note| note.contains("proxy URI")));
    let none_for_clients = Loader { clients: false, ..loader(file, None) };
    assert!(none_for_clients.read().unwrap().acceptors.unwrap().clients.is_none());
}

#[test]
fn every_fault_is_one_line_that_names_the_file_and_what_to_do() {
    let folder = Folder::new();
    let (cert, key) = pair(|_| {});
    let (other_cert, other_key) = pair(|_| {});
    let garbled = cert.replacen("MII", "M!!", 1);
    let cut = &cert[..cert.len() / 2];
    let no_key_in_it = key.replace("MIG", "AAA");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n\
                 MIIB\n-----END RSA PRIVATE KEY-----\n";
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let chain = format!("{other_cert}{cert}");
    let large = "#".repeat(usize::try_from(LARGEST).unwrap() + 1);
    for (cert, key, words) in [
        (cert.as_str(), Some(other_key.as_str()), &["--key", "not that of the certificate in"][..]),
        (&chain, Some(&key), &["--key", "certificate 2 in", "first"]),
        (&cert, None, &["--cert", "no private key", "give the key's file with --key"]),
        (&cert, Some(&cert), &["--key", "no private key"]),
        (&cert, Some("hello"), &["--key", "no private key"]),
        (&cert, Some(""), &["--key", "no private key"]),
        (&cert, Some(encrypted), &["--key", "encrypted", "openssl pkey"]),
        (&cert, Some(older), &["--key", "encrypted"]),
        (&cert, Some(&no_key_in_it), &["--key", "the key cannot be used", "P-256"]),
        ("hello", Some(&key), &["--cert", "no certificate", "-----BEGIN CERTIFICATE-----"]),
        ("", None, &["--cert", "no certificate"]),
        (&key, Some(&key), &["--cert", "a key in it, but no certificate"]),
        (encrypted, None, &["--cert", "a key in it, but no certificate"]),
        (&garbled, Some(&key), &["--cert", "damaged", "base64"]),
        (cut, Some(&key), &["--cert", "damaged", "-----END CERTIFICATE----- is missing"]),
        (not_x509, Some(&key), &["--cert", "not one that can be used"]),
        (&large, Some(&key), &["--cert", "too large"]),
    ] {
        let loader = loader(folder.file("cert", cert), key.map(|key| folder.file("key", key)));
        let line = loader.read().map(|_| ()).unwrap_err().to_string();
        assert!(words.iter().all(|words| line.contains(words)), "{words:?} {line}");
        assert!(line.contains(folder.path().to_str().unwrap()) && !line.contains('\n'), "{line}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_the_systems_words() {
    let folder = Folder::new();
    let missing = folder.path().join("missing");
    let line = loader(missing.clone(), None).read().map(|_| ()).unwrap_err().to_string();
    assert!(
        line.contains(&format!("--cert {}: ", missing.display())) && line.contains("No such file"),
        "{line}"
    );
    let line = loader(folder.path().to_owned(), None).read().map(|_| ()).unwrap_err().to_string();
    assert!(line.contains("is a directory, and not a file"), "{line}");
}

#[test]
fn what_is_no_file_is_refused_and_nobody_waits_for_it() {
    let folder = Folder::new();
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let (cert, _) = pair(|_| {});
    let cert = folder.file("cert", cert);
    for (place, words) in [(pipe, "a pipe"), ("/dev/zero".into(), "a device")] {
        for (loader, option) in
            [(loader(place.clone(), None), "--cert"), (loader(cert.clone(), Some(place.clone())), "--key")]
        {
            let line = loader.read().map(|_| ()).unwrap_err().to_string();
            let words = format!("{option} {}: is {words}, and not a file", place.display());
            assert!(line.starts_with(&words), "{line}");
        }
    }
}

#[test]
fn a_key_that_others_may_read_is_used_and_told_about() {
    let folder = Folder::new();
    let (cert, key) = pair(|_| {});
    let (cert, key) = (folder.file("cert", cert), folder.file("key", key));
    let loader = loader(cert.clone(), Some(key.clone()));
    for (mode, told) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let first = notes(&loader).remove(0);
        let words = format!("(mode {mode:04o}): chmod 600 {}", key.display());
        assert_eq!(first.starts_with("WARN") && first.contains(&words), told, "{mode:o}: {first}");
    }
}

#[test]
fn dates_that_do_not_hold_are_told_and_lived_with() {
    let folder = Folder::new();
    for (change, words) in [
        (
            (|params| params.not_after = date_time_ymd(2020, 1, 2)) as fn(&mut CertificateParams),
            "has expired on 2020-01-02",
        ),
        (|params| params.not_before = date_time_ymd(2999, 1, 2), "is not valid before 2999-01-02"),
    ] {
        let (cert, key) = pair(change);
        let file = folder.file("both", format!("{cert}{key}"));
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let first = notes(&loader(file, None)).remove(0);
        assert!(first.starts_with("WARN") && first.contains(words), "{first}");
    }
}

#[test]
fn thumbprints_are_told_in_the_form_that_a_serial_port_takes() {
    let folder = Folder::new();
    let (cert, key) = pair(|_| {});
    let der = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
    let thumbprints = Thumbprints::of(&der);
    let mut loader = loader(folder.file("both", format!("{cert}{key}")), None);
    for (scheme, port, start) in [
        ("telnets", 13370, "telnets://vspc.example.com:13370#thumbprint="),
        ("telnet", 0, "telnet://vspc.example.com:PORT#thumbprint="),
    ] {
        loader.hosts = Some(ProxyUri { scheme, port });
        let notes = notes(&loader);
        for thumbprint in [&thumbprints.sha1, &thumbprints.sha256] {
            assert!(notes.iter().any(|note| note.ends_with(&format!("{start}{thumbprint}"))), "{notes:?}");
        }
    }
}

#[test]
fn an_address_stands_in_a_uri_as_it_has_to() {
    let uri = ProxyUri { scheme: "telnets", port: 1 };
    assert_eq!(uri.with(Some("2001:db8::1")), "telnets://[2001:db8::1]:1");
    assert_eq!(uri.with(Some("10.0.0.1")), "telnets://10.0.0.1:1");
    assert_eq!(uri.with(None), "telnets://HOST:1");
}

#[test]
fn a_ca_for_clients_is_looked_at_as_well() {
    let folder = Folder::new();
    let (cert, key) = pair(|_| {});
    let both = folder.file("both", format!("{cert}{key}"));
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let with = |text: &str| Loader { client_ca: Some(folder.file("ca", text)), ..loader(both.clone(), None) };
    assert!(with(&ca.pem()).read().is_ok());
    for (text, words) in [
        ("", "no certificate"),
        (key.as_str(), "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "could be signed with"),
    ] {
        let line = with(text).read().map(|_| ()).unwrap_err().to_string();
        assert!(line.starts_with("--client-ca ") && line.contains(words), "{line}");
    }
}
