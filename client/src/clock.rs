//! Time as the protocol's code counts it: since this program started.

use std::sync::OnceLock;
use std::time::{self, Duration, SystemTime};

use ::time::UtcOffset;
use rustix::time::Timespec;
use vspc_core::time::Instant;

/// Now.
pub(crate) fn now() -> Instant {
    static START: OnceLock<time::Instant> = OnceLock::new();
    let start = *START.get_or_init(time::Instant::now);
    Instant::from_micros(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// What poll(2) is to wait until the deadline; rounded up, so that it has passed afterwards.
pub(crate) fn until(deadline: Option<Instant>) -> Option<Timespec> {
    let left = deadline?.duration_since(now());
    let nanos = i64::from(left.subsec_nanos()) + 1_000;
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX / 2);
    Some(Timespec { tv_sec: seconds + nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 })
}

/// The time of day where the user is. The offset from UTC is looked up once, by [`find_zone`].
pub(crate) fn of_day() -> Duration {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(0) + zone();
    Duration::new(seconds.rem_euclid(DAY).unsigned_abs(), since_epoch.subsec_nanos())
}

/// How many seconds the user's clock is ahead of UTC.
pub(crate) fn zone() -> i64 {
    ZONE.get().copied().unwrap_or(0)
}

/// Looks up the user's time zone. To be called while there is one thread only: with more the environment
/// cannot be read safely, and UTC is taken.
pub(crate) fn find_zone() {
    let offset = UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC);
    let _ = ZONE.set(offset.whole_seconds().into());
}

static ZONE: OnceLock<i64> = OnceLock::new();
const DAY: i64 = 86_400;
