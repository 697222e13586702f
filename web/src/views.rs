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
use crate::http::Locks;
use crate::http::problem::Problem;
use crate::remembered::{Key, Remembered, key};
use crate::upstream::{Target, Upstreams};

/// What one of them is served.
pub(crate) type Pages = fn(Upstreams, Arc<Fleet>, Locks) -> Router;

/// Everybody's.
pub(crate) struct Views {
    targets: Vec<Target>,
    pages: Pages,
    /// What those are served who come by a link.
    pages_of_share: Pages,
    all: Mutex<HashMap<Who, Arc<View>>>,
    locks: Mutex<HashMap<String, Locks>>,
    memory: Arc<Memory>,
}

/// What those know who have no view now. Its parts are locked in this order, while `all` is or not; never the
/// other way round.
#[derive(Default)]
struct Memory {
    /// What is still to be packed: of each the newest.
    leaving: Mutex<HashMap<Key, (Who, Arc<Fleet>)>>,
    remembered: Mutex<Remembered>,
}

impl Memory {
    /// Packs what is to be. That takes long where there are many consoles; nothing for which others wait is
    /// locked meanwhile.
    fn pack(&self) {
        while let Some((who, fleet)) = self.next_leaving() {
            let told = fleet.told();
            let mut leaving = self.leaving();
            let key = key(&who);
            // He may have come and gone since.
            if leaving.get(&key).is_some_and(|(_, newest)| Arc::ptr_eq(newest, &fleet)) {
                self.remembered().keep(&who, told);
                leaving.remove(&key);
            }
        }
    }

    fn next_leaving(&self) -> Option<(Who, Arc<Fleet>)> {
        self.leaving().values().next().cloned()
    }

    fn leaving(&self) -> MutexGuard<'_, HashMap<Key, (Who, Arc<Fleet>)>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has views when one comes.
struct Seats {
    all: usize,
    of_same: usize,
    by_shares: usize,
    is_by_share: bool,
}

impl Seats {
    fn of<'a>(all: impl Iterator<Item = &'a Who>, who: &Who) -> Self {
        let mut seats = Self { all: 0, of_same: 0, by_shares: 0, is_by_share: who.is_by_share() };
        for other in all {
            seats.all += 1;
            seats.of_same += usize::from(other.is_same_one(who));
            seats.by_shares += usize::from(other.is_by_share());
        }
        seats
    }

    fn is_full(&self) -> bool {
        self.all >= MOST || self.of_same >= OF_ONE_NAME || self.has_all_of_shares()
    }

    /// Those who have logged in have room of their own.
    const fn has_all_of_shares(&self) -> bool {
        self.is_by_share && self.by_shares >= BY_SHARES
    }

