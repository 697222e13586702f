//! TLS towards a server, for tools that know nothing of TLS: they get plain connections, and a tunnel in this
//! process carries each of them to the server.
//!
//! ```text
//!  tool ◀── plain TCP on loopback ──▶ tunnel ◀── TLS, at once or after option 37 ──▶ server
//!       near                                far
//! ```
//!
//! Data, FIN and RST travel both ways as they would without it, and whoever does not read is felt at the
//! other end: between the two sockets there is at most what one read brings.
//!
//! Owns how a server is reached ([`Dial`]), the options that say so ([`TlsArgs`]), and the host's end of TLS
//! ([`Secure`], without sockets). Refuses to know what the bytes mean, but for those of the upgrade
//! (tls-in-band.md §2; RFC 2941).

mod carrier;
mod options;
mod porter;
mod secure;
#[cfg(test)]
mod tests;
mod trust;
mod upgrade;

pub use options::TlsArgs;
pub use secure::Secure;
pub use trust::{Thumbprint, Trust};

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::Waker;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, SockRef, Socket, Type};

use carrier::Waiting;
use porter::{Order, Porter};

/// What the server's VM port is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum VmForm {
    /// Telnet in clear (telnet://)
    #[default]
    Off,
    /// TLS from the first byte (telnets://)
    On,
    /// Telnet that becomes TLS by option 37
    InBand,
}

/// Which of a server's ports is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// The one where hosts connect.
    Vm,
    /// One where clients connect.
    Client,
}

/// How a server is reached. Clones share one tunnel, which ends with the last of them.
#[derive(Clone, Debug, Default)]
pub struct Dial(Option<Arc<Tunnel>>);

impl Dial {
    /// Through TLS where `vms` and `clients` say so, as `tls` has it; `name` is whom the certificate must
    /// name, where that is looked at: without one, the address.
    ///
    /// # Errors
    ///
    /// The system has no thread, poller or listener to give.
    pub fn through(
        vms: VmForm,
        clients: bool,
        tls: Arc<ClientConfig>,
        name: Option<ServerName<'static>>,
    ) -> io::Result<Self> {
        Ok(Self(Some(Arc::new(Tunnel::start(vms, clients, tls, name)?))))
    }

    /// What the VM port is spoken to.
    #[must_use]
    pub fn vm_form(&self) -> VmForm {
        self.0.as_ref().map_or(VmForm::Off, |tunnel| tunnel.vms)
    }

    /// Connects, and waits until TLS is up where it is to be; each of both for at most `within`.
    ///
    /// # Errors
    ///
    /// The server's answer, or this machine's; or why there is no TLS, in words.
    pub fn connect(&self, port: Port, to: SocketAddr, within: Duration) -> io::Result<TcpStream> {
        self.open(port, to, within, true)
    }

    fn open(&self, port: Port, to: SocketAddr, within: Duration, report: bool) -> io::Result<TcpStream> {
        let far = TcpStream::connect_timeout(&to, within)?;
        if far.local_addr()? == to {
            // A port of this machine where nobody listens, given to the very connection that looked for it.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let Some((tunnel, form)) = self.leads_through(port) else { return Ok(far) };
        far.set_nonblocking(true)?;
        let (tell, told) = mpsc::channel();
        let waiting = Waiting { tell: Some(tell), report };
        let near = tunnel.carry(mio::net::TcpStream::from_std(far), to, form, waiting)?;
        match told.recv_timeout(within) {
            Ok(Ok(())) => Ok(near),
            Ok(Err(why)) => Err(io::Error::other(why)),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "TLS does not come up")),
        }
    }

    /// Begins to connect. With a tunnel the connection is there at once, and reset when there is no other
    /// end.
    ///
    /// # Errors
    ///
    /// As those of `connect(2)`.
    pub fn begin(&self, port: Port, to: SocketAddr) -> io::Result<mio::net::TcpStream> {
        let far = mio::net::TcpStream::connect(to)?;
        let Some((tunnel, form)) = self.leads_through(port) else { return Ok(far) };
        let near = tunnel.carry(far, to, form, Waiting { tell: None, report: true })?;
        near.set_nonblocking(true)?;
        Ok(mio::net::TcpStream::from_std(near))
    }

    /// Connects and hangs up.
    ///
    /// # Errors
    ///
    /// Why there is no such connection, in words.
    pub fn try_out(&self, port: Port, to: SocketAddr) -> Result<(), String> {
        self.open(port, to, TRY, false).map(drop).map_err(|error| format!("cannot connect: {error}"))
    }

    fn leads_through(&self, port: Port) -> Option<(&Tunnel, VmForm)> {
        let tunnel = self.0.as_deref()?;
        let form = match (port, tunnel.clients) {
            (Port::Vm, _) => tunnel.vms,
            (Port::Client, true) => VmForm::On,
            (Port::Client, false) => VmForm::Off,
        };
        (form != VmForm::Off).then_some((tunnel, form))
    }
}

