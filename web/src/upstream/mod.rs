//! The concentrators: one connection to each, which heals.
//!
//! Owns when it is tried again, and what of it goes into the fleet. What is spoken on one connection is
//! `link`'s, what one reader pulls from a stream `attach`'s.

pub(crate) mod attach;
mod carrier;
mod link;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinSet;
use vspc_operator::Refusal;
use vspc_trust::Credentials;

pub(crate) use self::link::Link;
use crate::auth::audit::printable;
use crate::fleet::{Fleet, Interest, LAST_LINE};
use crate::options::{Address, Server};

/// All of them. Copies share them.
#[derive(Clone)]
pub(crate) struct Upstreams {
    all: Arc<[Arc<Upstream>]>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// A concentrator that can be connected to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) server: Server,
    credentials: Option<Credentials>,
}

impl Target {
    /// Reads the files of its TLS. Waits for the disk.
    pub(crate) fn load(server: Server) -> Result<Self, String> {
        let credentials = match (&server.tls, &server.address) {
            (Some(files), Address::Tcp(host, _)) => {
                Some(Credentials::load(files, host).map_err(|fault| fault.to_string())?)
            }
            _ => None,
        };
        Ok(Self { server, credentials })
    }
}

/// One concentrator.
pub(crate) struct Upstream {
    pub(crate) server: Server,
    credentials: Option<Credentials>,
    place: usize,
    /// For whom is asked (operator.md §3); `Null`: for nobody else.
    behalf: Value,
    now: Mutex<Option<Arc<Link>>>,
    events: broadcast::Sender<Arc<Value>>,
    /// For those who have facts told.
    pub(crate) tellings: Semaphore,
}

impl Upstreams {
    /// Connects to each, and again, until it ends.
    pub(crate) fn start(targets: &[Target], fleet: &Arc<Fleet>, behalf: Option<&Value>) -> Self {
        let mut tasks = JoinSet::new();
        let mut all = Vec::new();
        for (place, target) in targets.iter().enumerate() {
            let upstream = Arc::new(Upstream::new(target.clone(), place, behalf));
            tasks.spawn(keep(Arc::clone(&upstream), Arc::clone(fleet)));
            tasks.spawn(count(Arc::clone(&upstream), Arc::clone(fleet)));
            all.push(upstream);
        }
        Self { all: all.into(), tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// One concentrator at the other end of this, and none when that has ended.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn on(carrier: impl carrier::Carry + 'static, server: Server, fleet: &Arc<Fleet>) -> Self {
        let upstream = Arc::new(Upstream::new(Target { server, credentials: None }, 0, None));
        let (of, fleet) = (Arc::clone(&upstream), Arc::clone(fleet));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (_, why) = converse(&of, &fleet, Box::new(carrier)).await;
            fleet.server(of.place, "down", &why);
        });
        Self { all: [upstream].into(), tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// Ends all connections, and what is open on them.
    pub(crate) fn end(&self, why: &str) {
        self.stop(|link| link.end(why));
    }

    /// The same where those whose they are may not be here any more.
    pub(crate) fn dismiss(&self, why: &'static str) {
        self.stop(|link| link.dismiss(why));
    }

    fn stop(&self, end: impl Fn(&Link)) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        self.all.iter().filter_map(|upstream| upstream.link()).for_each(|link| end(&link));
    }

    /// Whether somebody is at a console, or reads a log.
    pub(crate) fn is_used(&self) -> bool {
        self.all.iter().filter_map(|upstream| upstream.link()).any(|link| link.is_used())
    }

    /// Notes that somebody looks at this now. Where nobody has lately, it is asked for first.
    pub(crate) async fn look(&self, fleet: &Arc<Fleet>, interest: Interest) {
        let is_old = fleet.interest() < interest;
        fleet.ask(interest);
        if !is_old {
            return;
        }
        let mut counts = JoinSet::new();
        for upstream in self.all().iter().filter(|upstream| upstream.link().is_some()) {
            let (upstream, fleet) = (Arc::clone(upstream), Arc::clone(fleet));
            counts.spawn(async move { count_once(&upstream, &fleet).await });
        }
        // What one that hangs has told before is shown.
        let _ = tokio::time::timeout(COUNT_WITHIN, counts.join_all()).await;
    }

    pub(crate) fn all(&self) -> &[Arc<Upstream>] {
        &self.all
    }
}

impl Upstream {
    fn new(target: Target, place: usize, behalf: Option<&Value>) -> Self {
        Self {
            server: target.server,
            credentials: target.credentials,
            place,
            behalf: behalf.cloned().unwrap_or_default(),
            now: Mutex::new(None),
            events: broadcast::channel(EVENTS).0,
            tellings: Semaphore::new(TELLINGS),
        }
    }

    /// The connection, if there is one.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn call(&self, op: &str, fields: Value) -> Result<Value, Refusal> {
        match self.link() {
            Some(link) => link.call(op, fields).await,
            None => Err(not_connected(&self.server.name)),
        }
    }

    /// What it logs from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<Arc<Value>> {
        self.events.subscribe()
    }

    fn set(&self, link: Option<Arc<Link>>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }
}

