//! Copies (APPLICATION §4).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use vspc_guest::copy::{GetOk, PutOk, Whole};
use vspc_guest::{Checksum, Code, Get, Header, Put, Refusal, Sum, Summer, answer};

use crate::host::Host;
use crate::machine::{Folder, Machine};

/// Bytes that no line likes.
pub(crate) fn text(len: u32) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Their checksum in the way that every side knows.
pub(crate) fn sum(bytes: &[u8]) -> Checksum {
    summed(Sum::Sha256, bytes)
}

fn summed(sum: Sum, bytes: &[u8]) -> Checksum {
    let mut summer = Summer::new(sum);
    summer.take(bytes);
    summer.checksum()
}

/// A machine of whose folder `srv` everything may be copied.
fn machine() -> Machine {
    machine_with("")
}

/// With a folder to copy from and into, and this said in its configuration.
pub(crate) fn machine_with(said: &str) -> Machine {
    let folder = Folder::new();
    fs::create_dir(folder.join("srv")).unwrap();
    let config = format!("{said}[[copy]]\nroot = {:?}\nwrite = true\n", folder.join("srv"));
    Machine::start_in(folder, &config, &[])
}

pub(crate) fn path(machine: &Machine, name: &str) -> String {
    machine.folder.join("srv").join(name).display().to_string()
}

fn put(machine: &Machine, name: &str, bytes: &[u8]) -> Header {
    Header::Put(Put {
        path: path(machine, name),
        size: bytes.len() as u64,
        mode: 0o640,
        sha256: Some(sum(bytes).digits().to_owned()),
        tag: None,
        sum: Sum::Sha256,
        pack: None,
    })
}

/// A file of which a tag is known, and no checksum before it has come.
fn tagged(machine: &Machine, name: &str, size: usize, tag: char) -> Header {
    let Header::Put(known) = put(machine, name, b"") else { unreachable!() };
    let tag = Some(tag.to_string().repeat(32));
    Header::Put(Put { size: size as u64, sha256: None, tag, sum: Sum::Blake3, ..known })
}

/// Copies all of it, and says from where.
fn copy(host: &mut Host, header: &Header, bytes: &[u8]) -> u64 {
    let id = host.open(&header.line());
    let PutOk { offset, .. } = host.answer(id).unwrap();
    host.write(id, &bytes[offset as usize..]);
    host.finish(id);
    let whole = host.answer::<Whole>(id).unwrap();
    assert_eq!(whole, Whole { size: bytes.len() as u64, sum: sum(bytes) });
    host.rest(id);
    offset
}

