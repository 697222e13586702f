//! What each person sees of the concentrators: connections in his name, and the pages over them.
//!
//! A concentrator is told for whom is asked when a connection begins (operator.md §3), so everybody who is
//! known has connections of his own, and is shown what they show. Owns how many of these there are, and when
//! they end: some time after the last use, and at once when he may not be here any more.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use hyper::body::Frame;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::auth::{By, Who};
use crate::fleet::{Fleet, Only};
use crate::http::problem::Problem;
use crate::upstream::{Target, Upstreams};

/// What one of them is served.
pub(crate) type Pages = fn(Upstreams, Arc<Fleet>) -> Router;

/// Everybody's.
pub(crate) struct Views {
    targets: Vec<Target>,
    pages: Pages,
    /// What those are served who come by a link.
    pages_of_share: Pages,
    all: Mutex<HashMap<Who, Arc<View>>>,
}

/// One person's, or the gateway's own.
pub(crate) struct View {
    pages: TowerToHyperService<Router>,
    upstreams: Upstreams,
    fleet: Arc<Fleet>,
    used: Mutex<Instant>,
    /// Answers that are under way.
    answers: AtomicUsize,
    over: watch::Sender<bool>,
}

impl Views {
    pub(crate) fn new(targets: Vec<Target>, pages: Pages, pages_of_share: Pages) -> Self {
        Self { targets, pages, pages_of_share, all: Mutex::default() }
    }

    /// The gateway's own: nobody is asked for.
    pub(crate) fn own(&self) -> Arc<View> {
        Arc::new(View::start(&self.targets, None, None, self.pages))
    }

    /// This one's. Where it begins, its concentrators are waited for a little.
    pub(crate) async fn of(&self, who: &Who) -> Result<Arc<View>, Problem> {
        let view = self.find_or_start(who)?;
        view.ready().await;
        Ok(view)
    }

    fn find_or_start(&self, who: &Who) -> Result<Arc<View>, Problem> {
        let mut all = self.lock();
        if let Some(view) = all.get(who) {
            view.touch();
            return Ok(Arc::clone(view));
        }
        let of_name = all.keys().filter(|other| other.is_same_one(who)).count();
        if all.len() >= MOST || of_name >= OF_ONE_NAME {
            let is_his = |other: &Who| of_name < OF_ONE_NAME || other.is_same_one(who);
            let idle = all.iter().filter(|(other, view)| is_his(other) && !view.is_used());
            let Some(idlest) = idle.min_by_key(|(_, view)| view.used()).map(|(who, _)| who.clone()) else {
                let why = "too many people are here, or too many of your programs";
                return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many", why));
            };
            if let Some(view) = all.remove(&idlest) {
                view.end("somebody else came");
            }
        }
        let view = match &who.by {
            By::Share(share) => {
                let its = |target: &&Target| target.server.name == share.server;
                let targets: Vec<_> = self.targets.iter().filter(its).cloned().collect();
                let only = Only { uuid: share.uuid.clone(), suffix: share.suffix.clone() };
                View::start(&targets, Some(&who.behalf()), Some(only), self.pages_of_share)
            }
            _ => View::start(&self.targets, Some(&who.behalf()), None, self.pages),
        };
        let view = Arc::new(view);
        all.insert(who.clone(), Arc::clone(&view));
        Ok(view)
    }

    /// Ends those of people who do not stay, and those that nobody has used for a while. `stays` is told
    /// whether somebody is at a console.
    pub(crate) fn sweep(&self, stays: impl Fn(&Who, bool) -> bool) {
        self.lock().retain(|who, view| {
            if !stays(who, view.upstreams.is_used()) {
                view.end("who asked may not be here any more");
                return false;
            }
            if view.is_used() || view.used().elapsed() < IDLE {
                return true;
            }
            view.end("nobody uses it");
            false
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Who, Arc<View>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn start(targets: &[Target], behalf: Option<&Value>, only: Option<Only>, pages: Pages) -> Self {
        let names = targets.iter().map(|target| target.server.name.clone()).collect();
        let fleet = Arc::new(match only {
            Some(only) => Fleet::of(names, only),
            None => Fleet::new(names),
        });
        let upstreams = Upstreams::start(targets, &fleet, behalf);
        let pages = TowerToHyperService::new(pages(upstreams.clone(), Arc::clone(&fleet)));
        let (over, _) = watch::channel(false);
        let used = Mutex::new(Instant::now());
        Self { pages, upstreams, fleet, used, answers: AtomicUsize::new(0), over }
    }

    /// Answers a request. The answer's body ends when this ends.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request) -> Response {
        let in_use = InUse::of(self);
        let Ok(response) = self.pages.call(request).await;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return response;
        }
        let mut over = self.over.subscribe();
        let over = Box::pin(async move {
            let _ = over.wait_for(|&is_over| is_over).await;
        });
        response.map(|body| Body::new(Until { body, over, _in_use: in_use }))
    }

    /// Waits until each concentrator has told of its consoles, or is known not to be there.
    async fn ready(&self) {
        let mut changed = self.fleet.watch();
        let told = async {
            while self.fleet.servers().iter().any(|server| server["state"] == "connecting") {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(PATIENCE, told).await;
    }

    fn end(&self, why: &str) {
        self.over.send_replace(true);
        self.upstreams.end(why);
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_used(&self) -> bool {
        self.answers.load(Ordering::Relaxed) > 0 || self.upstreams.is_used()
    }
}

/// An answer that is under way.
struct InUse(Arc<View>);

impl InUse {
    fn of(view: &Arc<View>) -> Self {
        view.answers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(view))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.touch();
        self.0.answers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that ends when its view does.
struct Until {
    body: Body,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    _in_use: InUse,
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new("who asked may not be here any more"))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

const MOST: usize = 256;
const OF_ONE_NAME: usize = 48;
const IDLE: Duration = Duration::from_secs(60);
/// For the concentrators of one who has just come.
const PATIENCE: Duration = Duration::from_secs(5);
