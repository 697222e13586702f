//! Certificates as they are made.

use std::os::unix::fs::PermissionsExt;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::{self, Parsed, Surroundings};
use crate::folder::Folder;
use crate::tls::certificate::Facts;
use crate::tls::load::Loader;

use super::*;

fn parse(args: &str, folder: &Folder) -> Result<CertOptions, String> {
    let files = [
        format!("--cert={}", folder.path().join("cert").display()),
        format!("--key={}", folder.path().join("key").display()),
    ];
    let args = args.split_whitespace().map(str::to_owned);
    let args = ["vspc".to_owned(), "cert".to_owned()].into_iter().chain(args).chain(files);
    match config::read("vspc", args, &Surroundings::default()) {
        Ok(Parsed::Make(options)) => Ok(options),
        Ok(other) => Err(format!("{other:?}")),
        Err(fatal) => {
            assert_eq!(fatal.exit_code(), 2, "{fatal}");
            Err(fatal.to_string())
        }
    }
}

fn loader(folder: &Folder) -> Loader {
    Loader {
        cert: folder.path().join("cert"),
        key: Some(folder.path().join("key")),
        client_ca: None,
        clients: true,
        admin: false,
        admin_ca: None,
        lines: true,
        hosts: None,
    }
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_made_can_be_served_with() {
    let folder = Folder::new();
    let options =
        parse("--hostname vspc.example.com,vspc --ip 10.1.2.3,2001:db8::1 --days 30", &folder).unwrap();
    let text = options.make("vspc").unwrap();
    let loaded = loader(&folder).read().unwrap();
    assert!(loaded.acceptors.unwrap().clients.is_some());
    // Nothing to warn of: the key is its owner's, and the dates hold.
    assert_eq!(loaded.notes.len(), 1, "{:?}", loaded.notes);
    let der = CertificateDer::from_pem_file(folder.path().join("cert")).unwrap();
    let facts = Facts::read(&der).unwrap();
    assert_eq!(facts.names, ["vspc.example.com", "vspc", "10.1.2.3", "2001:db8::1"]);
    let now = OffsetDateTime::now_utc();
    assert!(facts.not_before < now - Duration::HOUR && facts.not_after > now + Duration::days(29));
    assert!(facts.not_after <= now + Duration::days(30));
    assert_eq!(mode(folder.path().join("key")), 0o600);
    assert_eq!(mode(folder.path().join("cert")) & 0o600, 0o600);
    let Thumbprints { sha1, sha256 } = Thumbprints::of(&der);
    for words in [
        format!("  telnets://vspc.example.com:13370#thumbprint={sha1}\n"),
        format!("  telnets://vspc.example.com:13370#thumbprint={sha256}\n"),
        format!("  vspc --tls on --cert {} --key ", folder.path().join("cert").display()),
    ] {
        assert!(text.contains(&words), "{words} is missing in\n{text}");
    }
}

#[test]
fn nothing_is_replaced_unless_told_to() {
    let folder = Folder::new();
    let cert = folder.file("cert", "mine");
    let options = parse("--hostname a", &folder).unwrap();
    let line = options.make("vspc").unwrap_err().to_string();
    assert!(line.contains(cert.to_str().unwrap()) && line.contains("--force"), "{line}");
    assert_eq!(fs::read(&cert).unwrap(), b"mine");
    assert!(!folder.path().join("key").exists());
    fs::remove_file(&cert).unwrap();
    let key = folder.file("key", "mine");
    options.make("vspc").unwrap_err();
    assert_eq!(fs::read(&key).unwrap(), b"mine");
    assert!(!cert.exists());
    // The old key was readable by others; the new one is not, nor is anything left beside it.
    parse("--hostname a --force", &folder).unwrap().make("vspc").unwrap();
    assert_eq!(mode(key), 0o600);
    assert!(loader(&folder).read().is_ok());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_pair_in_use_stays_whole_if_it_cannot_be_replaced() {
    let folder = Folder::new();
    let key = folder.file("key", "mine");
    let mut options = parse("--hostname a --force", &folder).unwrap();
    fs::create_dir(folder.path().join("cert")).unwrap();
    for cert in ["missing/cert", "cert"] {
        options.cert = folder.path().join(cert);
        options.make("vspc").unwrap_err();
        assert_eq!(fs::read(&key).unwrap(), b"mine", "{cert}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "{cert}: nothing is left beside them");
    }
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let folder = Folder::new();
    let mut options = parse("--hostname a", &folder).unwrap();
    options.cert = folder.path().join("missing/cert");
    let line = options.make("vspc").unwrap_err().to_string();
    assert!(line.starts_with("cannot write ") && line.contains("missing/cert: No such file"), "{line}");
    assert!(!options.key.exists(), "a key without its certificate");
}

#[test]
fn every_fault_is_one_line_that_says_what_to_do() {
    let folder = Folder::new();
    for (args, words) in [
        ("", &["--hostname", "--ip"][..]),
        ("--hostname 10.0.0.1", &["10.0.0.1", "--ip"]),
        ("--hostname a_b/c", &["--hostname", "a_b/c"]),
        ("--hostname a,", &["--hostname", "no host name"]),
        ("--ip vspc", &["--ip"]),
        ("--hostname a --days 0", &["--days", "36500"]),
        ("--hostname a --days 1e9", &["--days", "36500"]),
        ("--hostname a --tls on", &["--tls"]),
        ("stray", &["stray"]),
    ] {
        let line = parse(args, &folder).expect_err(args);
        assert!(words.iter().all(|words| line.contains(words)), "{args}: {line}");
        assert!(!line.contains('\n'), "{args}: {line}");
    }
    let mut options = parse("--hostname a", &folder).unwrap();
    options.key = options.cert.clone();
    assert!(options.check().unwrap_err().contains("same file"));
    let args = ["vspc", "--debug", "cert", "--hostname", "a"];
    let line = config::read("vspc", args, &Surroundings::default()).unwrap_err().to_string();
    assert!(line.contains("--debug"), "{line}");
}

#[test]
fn help_is_its_own() {
    let folder = Folder::new();
    let help = parse("--help", &folder).unwrap_err();
    assert!(
        help.contains("vspc cert --hostname") && help.contains("36") && !help.contains("--proxy-port"),
        "{help}"
    );
}

#[test]
fn names_of_files_are_quoted_where_a_shell_needs_it() {
    assert_eq!(quoted(Path::new("/etc/vspc/cert-1.pem")), "/etc/vspc/cert-1.pem");
    assert_eq!(quoted(Path::new("my cert's.pem")), r"'my cert'\''s.pem'");
}

#[test]
fn a_long_name_is_no_common_name() {
    let folder = Folder::new();
    let name = format!("{}.example.com", ["long"; 20].join("."));
    parse(&format!("--hostname {name}"), &folder).unwrap().make("vspc").unwrap();
    let der = CertificateDer::from_pem_file(folder.path().join("cert")).unwrap();
    assert_eq!(Facts::read(&der).unwrap().names, [name]);
}
