//! State in Redis, which several servers may share (state.md §4).
//!
//! **Owns** the keys, who may give out which block of ports, and what is published for other programs.
//! **Refuses to know** when something is to be written.
//!
//! ```text
//! vspc:consoles:OWNER    hash, identity to record: what OWNER keeps
//! vspc:revision:OWNER    which write was the last: another value means that Redis has forgotten some
//! vspc:block:N           OWNER of the ports from N × 256 on, as long as its lease lasts
//! vspc:live:OWNER        there while OWNER runs: two servers of one name are one too many
//! vspc:published:OWNER   hash, name to port: what OWNER has published, and may take back
//! ```
//!
//! Every step is one script or one transaction, so that Redis has all of it or nothing.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Commands, Connection, FromRedisValue, IntoConnectionInfo, Pipeline};
use vspc_core::concentrator::BLOCK;

use super::record::{Record, Seen};
use super::redis_scripts::{ACQUIRE, LEAVE, RENEW, UNPUBLISH};
use super::{Backend, Grant, Opened};
use crate::seed::seed;

/// Why the Redis that is to keep state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// It is no URL of a Redis.
    #[error("--redis-url is no URL of a Redis: {0}")]
    Url(String),
    /// Its password cannot be had.
    #[error("--redis-password-file {}: {why}", .path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It does not answer, or refuses.
    #[error("cannot use Redis at {0}: {1}; check --redis-url")]
    Refused(String, String),
    /// Another server has this name.
    #[error("another server is called {0} in Redis: stop it, or choose another --redis-owner")]
    InUse(String),
    /// What is kept there makes no sense.
    #[error("Redis key {0}, field {1}: {2}; it stays as it is: mend it or delete it")]
    Damaged(String, String, String),
}

/// Why state was not kept this time.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    /// Nothing is written: the other would take it for its own, and write over it.
    #[error(
        "another server is called {0} in Redis, and the ports are that one's: stop one of them, or give each \
         a --redis-owner of its own"
    )]
    Doubled(String),
}

/// What is to be known to use a Redis.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) client: Client,
    /// What this server is called.
    pub(super) owner: String,
    /// The first and the last client port, if there are any.
    pub(super) ports: Option<(u16, u16)>,
    /// For how long what is this server's stays its own when it is gone.
    pub(super) lease: Duration,
    /// Where ports are published: prefixes of keys, and the key of a hash.
    pub(super) active: String,
    pub(super) saved: String,
    pub(super) hash: String,
}

impl Settings {
    pub(super) fn new(url: &str, password: Option<&str>, owner: String) -> Result<Self, RedisError> {
        let wrong = |error: redis::RedisError| RedisError::Url(error.to_string());
        let mut to = url.into_connection_info().map_err(wrong)?;
        if let Some(password) = password {
            let settings = to.redis_settings().clone().set_password(password);
            to = to.set_redis_settings(settings);
        }
        let client = Client::open(to).map_err(wrong)?;
        Ok(Self {
            client,
            owner,
            ports: None,
            lease: Duration::ZERO,
            active: String::new(),
            saved: String::new(),
            hash: String::new(),
        })
    }

    /// Where it is, without its password.
    pub(super) fn place(&self) -> String {
        format!("{}, as {}", self.client.get_connection_info().addr(), self.owner)
    }
}

/// A Redis, and what this server has there.
pub(super) struct Redis {
    settings: Settings,
    connection: Option<Connection>,
    /// Tells this run of the server from others of its name.
    token: String,
    /// How often this run has written.
    revision: u64,
    blocks: BTreeSet<u8>,
    /// No block is left for this server.
    is_full: bool,
    /// Ports of its blocks that somebody has.
    used: usize,
    /// The records as they are there; `None`: that is not known.
    written: Option<HashMap<String, String>>,
    /// What is published, by name.
    published: HashMap<String, u16>,
    grant: Option<Grant>,
    /// Until then no new block is taken: Redis may have forgotten whose they are, and who has them says so
    /// again first.
    quiet_until: Option<Instant>,
    /// Another server has its name, and what is kept under it.
    is_doubled: bool,
}

