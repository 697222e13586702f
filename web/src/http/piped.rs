//! A body that is made while it is read, and no faster.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

/// A body, and where to put its pieces. The sender's end is the body's, an error cuts it short;
/// a piece that is not taken waits.
pub(super) fn piped() -> (Sender<io::Result<Bytes>>, Body) {
    let (sender, receiver) = channel(1);
    (sender, Body::new(Piped { first: None, receiver }))
}

/// The same, for who can still be told something else: an error that comes before all pieces, within this
/// time. `of` is given where the pieces go.
pub(super) async fn begun(within: Duration, of: impl FnOnce(Sender<io::Result<Bytes>>)) -> io::Result<Body> {
    let (sender, mut receiver) = channel(1);
    of(sender);
    let first = match timeout(within, receiver.recv()).await {
        Ok(Some(first)) => Some(first?),
        Ok(None) | Err(_) => None,
    };
    Ok(Body::new(Piped { first, receiver }))
}

struct Piped {
    first: Option<Bytes>,
    receiver: Receiver<io::Result<Bytes>>,
}

impl hyper::body::Body for Piped {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.receiver.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
