//! Sockets to concentrators, with TLS or without.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use vspc_trust::Credentials;

use crate::options::Address;

/// What bytes go through.
pub(crate) trait Carry: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carry for T {}

pub(super) async fn connect(address: &Address, tls: &Option<Credentials>) -> io::Result<Box<dyn Carry>> {
    match address {
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Address::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
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