impl Redis {
    /// Connects, and reads what is kept.
    pub(super) fn open(settings: Settings) -> Result<(Self, Opened), RedisError> {
        let refused = |place: &str, error: &dyn ToString| {
            RedisError::Refused(place.to_owned(), error.to_string().replace('\n', " "))
        };
        let place = settings.client.get_connection_info().addr().to_string();
        let token = seed().map_err(|error| refused(&place, &error))?;
        let token = token[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut redis = Self {
            settings,
            connection: None,
            token,
            revision: 0,
            blocks: BTreeSet::new(),
            is_full: false,
            used: 0,
            written: None,
            published: HashMap::new(),
            grant: None,
            quiet_until: None,
            is_doubled: false,
        };
        let until = Instant::now() + LIVE + LIVE / 2;
        while !redis.claim_name().map_err(|error| refused(&place, &error))? {
            if Instant::now() >= until {
                return Err(RedisError::InUse(redis.settings.owner));
            }
            thread::sleep(LOOK_AGAIN);
        }
        let key = redis.key("consoles");
        let rows: HashMap<String, String> =
            redis.ask(|connection| connection.hgetall(&key)).map_err(|error| refused(&place, &error))?;
        let mut kept = Vec::new();
        for (field, line) in rows {
            let record = Record::read(&line).map_err(|why| RedisError::Damaged(key.clone(), field, why))?;
            kept.push(record);
        }
        redis.used = kept.len();
        redis.blocks = kept.iter().filter_map(|record| Some((record.port? / BLOCK) as u8)).collect();
        let mut lost = Vec::new();
        redis.quiet_until = None;
        redis.renew(&mut lost).map_err(|error| refused(&place, &error))?;
        redis.acquire().map_err(|error| refused(&place, &error))?;
        let granted = redis.blocks.iter().copied().collect();
        redis.grant = None;
        let grant = Some(Grant { granted, lost: Vec::new(), may_grow: !redis.is_full });
        Ok((redis, Opened { kept, grant }))
    }

    fn key(&self, what: &str) -> String {
        format!("vspc:{what}:{}", self.settings.owner)
    }

    /// Asks on the connection, which is made if there is none and given up if that fails.
    fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut Connection) -> redis::RedisResult<T>,
    ) -> redis::RedisResult<T> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                // Whoever answers now may have forgotten something.
                self.written = None;
                self.quiet_until = Some(Instant::now() + QUIET);
                let connection = self.settings.client.get_connection_with_timeout(PATIENCE)?;
                connection.set_read_timeout(Some(PATIENCE))?;
                connection.set_write_timeout(Some(PATIENCE))?;
                none.insert(connection)
            }
        };
        let answer = ask(connection);
        if answer.is_err() {
            self.connection = None;
            self.written = None;
        }
        answer
    }

    fn eval<T: FromRedisValue>(
        &mut self,
        script: &str,
        keys: &[String],
        args: &[String],
    ) -> redis::RedisResult<T> {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(keys.len()).arg(keys).arg(args);
        self.ask(|connection| command.query(connection))
    }

    /// Becomes the only server of this name. False: there is one.
    fn claim_name(&mut self) -> redis::RedisResult<bool> {
        let (key, token) = (self.key("live"), self.token.clone());
        let mut command = redis::cmd("SET");
        command.arg(key).arg(token).arg("NX").arg("PX").arg(LIVE.as_millis() as u64);
        self.ask(|connection| command.query::<Option<String>>(connection)).map(|set| set.is_some())
    }

    /// Renews every lease, that of the name too. Returns whether what was written last is there. Blocks that
    /// somebody else has are this server's no more.
    fn renew(&mut self, lost: &mut Vec<u8>) -> Result<bool, Trouble> {
        let keys = [self.key("revision"), self.key("consoles"), self.key("live"), self.key("published")];
        let mut args = vec![self.settings.owner.clone(), self.token.clone(), self.lease()];
        args.push(LIVE.as_millis().to_string());
        args.extend(self.blocks.iter().map(ToString::to_string));
        let (revision, other, gone): (String, String, Vec<u8>) = self.eval(RENEW, &keys, &args)?;
        for block in gone {
            self.blocks.remove(&block);
            lost.push(block);
        }
        let was_doubled = std::mem::replace(&mut self.is_doubled, !other.is_empty());
        let all = || self.blocks.iter().copied().collect();
        match (was_doubled, self.is_doubled) {
            // The other gives out ports of the same blocks.
            (false, true) => self.note_grant(Vec::new(), all()),
            (true, false) => self.note_grant(all(), Vec::new()),
            _ => {}
        }
        if self.is_doubled {
            // What is there by then is the other's.
            self.written = None;
            return Err(Trouble::Doubled(self.settings.owner.clone()));
        }
        Ok(revision == self.written_revision())
    }

    /// What the loop is to be told: these blocks are this server's to give out, and those are not any more.
    fn note_grant(&mut self, granted: Vec<u8>, lost: Vec<u8>) {
        let may_grow = !self.is_full;
        let grant = self.grant.get_or_insert(Grant { granted: Vec::new(), lost: Vec::new(), may_grow });
        grant.granted.extend(granted);
        grant.lost.extend(lost);
        grant.may_grow = may_grow;
    }

    /// Sees to it that there are free ports in stock for the VMs that come next.
    fn acquire(&mut self) -> redis::RedisResult<()> {
        let Some((first, last)) = self.settings.ports else { return Ok(()) };
        if self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        let held = |blocks: &BTreeSet<u8>| -> usize {
            blocks.iter().map(|&block| ports_between(block, first, last)).sum()
        };
        let stock = usize::from((last - first) / STOCK_PART).clamp(1, STOCK);
        let wanted = self.used + self.used / 4 + stock;
        let missing = wanted.saturating_sub(held(&self.blocks)).div_ceil(usize::from(BLOCK));
        let all = first / BLOCK..=last / BLOCK;
        let others = all.filter(|&block| !self.blocks.contains(&(block as u8)));
        let others: Vec<String> = others.map(|block| block.to_string()).collect();
        let was_full = self.is_full;
        let mut granted: Vec<u8> = Vec::new();
        if missing > 0 && !others.is_empty() {
            let last_write = self.written.as_ref().map(|_| self.written_revision()).unwrap_or_default();
            let mut args = vec![self.settings.owner.clone(), self.lease(), missing.to_string(), last_write];
            args.extend(others);
            let Some(got) = self.eval(ACQUIRE, &[self.key("revision")], &args)? else {
                // What is looked at next finds out, and says so.
                return Ok(());
            };
            granted = got;
        }
        self.blocks.extend(&granted);
        self.is_full = granted.len() < missing;
        if !granted.is_empty() || self.is_full != was_full {
            self.note_grant(granted, Vec::new());
        }
        Ok(())
    }

    fn lease(&self) -> String {
        self.settings.lease.as_millis().to_string()
    }

    fn written_revision(&self) -> String {
        format!("{}:{}", self.token, self.revision)
    }

    /// Adds to a transaction what is to be published, and what is not any more.
    fn publish(&self, names: &HashMap<String, u16>, is_whole: bool, pipe: &mut Pipeline) {
        let Settings { active, saved, hash, .. } = &self.settings;
        let published = self.key("published");
        for (name, port) in &self.published {
            if !names.contains_key(name) {
                pipe.cmd("EVAL").arg(UNPUBLISH).arg(3).arg(format!("{active}{name}")).arg(hash);
                pipe.arg(&published).arg(name).arg(port).ignore();
            }
        }
        for (name, port) in names {
            if is_whole || self.published.get(name) != Some(port) {
                pipe.set(format!("{active}{name}"), port).ignore();
                pipe.set_ex(format!("{saved}{name}"), port, SAVED_FOR).ignore();
                pipe.hset(hash, name, port).ignore();
                pipe.hset(&published, name, port).ignore();
            }
        }
    }

    fn write(&mut self, records: &[&Record]) -> Result<(), Trouble> {
        let key = self.key("consoles");
        let is_new = self.connection.is_none();
        // Also where Redis is only just reached again: it knows whose the blocks are before others ask.
        self.renew_all()?;
        if is_new {
            // One that was published before a restart, or while there was no answer, may have to go.
            let published = self.key("published");
            let before: HashMap<String, u16> = self.ask(|connection| connection.hgetall(&published))?;
            self.published.extend(before);
        }
        let lines: HashMap<String, String> =
            records.iter().map(|record| (field(record), record.line())).collect();
        let names = names(records);
        let is_whole = self.written.is_none();
        let before = self.written.take().unwrap_or_default();
        let last_write = self.written_revision();
        let mut pipe = redis::pipe();
        pipe.atomic();
        pipe.get(self.key("revision"));
        if is_whole {
            pipe.del(&key).ignore();
        }
        let changed: Vec<(&String, &String)> =
            lines.iter().filter(|(field, line)| before.get(*field) != Some(*line)).collect();
        for some in changed.chunks(AT_ONCE) {
            pipe.hset_multiple(&key, some).ignore();
        }
        let gone: Vec<&String> = before.keys().filter(|field| !lines.contains_key(*field)).collect();
        if !gone.is_empty() {
            pipe.hdel(&key, gone).ignore();
        }
        self.publish(&names, is_whole, &mut pipe);
        self.revision += 1;
        pipe.set(self.key("revision"), self.written_revision()).ignore();
        let (found,): (Option<String>,) = self.ask(|connection| pipe.query(connection))?;
        self.published = names;
        if !is_whole && found.as_ref() != Some(&last_write) {
            // What changed was added to nothing.
            self.note_forgotten();
            return self.write(records);
        }
        self.written = Some(lines);
        let is_ours = |port: &u16| self.blocks.contains(&((port / BLOCK) as u8));
        self.used = records.iter().filter(|record| record.port.as_ref().is_some_and(is_ours)).count();
        Ok(self.acquire()?)
    }

    /// Redis has lost writes of this server's: whose blocks are it may have forgotten as well.
    fn note_forgotten(&mut self) {
        log::warn!("Redis has forgotten what was kept: all of it is written again");
        self.written = None;
        self.quiet_until = Some(Instant::now() + QUIET);
    }

    /// Renews every lease, and notes which blocks another server has by now. Returns whether what was written
    /// last is there.
    fn renew_all(&mut self) -> Result<bool, Trouble> {
        let mut lost = Vec::new();
        let is_there = self.renew(&mut lost);
        if !lost.is_empty() {
            log::error!(
                "Redis has given {} of this server's ports to another server while it did not answer: \
                 consoles that have such a port keep it, and it may be another console's there",
                lost.len() * usize::from(BLOCK)
            );
            self.note_grant(Vec::new(), lost);
        }
        is_there
    }

    fn look_after(&mut self) -> Result<bool, Trouble> {
        let is_there = self.renew_all()?;
        // Where it is not there, others come first.
        if is_there {
            self.acquire()?;
        }
        Ok(is_there)
    }

    /// Why it does not work, in words that fit a line.
    fn trouble(&self, trouble: &Trouble) -> io::Error {
        let Trouble::Redis(error) = trouble else { return io::Error::other(trouble.to_string()) };
        let words = error.to_string();
        if words.contains(READ_ONLY) || words.contains("READONLY") {
            let place = self.settings.client.get_connection_info().addr();
            return io::Error::other(format!(
                "Redis at {place} is a replica and takes no writes: after a failover its address has to lead \
                 to the new master"
            ));
        }
        // A transaction fails with a reason for each of its commands.
        let first = error.clone().into_server_errors().and_then(|errors| Some(errors.first()?.1.clone()));
        io::Error::other(first.map_or(words, |first| first.to_string()).replace('\n', " "))
    }

    fn leave(&mut self) -> redis::RedisResult<()> {
        if self.is_doubled {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        pipe.atomic();
        self.publish(&HashMap::new(), false, &mut pipe);
        pipe.cmd("EVAL").arg(LEAVE).arg(1).arg(self.key("live")).arg(&self.token).ignore();
        self.ask(|connection| pipe.query(connection))
    }
}

