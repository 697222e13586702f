//! Sockets to concentrators, with TLS or without.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use vspc_trust::Credentials;

use crate::options::Address;

/// A concentrator that vanishes without a word is found out within two minutes, and sooner if something was
/// said to it.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let often = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY).with_retries(6);
    socket.set_tcp_keepalive(&often)?;
    socket.set_tcp_user_timeout(Some(UNANSWERED))
}

const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// How long what was said may stay unacknowledged.
const UNANSWERED: Duration = Duration::from_secs(30);

/// What bytes go through.
pub(crate) trait Carry: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carry for T {}

pub(super) async fn connect(address: &Address, tls: &Option<Credentials>) -> io::Result<Box<dyn Carry>> {
    match address {
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Address::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            keep_alive(&stream)?;
            match tls {
                None => Ok(Box::new(stream)),
                Some(credentials) => {
                    let connector = TlsConnector::from(Arc::clone(credentials.config()));
                    Ok(Box::new(connector.connect(credentials.name().clone(), stream).await?))
                }
            }
        }
    }
}
