//! `vspc cp`: files into a guest and out of it, whole and with cuts.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::server::FakeServer;
use crate::{outcome, surround, vspc};

/// An empty folder.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("copies-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bytes(n: u32) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Where a copy went on, by the guest's note.
fn from(note: Option<String>) -> usize {
    note.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn files_go_into_the_guest_with_their_permissions_and_from_a_pipe() {
    let (server, folder) = (FakeServer::start(&["web01"]), Folder::new("into"));
    fs::write(folder.at("x"), bytes(300_000)).unwrap();
    fs::set_permissions(folder.at("x"), fs::Permissions::from_mode(0o754)).unwrap();
    let done = outcome(&vspc(&server, &["cp", "-p", &folder.at("x"), "web01:/srv/"], b""));
    assert_eq!(done, (0, String::new(), String::new()));
    assert_eq!(server.file("/srv/x"), Some((bytes(300_000), 0o754)));
    assert_eq!(outcome(&vspc(&server, &["cp", "-", "web:/srv/y"], b"\x00\xff")).0, 0);
    assert_eq!(server.file("/srv/y").unwrap().0, b"\x00\xff");
    // What comes through a pipe has no permissions to keep.
    assert_eq!(outcome(&vspc(&server, &["cp", "-p", "-", "web01:/srv/z"], b"x")).0, 0);
    assert_eq!(server.file("/srv/z").unwrap().1, server.file("/srv/y").unwrap().1);
}

#[test]
fn files_come_out_of_the_guest_whole_and_nothing_else_is_left() {
    let (server, folder) = (FakeServer::start(&["web01"]), Folder::new("out"));
    server.put_file("/srv/x", &bytes(300_000), 0o640);
    server.put_file("/y", b"", 0o600);
    let args = ["cp", "-p", "web01:/srv/x", "web01:/y", &folder.at("")];
    assert_eq!(outcome(&vspc(&server, &args, b"")), (0, String::new(), String::new()));
    assert_eq!(folder.names(), ["x", "y"]);
    assert_eq!(fs::read(folder.at("x")).unwrap(), bytes(300_000));
    assert_eq!(fs::metadata(folder.at("x")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(vspc(&server, &["cp", "web01:/srv/x", "-"], b"").stdout, bytes(300_000));
}

#[test]
fn a_copy_that_is_cut_goes_on_by_itself() {
    cut_and_go_on(false);
}

#[test]
fn a_copy_with_a_guest_of_an_earlier_version_is_whole_and_goes_on_where_it_was_cut() {
    cut_and_go_on(true);
}

fn cut_and_go_on(is_old: bool) {
    let (server, folder) = (FakeServer::start(&["web01"]), Folder::new(&format!("cut-{is_old}")));
    server.agent_is_old(is_old);
    fs::write(folder.at("x"), bytes(500_000)).unwrap();
    server.cut_after(200_000);
    let (code, _, error) = outcome(&vspc(&server, &["cp", &folder.at("x"), "web01:/x"], b""));
    assert_eq!((code, error.as_str()), (0, "vspc: the connection to web01 was lost; trying again for 1m\n"));
    assert_eq!(server.file("/x").unwrap().0, bytes(500_000));
    assert_eq!((from(server.note("put from")), from(server.note("put from")) >= 200_000), (0, true));
    assert_eq!(server.note("told").unwrap().contains("blake3"), !is_old);
    assert_eq!(server.note("a checksum is missing").is_some(), is_old);
    // It is asked as it knows it from the second try on.
    assert_eq!(server.note("a checksum is missing"), None);
    let done = outcome(&vspc(&server, &["cp", "-", "web01:/y"], b"\x00\xff"));
    assert_eq!(done, (0, String::new(), String::new()));
    assert_eq!(server.file("/y").unwrap().0, b"\x00\xff");
    // More than a stream holds: when it is cut the answer has been heard.
    server.cut_after(400_000);
    let (code, _, error) = outcome(&vspc(&server, &["cp", "web01:/x", &folder.at("y")], b""));
    assert_eq!(code, 0, "{error}");
    assert_eq!(fs::read(folder.at("y")).unwrap(), bytes(500_000));
    assert_eq!((from(server.note("get from")), from(server.note("get from")) > 0), (0, true));
}

#[test]
fn a_copy_that_is_cut_goes_on_when_it_is_run_again_and_begins_anew_where_it_does_not_fit() {
    let (server, folder) = (FakeServer::start(&["web01"]), Folder::new("again"));
    server.put_file("/x", &bytes(500_000), 0o644);
    let (to, retry) = (folder.at("y"), "--retry=0");
    let get = || outcome(&vspc(&server, &["cp", retry, "web01:/x", &to], b""));
    server.cut_after(300_000);
    assert_eq!(get().0, 5);
    let part = folder.names().pop().unwrap();
    assert!(part.starts_with('.') && part.ends_with(".y.vspc-part"), "{part}");
    assert_eq!(get().0, 0);
    assert_eq!((from(server.note("get from")), from(server.note("get from")) > 0), (0, true));
    assert_eq!((folder.names(), fs::read(&to).unwrap()), (vec!["y".to_owned()], bytes(500_000)));
    // Its beginning is another file's, under the same tag.
    fs::write(folder.at(&part), b"something else").unwrap();
    assert_eq!(get().0, 0);
    assert_eq!((folder.names(), fs::read(&to).unwrap()), (vec!["y".to_owned()], bytes(500_000)));
    assert_eq!((from(server.note("get from")), from(server.note("get from"))), (14, 0));
    // It is another one meanwhile.
    server.cut_after(300_000);
    assert_eq!(get().0, 5);
    server.put_file("/x", b"short", 0o644);
    assert_eq!(get().0, 0);
    assert_eq!((folder.names(), fs::read(&to).unwrap()), (vec!["y".to_owned()], b"short".to_vec()));
}

#[test]
fn a_copy_out_that_goes_on_with_a_guest_of_another_version_is_checked_as_that_one_can() {
    let (server, folder) = (FakeServer::start(&["web01"]), Folder::new("versions"));
    server.put_file("/x", &bytes(500_000), 0o644);
    for is_old in [true, false] {
        server.agent_is_old(!is_old);
        server.cut_after(300_000);
        let (code, ..) = outcome(&vspc(&server, &["cp", "--retry=0", "web01:/x", &folder.at("y")], b""));
        server.agent_is_old(is_old);
        let done = outcome(&vspc(&server, &["cp", "--retry=0", "web01:/x", &folder.at("y")], b""));
        assert_eq!((code, done), (5, (0, String::new(), String::new())));
        assert_eq!((from(server.note("get from")), from(server.note("get from")) > 0), (0, true));
        assert_eq!(
            (folder.names(), fs::read(folder.at("y")).unwrap()),
            (vec!["y".to_owned()], bytes(500_000))
        );
    }
}

/// Begins to copy a file of 4 MB into the guest, and lets go on once this was done to it in the middle.
fn changed_in_the_middle(name: &str, change: impl FnOnce(&mut File)) -> (FakeServer, (i32, String, String)) {
    let (server, folder) = (FakeServer::start(&["web01"]), Folder::new(name));
    fs::write(folder.at("x"), bytes(4_000_000)).unwrap();
    server.hold_copies(true);
    let mut command = Command::new(env!("CARGO_BIN_EXE_vspc"));
    surround(&mut command, &server);
    command.args(["cp", &folder.at("x"), "web01:/x"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // By then its beginning has been read.
    server.await_note_that("holds");
    change(&mut File::options().write(true).open(folder.at("x")).unwrap());
    server.hold_copies(false);
    (server, outcome(&child.wait_with_output().unwrap()))
}

#[test]
fn a_file_that_changes_where_it_was_read_already_is_not_copied() {
    let (server, (code, _, error)) = changed_in_the_middle("changed", |file| file.write_all(b"new").unwrap());
    assert!(code == 1 && error.ends_with("x has changed while it was copied\n"), "{code} {error}");
    assert_eq!(server.file("/x"), None);
    assert!(server.note("told").unwrap().contains("checksum"));
}

#[test]
fn a_file_that_grows_is_copied_as_far_as_it_went_when_that_began() {
    let (server, done) = changed_in_the_middle("grown", |file| {
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"a line more\n").unwrap();
    });
    assert_eq!(done, (0, String::new(), String::new()));
    assert!(server.file("/x").unwrap().0 == bytes(4_000_000));
}

#[test]
fn a_file_that_has_another_size_than_it_says_is_copied_whole() {
    // The kernel makes it up when it is read.
    let path = "/proc/self/status";
    if fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0) {
        let server = FakeServer::start(&["web01"]);
        assert_eq!(outcome(&vspc(&server, &["cp", path, "web01:/x"], b"")).0, 0);
        assert!(server.file("/x").unwrap().0.starts_with(b"Name:"));
    }
}

#[test]
fn a_copy_goes_on_when_the_server_was_started_anew() {
    let server = FakeServer::start(&["web01"]);
    server.put_file("/x", &bytes(2_000_000), 0o644);
    let mut command = Command::new(env!("CARGO_BIN_EXE_vspc"));
    surround(&mut command, &server);
    let mut child =
        command.args(["cp", "web01:/x", "-"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut out, mut read) = (child.stdout.take().unwrap(), vec![0; 100_000]);
    out.read_exact(&mut read).unwrap();
    server.die();
    server.rise_anew(b"");
    out.read_to_end(&mut read).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(read, bytes(2_000_000));
    assert_eq!((from(server.note("get from")), from(server.note("get from")) >= 100_000), (0, true));
}

#[test]
fn what_cannot_be_copied_is_told_and_leaves_nothing() {
    let (server, folder) = (FakeServer::start(&["web01"]), Folder::new("cannot"));
    fs::write(folder.at("x"), b"x").unwrap();
    let copy = |from: &str, to: &str| outcome(&vspc(&server, &["cp", from, to], b""));
    let (code, _, error) = copy(&folder.at("x"), "web01:/forbidden/x");
    assert_eq!((code, error.contains("its agent does not allow it")), (4, true), "{error}");
    let (code, _, error) = copy(&folder.at("x"), "web01:/folder");
    assert!(code == 1 && error.ends_with("a folder is written with a / at its end\n"), "{error}");
    let (code, _, error) = copy("web01:/nothing", &folder.at("y"));
    assert_eq!((code, error.as_str()), (1, "vspc: web01: there is no such file (by the script)\n"));
    assert_eq!(folder.names(), ["x"]);
    assert_eq!(copy(&folder.at("x"), &folder.at("y")).0, 2);
    assert_eq!(copy(&folder.at(""), "web01:/y").0, 1);
    assert_eq!(copy("web01:/y", "/dev/null").0, 1);
    assert_eq!(copy("web02:/y", &folder.at("y")).0, 3);
    server.agent_is_away(true);
    assert_eq!(copy(&folder.at("x"), "web01:/y").0, 1);
}
