//! The tunnel against servers made of rustls and blocking sockets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use socket2::SockRef;

use super::*;

/// Longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What nobody reads for so long is not read.
const STALLED: Duration = Duration::from_millis(400);

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["vspc.example".to_owned()]).unwrap();
        Identity {
            certificate: made.cert.der().clone(),
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        }
    })
}

fn server_config(asks: bool) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = if asks {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots()), provider).build();
        builder.with_client_cert_verifier(verifier.unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let Identity { certificate, key } = identity();
    let mut config = builder.with_single_cert(vec![certificate.clone()], key.clone_key()).unwrap();
    // A server that reads only after it has written would lose to a reset what came before it.
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(identity().certificate.clone()).unwrap();
    roots
}

/// A server's end of a connection.
type Served = rustls::StreamOwned<ServerConnection, TcpStream>;

fn is_there(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // What is said before a reset should be on its way by then.
    stream.set_nodelay(true).unwrap();
}

fn tls(stream: TcpStream, asks: bool) -> Served {
    Served::new(ServerConnection::new(server_config(asks)).unwrap(), stream)
}

/// Serves one connection with `serve`, before which nothing is said on it.
fn server<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        is_there(&stream);
        serve(stream)
    });
    (at, thread)
}

fn dial(vms: VmForm) -> Dial {
    Dial::through(vms, true, Trust::default().into_config().unwrap(), None).unwrap()
}

/// A connection through a tunnel to a server that begins with TLS.
fn carried<T: Send + 'static>(
    serve: impl FnOnce(Served) -> T + Send + 'static,
) -> (Dial, TcpStream, JoinHandle<T>) {
    let (at, thread) = server(|stream| serve(tls(stream, false)));
    let dial = dial(VmForm::On);
    let near = begin(&dial, at).unwrap();
    (dial, near, thread)
}

/// A connection that does not wait for anything.
fn begin(dial: &Dial, at: SocketAddr) -> io::Result<TcpStream> {
    let near = TcpStream::from(OwnedFd::from(dial.begin(Port::Vm, at)?));
    near.set_nonblocking(false)?;
    is_there(&near);
    Ok(near)
}

/// Bytes of which any that is lost, doubled or out of place is noticed.
fn bulk(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn is_reset(outcome: io::Result<usize>) -> bool {
    outcome.is_err_and(|error| matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

#[test]
fn bulk_arrives_byte_by_byte_both_ways_at_once() {
    const LEN: usize = 8 << 20;
    let (_dial, mut near, thread) = carried(|mut far| {
        let mut got = vec![0; 64 << 10];
        let (mut read, mut back) = (Vec::new(), bulk(LEN, 2));
        while read.len() < LEN {
            let n = far.read(&mut got).unwrap();
            read.extend_from_slice(&got[..n]);
            let some = back.len().min(n);
            far.write_all(&back[..some]).unwrap();
            back.drain(..some);
        }
        far.write_all(&back).unwrap();
        far.flush().unwrap();
        read
    });
    let mut writing = near.try_clone().unwrap();
    let writer = thread::spawn(move || writing.write_all(&bulk(LEN, 1)).unwrap());
    let mut read = vec![0; LEN];
    near.read_exact(&mut read).unwrap();
    writer.join().unwrap();
    assert!(read == bulk(LEN, 2), "what came back is not what was sent");
    assert!(thread.join().unwrap() == bulk(LEN, 1), "what arrived is not what was sent");
}

#[test]
fn an_end_of_the_tools_input_leaves_the_other_way_open() {
    let (_dial, mut near, thread) = carried(|mut far| {
        let mut heard = Vec::new();
        // Fails unless the end was told in TLS.
        far.read_to_end(&mut heard).unwrap();
        // And the socket's own end came behind it.
        assert_eq!(far.sock.read(&mut [0]).unwrap(), 0);
        far.write_all(b"still here").unwrap();
        far.conn.send_close_notify();
        far.flush().unwrap();
        heard
    });
    near.write_all(b"that is all").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    near.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"still here");
    assert_eq!(thread.join().unwrap(), b"that is all");
}

#[test]
fn an_end_of_the_servers_output_leaves_the_other_way_open() {
    for in_tls in [true, false] {
        let (_dial, mut near, thread) = carried(move |mut far| {
            far.write_all(b"that is all").unwrap();
            if in_tls {
                far.conn.send_close_notify();
                far.flush().unwrap();
            } else {
                far.sock.shutdown(Shutdown::Write).unwrap();
            }
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).unwrap();
            heard
        });
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"that is all");
        near.write_all(b"still here").unwrap();
        drop(near);
        assert_eq!(thread.join().unwrap(), b"still here");
    }
}

#[test]
fn a_reset_by_the_tool_is_a_reset_for_the_server_behind_what_was_said() {
    let (_dial, mut near, thread) = carried(|mut far| {
        far.write_all(b"go on").unwrap();
        let mut heard = [0; 4];
        far.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"last");
        is_reset(far.sock.read(&mut [0]))
    });
    near.read_exact(&mut [0; 5]).unwrap();
    near.write_all(b"last").unwrap();
    SockRef::from(&near).set_linger(Some(Duration::ZERO)).unwrap();
    drop(near);
    assert!(thread.join().unwrap());
}

