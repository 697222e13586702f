//! Links that let somebody who is not known see one console for a time.
//!
//! Owns which there are, and their proofs. A share is a line in a file and a number; the link is the number
//! with a code over all that the line says, made with a key that stays here. So a link that was altered opens
//! nothing, nor does a line that was, and a share that is revoked is simply no more there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::hmac;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::role::Role;
use crate::chance;

/// See above.
pub(crate) struct Shares {
    folder: PathBuf,
    key: hmac::Key,
    all: Mutex<Arc<[Share]>>,
    /// One change after the other is written.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Something was revoked that the disk does not know of.
    is_behind: AtomicBool,
    revoked: Notify,
    /// The folder, which is locked for as long as this is open: another process would write over what this
    /// one has written.
    lock: File,
}

/// What came of a revocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Revoked {
    WasNone,
    Kept,
    /// It holds, and is not on the disk yet.
    NotKept,
}

/// What one lets whoever has its link do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Share {
    pub(crate) id: String,
    /// Who has made it, in whose name the concentrator is asked.
    pub(crate) by: String,
    /// He has a line in the file of users; else he was vouched for.
    pub(crate) is_listed: bool,
    pub(crate) server: String,
    pub(crate) uuid: String,
    /// What tells the serial ports of one VM apart.
    pub(crate) suffix: String,
    /// What the console was called.
    pub(crate) console: String,
    pub(crate) role: Role,
    /// Seconds since 1970.
    pub(crate) made: u64,
    pub(crate) expires: u64,
}

impl Shares {
    /// Opens the folder, and makes it, and the key, where there are none. Waits for the disk.
    pub(crate) fn open(folder: &Path) -> Result<Self, String> {
        let fault = |error: io::Error| format!("--state-dir {}: {error}", folder.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
        let lock = File::open(folder).map_err(fault)?;
        lock.try_lock().map_err(|_| fault(io::Error::other("another process uses it")))?;
        remove_unfinished(folder).map_err(fault)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key(folder).map_err(fault)?);
        let all = match fs::read_to_string(folder.join(FILE)) {
            Ok(text) => read(&text).ok_or_else(|| fault(io::Error::other(format!("{FILE} is damaged"))))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(fault(error)),
        };
        Ok(Self {
            folder: folder.to_owned(),
            key,
            all: Mutex::new(all.into()),
            writing: Arc::default(),
            is_behind: AtomicBool::new(false),
            revoked: Notify::new(),
            lock,
        })
    }

    /// Adds one. Returns the word of its link once it is on the disk.
    pub(crate) async fn add(self: &Arc<Self>, share: Share) -> Result<String, Fault> {
        let word = self.word(&share);
        self.change(move |shares| {
            let mut all = shares.list();
            if all.len() >= MOST || all.iter().filter(|one| one.by == share.by).count() >= OF_ONE_USER {
                return Err(Fault::TooMany);
            }
            all.push(share.clone());
            shares.write(&all)?;
            // Another may have been revoked meanwhile, and is written next.
            let mut all = shares.lock();
            *all = all.iter().cloned().chain([share]).collect();
            Ok(())
        })
        .await?;
        Ok(word)
    }

    /// Takes one away, at once. Returns whether the disk knows; where it does not, it is told later.
    pub(crate) async fn revoke(self: &Arc<Self>, id: &str) -> Revoked {
        {
            let mut all = self.lock();
            if !all.iter().any(|one| one.id == id) {
                return Revoked::WasNone;
            }
            *all = all.iter().filter(|one| one.id != id).cloned().collect();
        }
        self.is_behind.store(true, Ordering::SeqCst);
        self.revoked.notify_one();
        match self.catch_up().await {
            Ok(()) => Revoked::Kept,
            Err(_) => Revoked::NotKept,
        }
    }

    /// Tells the disk of what was revoked, if it does not know.
    pub(crate) async fn catch_up(self: &Arc<Self>) -> Result<(), Fault> {
        if !self.is_behind.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.change(|shares| {
            if shares.is_behind.swap(false, Ordering::SeqCst)
                && let Err(fault) = shares.write(&shares.list())
            {
                shares.is_behind.store(true, Ordering::SeqCst);
                return Err(fault);
            }
            Ok(())
        })
        .await
    }

    /// Waits until one is revoked.
    pub(crate) async fn revoked(&self) {
        self.revoked.notified().await;
    }

