//! Connections of browsers and scripts, from accept to end.
//!
//! Owns how many there may be, in all and of one address, and how long one may take to say what it wants.
//! A websocket counts for as long as it is open.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::tls::{self, Shown, Tls};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Our end.
    pub(crate) local: SocketAddr,
    pub(crate) is_tls: bool,
    pub(crate) shown: Option<Shown>,
}

/// Answers requests.
pub(crate) trait Answer: Send + Sync + 'static {
    /// The answer to one.
    fn answer(self: Arc<Self>, peer: Peer, request: Request) -> impl Future<Output = Response> + Send;
}

/// Accepts for as long as the program runs.
pub(crate) async fn serve(listener: TcpListener, tls: Option<Arc<Tls>>, of: Arc<impl Answer>, most: usize) {
    let slots = Slots::new(most);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Of a connection that has gone already, or no descriptor is left: some may come back.
            Err(error) => {
                log::warn!("no connection can be accepted: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(slot) = slots.take(peer.ip()) else { continue };
        // A key and its echo are small, and must not wait for each other.
        let _ = stream.set_nodelay(true);
        watch_over(&stream);
        tokio::spawn(open(Counted { stream, _slot: slot }, peer, tls.clone(), Arc::clone(&of)));
    }
}

/// Has the system end a connection whose peer has gone, or takes nothing of what was sent: it would hold its
/// slot for ever.
fn watch_over(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let alive = TcpKeepalive::new().with_time(SILENT_FOR).with_interval(ASKED_EACH).with_retries(3);
    let set = socket.set_tcp_keepalive(&alive).and_then(|()| socket.set_tcp_user_timeout(Some(UNREAD_FOR)));
    if let Err(error) = set {
        log::debug!("a connection cannot be watched over: {error}");
    }
}

/// Makes what is in clear of a connection that is to be in TLS.
async fn open(stream: Counted, address: SocketAddr, tls: Option<Arc<Tls>>, of: Arc<impl Answer>) {
    // A connection that has gone has none.
    let Ok(local) = stream.stream.local_addr() else { return };
    let mut peer = Peer { address, local, is_tls: tls.is_some(), shown: None };
    let Some(tls) = tls else { return converse(stream, peer, of).await };
    let (acceptor, generation) = tls.acceptor();
    match timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            peer.shown = tls::shown(stream.get_ref().1, generation);
            converse(stream, peer, of).await;
        }
        Ok(Err(error)) => log::debug!("{address}: no TLS: {error}"),
        Err(_) => log::debug!("{address}: its TLS took longer than {} s", HANDSHAKE_WITHIN.as_secs()),
    }
}

/// Answers what is asked on one connection. What becomes of it as a websocket is that one's.
pub(crate) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
    of: Arc<impl Answer>,
) {
    let address = peer.address;
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (of, peer) = (Arc::clone(&of), peer.clone());
        async move { Ok::<_, Infallible>(of.answer(peer, request.map(Body::new)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MOST)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        log::debug!("{address}: {error}");
    }
}

/// How many connections there are.
#[derive(Clone)]
struct Slots(Arc<Mutex<Taken>>);

struct Taken {
    all: usize,
    most: usize,
    by_address: HashMap<IpAddr, usize>,
    /// Of those that were refused since one was not.
    refused: u64,
}

impl Slots {
    fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Taken { all: 0, most, by_address: HashMap::new(), refused: 0 })))
    }

    /// `None`: this one is too many. A quarter of all may come from one address; all from this machine, where
    /// a proxy stands for everybody.
    fn take(&self, address: IpAddr) -> Option<Slot> {
        let address = block(address);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        let most = if address.is_loopback() { taken.most } else { taken.most.div_ceil(4) };
        if taken.all >= taken.most || of_address >= most {
            taken.refused += 1;
            if taken.refused == 1 {
                log::warn!("{} connections ({of_address} from {address}): more are refused", taken.all);
            }
            return None;
        }
        taken.refused = 0;
        taken.all += 1;
        taken.by_address.insert(address, of_address + 1);
        Some(Slot { slots: self.clone(), address })
    }
}

/// Whoever has an IPv6 address has 2^64 of them.
pub(crate) fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

/// One of them; free again when dropped.
struct Slot {
    slots: Slots,
    address: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// A socket, and its slot for as long as it is open.
struct Counted {
    stream: TcpStream,
    _slot: Slot,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// How long a request's lines and headers may take, and how long a connection may be silent between requests.
const HEAD_WITHIN: Duration = Duration::from_secs(20);
/// They are short.
pub(crate) const HEAD_MOST: usize = 64 * 1024;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// After how long it is asked whether a silent peer is still there, and how often before it has gone.
const SILENT_FOR: Duration = Duration::from_secs(60);
const ASKED_EACH: Duration = Duration::from_secs(20);
/// How long what was sent may not be taken.
const UNREAD_FOR: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    struct Fine;

    impl Answer for Fine {
        async fn answer(self: Arc<Self>, _: Peer, _: Request) -> Response {
            "ok".into_response()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_what_it_wants_is_not_waited_for() {
        for begun in ["", "GET / HTTP/1.1\r\nhost: loc", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET"] {
            let (mut client, server) = tokio::io::duplex(1024);
            client.write_all(begun.as_bytes()).await.unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], 1));
            let peer = Peer { address, local: address, is_tls: false, shown: None };
            tokio::spawn(converse(server, peer, Arc::new(Fine)));
            // Its end, however it is said.
            let mut answer = Vec::new();
            let end = timeout(HEAD_WITHIN + Duration::from_secs(1), client.read_to_end(&mut answer)).await;
            assert!(end.is_ok(), "{begun:?}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_or_takes_nothing_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        watch_over(&stream);
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNREAD_FOR));
    }

    #[test]
    fn nobody_takes_all_slots_and_a_slot_that_is_given_back_is_free() {
        let slots = Slots::new(8);
        let mut one: Vec<_> = (0..2).map(|_| slots.take(address("192.0.2.1")).unwrap()).collect();
        assert!(slots.take(address("192.0.2.1")).is_none());
        assert!(slots.take(address("::ffff:192.0.2.1")).is_none());
        let _two: Vec<_> = (1..=2).map(|n| slots.take(address(&format!("2001:db8::{n}"))).unwrap()).collect();
        assert!(slots.take(address("2001:db8::3")).is_none());
        one.pop();
        one.push(slots.take(address("192.0.2.1")).unwrap());
        let here: Vec<_> = (0..4).map(|_| slots.take(address("127.0.0.1")).unwrap()).collect();
        assert!(slots.take(address("192.0.2.9")).is_none() && slots.take(address("::1")).is_none());
        drop((one, here));
        assert_eq!(slots.0.lock().unwrap().by_address.len(), 1);
        assert!(slots.take(address("192.0.2.9")).is_some());
    }
}
