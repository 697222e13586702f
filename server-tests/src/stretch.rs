//! Client ports of a test's own, which the system gives to nobody: for tests in which a console has to have
//! the same port again.

use std::fs::{File, TryLockError};
use std::thread;
use std::time::Duration;

/// Ports in a row that no other test on this machine takes meanwhile. They begin where a block does, of which
/// servers that share a Redis give each other ports.
pub(super) struct Stretch {
    first: u16,
    /// Locked; that ends with the test, however that ends.
    _lock: File,
}

impl Stretch {
    /// Waits where all are taken, until any is free. A test claims one at the most: those that hold one and
    /// wait for another could wait for each other.
    pub(super) fn claim() -> Self {
        loop {
            if let Some(stretch) = (0..COUNT).find_map(Self::take) {
                return stretch;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// `None`: it is taken.
    fn take(nth: u16) -> Option<Self> {
        let path = std::env::temp_dir().join(format!("vspc-tests-ports-{nth}.lock"));
        let lock = File::options().create(true).append(true).open(path).unwrap();
        match lock.try_lock() {
            Ok(()) => Some(Self { first: FIRST + nth * EACH, _lock: lock }),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => panic!("stretch {nth}: {error}"),
        }
    }

    /// So many of them, from the first to the last.
    pub(super) fn range(&self, count: u16) -> [String; 2] {
        assert!(count <= EACH);
        [self.first, self.first + count - 1].map(|port| port.to_string())
    }
}

/// The system gives ports from 32 768 on.
const FIRST: u16 = 10_240;
const EACH: u16 = 2048;
const COUNT: u16 = 10;

/// One of several locks ends, and nothing tells which.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
