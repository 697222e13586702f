//! Each kind of address, on either side.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::ground::{Folder, Running, Target, expect, reset, rest, rest_before_reset, talk};

#[test]
fn unix_sockets_on_both_sides() {
    let folder = Folder::new();
    let (here, there) = (folder.path("here"), folder.path("there"));
    let listener = UnixListener::bind(&there).unwrap();
    let relay = Running::of(&format!("[[relay]]\nlisten = 'unix:{here}'\nto = 'unix:{there}'"));
    let mut near = UnixStream::connect(&here).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    talk(&near, &far);
    near.write_all(b"bye").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut far), b"bye");
    drop(far);
    assert_eq!(rest(&mut near), b"");
    drop(relay);
    assert!(!std::path::Path::new(&here).exists(), "its file goes with it");
}

#[test]
fn many_relays_in_one_process_and_many_listeners_of_one() {
    let (first, second) = (Target::new(), Target::new());
    let relay = Running::of(&format!(
        "[[relay]]\nlisten = ['tcp://127.0.0.1:0', 'tcp://127.0.0.1:0']\nto = '{}'\n\
         [[relay]]\nlisten = 'tcp://127.0.0.1:0'\nto = '{}'",
        first.endpoint(),
        second.endpoint()
    ));
    for (at, target) in relay.at.iter().zip([&first, &first, &second]) {
        let near = std::net::TcpStream::connect(at.split_once("//").unwrap().1).unwrap();
        talk(&near, &target.accept());
    }
}

/// A relay into TLS, one out of it, and the two ends.
fn through_tls(more_there: &str, more_here: &str) -> (Folder, [Running; 2], Target) {
    let folder = Folder::new();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let both = folder.file("both.pem", &(cert.pem() + &signing_key.serialize_pem()));
    let ca = folder.file("ca.pem", &cert.pem());
    let other = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let other = folder.file("other.pem", &other);
    let target = Target::new();
    let out = Running::of(&format!(
        "[[relay]]\nlisten = 'tls://127.0.0.1:0'\nto = '{}'\nlisten-cert = '{both}'\n{}",
        target.endpoint(),
        more_there.replace("CA", &ca)
    ));
    let into = Running::of(&format!(
        "[[relay]]\nlisten = 'tcp://127.0.0.1:0'\nto = '{}'\n{}",
        out.at[0],
        more_here.replace("CA", &ca).replace("BOTH", &both).replace("OTHER", &other)
    ));
    (folder, [into, out], target)
}

#[test]
fn into_tls_and_out_of_it_again() {
    let (_folder, relays, target) = through_tls("", "ca = 'CA'");
    let mut near = relays[0].connect();
    let mut far = target.accept();
    talk(&near, &far);
    near.write_all(b"bye").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut far), b"bye");
    far.write_all(b"still here").unwrap();
    drop(far);
    assert_eq!(rest(&mut near), b"still here");
}

#[test]
fn megabytes_through_tls_arrive_whole() {
    let (_folder, relays, target) = through_tls("", "ca = 'CA'");
    let near = relays[0].connect();
    let far = target.accept();
    let length = 8 << 20;
    std::thread::scope(|scope| {
        for (mut writer, mut reader) in [(&near, &far), (&far, &near)] {
            scope.spawn(move || {
                for at in (0..length).step_by(64 << 10) {
                    writer.write_all(&crate::ground::numbered(at)).unwrap();
                }
            });
            scope.spawn(move || crate::ground::expect_numbered(&mut reader, length));
        }
    });
}

#[test]
fn a_target_may_be_told_for_whom_it_is_before_anything_else() {
    let target = Target::new();
    let relay = Running::of(&format!(
        "[[relay]]\nlisten = 'tcp://127.0.0.1:0'\nto = '{}'\nproxy-protocol = true",
        target.endpoint()
    ));
    let near = relay.connect();
    let mut far = target.accept();
    let (me, there) = (near.local_addr().unwrap(), relay.address());
    let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", me.port(), there.port());
    expect(&mut far, header.as_bytes());
    talk(&near, &far);
}

#[test]
fn a_reset_goes_through_tls() {
    let (_folder, relays, target) = through_tls("", "ca = 'CA'");
    let mut near = relays[0].connect();
    let mut far = target.accept();
    near.write_all(b"and then").unwrap();
    reset(near);
    assert_eq!(rest_before_reset(&mut far), b"and then");
}

#[test]
fn a_certificate_that_is_not_trusted_is_not_spoken_to() {
    let (_folder, relays, _target) = through_tls("", "ca = 'OTHER'");
    let mut near = relays[0].connect();
    assert_eq!(rest_before_reset(&mut near), b"");
}

#[test]
fn who_has_no_certificate_is_not_let_in_where_one_is_asked_for() {
    let (_folder, relays, target) = through_tls("listen-ca = 'CA'", "ca = 'CA'\ncert = 'BOTH'");
    talk(&relays[0].connect(), &target.accept());
    let (_folder, relays, _target) = through_tls("listen-ca = 'CA'", "ca = 'CA'");
    let mut near = relays[0].connect();
    rest_before_reset(&mut near);
}