    /// One change after the other, each as a whole: who asked may have gone.
    async fn change(
        self: &Arc<Self>,
        act: impl FnOnce(&Self) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), Fault> {
        let turn = Arc::clone(&self.writing).lock_owned().await;
        let shares = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            act(&shares)
        });
        done.await.unwrap_or(Err(Fault::Disk))
    }

    /// The share that this is the word of, if it still is one.
    pub(crate) fn of(&self, word: &str) -> Option<Share> {
        let (id, code) = word.split_once('.')?;
        let code = Base64UrlUnpadded::decode_vec(code).ok()?;
        let share = self.get(id)?;
        hmac::verify(&self.key, text(&share).as_bytes(), &code).ok()?;
        Some(share)
    }

    /// The share of this number, if it still is one.
    pub(crate) fn get(&self, id: &str) -> Option<Share> {
        let now = now();
        self.all().iter().find(|one| one.id == id && one.expires > now).cloned()
    }

    /// Those that still are.
    pub(crate) fn list(&self) -> Vec<Share> {
        let now = now();
        self.all().iter().filter(|one| one.expires > now).cloned().collect()
    }

    fn word(&self, share: &Share) -> String {
        let code = hmac::sign(&self.key, text(share).as_bytes());
        format!("{}.{}", share.id, Base64UrlUnpadded::encode_string(code.as_ref()))
    }

    fn write(&self, all: &[Share]) -> Result<(), Fault> {
        let lines: Vec<Value> = all.iter().map(value).collect();
        let new = self.folder.join(format!("{FILE}.{}.new", chance::hex::<8>()));
        let written = create(&new, json!({"v": 1, "shares": lines}).to_string().as_bytes())
            .and_then(|()| fs::rename(&new, self.folder.join(FILE)))
            .and_then(|()| self.lock.sync_all());
        written.map_err(|error| {
            let _ = fs::remove_file(&new);
            log::error!("--state-dir {}: {error}", self.folder.display());
            Fault::Disk
        })
    }

    fn all(&self) -> Arc<[Share]> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[Share]>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no share more, or less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    TooMany,
    Disk,
}

/// A number for a share that is made now.
pub(crate) fn new_id() -> String {
    chance::hex::<8>()
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What the code is over: all of it, in one order.
fn text(share: &Share) -> String {
    value(share).to_string()
}

pub(crate) fn value(share: &Share) -> Value {
    json!({
        "id": share.id, "by": share.by, "listed": share.is_listed, "server": share.server,
        "uuid": share.uuid, "suffix": share.suffix, "console": share.console,
        "role": share.role.to_string(), "made": share.made, "expires": share.expires,
    })
}

fn read(text: &str) -> Option<Vec<Share>> {
    let file: Value = serde_json::from_str(text).ok()?;
    file["shares"].as_array()?.iter().map(share).collect()
}

fn share(value: &Value) -> Option<Share> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    Some(Share {
        id: text("id")?,
        by: text("by")?,
        is_listed: value["listed"].as_bool()?,
        server: text("server")?,
        uuid: text("uuid")?,
        suffix: text("suffix")?,
        console: text("console")?,
        role: text("role")?.parse().ok()?,
        made: value["made"].as_u64()?,
        expires: value["expires"].as_u64()?,
    })
}

/// The key, which is made by whoever comes first.
fn key(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join(KEY);
    if !path.exists() {
        let new = folder.join(format!("{KEY}.{}", chance::hex::<8>()));
        create(&new, &chance::bytes::<32>())?;
        // Of two who make one at once, the first one's is both's.
        let linked = fs::hard_link(&new, &path);
        fs::remove_file(&new)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => File::open(folder)?.sync_all()?,
        }
    }
    let file = File::open(&path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(io::Error::other(format!("{path} can be read by others (mode {mode:04o})")));
    }
    let mut bytes = Vec::new();
    file.take(33).read_to_end(&mut bytes)?;
    bytes.try_into().map_err(|_| io::Error::other(format!("{} is no key of 32 bytes", path.display())))
}

/// What was being written when a process ended is nothing.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(FILE) && name.ends_with(".new")) {
            fs::remove_file(folder.join(name))?;
        }
    }
    Ok(())
}

/// A file for us alone, on the disk.
fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

