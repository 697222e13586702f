//! Client ports of a test's own, which the system gives to nobody: for tests in which a console has to have
//! the same port again.

use std::fs::File;

/// Ports in a row that no other test on this machine takes meanwhile. They begin where a block does, of which
/// servers that share a Redis give each other ports.
pub(super) struct Stretch {
    first: u16,
    /// Locked; that ends with the test, however that ends.
    _lock: File,
}

impl Stretch {
    /// Waits where all are taken.
    pub(super) fn claim() -> Self {
        let file = |nth: u16| {
            let path = std::env::temp_dir().join(format!("vspc-tests-ports-{nth}.lock"));
            File::options().create(true).append(true).open(path).unwrap()
        };
        let free = (0..COUNT).find_map(|nth| {
            let file = file(nth);
            file.try_lock().is_ok().then_some((nth, file))
        });
        let (nth, lock) = free.unwrap_or_else(|| {
            let file = file(0);
            file.lock().unwrap();
            (0, file)
        });
        Self { first: FIRST + nth * EACH, _lock: lock }
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