/// Why there is no answer.
pub(crate) fn not_connected(name: &str) -> Refusal {
    Refusal {
        code: "not-connected".to_owned(),
        message: format!("the gateway is not connected to {name}"),
        details: Value::Null,
    }
}

/// Connects again and again.
async fn keep(upstream: Arc<Upstream>, fleet: Arc<Fleet>) {
    let mut pause = FIRST_PAUSE;
    let name = &upstream.server.name;
    let mut told = String::new();
    loop {
        fleet.server(upstream.place, "connecting", "");
        let outcome =
            tokio::time::timeout(PATIENCE, carrier::connect(&upstream.server.address, &upstream.credentials));
        let why = match outcome.await {
            Err(_) => "it does not answer".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(carrier)) => {
                let (is_greeted, why) = converse(&upstream, &fleet, carrier).await;
                if is_greeted {
                    pause = FIRST_PAUSE;
                    told.clear();
                }
                why
            }
        };
        let why = printable(&why);
        // One that is away for days is told of once, and again where the reason is another.
        let level = if why == told { log::Level::Debug } else { log::Level::Warn };
        match upstream.behalf["user"].as_str() {
            None => log::log!(level, "no connection to {name} ({}): {why}", upstream.server.written),
            Some(user) => log::log!(level, "no connection to {name} for {user:?}: {why}"),
        }
        fleet.server(upstream.place, "down", &why);
        told = why;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Speaks with it for as long as the connection lasts. Returns whether it has greeted, and why it is over.
async fn converse(
    upstream: &Upstream,
    fleet: &Arc<Fleet>,
    carrier: Box<dyn carrier::Carry>,
) -> (bool, String) {
    let name = &upstream.server.name;
    let link = Arc::new(Link::new(&upstream.behalf));
    // It ends with this task.
    let mut run = JoinSet::new();
    run.spawn(Arc::clone(&link).run(carrier, Arc::clone(fleet), upstream.place, upstream.events.clone()));
    let greeting = link.hello().await;
    let is_greeted = greeting.is_ok();
    match greeting {
        Ok(greeting) => {
            match upstream.behalf["user"].as_str() {
                None => log::info!("connected to {name} ({})", upstream.server.written),
                Some(user) => log::debug!("connected to {name} for {user:?}"),
            }
            fleet.greeted(upstream.place, &greeting);
            upstream.set(Some(Arc::clone(&link)));
            for to in ["consoles", "events"] {
                if let Err(refusal) = link.call("subscribe", json!({"to": to})).await {
                    // Without the list nothing can be shown of it.
                    let why = format!("no news of its {to}: {}", refusal.message);
                    log::warn!("{name}: {}", printable(&why));
                    if to == "consoles" {
                        if refusal.code == NOT_ALLOWED {
                            fleet.refused(upstream.place);
                        }
                        fleet.server(upstream.place, "down", &why);
                    }
                }
            }
        }
        Err(refusal) => {
            if refusal.code == NOT_ALLOWED {
                fleet.refused(upstream.place);
            }
            link.end(&refusal.message);
        }
    }
    run.join_next().await;
    upstream.set(None);
    (is_greeted, link.why())
}

/// Asks for counts while somebody looks at them: they alone are no change that is told (operator.md §5).
async fn count(upstream: Arc<Upstream>, fleet: Arc<Fleet>) {
    loop {
        tokio::time::sleep(COUNT_EVERY).await;
        if fleet.interest() > Interest::Nothing {
            count_once(&upstream, &fleet).await;
        }
    }
}

async fn count_once(upstream: &Upstream, fleet: &Fleet) {
    let mut after = Value::Null;
    loop {
        let interest = fleet.interest();
        let with = (interest == Interest::Lines).then(|| json!([LAST_LINE]));
        let asked = json!({"after": after, "limit": COUNT_PAGE, "with": with});
        let Ok(mut page) = upstream.call("list", asked).await else { return };
        for console in page["consoles"].as_array().into_iter().flatten() {
            fleet.counted(upstream.place, console, interest);
        }
        after = page["next"].take();
        if after.is_null() {
            return;
        }
    }
}

/// The code of what takes a right that one does not have (operator.md §2).
const NOT_ALLOWED: &str = "not-allowed";
/// A connection may have 16 streams that tell of facts. Of each reader there may be two: the end of one is
/// sent behind the request for the next, which is more urgent.
const TELLINGS: usize = 7;
/// Notices that a slow reader of events may lag behind.
const EVENTS: usize = 256;
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// How long who asks for a list waits for them.
const COUNT_WITHIN: Duration = Duration::from_secs(1);
/// The largest (operator.md §5).
const COUNT_PAGE: usize = 500;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// For a connection, and its TLS.
const PATIENCE: Duration = Duration::from_secs(8);
