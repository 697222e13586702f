use super::*;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;

use rustix::process::{geteuid, getgid, getuid};
use vspc_core::concentrator::Address;

use crate::listener::Listener;

/// A path that is free, in a directory of its own, which goes with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("vspc-socket-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).unwrap();
        Self(place)
    }

    fn path(&self) -> PathBuf {
        self.0.join("admin")
    }

    fn file(&self, mode: u32) -> Arc<SocketFile> {
        Arc::new(SocketFile { path: self.path(), mode, owner: None, group: None })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_peer_is_known_by_its_user() {
    let place = Place::new("peer");
    let listener = Listener::open(&Address::Unix(place.file(0o600))).unwrap();
    let _peer = UnixStream::connect(place.path()).unwrap();
    let (_, peer) = listener.accept().unwrap();
    let user = peer.credentials.unwrap();
    assert_eq!((user.uid, user.gid), (getuid().as_raw(), getgid().as_raw()));
    assert!(user.is_ours);
    assert_eq!(peer.address.to_string(), format!("unix:uid={}", geteuid().as_raw()));
}

#[test]
fn it_has_the_permissions_that_were_asked_for_and_is_removed_at_its_end() {
    let place = Place::new("mode");
    for mode in [0o600, 0o660, 0o666] {
        let (_socket, claim) = listen(&place.file(mode)).unwrap();
        assert_eq!(fs::metadata(place.path()).unwrap().mode() & 0o777, mode);
        drop(claim);
        assert!(!place.path().exists());
    }
}

#[test]
fn the_file_of_a_dead_server_is_replaced_and_that_of_a_live_one_is_not() {
    let place = Place::new("stale");
    drop(UnixListener::bind(place.path()).unwrap());
    assert!(place.path().exists(), "this is what a server leaves that is killed");
    let (_socket, _claim) = listen(&place.file(0o600)).unwrap();
    assert_eq!(listen(&place.file(0o600)).unwrap_err().kind(), ErrorKind::AddrInUse);
    UnixStream::connect(place.path()).unwrap();
}

#[test]
fn what_is_no_socket_stays() {
    let place = Place::new("file");
    fs::write(place.path(), "precious").unwrap();
    assert_eq!(listen(&place.file(0o600)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(place.path()).unwrap(), "precious");
    let link = Arc::new(SocketFile { path: place.0.join("link"), mode: 0o600, owner: None, group: None });
    std::os::unix::fs::symlink("nowhere", &link.path).unwrap();
    assert_eq!(listen(&link).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(fs::symlink_metadata(&link.path).is_ok());
}

#[test]
fn what_somebody_else_has_put_in_its_place_stays() {
    let place = Place::new("replaced");
    let (_socket, claim) = listen(&place.file(0o600)).unwrap();
    fs::rename(place.path(), place.0.join("away")).unwrap();
    let _other = UnixListener::bind(place.path()).unwrap();
    drop(claim);
    UnixStream::connect(place.path()).unwrap();
}

#[test]
fn of_servers_that_start_at_once_on_a_stale_path_one_has_it_and_the_others_are_told_so() {
    let place = Place::new("race");
    let file = place.file(0o600);
    for round in 0..200 {
        drop(UnixListener::bind(place.path()).unwrap());
        let (start, end) = (Barrier::new(4), Barrier::new(4));
        let outcomes: Vec<Result<(), ErrorKind>> = thread::scope(|scope| {
            let servers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let outcome = listen(&file);
                        // Nobody goes before all have tried.
                        end.wait();
                        outcome
                            .map(|_| UnixStream::connect(place.path()).map(drop).unwrap())
                            .map_err(|e| e.kind())
                    })
                })
                .collect();
            servers.into_iter().map(|server| server.join().unwrap()).collect()
        });
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "round {round}: {outcomes:?}");
        let lost = outcomes.iter().filter(|outcome| **outcome == Err(ErrorKind::AddrInUse)).count();
        assert_eq!(lost, 3, "round {round}: {outcomes:?}");
        let left: Vec<_> = fs::read_dir(&place.0).unwrap().collect();
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
}

#[test]
fn a_server_that_is_about_to_listen_keeps_its_path() {
    let place = Place::new("turn");
    let turn = Turn::take(&place.path()).unwrap();
    assert_eq!(listen(&place.file(0o600)).unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(turn);
    // One that was killed there has left a file that nobody has locked.
    fs::write(place.0.join("admin.lock"), "").unwrap();
    listen(&place.file(0o600)).unwrap();
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 0);
}
