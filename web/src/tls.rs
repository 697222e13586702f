//! The listener's certificate, which is read again while it is used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, ServerConnection};
use vspc_trust::{Fault, ServerFiles};
use x509_parser::parse_x509_certificate;

/// What connections are opened with from now on.
pub(crate) struct Tls {
    files: ServerFiles,
    now: Mutex<Now>,
    generation: Generation,
}

struct Now {
    config: Arc<ServerConfig>,
    /// What the file had by which certificates of people are trusted.
    ca: Vec<u8>,
}

/// How often that file has become another. What was proved by one from before is not proved any more.
pub(crate) type Generation = Arc<AtomicU64>;

/// For whom the certificate is that somebody has shown, and how far that goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shown {
    pub(crate) name: Arc<str>,
    pub(crate) proof: Proof,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Proof {
    generation: u64,
    /// Seconds since 1970: the end of its time.
    until: i64,
}

impl Proof {
    pub(crate) fn holds(&self, generation: &Generation) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.generation == generation.load(Ordering::SeqCst)
            && i64::try_from(now).is_ok_and(|now| now <= self.until)
    }
}

impl Tls {
    /// Reads the files. Waits for the disk.
    pub(crate) fn load(files: ServerFiles) -> Result<Self, Fault> {
        let (config, ca) = (read(&files)?, ca(&files));
        Ok(Self { files, now: Mutex::new(Now { config, ca }), generation: Generation::default() })
    }

    pub(crate) fn generation(&self) -> Generation {
        Arc::clone(&self.generation)
    }

    /// Reads the files again. Where one cannot be used, all stays as it was.
    pub(crate) fn reload(&self) -> Result<(), Fault> {
        // It may be replaced while it is read: what was used is then another than one of these.
        let before = ca(&self.files);
        let config = read(&self.files)?;
        let after = ca(&self.files);
        let mut now = self.lock();
        if before != now.ca || after != now.ca {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        *now = Now { config, ca: after };
        Ok(())
    }

    /// What a connection is opened with, and the generation of whom that trusts.
    pub(crate) fn acceptor(&self) -> (TlsAcceptor, u64) {
        let now = self.lock();
        (Arc::clone(&now.config).into(), self.generation.load(Ordering::SeqCst))
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For whom the certificate is that the peer has shown: the common name of its subject, if it has one and no
/// more.
pub(crate) fn shown(session: &ServerConnection, generation: u64) -> Option<Shown> {
    let (_, certificate) = parse_x509_certificate(session.peer_certificates()?.first()?).ok()?;
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => {
            let until = certificate.validity().not_after.timestamp();
            Some(Shown { name: name.as_str().ok()?.into(), proof: Proof { generation, until } })
        }
        _ => None,
    }
}

fn ca(files: &ServerFiles) -> Vec<u8> {
    files.ca.as_ref().and_then(|ca| std::fs::read(ca).ok()).unwrap_or_default()
}

#[cfg(test)]
impl Shown {
    pub(crate) fn of(name: &str, until: i64) -> Self {
        Self { name: name.into(), proof: Proof { generation: 0, until } }
    }
}

fn read(files: &ServerFiles) -> Result<Arc<ServerConfig>, Fault> {
    let mut config = files.load()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_until_its_time_is_over_or_others_are_trusted() {
        let generation = Generation::default();
        assert!(Shown::of("ann", i64::MAX).proof.holds(&generation));
        assert!(!Shown::of("ann", 1_000_000_000).proof.holds(&generation));
        generation.fetch_add(1, Ordering::SeqCst);
        assert!(!Shown::of("ann", i64::MAX).proof.holds(&generation));
    }
}