/// The tunnel's own side of it: where near ends come from, and the thread that carries.
#[derive(Debug)]
struct Tunnel {
    vms: VmForm,
    clients: bool,
    tls: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    /// Where near ends are made, one at a time.
    listener: Mutex<TcpListener>,
    orders: Sender<Order>,
    waker: Waker,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    fn start(
        vms: VmForm,
        clients: bool,
        tls: Arc<ClientConfig>,
        name: Option<ServerName<'static>>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        // What is accepted inherits it.
        SockRef::from(&listener).set_send_buffer_size(KERNEL)?;
        SockRef::from(&listener).set_recv_buffer_size(KERNEL)?;
        let (orders, incoming) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (porter, waker) = Porter::new(incoming, Arc::clone(&stop))?;
        let thread = std::thread::Builder::new().name("tls".into()).spawn(move || porter.run())?;
        let listener = Mutex::new(listener);
        Ok(Self { vms, clients, tls, name, listener, orders, waker, stop, thread: Some(thread) })
    }

    /// Gives `far` a near end.
    fn carry(
        &self,
        far: mio::net::TcpStream,
        to: SocketAddr,
        form: VmForm,
        waiting: Waiting,
    ) -> io::Result<TcpStream> {
        let name = self.name.clone().unwrap_or_else(|| ServerName::IpAddress(to.ip().into()));
        let tls = ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        let secure = Secure::new(tls, form == VmForm::InBand);
        let (near, inner) = self.pair()?;
        inner.set_nonblocking(true)?;
        inner.set_nodelay(true)?;
        // TLS knows nothing of urgent bytes; they go where they stand.
        SockRef::from(&inner).set_out_of_band_inline(true)?;
        let near_end = mio::net::TcpStream::from_std(inner);
        let gone = |_| io::Error::other("the tunnel has ended");
        self.orders.send(Order { near: near_end, far, to, secure, waiting }).map_err(gone)?;
        self.waker.wake()?;
        Ok(near)
    }

    /// Two ends of a connection on loopback.
    fn pair(&self) -> io::Result<(TcpStream, TcpStream)> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let near = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        near.set_send_buffer_size(KERNEL)?;
        near.set_recv_buffer_size(KERNEL)?;
        near.connect(&listener.local_addr()?.into())?;
        let near = TcpStream::from(near);
        let own = near.local_addr()?;
        loop {
            // Anybody on this machine may connect here, and nobody else is let in.
            let (inner, peer) = listener.accept()?;
            if peer == own {
                return Ok((near, inner));
            }
        }
    }
}

impl Drop for Tunnel {
    /// Waits until what was said has been carried, but not for long.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bytes that the kernel may hold of each near socket, each way: without a bound it would hold megabytes that
/// the server believes to be read. The kernel doubles it.
const KERNEL: usize = 256 << 10;
/// How long a trial may take.
const TRY: Duration = Duration::from_secs(10);
