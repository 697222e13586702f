//! `vspc cp`: files into a guest and out of it, whole and with cuts.

use std::fs;
use std::io::Read;
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
    let (server, folder) = (FakeServer::start(&["web01"]), Folder::new("cut"));
    fs::write(folder.at("x"), bytes(500_000)).unwrap();
    server.cut_after(200_000);
    let (code, _, error) = outcome(&vspc(&server, &["cp", &folder.at("x"), "web01:/x"], b""));
    assert_eq!((code, error.as_str()), (0, "vspc: the connection to web01 was lost; trying again for 1m\n"));
    assert_eq!(server.file("/x").unwrap().0, bytes(500_000));
    assert_eq!((from(server.note("put from")), from(server.note("put from")) >= 200_000), (0, true));
    server.cut_after(200_000);
    assert_eq!(outcome(&vspc(&server, &["cp", "web01:/x", &folder.at("y")], b"")).0, 0);
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