    /// Whether this other one makes room, if he does nothing.
    fn yields(&self, other: &Who, who: &Who) -> bool {
        (self.of_same < OF_ONE_NAME || other.is_same_one(who))
            && (!self.has_all_of_shares() || other.is_by_share())
    }
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
        Self {
            targets,
            pages,
            pages_of_share,
            all: Mutex::default(),
            locks: Mutex::default(),
            memory: Arc::default(),
        }
    }

    /// The gateway's own: nobody is asked for.
    pub(crate) fn own(&self) -> Arc<View> {
        let fleet = Fleet::new(names_of(&self.targets));
        Arc::new(View::start(&self.targets, None, fleet, self.pages, Locks::default()))
    }

    /// This one's. Where it begins, its concentrators are waited for a little.
    pub(crate) async fn of(&self, who: &Who) -> Result<Arc<View>, Problem> {
        let view = self.find_or_start(who)?;
        view.ready().await;
        Ok(view)
    }

    fn find_or_start(&self, who: &Who) -> Result<Arc<View>, Problem> {
        let who = &who.seat();
        // It is let go of when nobody waits any more.
        let mut ended = None;
        let mut all = self.lock();
        if let Some(view) = all.get(who) {
            view.touch();
            return Ok(Arc::clone(view));
        }
        let seats = Seats::of(all.keys(), who);
        if seats.is_full() {
            let idle = all.iter().filter(|(other, view)| seats.yields(other, who) && !view.is_used());
            let Some(idlest) = idle.min_by_key(|(_, view)| view.used()).map(|(who, _)| who.clone()) else {
                let why = "too many people are here, or too many of your programs";
                return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many", why));
            };
            if let Some(view) = all.remove(&idlest) {
                view.end("somebody else came");
                self.leave(&all, &[ended.insert((idlest, view)).clone()]);
            }
        }
        let view = match &who.by {
            By::Share(share) => {
                let its = |target: &&Target| target.server.name == share.server;
                let targets: Vec<_> = self.targets.iter().filter(its).cloned().collect();
                let only = Only { uuid: share.uuid.clone(), suffix: share.suffix.clone() };
                let fleet = Fleet::of(names_of(&targets), only);
                View::start(&targets, Some(&who.behalf()), fleet, self.pages_of_share, Locks::default())
            }
            _ => {
                let fleet = self.fleet_of(&all, who);
                let locks = self.locks_of(&who.name);
                View::start(&self.targets, Some(&who.behalf()), fleet, self.pages, locks)
            }
        };
        let view = Arc::new(view);
        all.insert(who.clone(), Arc::clone(&view));
        Ok(view)
    }

    /// What this one begins with: what is known in his other views, or was when they ended.
    fn fleet_of(&self, all: &HashMap<Who, Arc<View>>, who: &Who) -> Fleet {
        let names = names_of(&self.targets);
        let leaving = self.memory.leaving();
        let here = of_same(all, who).map(|view| &view.fleet);
        match here.or_else(|| leaving.get(&key(who)).map(|(_, fleet)| fleet)) {
            Some(other) => Fleet::beside(names, other),
            None => Fleet::recalling(names, self.memory.remembered().of(who)),
        }
    }

    /// Keeps what these were told whose views have ended, for when they come back and a concentrator is down.
    /// Where somebody has another view, that one tells it when it ends.
    fn leave(&self, all: &HashMap<Who, Arc<View>>, ended: &[(Who, Arc<View>)]) {
        let is_last = |who: &Who| !who.is_by_share() && of_same(all, who).is_none();
        let mut last: Vec<_> = ended.iter().filter(|(who, _)| is_last(who)).collect();
        if last.is_empty() {
            return;
        }
        // Of several that end at once, the one that was used last.
        last.sort_by_key(|(_, view)| view.used());
        let of = |(who, view): &(Who, Arc<View>)| (key(who), (who.clone(), Arc::clone(&view.fleet)));
        self.memory.leaving().extend(last.into_iter().map(of));
        let memory = Arc::clone(&self.memory);
        tokio::task::spawn_blocking(move || memory.pack());
    }

    /// What this one holds locked, from wherever he has done it.
    fn locks_of(&self, name: &str) -> Locks {
        let mut all = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, locks| !locks.is_unused());
        all.entry(name.to_owned()).or_default().clone()
    }

    /// Ends those of people who do not stay, and those that nobody has used for a while. `stays` is told
    /// whether somebody is at a console.
    pub(crate) fn sweep(&self, stays: impl Fn(&Who, bool) -> bool) {
        // They are let go of when nobody waits any more.
        let mut ended = Vec::new();
        let mut all = self.lock();
        all.retain(|who, view| {
            if !stays(who, view.upstreams.is_used()) {
                view.dismiss(who.by.ending());
            } else if view.is_used() || view.used().elapsed() < IDLE {
                return true;
            } else {
                view.end("nobody uses it");
            }
            ended.push((who.clone(), Arc::clone(view)));
            false
        });
        self.leave(&all, &ended);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Who, Arc<View>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn start(targets: &[Target], behalf: Option<&Value>, fleet: Fleet, pages: Pages, locks: Locks) -> Self {
        let fleet = Arc::new(fleet);
        Self::over(Upstreams::start(targets, &fleet, behalf), fleet, pages, locks)
    }

    /// A view of what is connected already.
    pub(crate) fn over(upstreams: Upstreams, fleet: Arc<Fleet>, pages: Pages, locks: Locks) -> Self {
        let pages = TowerToHyperService::new(pages(upstreams.clone(), Arc::clone(&fleet), locks));
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

    /// Ends it because its person may not be here any more.
    fn dismiss(&self, why: &'static str) {
        self.over.send_replace(true);
        self.upstreams.dismiss(why);
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

/// A view of somebody to whom the concentrators tell the same.
fn of_same<'a>(all: &'a HashMap<Who, Arc<View>>, who: &Who) -> Option<&'a Arc<View>> {
    all.iter().find(|(other, _)| !other.is_by_share() && other.is_known_as(who)).map(|(_, view)| view)
}

fn names_of(targets: &[Target]) -> Vec<String> {
    targets.iter().map(|target| target.server.name.clone()).collect()
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
/// Of all who come by links.
const BY_SHARES: usize = 128;
const IDLE: Duration = Duration::from_secs(60);
/// For the concentrators of one who has just come.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    use serde_json::json;

    use crate::auth::role::Role;
    use crate::auth::shares::Share;
    use crate::options::{Address, Server};

    fn by_link(of: &str, id: &str, from: &str) -> Who {
        let share = Share {
            id: id.to_owned(),
            by: of.to_owned(),
            is_listed: true,
            server: String::new(),
            uuid: String::new(),
            suffix: String::new(),
            console: String::new(),
            role: Role::Read,
            made: 0,
            expires: 0,
        };
        let (from, by) = (from.parse().unwrap(), By::Share(Box::new(share)));
        Who { name: of.to_owned(), from, role: Role::Read, by }
    }

    fn person(name: &str) -> Who {
        Who { name: name.to_owned(), from: [192, 0, 2, 1].into(), role: Role::Read, by: By::Proxy }
    }

    #[tokio::test]
    async fn links_take_no_room_of_people_and_those_of_one_maker_none_of_anothers() {
        let pages: Pages = |_, _, _| Router::new();
        let views = Views::new(Vec::new(), pages, pages);
        let mut held = Vec::new();
        let mut open = |who: Who| {
            let view = views.find_or_start(&who).ok()?;
            held.push(InUse::of(&view));
            Some(())
        };
        // Neighbours are one.
        for n in 1..=100 {
            assert!(open(by_link("ann", "0", &format!("2001:db8::{n}"))).is_some());
        }
        let opened = |open: &mut dyn FnMut(Who) -> Option<()>, of: &str| {
            let from = |n: usize| format!("2001:db8:{n:x}::1");
            (1..=100).filter(|n| open(by_link(of, &(n % 6).to_string(), &from(*n))).is_some()).count()
        };
        assert_eq!(opened(&mut open, "ann"), OF_ONE_NAME - 1);
        assert_eq!(opened(&mut open, "bob"), OF_ONE_NAME);
        assert_eq!(opened(&mut open, "cid"), BY_SHARES - 2 * OF_ONE_NAME);
        for n in 0..MOST - BY_SHARES {
            assert!(open(person(&format!("user{n}"))).is_some(), "{n}");
        }
        assert!(open(person("ann")).is_none());
        held.clear();
        assert!(views.find_or_start(&person("ann")).is_ok());
    }

    #[tokio::test]
    async fn what_somebody_holds_locked_is_his_wherever_he_comes_from() {
        let pages: Pages = |_, _, _| Router::new();
        let views = Views::new(Vec::new(), pages, pages);
        let (here, there) = (views.locks_of("ann"), views.locks_of("ann"));
        assert!(here.is_same(&there) && !here.is_same(&views.locks_of("bob")));
    }

    /// Of one concentrator, that is never reached: these tests wait for nothing, so that nothing tries to.
    fn views_of_one() -> Views {
        let pages: Pages = |_, _, _| Router::new();
        let address = Address::Unix("/nowhere/vspc.sock".into());
        let server = Server { name: "lab".into(), written: String::new(), address, tls: None };
        Views::new(vec![Target::load(server).unwrap()], pages, pages)
    }

    fn from(last: u8) -> Who {
        Who { from: [192, 0, 2, last].into(), ..person("ann") }
    }

    /// How many consoles somebody who comes now sees where the concentrator is down.
    fn seen(views: &Views, who: &Who) -> usize {
        let Ok(view) = views.find_or_start(who) else { panic!("there is no room") };
        view.fleet.server(0, "down", "it is gone");
        view.fleet.consoles(|_| true).len()
    }

    fn told(views: &Views, who: &Who) -> Arc<View> {
        let Ok(view) = views.find_or_start(who) else { panic!("there is no room") };
        view.fleet.console(0, json!({"id": "1.1"}));
        view
    }

    #[tokio::test]
    async fn what_somebody_knew_is_kept_until_the_last_of_his_views_has_ended_and_from_then_on() {
        let views = views_of_one();
        told(&views, &from(1));
        assert_eq!(seen(&views, &from(2)), 1, "he is here from elsewhere");
        views.sweep(|who, _| *who != from(1));
        assert_eq!(seen(&views, &from(3)), 1);
        views.sweep(|_, _| false);
        assert_eq!(seen(&views, &from(4)), 1, "packed or not");
        views.sweep(|_, _| false);
        views.memory.pack();
        assert!(views.memory.leaving().is_empty());
        assert_eq!((seen(&views, &from(5)), seen(&views, &person("bob"))), (1, 0));
    }

    #[tokio::test]
    async fn what_one_view_knew_does_not_outlive_what_another_was_refused() {
        let views = views_of_one();
        told(&views, &from(1));
        let Ok(other) = views.find_or_start(&from(2)) else { panic!("there is no room") };
        other.fleet.refused(0);
        // The one that was not refused ends last.
        views.sweep(|who, _| *who == from(1));
        assert_eq!(seen(&views, &from(3)), 0);
        views.sweep(|_, _| false);
        views.memory.pack();
        assert_eq!(seen(&views, &from(4)), 0);
    }

    #[tokio::test]
    async fn nobody_waits_while_what_another_knew_is_packed() {
        let views = views_of_one();
        let view = told(&views, &from(1));
        let (reached, is_reached) = channel();
        let (release, is_released) = channel::<()>();
        // What one knows is in use for long.
        let held = thread::spawn(move || {
            view.fleet.consoles(|_| {
                reached.send(()).unwrap();
                is_released.recv_timeout(Duration::from_secs(20)).is_ok()
            })
        });
        is_reached.recv().unwrap();
        views.sweep(|_, _| false);
        for who in [person("bob"), from(1)] {
            assert!(views.find_or_start(&who).is_ok());
        }
        let _ = release.send(());
        assert_eq!(held.join().unwrap().len(), 1, "somebody waited");
    }
}