impl Backend for Redis {
    fn keep(&mut self, records: &[&Record]) -> io::Result<()> {
        self.write(records).map_err(|error| self.trouble(&error))
    }

    fn tend_every(&self) -> Option<Duration> {
        Some(LIVE / 4)
    }

    fn tend(&mut self) -> io::Result<bool> {
        let is_there = self.look_after().map_err(|error| self.trouble(&error))?;
        // One that has written nothing yet has nothing to miss.
        if !is_there && self.written.is_some() {
            self.note_forgotten();
        }
        Ok(is_there)
    }

    fn take_grant(&mut self) -> Option<Grant> {
        self.grant.take()
    }

    fn close(&mut self) {
        if self.leave().is_err() {
            log::warn!("Redis does not answer: what is published there stays");
        }
    }
}

/// What a record is kept under.
fn field(record: &Record) -> String {
    let identity = &record.identity;
    if identity.suffix.is_empty() && identity.clone.is_empty() {
        return identity.uuid.to_string();
    }
    format!("{} {:?} {:?}", identity.uuid, identity.suffix, identity.clone)
}

/// The names under which ports are published: what each VM is called, and the same with its UUID.
fn names(records: &[&Record]) -> HashMap<String, u16> {
    let mut names = HashMap::new();
    for record in records {
        let Some(port) = record.port.filter(|_| !record.name.is_empty()) else { continue };
        let name = record.name.strip_suffix(&*record.identity.suffix).unwrap_or(&record.name);
        let uuid = record.identity.uuid.to_string();
        if !name.to_lowercase().contains(&uuid) {
            names.insert(format!("{name} ({uuid})"), port);
        }
        // Of two VMs of one name the one that is here is meant.
        if record.seen == Seen::Now || !names.contains_key(name) {
            names.insert(name.to_owned(), port);
        }
    }
    names
}

