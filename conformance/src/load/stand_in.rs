//! A minimal concentrator, for tests of the code that plays VMs: it serves the session start and vMotion,
//! keeps what it receives, and lets the test type.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use vspc_core::vmware::{Message, ProxyEvent, ProxySession, Said, Uuid};

/// A listening stand-in. It runs as long as the test.
pub(crate) struct StandIn {
    pub(crate) vms: SocketAddr,
    shared: Arc<Shared>,
}

/// What it has received so far, from all its VMs.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) name: String,
    pub(crate) named: usize,
    pub(crate) uuid: Option<Uuid>,
    pub(crate) data: Vec<u8>,
    pub(crate) completed: usize,
    connections: Vec<TcpStream>,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Heard>,
    news: Condvar,
}

impl Heard {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }
}

impl StandIn {
    pub(crate) fn start() -> Self {
        Self::start_saying(b"")
    }

    /// A wrong one, which sends this to the source right after GOAHEAD.
    pub(crate) fn start_saying(after_goahead: &'static [u8]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let vms = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                stream.set_nodelay(true).unwrap();
                let shared = Arc::clone(&accepting);
                shared.heard.lock().unwrap().connections.push(stream.try_clone().unwrap());
                thread::spawn(move || serve(stream, after_goahead, &shared));
            }
        });
        Self { vms, shared }
    }

    /// Waits until it has received enough; fails the test after 20 s.
    pub(crate) fn wait_for(&self, enough: impl Fn(&Heard) -> bool) {
        let heard = self.shared.heard.lock().unwrap();
        let limit = Duration::from_secs(20);
        let (heard, waited) =
            self.shared.news.wait_timeout_while(heard, limit, |heard| !enough(heard)).unwrap();
        assert!(!waited.timed_out(), "only heard {:?} from {:?}", heard.text(), heard.name);
    }

    /// Types on a connection; they are numbered in the order they came.
    pub(crate) fn type_on(&self, connection: usize, bytes: &[u8]) {
        self.shared.heard.lock().unwrap().connections[connection].write_all(bytes).unwrap();
    }
}

fn serve(mut stream: TcpStream, after_goahead: &[u8], shared: &Shared) {
    let mut session = ProxySession::new();
    let mut scratch = [0; 4096];
    loop {
        if stream.write_all(session.pending()).is_err() {
            return;
        }
        session.transmit(<[u8]>::len);
        let Ok(n @ 1..) = stream.read(&mut scratch) else { return };
        let mut heard = shared.heard.lock().unwrap();
        session.handle_received(&scratch[..n], &mut heard.data);
        while let Some(event) = session.poll_event() {
            let ProxyEvent::Said(said) = event else { continue };
            match said {
                Said::Proxy { .. } => session.put(&Message::WillProxy),
                Said::Name(name) => {
                    heard.name = String::from_utf8_lossy(&name).into_owned();
                    heard.named += 1;
                }
                Said::Uuid(uuid) => heard.uuid = Some(uuid),
                Said::VmotionBegin { sequence } => {
                    let sequence_and_secret = &[&sequence, SECRET].concat();
                    session.put(&Message::VmotionGoahead { sequence_and_secret });
                    session.put_wire(after_goahead);
                }
                Said::VmotionPeer { sequence_and_secret } => {
                    let sequence = sequence_and_secret.strip_suffix(SECRET).unwrap();
                    session.put(&Message::VmotionPeerOk { sequence });
                }
                Said::VmotionComplete { .. } => heard.completed += 1,
                _ => {}
            }
        }
        shared.news.notify_all();
    }
}

/// Contains bytes that must be doubled.
const SECRET: &[u8] = b"\xFFsecret\xFF";