#[test]
fn a_reset_before_tls_is_up_waits_for_it() {
    let (at, thread) = server(|stream| {
        let mut far = tls(stream, false);
        let mut heard = [0; 4];
        far.read_exact(&mut heard).unwrap();
        (heard, is_reset(far.sock.read(&mut [0])))
    });
    let dial = dial(VmForm::On);
    let mut near = begin(&dial, at).unwrap();
    near.write_all(b"last").unwrap();
    SockRef::from(&near).set_linger(Some(Duration::ZERO)).unwrap();
    drop(near);
    assert_eq!(thread.join().unwrap(), (*b"last", true));
}

#[test]
fn a_reset_by_the_server_is_a_reset_for_the_tool_behind_what_was_said() {
    let (_dial, mut near, thread) = carried(|mut far| {
        far.write_all(b"last").unwrap();
        far.flush().unwrap();
        far.read_exact(&mut [0; 2]).unwrap();
        SockRef::from(&far.sock).set_linger(Some(Duration::ZERO)).unwrap();
    });
    near.write_all(b"ok").unwrap();
    let mut heard = [0; 4];
    near.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"last");
    assert!(is_reset(near.read(&mut [0])));
    thread.join().unwrap();
}

/// How many bytes can be written, up to `most`, before a write takes as long as one may.
fn write_until_stalled(to: &mut impl Write, most: usize) -> usize {
    let (chunk, mut sent) = (vec![b'x'; 64 << 10], 0);
    while sent < most {
        let began = Instant::now();
        match to.write(&chunk) {
            Ok(n) if began.elapsed() < STALLED => sent += n,
            _ => break,
        }
    }
    sent
}

#[test]
fn a_tool_that_does_not_read_stalls_the_server() {
    // Far more than the kernel holds of two connections, with the buffers that it gives a server by itself.
    const MOST: usize = 64 << 20;
    let (_dial, near, thread) = carried(|mut far| {
        far.read_exact(&mut [0; 2]).unwrap();
        far.sock.set_write_timeout(Some(STALLED)).unwrap();
        write_until_stalled(&mut far, MOST)
    });
    (&near).write_all(b"ok").unwrap();
    let sent = thread.join().unwrap();
    assert!(sent < MOST / 2, "{sent} bytes and nobody reads");
}

#[test]
fn a_server_that_does_not_read_stalls_the_tool() {
    const MOST: usize = 64 << 20;
    let (_dial, mut near, thread) = carried(|mut far| {
        far.write_all(b"ok").unwrap();
        far
    });
    near.read_exact(&mut [0; 2]).unwrap();
    let _far = thread.join().unwrap();
    near.set_write_timeout(Some(STALLED)).unwrap();
    let sent = write_until_stalled(&mut near, MOST);
    assert!(sent < MOST / 2, "{sent} bytes and nobody reads");
}

#[test]
fn nobody_at_home_is_told_as_without_a_tunnel() {
    let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let dial = dial(VmForm::On);
    let refused = dial.connect(Port::Vm, gone, PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(dial.try_out(Port::Client, gone).is_err());
    let Ok(mut near) = begin(&dial, gone) else { return };
    assert!(is_reset(near.read(&mut [0])));
}

/// What a server of the upgrade hears, and what it says to that.
type Line = (&'static [u8], &'static [u8]);

/// Plays a server of the upgrade.
fn says(stream: &mut TcpStream, lines: &[Line]) {
    for (hears, says) in lines {
        let mut heard = vec![0; hears.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, *hears);
        stream.write_all(says).unwrap();
    }
}

const OFFER: &[u8] = b"\xff\xfb\x25";
const ASK: &[u8] = b"\xff\xfd\x25\xff\xfa\x25\x01\x07\x00\xff\xf0";
const START: &[u8] = b"\xff\xfa\x25\x00\x07\x00\x01\xff\xf0";

#[test]
fn a_telnet_connection_becomes_a_tls_one_and_what_was_said_before_is_handed_on() {
    let (at, thread) = server(|mut stream| {
        stream.write_all(b"\xff\xfd\xe8").unwrap();
        says(&mut stream, &[(OFFER, ASK), (START, b"\xff\xfb\x01\xff\xfa\x25\x02\x07\x00\x02\xff\xf0")]);
        let mut far = tls(stream, false);
        let mut heard = [0; 4];
        far.read_exact(&mut heard).unwrap();
        far.write_all(b"safe").unwrap();
        far.flush().unwrap();
        heard
    });
    let dial = dial(VmForm::InBand);
    let mut near = begin(&dial, at).unwrap();
    // Before TLS is up it goes nowhere.
    near.write_all(b"mine").unwrap();
    let mut heard = [0; 10];
    near.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"\xff\xfd\xe8\xff\xfb\x01safe");
    assert_eq!(&thread.join().unwrap(), b"mine");
}