fn ports_between(block: u8, first: u16, last: u16) -> usize {
    let from = u16::from(block) * BLOCK;
    let to = from + (BLOCK - 1);
    usize::from((to.min(last) + 1).saturating_sub(from.max(first)))
}

/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a server that says nothing counts as running: so long one waits that is started after it was
/// killed. It says something four times in this.
const LIVE: Duration = Duration::from_secs(6);

/// How long no new block is taken from a Redis that may have forgotten whose they are. Until then each server
/// that runs has said which are its own, also one that waited in vain for an answer from the one before,
/// tried again a second later, and waited for a connection and for an answer.
const QUIET: Duration = Duration::from_secs(3 * PATIENCE.as_secs() + 2);

/// What the kind of error is called that a replica answers writes with; a script of an old Redis has the code
/// in its words.
const READ_ONLY: &str = "ReadOnly";

/// How often a server that is started looks whether its name is free.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Free ports that a server has in stock, beside a quarter of those in use: VMs that come while Redis does
/// not answer get them.
const STOCK: usize = 1024;

/// The part of the range that is the most that is in stock: others are to find some.
const STOCK_PART: u16 = 8;

/// Fields in one command.
const AT_ONCE: usize = 500;

/// How long the port that a VM had last stays published, in seconds: thirty days, as node-vspc has it.
const SAVED_FOR: u64 = 2_592_000;
