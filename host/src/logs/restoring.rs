//! What consoles had printed before the server was started, given back to them out of their logs.
//!
//! **Owns** the thread that reads the ends of logs. It reads no further than a log was long before this
//! server wrote to it, so that nothing is shown twice; whatever a disk does, nobody waits for it. **Refuses
//! to know** who is shown what it finds.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use vspc_core::concentrator::ConsoleId;
use vspc_logs::stamps::{Part, Splitter};

use crate::commands::{self, Command, TrySendError};

use super::stream::without_gaps;

/// Where the thread is told what to read; by default nobody is.
#[derive(Debug, Default)]
pub(super) struct Restorer(Option<Sender<End>>);

/// The end of a log, as it was when its console came.
#[derive(Debug)]
pub(super) struct End {
    pub(super) console: ConsoleId,
    pub(super) path: PathBuf,
    pub(super) inode: u64,
    pub(super) len: u64,
}

impl Restorer {
    /// Has the end of a log given back to its console. Never waits.
    pub(super) fn give_back(&self, end: End) {
        if let Some(thread) = &self.0 {
            // Fails when the process ends.
            let _ = thread.send(end);
        }
    }
}

/// Starts the thread, if consoles are to be given back anything: up to `most` bytes each, of logs whose lines
/// have `stamps`.
pub(super) fn start(most: usize, stamps: bool, commands: commands::Sender) -> io::Result<Restorer> {
    if most == 0 {
        return Ok(Restorer::default());
    }
    let (ends, told) = channel();
    let run = move || run(&told, most, stamps, &commands);
    thread::Builder::new().name("log-restore".to_owned()).spawn(run)?;
    Ok(Restorer(Some(ends)))
}

fn run(ends: &Receiver<End>, most: usize, stamps: bool, commands: &commands::Sender) {
    for end in ends {
        let output = match read(&end, most, stamps) {
            Ok(output) => output,
            Err(error) => {
                log::debug!("{}: what it ends with is not shown: {error}", end.path.display());
                continue;
            }
        };
        if output.is_empty() {
            continue;
        }
        let mut command = Command::Restored { console: end.console, output };
        loop {
            match commands.try_send(command) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) => {
                    command = back;
                    thread::sleep(RETRY);
                }
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }
}

/// What a log ended with, as the VM printed it.
fn read(end: &End, most: usize, stamps: bool) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(&end.path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.ino() != end.inode {
        return Err(ErrorKind::NotFound.into());
    }
    // Times before lines, and lines about gaps, are not the VM's: some more is read in their stead.
    let start = end.len.saturating_sub(2 * most as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(end.len - start).read_to_end(&mut bytes)?;
    if stamps {
        bytes = without_stamps(&bytes, start == 0);
    }
    let mut output = without_gaps(&bytes);
    let surplus = output.len().saturating_sub(most);
    output.drain(..surplus);
    Ok(output)
}

/// Without the times before lines; `is_whole`: the first line is, too.
fn without_stamps(bytes: &[u8], is_whole: bool) -> Vec<u8> {
    let mut splitter = Splitter::new(is_whole);
    let (mut text, mut is_inside) = (Vec::new(), is_whole);
    splitter.split(bytes, |part| match part {
        Part::Stamp(..) => is_inside = true,
        // What comes before the first time may be a piece of one.
        Part::Text(bytes) if is_inside => text.extend_from_slice(bytes),
        Part::Text(_) => {}
    });
    text.extend(splitter.finish());
    text
}

/// How long the thread leaves a full queue alone.
const RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::io::Write;

    #[test]
    fn a_log_gives_back_what_its_vm_printed_last_and_nothing_that_came_later() {
        let path = std::env::temp_dir().join(format!("vspc-restore-{}", std::process::id()));
        let stamp = "2026-11-29T20:54:28.123Z ";
        for (stamps, log, most, output) in [
            (false, "login: \x1b[0mroot\r\n# ".to_owned(), 100, "login: \x1b[0mroot\r\n# "),
            (false, "login: root\r\n# ".to_owned(), 4, "\r\n# "),
            (true, format!("{stamp}login: root\r\n{stamp}# "), 100, "login: root\r\n# "),
            (true, format!("{stamp}a very long line\r\n{stamp}# "), 16, "# "),
            (false, "one\r\n[vspc: 17 bytes are missing here]\r\ntwo".to_owned(), 100, "onetwo"),
            (false, "[vspc: 17 bytes\r\n[vspc: x".to_owned(), 100, "[vspc: 17 bytes\r\n[vspc: x"),
        ] {
            fs::write(&path, &log).unwrap();
            let metadata = fs::metadata(&path).unwrap();
            let (inode, len) = (metadata.ino(), metadata.len());
            let end = End { console: ConsoleId::from_bits(1), path: path.clone(), inode, len };
            // This server's own.
            OpenOptions::new().append(true).open(&path).unwrap().write_all(b"later").unwrap();
            let found = read(&end, most, stamps).unwrap();
            assert_eq!(String::from_utf8(found).unwrap(), output, "{log:?}");
            assert!(read(&End { inode: inode + 1, ..end }, most, stamps).is_err(), "it is another file");
        }
        fs::remove_file(path).unwrap();
    }
}