#[test]
fn an_upgrade_that_the_server_does_not_want_resets_the_tool_and_says_why() {
    const LINES: [(&[Line], &str); 3] = [
        (&[(OFFER, b"\xff\xfe\x25")], "declines"),
        (&[(OFFER, ASK), (START, b"\xff\xfa\x25\x02\x07\x00\x03\xff\xf0")], "rejects"),
        (&[(OFFER, b"")], "closed before TLS was up"),
    ];
    for (lines, why) in LINES {
        let dial = dial(VmForm::InBand);
        let (at, thread) = server(move |mut stream| says(&mut stream, lines));
        let mut near = begin(&dial, at).unwrap();
        assert!(is_reset(near.read(&mut [0])), "{why}");
        thread.join().unwrap();
        let (at, thread) = server(move |mut stream| says(&mut stream, lines));
        let told = dial.try_out(Port::Vm, at).unwrap_err();
        assert!(told.contains(why), "{told}");
        thread.join().unwrap();
    }
}

/// What a trial with this trust says of a server that asks for a certificate or does not.
fn trial(trust: Trust, name: Option<&str>, asks: bool) -> Result<(), String> {
    let (at, thread) = server(move |stream| {
        let mut far = tls(stream, asks);
        // The handshake, and then the end or an alert.
        let _ = far.read(&mut [0]);
    });
    let name = name.map(|name| ServerName::try_from(name.to_owned()).unwrap());
    let dial = Dial::through(VmForm::On, false, trust.into_config().unwrap(), name).unwrap();
    let told = dial.try_out(Port::Vm, at);
    drop(dial);
    thread.join().unwrap();
    told
}

#[test]
fn a_certificate_is_held_against_the_thumbprint() {
    let right = Thumbprint::of(&identity().certificate);
    let trust = |thumbprint| Trust { thumbprint: Some(thumbprint), ..Trust::default() };
    assert_eq!(trial(trust(right), None, false), Ok(()));
    let told = trial(trust(Thumbprint::of(b"another")), None, false).unwrap_err();
    assert!(told.contains(&right.to_string()), "{told}");
}

#[test]
fn a_certificate_is_held_against_authority_and_name() {
    let trust = || Trust { roots: Some(roots()), ..Trust::default() };
    assert_eq!(trial(trust(), Some("vspc.example"), false), Ok(()));
    let told = trial(trust(), Some("other.example"), false).unwrap_err();
    assert!(told.contains("not valid for name"), "{told}");
    // Without a name it is the address that the certificate must be for.
    assert!(trial(trust(), None, false).is_err());
    let other = rcgen::generate_simple_self_signed(["vspc.example".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(other.cert.der().clone()).unwrap();
    let told = trial(Trust { roots: Some(roots), ..Trust::default() }, Some("vspc.example"), false);
    assert!(told.is_err());
}

#[test]
fn a_server_that_asks_is_shown_a_certificate() {
    let Identity { certificate, key } = identity();
    let shown = Some((vec![certificate.clone()], key.clone_key()));
    assert_eq!(trial(Trust { identity: shown, ..Trust::default() }, None, true), Ok(()));
}

#[test]
fn hundreds_of_connections_are_carried_at_once() {
    const COUNT: usize = 300;
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let dial = dial(VmForm::On);
    let server = thread::spawn(move || {
        let mut far: Vec<Served> = Vec::new();
        for _ in 0..COUNT {
            let (stream, _) = listener.accept().unwrap();
            is_there(&stream);
            far.push(tls(stream, false));
        }
        for end in &mut far {
            let mut number = [0; 4];
            end.read_exact(&mut number).unwrap();
            end.write_all(&number).unwrap();
            end.flush().unwrap();
        }
    });
    let mut near: Vec<TcpStream> = (0..COUNT).map(|_| begin(&dial, at).unwrap()).collect();
    for (number, end) in (0u32..).zip(&mut near) {
        end.write_all(&number.to_be_bytes()).unwrap();
    }
    for (number, end) in (0u32..).zip(&mut near) {
        let mut heard = [0; 4];
        end.read_exact(&mut heard).unwrap();
        assert_eq!(heard, number.to_be_bytes());
    }
    server.join().unwrap();
}

#[test]
fn an_urgent_byte_stays_where_it_stands() {
    let (_dial, near, thread) = carried(|mut far| {
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).unwrap();
        heard
    });
    SockRef::from(&near).send_out_of_band(b"ab").unwrap();
    (&near).write_all(b"c").unwrap();
    drop(near);
    assert_eq!(thread.join().unwrap(), b"abc");
}

#[test]
fn what_was_said_last_arrives_when_the_tunnel_ends() {
    let (dial, mut near, thread) = carried(|mut far| {
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).unwrap();
        heard
    });
    near.write_all(b"goodbye").unwrap();
    drop(near);
    drop(dial);
    assert_eq!(thread.join().unwrap(), b"goodbye");
}