const KEY: &str = "share.key";
const FILE: &str = "shares.json";
const MOST: usize = 2048;
const OF_ONE_USER: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("vspc-web-shares-{}", chance::hex::<8>())))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn share_of(by: &str, expires: u64) -> Share {
        Share {
            id: new_id(),
            by: by.to_owned(),
            is_listed: true,
            server: "lab".to_owned(),
            uuid: "0".repeat(32),
            suffix: String::new(),
            console: "web1".to_owned(),
            role: Role::Read,
            made: now(),
            expires,
        }
    }

    #[tokio::test]
    async fn a_link_opens_what_it_was_made_for_until_it_expires_or_is_revoked_also_after_a_restart() {
        let folder = Folder::new();
        let shares = Arc::new(Shares::open(&folder.0).unwrap());
        let (one, two, old) =
            (share_of("ann", now() + 60), share_of("bob", now() + 60), share_of("ann", now()));
        let words = [&one, &two, &old].map(|share| shares.word(share));
        for share in [&one, &two, &old] {
            shares.add(share.clone()).await.unwrap();
        }
        assert_eq!(shares.of(&words[0]), Some(one.clone()));
        assert_eq!(shares.of(&words[2]), None);
        assert!(Shares::open(&folder.0).err().unwrap().contains("another process"));
        drop(shares);
        let shares = Arc::new(Shares::open(&folder.0).unwrap());
        assert_eq!(shares.of(&words[1]), Some(two.clone()));
        let outcomes = (shares.revoke(&one.id).await, shares.revoke(&one.id).await);
        assert_eq!(outcomes, (Revoked::Kept, Revoked::WasNone));
        drop(shares);
        let shares = Shares::open(&folder.0).unwrap();
        assert_eq!((shares.of(&words[0]), shares.list()), (None, vec![two]));
    }

    #[tokio::test]
    async fn what_was_altered_in_a_link_or_in_the_file_opens_nothing() {
        let folder = Folder::new();
        let shares = Arc::new(Shares::open(&folder.0).unwrap());
        let (one, two) = (share_of("ann", now() + 60), share_of("ann", now() + 60));
        let word = shares.add(one.clone()).await.unwrap();
        shares.add(two.clone()).await.unwrap();
        let (_, code) = word.split_once('.').unwrap();
        let wrong = code.replace(&code[..1], if code.starts_with('A') { "B" } else { "A" });
        for word in [
            format!("{}.{code}", two.id),
            format!("{}.{wrong}", one.id),
            format!("{}.", one.id),
            one.id.clone(),
            String::new(),
        ] {
            assert_eq!(shares.of(&word), None, "{word}");
        }
        drop(shares);
        let file = folder.0.join(FILE);
        let text = fs::read_to_string(&file).unwrap();
        for (was, is) in [("\"read\"", "\"admin\""), ("\"lab\"", "\"other\""), ("\"ann\"", "\"bob\"")] {
            fs::write(&file, text.replace(was, is)).unwrap();
            assert_eq!(Shares::open(&folder.0).unwrap().of(&word), None, "{is}");
        }
        fs::write(&file, "{}").unwrap();
        assert!(Shares::open(&folder.0).is_err());
    }

    #[tokio::test]
    async fn what_is_revoked_is_so_at_once_and_the_disk_is_told_when_it_can_be() {
        let folder = Folder::new();
        let shares = Arc::new(Shares::open(&folder.0).unwrap());
        let one = share_of("ann", now() + 60);
        let word = shares.add(one.clone()).await.unwrap();
        // A folder in the file's place, as good as a full disk.
        let file = folder.0.join(FILE);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(shares.revoke(&one.id).await, Revoked::NotKept);
        shares.revoked().await;
        assert_eq!(shares.of(&word), None);
        assert_eq!(shares.add(share_of("ann", now() + 60)).await, Err(Fault::Disk));
        assert_eq!((shares.list(), shares.catch_up().await), (vec![], Err(Fault::Disk)));
        fs::remove_dir(&file).unwrap();
        assert_eq!(shares.catch_up().await, Ok(()));
        assert_eq!(read(&fs::read_to_string(&file).unwrap()), Some(vec![]));
        let names = fs::read_dir(&folder.0).unwrap().count();
        assert_eq!(names, 2, "what could not be written is left");
    }

    #[tokio::test]
    async fn changes_whose_askers_have_gone_are_on_the_disk_as_they_are_here() {
        let folder = Folder::new();
        let shares = Arc::new(Shares::open(&folder.0).unwrap());
        for _ in 0..20 {
            let share = share_of("ann", now() + 60);
            // Dropped once its write has begun.
            let _ = tokio::time::timeout(std::time::Duration::ZERO, shares.add(share)).await;
            shares.add(share_of("bob", now() + 60)).await.unwrap();
        }
        assert_eq!(shares.list().len(), 40);
        let text = fs::read_to_string(folder.0.join(FILE)).unwrap();
        assert_eq!(read(&text), Some(shares.list()));
    }

    #[tokio::test]
    async fn one_user_makes_no_more_than_his_share_of_them() {
        let folder = Folder::new();
        let shares = Arc::new(Shares::open(&folder.0).unwrap());
        *shares.lock() = (0..OF_ONE_USER).map(|_| share_of("ann", now() + 60)).collect();
        assert_eq!(shares.add(share_of("ann", now() + 60)).await, Err(Fault::TooMany));
        assert!(shares.add(share_of("bob", now() + 60)).await.is_ok());
    }

    #[test]
    fn the_key_is_ours_alone_and_made_once() {
        let folder = Folder::new();
        Shares::open(&folder.0).unwrap();
        let path = folder.0.join(KEY);
        let made = fs::read(&path).unwrap();
        assert_eq!((made.len(), fs::metadata(&path).unwrap().permissions().mode() & 0o777), (32, 0o600));
        fs::write(folder.0.join(format!("{FILE}.0.new")), "{").unwrap();
        Shares::open(&folder.0).unwrap();
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
        assert_eq!(fs::read(&path).unwrap(), made);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Shares::open(&folder.0).err().unwrap().contains("read by others"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(Shares::open(&folder.0).is_err());
    }
}
