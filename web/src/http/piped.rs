//! A body that is made while it is read, and no faster.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// A body, and where to put its pieces. The sender's end is the body's, an error cuts it short;
/// a piece that is not taken waits.
pub(super) fn piped() -> (Sender<io::Result<Bytes>>, Body) {
    let (sender, receiver) = channel(1);
    (sender, Body::new(Piped(receiver)))
}

struct Piped(Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Piped {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
