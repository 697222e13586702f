//! Whether the disks have room for what was configured.

use std::path::Path;

use rustix::fs::statvfs;

use super::Finding;
use crate::options::Options;
use crate::size::Size;

/// What is free on the disk of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Free {
    bytes: u64,
    /// Of how many.
    all: u64,
    /// How many files may be made; `None`: as many as there are bytes for.
    files: Option<u64>,
}

impl Free {
    fn at(folder: &Path) -> Option<Self> {
        let disk = statvfs(folder).ok()?;
        let files = (disk.f_files > 0).then_some(disk.f_favail);
        Some(Self { bytes: disk.f_bavail * disk.f_frsize, all: disk.f_blocks * disk.f_frsize, files })
    }
}

/// The disk that logs of consoles are on.
pub(super) fn logs(options: &Options, dir: &Path) -> Option<Finding> {
    let logs = &options.logs;
    let vms = options.doctor.doctor_vms.map(u64::from);
    let bound = match (logs.log_total, logs.log_max_size) {
        (Some(total), _) => Bound::Total(total.0 as u64, used(dir)),
        (None, Some(size)) if logs.log_rotate.is_none() => {
            Bound::Each(size.0 as u64 * (u64::from(logs.log_keep) + 1))
        }
        _ => Bound::None,
    };
    Some(of_logs(dir, Free::at(dir)?, bound, vms))
}

/// What keeps logs from growing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    None,
    /// What all of them may take, and take already.
    Total(u64, u64),
    /// What those of one console may take.
    Each(u64),
}

fn of_logs(dir: &Path, free: Free, bound: Bound, vms: Option<u64>) -> Finding {
    const CHECK: &str = "log-disk";
    let text = format!("{}: {} free of {}", dir.display(), amount(free.bytes), amount(free.all));
    if let (Some(files), Some(vms)) = (free.files, vms)
        && files < vms
    {
        let text = format!("{text}, but only {files} more files for {vms} VMs");
        return Finding::error(CHECK, text, "make a file system with more inodes (mkfs -N)");
    }
    if free.bytes == 0 {
        return Finding::error(CHECK, format!("{text}: nothing will be logged"), "remove what is not needed");
    }
    match (bound, vms) {
        (Bound::Total(total, used), _) => {
            let missing = total.saturating_sub(used);
            match missing > free.bytes {
                false => Finding::ok(CHECK, format!("{text}, enough for --log-total {}", amount(total))),
                true => Finding::warn(
                    CHECK,
                    format!("{text}, and --log-total lets logs grow by {} more", amount(missing)),
                    format!("--log-total {}", Size((used + free.bytes / 10 * 9) as usize >> 20 << 20)),
                ),
            }
        }
        (Bound::Each(each), Some(vms)) if each.saturating_mul(vms) > free.bytes => Finding::warn(
            CHECK,
            format!("{text}, and the logs of {vms} VMs may take {}", amount(each.saturating_mul(vms))),
            format!("--log-total {}", Size((free.bytes / 10 * 9) as usize >> 20 << 20)),
        ),
        (Bound::Each(each), _) => {
            Finding::ok(CHECK, format!("{text}; those of one console take {} at most", amount(each)))
        }
        (Bound::None, _) => Finding::warn(
            CHECK,
            format!("{text}, and nothing keeps logs from filling it"),
            "--log-max-size 10M --log-total 10G (docs/logs.md), or logrotate and HUP",
        ),
    }
}

/// What the files in a directory have, without those in folders of it.
fn used(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|it| it.len())
        .sum()
}

/// The disk that the state file is on: it is written anew beside the old one.
pub(super) fn state(folder: &Path, consoles: u64) -> Option<Finding> {
    Some(of_state(folder, Free::at(folder)?, consoles))
}

fn of_state(folder: &Path, free: Free, consoles: u64) -> Finding {
    const CHECK: &str = "state-disk";
    let wanted = 2 * consoles * STATE_LINE;
    let text = format!("{}: {} free", folder.display(), amount(free.bytes));
    match free.bytes < wanted {
        false => Finding::ok(CHECK, text),
        true => Finding::error(
            CHECK,
            format!("{text}, and {consoles} consoles take {}", amount(wanted)),
            "remove what is not needed, or choose a --file on another disk",
        ),
    }
}

fn amount(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

/// What a console takes in the state file, with a long name.
const STATE_LINE: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn what_logs_may_take_is_held_against_what_is_free() {
        let free = Free { bytes: 1 << 30, all: 2 << 30, files: Some(1000) };
        let (gib, none) = (1_u64 << 30, Free { bytes: 0, ..free });
        for (free, bound, vms, level, words) in [
            (free, Bound::Total(gib, 0), None, Level::Ok, "enough for --log-total"),
            (free, Bound::Total(3 * gib, 0), None, Level::Warn, "grow by 3.0 GiB"),
            // What is there already is not free any more.
            (free, Bound::Total(3 * gib, 2 * gib), None, Level::Ok, ""),
            (free, Bound::Each(1 << 20), Some(100), Level::Ok, ""),
            (free, Bound::Each(100 << 20), Some(100), Level::Warn, "logs of 100 VMs"),
            (free, Bound::Each(100 << 20), None, Level::Ok, ""),
            (free, Bound::None, None, Level::Warn, "nothing keeps"),
            (free, Bound::Total(gib, 0), Some(1001), Level::Error, "only 1000 more files"),
            (none, Bound::Total(gib, gib), None, Level::Error, "nothing will be logged"),
        ] {
            let found = of_logs(Path::new("/d"), free, bound, vms);
            assert_eq!(found.level, level, "{found:?}");
            assert!(found.text.contains(words), "{found:?}");
        }
    }

    #[test]
    fn the_state_file_needs_room_beside_itself() {
        let free = |bytes| Free { bytes, all: 1 << 30, files: None };
        assert_eq!(of_state(Path::new("/d"), free(1 << 20), 1000).level, Level::Ok);
        assert_eq!(of_state(Path::new("/d"), free(1 << 10), 1000).level, Level::Error);
        assert_eq!(amount(1536), "1.5 KiB");
    }
}
