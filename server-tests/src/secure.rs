//! Peers that speak TLS, and what they need to know of the server.
//!
//! A peer's TLS is carried by a thread beside it, so that the peer itself is what it is without: a socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::{fs, thread};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::peer::Peer;
use super::process::Server;
use super::program;
use super::programs::Folder;

/// A server's certificate and key, in files.
pub(super) struct Files {
    pub(super) folder: Folder,
    pub(super) cert: String,
    pub(super) key: String,
}

impl Files {
    /// Has the server make them, as an operator would.
    pub(super) fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let path = |name| folder.0.join(name).to_str().unwrap().to_owned();
        let files = Self { cert: path("cert.pem"), key: path("key.pem"), folder };
        files.make(&[]);
        files
    }

    /// Makes others in their place.
    pub(super) fn renew(&self) {
        self.make(&["--force"]);
    }

    fn make(&self, options: &[&str]) {
        let mut command = Command::new(program());
        command.args(["cert", "--hostname", NAME, "--ip", "127.0.0.1"]).args(options);
        let output = command.args(["--cert", &self.cert, "--key", &self.key]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("telnets://{NAME}:13370#thumbprint=")), "{text}");
    }

    /// A command line with these files in it.
    pub(super) fn options<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--cert", &self.cert, "--key", &self.key, "--no-banner"], more].concat()
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.cert).unwrap()
    }

    /// A stream whose far end speaks TLS with the server, and takes this certificate only.
    pub(super) fn connect(&self, to: SocketAddr) -> Peer {
        self.secure(TcpStream::connect(to).unwrap())
    }

    pub(super) fn secure(&self, stream: TcpStream) -> Peer {
        secure(stream, self.trusting().with_no_client_auth())
    }

    /// A VM and a client at its console, in TLS both, and known to the server.
    pub(super) fn vm_and_client(&self, server: &Server) -> (Peer, Peer) {
        let vm = self.connect(server.vms).introduced(1);
        let client = self.connect(server.next_client_port()).answering();
        server.line_with("client attached");
        (vm, client)
    }

    /// As [`connect`](Self::connect), with a certificate of the peer's own.
    pub(super) fn connect_as(&self, who: &ClientFiles, to: SocketAddr) -> Peer {
        let chain = vec![CertificateDer::from_pem_file(&who.cert).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&who.key).unwrap();
        let config = self.trusting().with_client_auth_cert(chain, key).unwrap();
        secure(TcpStream::connect(to).unwrap(), config)
    }

    fn trusting(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots)
    }
}

/// A client's certificate and key, and the CA that signed it, in files.
pub(super) struct ClientFiles {
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    _folder: Folder,
}

impl ClientFiles {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["alice".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &ca).unwrap();
        let folder = Folder::new(name);
        let file = |name, text| {
            let path = folder.0.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let (ca, cert) = (file("ca.pem", ca.pem()), file("cert.pem", cert.pem()));
        Self { ca, cert, key: file("key.pem", key.serialize_pem()), _folder: folder }
    }
}

/// The near end of a connection that a thread carries over `stream` in TLS.
fn secure(stream: TcpStream, config: ClientConfig) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let tls = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
    thread::spawn(move || carry(tls, &stream, &far));
    Peer::connected(near)
}

/// Carries bytes both ways until one side fails or both have ended.
fn carry(mut tls: ClientConnection, mut outer: &TcpStream, mut inner: &TcpStream) {
    for stream in [outer, inner] {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
    }
    let mut opened = Vec::new();
    let mut bytes = vec![0; 16 << 10];
    let (mut outer_ended, mut inner_ended, mut passed_on) = (false, false, false);
    while !(outer_ended && opened.is_empty() && inner_ended && !tls.wants_write()) {
        let when = |condition, flag| if condition { flag } else { PollFlags::empty() };
        let mut sockets = [
            PollFd::new(
                outer,
                when(!outer_ended && opened.len() < bytes.len(), PollFlags::IN)
                    | when(tls.wants_write(), PollFlags::OUT),
            ),
            PollFd::new(
                inner,
                when(!inner_ended && !tls.is_handshaking() && !tls.wants_write(), PollFlags::IN)
                    | when(!opened.is_empty(), PollFlags::OUT),
            ),
        ];
        match poll(&mut sockets, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => panic!("{error}"),
        }
        let [from_outer, from_inner] = sockets.map(|socket| socket.revents());
        if from_outer.intersects(PollFlags::IN | PollFlags::ERR) {
            match tls.read_tls(&mut outer) {
                Ok(0) => outer_ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            let Ok(state) = tls.process_new_packets() else {
                let _ = tls.write_tls(&mut outer);
                return;
            };
            outer_ended |= state.peer_has_closed();
            let start = opened.len();
            opened.resize(start + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut opened[start..]).unwrap();
        }
        if from_inner.intersects(PollFlags::IN | PollFlags::ERR) {
            match inner.read(&mut bytes) {
                Ok(0) => {
                    inner_ended = true;
                    tls.send_close_notify();
                }
                Ok(n) => tls.writer().write_all(&bytes[..n]).unwrap(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        while tls.wants_write() {
            match tls.write_tls(&mut outer) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return,
            }
        }
        while !opened.is_empty() {
            match inner.write(&opened) {
                Ok(n) => drop(opened.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return,
            }
        }
        if outer_ended && opened.is_empty() && !std::mem::replace(&mut passed_on, true) {
            let _ = inner.shutdown(Shutdown::Write);
        }
    }
}

/// The server's name in its certificate.
pub(super) const NAME: &str = "vspc.test";
