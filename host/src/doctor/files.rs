//! Whether files and directories are there, can be used by this user, and are what they should be.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::{getegid, geteuid, getgroups};
use vspc_core::concentrator::{Address, SocketFile};

use super::running::Running;
use super::{Finding, disk};
use crate::fatal::Fatal;
use crate::logs;
use crate::options::Options;
use crate::outlets::Destination;
use crate::reload;
use crate::store::{BackendArg, look_at_file};

/// As whom all this is looked at: root may do what a server's user may not.
pub(super) fn user() -> Finding {
    match geteuid().is_root() {
        false => Finding::ok("user", format!("all of this is what user {} may do", geteuid().as_raw())),
        true => Finding::ok("user", "root may do what the server's user may not; look again as that user")
            .with_remedy("runuser -u vspc -- vspc doctor …"),
    }
}

pub(super) fn check(options: &Options, running: Option<&Running>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let (BackendArg::File, Some(path)) = (options.store.backend, &options.store.file) {
        findings.extend(state(options, path, running));
    }
    if let Some(dir) = &options.logs.log_dir {
        findings.extend(log_dir(options, dir));
    }
    let own = options.admin_socket_file();
    for (addresses, check, option) in [
        (options.vm_addresses(), "vm-socket", "--vm-listen"),
        (options.admin_addresses(), "admin-socket", "--admin-listen"),
    ] {
        for address in &addresses {
            if let Address::Unix(file) = address {
                let option = if own.as_ref() == Some(file) { "--admin-socket" } else { option };
                findings.push(socket(check, file, option, running));
            }
        }
    }
    if let Some(path) = &options.pidfile {
        findings.push(made("pidfile", path, "--pidfile"));
    }
    for destination in &options.outlets.events_to {
        findings.push(outlet(destination));
    }
    findings
}

fn state(options: &Options, path: &Path, running: Option<&Running>) -> Vec<Finding> {
    const CHECK: &str = "state-file";
    let folder = folder(path);
    let looked = reload::within(reload::PATIENCE, {
        let path = path.to_owned();
        move || look_at_file(&path)
    });
    let unanswered =
        || Fatal::StateUnanswered { path: path.to_owned(), patience: reload::PATIENCE }.to_string();
    let remedy = "the line says what; the server does not start before";
    let found = match looked {
        None => Finding::error(CHECK, unanswered(), "choose a --file on another disk"),
        Some(Err(error)) => Finding::error(CHECK, error.to_string(), remedy),
        Some(Ok(state)) => match (state.locked_by, running) {
            (Some(pid), Some(running)) if pid == running.pid || pid == 0 => {
                Finding::ok(CHECK, format!("{} is kept by the server that runs", path.display()))
            }
            (Some(pid), _) => Finding::error(
                CHECK,
                format!("{} is kept by another process (pid {pid})", path.display()),
                "stop that server, or choose another --file",
            ),
            (None, _) => match usable(&folder, Access::WRITE_OK | Access::EXEC_OK) {
                Err(error) => cannot(CHECK, &folder, &error, "--file"),
                Ok(()) => {
                    let text = match state.consoles {
                        Some(consoles) => format!("{} has {consoles} consoles", path.display()),
                        None => format!("{} is not there yet, and can be made", path.display()),
                    };
                    Finding::ok(CHECK, text)
                }
            },
        },
    };
    let range = options.port_range();
    let ports = u64::from(range.last - range.first) + 1;
    let consoles = options.doctor.doctor_vms.map_or(ports, u64::from);
    std::iter::once(found).chain(disk::state(&folder, consoles)).collect()
}

fn log_dir(options: &Options, dir: &Path) -> Vec<Finding> {
    const CHECK: &str = "log-dir";
    let checked = reload::within(reload::PATIENCE, {
        let dir = dir.to_owned();
        move || logs::check(&dir)
    });
    let checked = checked.unwrap_or_else(|| Err(ErrorKind::TimedOut.into()));
    match checked {
        Ok(()) => {
            let found = Finding::ok(CHECK, format!("{} can be written in", dir.display()));
            std::iter::once(found).chain(disk::logs(options, dir)).collect()
        }
        Err(error) => {
            let path = dir.display();
            let remedy = match error.kind() {
                ErrorKind::NotFound => format!("install -d -o vspc -g vspc -m 750 {path}"),
                ErrorKind::PermissionDenied => format!("chown vspc: {path}"),
                _ => "choose another --log-dir".to_owned(),
            };
            vec![Finding::error(CHECK, Fatal::LogDirectory(dir.to_owned(), error).to_string(), remedy)]
        }
    }
}