/// What is in the folder.
fn names(machine: &Machine) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(machine.folder.join("srv"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_copy_into_the_guest_is_whole_or_goes_on_where_it_was_cut() {
    let machine = machine();
    let mut host = machine.host();
    let bytes = text(3_000_000);
    let header = put(&machine, "x", &bytes);
    let id = host.open(&header.line());
    assert_eq!(host.answer::<PutOk>(id), Ok(PutOk { offset: 0, pack: None, sum: Sum::Sha256 }));
    host.write(id, &bytes[..1_000_000]);
    // It is in use meanwhile.
    assert_eq!(host.refusal(&header).code, Code::IN_USE);
    let partial = names(&machine);
    assert!(partial.len() == 1 && partial[0].starts_with(".x."), "{partial:?}");
    // The line is cut in the middle.
    drop(host);
    let mut host = machine.host();
    let offset = copy(&mut host, &header, &bytes);
    assert!(offset > 500_000 && offset <= 1_000_000, "from {offset}");
    assert_eq!(names(&machine), ["x"]);
    assert!(fs::read(path(&machine, "x")).unwrap() == bytes);
    let mode = fs::metadata(path(&machine, "x")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);

    // Another file under this name, and an empty one.
    let other = text(100);
    assert_eq!(copy(&mut host, &put(&machine, "x", &other), &other), 0);
    assert_eq!(fs::read(path(&machine, "x")).unwrap(), other);
    copy(&mut host, &put(&machine, "empty", b""), b"");
    assert_eq!(names(&machine), ["empty", "x"]);
}

#[test]
fn what_is_not_what_was_to_come_does_not_become_the_file() {
    let machine = machine();
    let mut host = machine.host();
    fs::write(path(&machine, "x"), "old").unwrap();
    let bytes = text(10_000);
    let header = put(&machine, "x", &bytes);
    for (sent, code, left) in [
        (&bytes[..5000], Code::CUT, 2),
        (&[&bytes[..9999], &b"!"[..]].concat(), Code::CHECKSUM, 1),
        (&[&bytes[..], &b"!"[..]].concat(), Code::BAD_LINE, 1),
    ] {
        let id = host.open(&header.line());
        let PutOk { offset, .. } = host.answer(id).unwrap();
        host.write(id, &sent[offset as usize..]);
        host.finish(id);
        assert_eq!(host.answer::<Whole>(id).unwrap_err().code, code);
        assert_eq!(names(&machine).len(), left, "{code:?}");
        assert_eq!(fs::read(path(&machine, "x")).unwrap(), b"old");
    }
    // Setting another user is not copied.
    let Header::Put(header) = header else { unreachable!() };
    copy(&mut host, &Header::Put(Put { mode: 0o4755, ..header }), &bytes);
    let mode = fs::metadata(path(&machine, "x")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn a_checksum_may_follow_the_bytes_and_they_go_on_where_they_were_cut() {
    let machine = machine();
    let mut host = machine.host();
    let bytes = text(3_000_000);
    let header = tagged(&machine, "x", bytes.len(), 'a');
    let id = host.open(&header.line());
    assert_eq!(host.answer::<PutOk>(id), Ok(PutOk { offset: 0, pack: None, sum: Sum::Blake3 }));
    host.write(id, &bytes[..1_000_000]);
    drop(host);

    let mut host = machine.host();
    // Another state of the file begins anew, and what is there of this one stays.
    let id = host.open(&tagged(&machine, "x", bytes.len(), 'b').line());
    assert_eq!(host.answer::<PutOk>(id).unwrap().offset, 0);
    host.session.reset(id).unwrap();
    let id = host.open(&header.line());
    let offset = host.answer::<PutOk>(id).unwrap().offset as usize;
    assert!(offset > 500_000 && offset <= 1_000_000, "from {offset}");
    host.write(id, &bytes[offset..]);
    // All of it is there, and it becomes the file once its checksum is.
    let whole = Whole { size: 3_000_000, sum: summed(Sum::Blake3, &bytes) };
    let line = answer::done(&whole);
    host.write(id, &line[..20]);
    assert_eq!(host.refusal(&header).code, Code::IN_USE);
    assert!(fs::metadata(path(&machine, "x")).is_err());
    host.write(id, &line[20..]);
    host.finish(id);
    assert_eq!(host.answer(id), Ok(whole));
    assert!(fs::read(path(&machine, "x")).unwrap() == bytes);
}

#[test]
fn what_has_another_checksum_than_follows_it_or_none_does_not_become_the_file() {
    let machine = machine();
    let mut host = machine.host();
    let bytes = text(10_000);
    let whole = |sum| answer::done(&Whole { size: 10_000, sum });
    let right = whole(summed(Sum::Blake3, &bytes));
    let changed = Refusal::new(Code::CHECKSUM, "it has changed").line();
    for (sent, code, left) in [
        ([&bytes[..9999], b"!", &right].concat(), Code::CHECKSUM, 0),
        // That of another kind than was agreed on.
        ([&bytes[..], &whole(sum(&bytes))].concat(), Code::CHECKSUM, 0),
        ([&bytes[..], &changed].concat(), Code::CHECKSUM, 0),
        ([&bytes[..], b"no line\n"].concat(), Code::BAD_LINE, 0),
        ([&bytes[..], &[b'x'; 5000]].concat(), Code::BAD_LINE, 0),
        ([&bytes[..], &right, b"!"].concat(), Code::BAD_LINE, 0),
        (bytes[..5000].to_vec(), Code::CUT, 1),
        (bytes.clone(), Code::CUT, 1),
        ([&bytes[..], &right[..30]].concat(), Code::CUT, 1),
    ] {
        let id = host.open(&tagged(&machine, "x", bytes.len(), 'a').line());
        let PutOk { offset, .. } = host.answer(id).unwrap();
        host.write(id, &sent[offset as usize..]);
        host.finish(id);
        assert_eq!(host.answer::<Whole>(id).unwrap_err().code, code, "{} bytes", sent.len());
        assert_eq!(names(&machine).len(), left, "{code:?}");
    }
    // It goes on as if nothing had been, with a kind that the guest has not heard of.
    let header = String::from_utf8(tagged(&machine, "x", bytes.len(), 'a').line()).unwrap();
    let id = host.open(header.replace("blake3", "later").as_bytes());
    assert_eq!(host.answer(id), Ok(PutOk { offset: 10_000, pack: None, sum: Sum::Sha256 }));
    host.write(id, &whole(sum(&bytes)));
    host.finish(id);
    host.answer::<Whole>(id).unwrap();
    assert_eq!(names(&machine), ["x"]);
}

#[test]
fn a_copy_out_of_the_guest_is_summed_as_the_host_asks() {
    let machine = machine();
    let bytes = text(300_000);
    fs::write(path(&machine, "x"), &bytes).unwrap();
    let mut host = machine.host();
    for kind in [Sum::Blake3, Sum::Sha256] {
        let id = host.open(&Header::Get(Get { sum: kind, ..Get::new(path(&machine, "x")) }).line());
        assert_eq!(host.answer::<GetOk>(id).unwrap().sum, kind);
        let rest = host.rest(id);
        let (came, last) = rest.split_at(bytes.len());
        assert!(came == bytes, "the bytes are others");
        assert_eq!(answer::parse(last), Ok(Whole { size: 300_000, sum: summed(kind, &bytes) }));
    }
}

#[test]
fn a_copy_out_of_the_guest_goes_on_where_it_was_cut_unless_the_file_has_changed() {
    let machine = machine();
    let bytes = text(3_000_000);
    fs::write(path(&machine, "x"), &bytes).unwrap();
    let get = Get::new(path(&machine, "x"));
    let mut host = machine.host();
    let id = host.open(&Header::Get(get.clone()).line());
    let GetOk { offset, size, tag, .. } = host.answer(id).unwrap();
    assert_eq!((offset, size), (0, 3_000_000));
    host.until("some of it", |host| (host.waiting(id) > 1_000_000).then_some(()));
    let have = host.waiting(id) as u64;
    drop(host);

    let mut host = machine.host();
    let again = Get { offset: have, tag: Some(tag), ..get };
    let id = host.open(&Header::Get(again.clone()).line());
    let GetOk { offset, .. } = host.answer(id).unwrap();
    assert_eq!(offset, have);
    let rest = host.rest(id);
    let (rest, last) = rest.split_at((size - have) as usize);
    assert!(rest == &bytes[have as usize..], "the bytes are others");
    let whole = answer::parse::<Whole>(last).unwrap();
    assert_eq!(whole, Whole { size, sum: sum(&bytes) });

    fs::write(path(&machine, "x"), "new").unwrap();
    let id = host.open(&Header::Get(again).line());
    let GetOk { offset, size, .. } = host.answer(id).unwrap();
    assert_eq!((offset, size), (0, 3));
    assert!(host.rest(id).starts_with(b"new{\"done\":"));
}

#[test]
fn a_file_that_becomes_shorter_is_no_whole_copy() {
    let machine = machine();
    fs::write(path(&machine, "x"), text(3_000_000)).unwrap();
    let mut host = machine.host();
    let id = host.session.open().unwrap();
    host.unread.insert(id);
    host.write(id, &Header::Get(Get::new(path(&machine, "x"))).line());
    host.until("its first bytes", |host| (host.session.received_len(id) > 10_000).then_some(()));
    fs::File::options().write(true).open(path(&machine, "x")).unwrap().set_len(1000).unwrap();
    host.read(id);
    host.until_reset(id);
}

#[test]
fn no_path_leads_out_of_what_is_allowed() {
    let machine = machine();
    let mut host = machine.host();
    fs::write(machine.folder.join("secret"), "secret").unwrap();
    fs::create_dir(path(&machine, "folder")).unwrap();
    fs::write(path(&machine, "folder/y"), "y").unwrap();
    symlink("../secret", path(&machine, "up")).unwrap();
    symlink(machine.folder.join("secret"), path(&machine, "absolute")).unwrap();
    symlink("..", path(&machine, "parent")).unwrap();
    symlink("folder/y", path(&machine, "inside")).unwrap();
    symlink("/proc/self/root", path(&machine, "magic")).unwrap();
    let get = |path: String| Header::Get(Get::new(path));
    for name in ["up", "absolute", "parent/secret", "magic/etc/passwd"] {
        let refusal = host.refusal(&get(path(&machine, name)));
        assert_eq!(refusal.code, Code::FAILED, "{name}: {refusal}");
    }
    for (name, code) in [("none", Code::NO_SUCH_FILE), ("folder", Code::NOT_A_FILE)] {
        assert_eq!(host.refusal(&get(path(&machine, name))).code, code, "{name}");
    }
    assert_eq!(host.refusal(&get("/etc/passwd".to_owned())).code, Code::NOT_ALLOWED);
    let id = host.open(&get(path(&machine, "inside")).line());
    host.answer::<GetOk>(id).unwrap();
    assert!(host.rest(id).starts_with(b"y{"));

    let refusal = host.refusal(&put(&machine, "parent/new", b"x"));
    assert_eq!(refusal.code, Code::FAILED, "{refusal}");
    assert_eq!(host.refusal(&put(&machine, "none/new", b"x")).code, Code::NO_SUCH_FILE);
    // A link is replaced, not followed.
    copy(&mut host, &put(&machine, "up", b"x"), b"x");
    assert_eq!(fs::read(machine.folder.join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read(path(&machine, "up")).unwrap(), b"x");
    // A folder is not.
    let id = host.open(&put(&machine, "folder", b"x").line());
    host.answer::<PutOk>(id).unwrap();
    host.write(id, b"x");
    host.finish(id);
    host.answer::<Whole>(id).unwrap_err();
}

#[test]
fn what_may_be_read_only_is_not_written() {
    let folder = Folder::new();
    fs::create_dir(folder.join("srv")).unwrap();
    let config = format!("[[copy]]\nroot = {:?}\n", folder.join("srv"));
    let machine = Machine::start_in(folder, &config, &[]);
    let mut host = Host::raw(machine.line());
    assert_eq!(host.hello(None).unwrap().may, ["get"]);
    assert_eq!(host.refusal(&put(&machine, "x", b"x")).code, Code::NOT_ALLOWED);
}

#[test]
fn nothing_of_a_folder_that_may_be_written_leads_into_one_inside_it_that_may_only_be_read() {
    let folder = Folder::new();
    let (outer, inner) = (folder.join("srv"), folder.join("srv/inner"));
    fs::create_dir_all(&inner).unwrap();
    fs::create_dir(outer.join("other")).unwrap();
    symlink("inner", outer.join("link")).unwrap();
    let roots =
        format!("[[copy]]\nroot = {outer:?}\nwrite = true\n[[copy]]\nroot = {inner:?}\nwrite = false\n");
    let machine = Machine::start_in(folder, &roots, &[]);
    let mut host = machine.host();
    assert_eq!(host.refusal(&put(&machine, "inner/x", b"x")).code, Code::NOT_ALLOWED);
    assert_eq!(host.refusal(&put(&machine, "other/../inner/x", b"x")).code, Code::BAD_LINE);
    let refusal = host.refusal(&put(&machine, "link/x", b"x"));
    assert_eq!(refusal.code, Code::FAILED, "{refusal}");
    assert_eq!(fs::read_dir(inner).unwrap().count(), 0);
    copy(&mut host, &put(&machine, "other/x", b"x"), b"x");
}
