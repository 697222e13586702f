//! Amounts and times in a form for people: three figures at most, one unit.

use std::time::Duration;

/// Bytes: `340 B`, `1.2 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let (mut whole, mut unit) = (n, 0);
    while whole >= 1024 * 1024 {
        whole /= 1024;
        unit += 1;
    }
    let tenths = (u128::from(whole) * 10 + 512) / 1024;
    match tenths {
        0..100 => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        _ => format!("{} {}", (tenths + 5) / 10, UNITS[unit]),
    }
}

/// How long: `0s`, `12s`, `5m`, `3h12m`, `4d`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m"),
        3600..86_400 if minutes % 60 == 0 => format!("{hours}h"),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ if days < 10 && hours % 24 > 0 => format!("{days}d{:02}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_figures_at_most() {
        let shown: Vec<String> =
            [0, 1023, 1024, 1536, 10_240, 1_258_291, 1 << 40, u64::MAX].into_iter().map(bytes).collect();
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 KiB", "1.2 MiB", "1.0 TiB", "16 EiB"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn times_have_two_units_at_most() {
        let shown: Vec<String> = [0, 59, 60, 3599, 3600, 11_520, 86_400, 90_000, 2_000_000]
            .into_iter()
            .map(|seconds| span(Duration::from_secs(seconds)))
            .collect();
        assert_eq!(shown, ["0s", "59s", "1m", "59m", "1h", "3h12m", "1d", "1d01h", "23d"]);
    }
}