fn socket(check: &'static str, file: &SocketFile, option: &str, running: Option<&Running>) -> Finding {
    let path = &file.path;
    let shown = path.display();
    if path.as_os_str().len() > LONGEST_SOCKET {
        return Finding::error(
            check,
            format!("{shown} is longer than a unix socket's path may be, {LONGEST_SOCKET} bytes"),
            format!("choose a shorter {option}"),
        );
    }
    if let Some(owner) = file.owner.filter(|owner| !geteuid().is_root() && geteuid().as_raw() != *owner) {
        let text = format!("this user is not user {owner}, and cannot give {shown} to it");
        return Finding::error(check, text, format!("leave owner= out of {option}"));
    }
    if let Some(group) = file.group
        && !geteuid().is_root()
        && getegid().as_raw() != group
        && !getgroups().unwrap_or_default().iter().any(|own| own.as_raw() == group)
    {
        let text = format!("this user is not in group {group}, and cannot give {shown} to it");
        return Finding::error(check, text, "usermod -aG GROUP vspc, or give the socket another group");
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Finding::error(
            check,
            format!("{shown} is no socket, and stays"),
            format!("rm {shown}, or choose another {option}"),
        ),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => match running {
            Some(_) => Finding::ok(check, format!("{shown} is served by the server that runs")),
            None => Finding::error(
                check,
                format!("somebody listens at {shown}"),
                format!("stop that, or choose another {option}"),
            ),
        },
        Err(error) if error.kind() != ErrorKind::NotFound => cannot(check, path, &error, option),
        found => match usable(&folder(path), Access::WRITE_OK | Access::EXEC_OK) {
            Err(error) => cannot(check, &folder(path), &error, option),
            Ok(()) if found.is_ok() => {
                Finding::ok(check, format!("{shown} was left by a server that died, and will be replaced"))
            }
            Ok(()) => Finding::ok(check, format!("{shown} can be made")),
        },
    }
}

fn outlet(destination: &Destination) -> Finding {
    const CHECK: &str = "events-to";
    match destination {
        Destination::File(path) => made(CHECK, path, "--events-to"),
        Destination::Unix(path) | Destination::Syslog(path) | Destination::Journald(path) => {
            match fs::metadata(path) {
                Ok(found) if found.file_type().is_socket() => {
                    Finding::ok(CHECK, format!("{destination}: there is a socket"))
                }
                _ => Finding::warn(
                    CHECK,
                    format!(
                        "{destination}: there is no socket; events wait there, and are dropped and counted"
                    ),
                    "start what listens there, or choose another --events-to",
                ),
            }
        }
        Destination::SyslogUdp(_) => {
            Finding::ok(CHECK, format!("{destination}: by UDP, nobody says whether it arrives"))
        }
    }
}

/// A file that is written, and made where it is not.
fn made(check: &'static str, path: &Path, option: &str) -> Finding {
    let usable = match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(_) => usable(path, Access::WRITE_OK),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            usable(&folder(path), Access::WRITE_OK | Access::EXEC_OK)
        }
        Err(error) => Err(error),
    };
    match usable {
        Ok(()) => Finding::ok(check, format!("{} can be written", path.display())),
        Err(error) => cannot(check, path, &error, option),
    }
}

fn cannot(check: &'static str, path: &Path, error: &io::Error, option: &str) -> Finding {
    let text = format!("{} cannot be used: {error}", path.display());
    let owner = fs::metadata(path).map(|found| found.uid()).ok();
    let remedy = match (error.kind(), owner) {
        (ErrorKind::NotFound, _) => {
            format!("make the directory that it is to be in, or choose another {option}")
        }
        (ErrorKind::PermissionDenied, Some(owner)) => {
            format!("it is user {owner}'s: chown vspc: {}, or choose another {option}", path.display())
        }
        _ => format!("choose another {option}"),
    };
    Finding::error(check, text, remedy)
}

fn usable(path: &Path, how: Access) -> io::Result<()> {
    File::open(path).map(drop).or_else(|error| match error.kind() {
        // What may be written need not be readable.
        ErrorKind::PermissionDenied => Ok(()),
        _ => Err(error),
    })?;
    Ok(access(path, how)?)
}

fn folder(path: &Path) -> PathBuf {
    let path =
        fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned());
    path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// unix(7): sun_path, less its end.
const LONGEST_SOCKET: usize = 107;
