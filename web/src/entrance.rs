//! Where requests come in.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::connections::{Answer, Peer};

/// Answers what is asked on connections.
pub(crate) struct Entrance {
    pages: TowerToHyperService<Router>,
}

impl Entrance {
    pub(crate) fn new(pages: Router) -> Self {
        Self { pages: TowerToHyperService::new(pages) }
    }
}

impl Answer for Entrance {
    async fn answer(self: Arc<Self>, peer: Peer, request: Request) -> Response {
        let carrier = if peer.is_tls { "TLS" } else { "clear" };
        log::debug!("{} in {carrier}: {} {:?}", peer.address, request.method(), request.uri().path());
        let Ok(response) = self.pages.call(request).await;
        response
    }
}
