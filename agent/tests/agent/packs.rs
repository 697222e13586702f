//! Packed bytes (APPLICATION §10) of copies and logs.

use std::fs;

use vspc_guest::copy::{GetOk, PutOk, Whole};
use vspc_guest::{Code, Get, Header, LogOk, MAX_BLOCK, Pack, Put, Sum, Unpacker, answer, block_len, pack};

use crate::copies::{machine_with, path, sum};
use crate::host::Host;
use crate::machine::{Folder, Machine};

/// Lines as a log has them.
fn lines(n: usize) -> Vec<u8> {
    (0..n)
        .flat_map(|at| format!("Nov 30 12:{:02}:07 web01 kernel: eth0: link {at}\n", at % 60).into_bytes())
        .collect()
}

/// Bytes that nothing can be made of.
fn noise(n: usize) -> Vec<u8> {
    let next = |n: &u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    std::iter::successors(Some(1), next).map(|n| (n >> 56) as u8).take(n).collect()
}

/// All of it in blocks.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let (mut blocks, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        at += pack(&bytes[at..], &mut blocks);
    }
    blocks
}

/// The first so many bytes of what is in blocks, and what is behind them.
fn unpacked(mut blocks: &[u8], len: usize) -> (Vec<u8>, &[u8]) {
    let (mut unpacker, mut bytes, mut scratch) = (Unpacker::new(), Vec::new(), vec![0; MAX_BLOCK]);
    while bytes.len() < len {
        blocks = &blocks[unpacker.take(blocks)..];
        let Some(block) = unpacker.block(&mut scratch) else { break };
        bytes.extend_from_slice(block.unwrap());
        unpacker.clear();
    }
    (bytes, blocks)
}

fn put(machine: &Machine, bytes: &[u8]) -> Header {
    let (path, size) = (path(machine, "x"), bytes.len() as u64);
    let sha256 = Some(sum(bytes).digits().to_owned());
    let (tag, sum, pack) = (None, Sum::Sha256, Some(Pack::Lz4));
    Header::Put(Put { path, size, mode: 0o600, sha256, tag, sum, pack })
}

fn get(machine: &Machine, have: Option<(u64, String)>) -> Header {
    let (offset, tag) = have.map_or((0, None), |(offset, tag)| (offset, Some(tag)));
    Header::Get(Get { offset, tag, pack: Some(Pack::Lz4), ..Get::new(path(machine, "x")) })
}

/// Begins a copy into the guest, and says where it goes on.
fn begin_put(host: &mut Host, header: &Header) -> (vspc_core::mux::StreamId, usize) {
    let id = host.open(&header.line());
    let PutOk { offset, pack, .. } = host.answer(id).unwrap();
    assert_eq!(pack, Some(Pack::Lz4));
    (id, offset as usize)
}

#[test]
fn a_socket_carries_more_than_can_be_packed() {
    let machine = machine_with("");
    fs::write(machine.folder.join("srv/x"), b"x").unwrap();
    let mut host = Host::raw(machine.line());
    assert!(host.hello(None).unwrap().packs.is_empty());
    let id = host.open(&get(&machine, None).line());
    assert_eq!(host.answer::<GetOk>(id).unwrap().pack, None);
    let id = host.open(&put(&machine, b"x").line());
    assert_eq!(host.answer::<PutOk>(id).unwrap().pack, None);
}

#[test]
fn packed_copies_are_exact_and_go_on_where_they_were_cut() {
    let machine = machine_with("pack = true\n");
    let mut host = Host::raw(machine.line());
    assert_eq!(host.hello(None).unwrap().packs, ["lz4"]);
    // What packs well, and what does not.
    let bytes = [lines(20_000), noise(300_000), lines(3)].concat();
    let blocks = packed(&bytes);
    let (id, _) = begin_put(&mut host, &put(&machine, &bytes));
    host.write(id, &blocks[..200_000]);
    drop(host);

    let mut host = machine.host();
    let (id, offset) = begin_put(&mut host, &put(&machine, &bytes));
    assert!(offset > 300_000 && offset.is_multiple_of(MAX_BLOCK), "from {offset}");
    host.write(id, &packed(&bytes[offset..]));
    host.finish(id);
    host.answer::<Whole>(id).unwrap();
    assert!(fs::read(path(&machine, "x")).unwrap() == bytes, "the bytes are others");

    let before = host.have_read;
    let id = host.open(&get(&machine, None).line());
    let GetOk { tag, pack, .. } = host.answer(id).unwrap();
    assert_eq!(pack, Some(Pack::Lz4));
    let all = host.rest(id);
    assert!(
        host.have_read - before < bytes.len() / 2,
        "{} bytes for {}",
        host.have_read - before,
        bytes.len()
    );
    let (came, last) = unpacked(&all, bytes.len());
    assert!(came == bytes, "the bytes are others");
    let whole = answer::parse::<Whole>(last).unwrap();
    assert_eq!(whole, Whole { size: bytes.len() as u64, sum: sum(&bytes) });

    let id = host.open(&get(&machine, Some((700_001, tag))).line());
    assert_eq!(host.answer::<GetOk>(id).unwrap().offset, 700_001);
    let all = host.rest(id);
    let (came, last) = unpacked(&all, bytes.len() - 700_001);
    assert!(came == bytes[700_001..], "the bytes are others");
    assert_eq!(answer::parse::<Whole>(last), Ok(whole));
}

#[test]
fn a_block_that_makes_no_sense_ends_its_copy_and_nothing_else() {
    let machine = machine_with("pack = true\n");
    let mut host = machine.host();
    let bytes = lines(100);
    let header = put(&machine, &bytes);
    let long = packed(&lines(101));
    for (sent, code) in [
        (&b"\xff\xff\xff\xff"[..], Code::BAD_LINE),
        (b"\x80\x01\0\x05aaaaa", Code::BAD_LINE),
        (b"\0\x10\0\x05\xff\xff\xff\xff\xff", Code::BAD_LINE),
        (&long, Code::BAD_LINE),
        (&long[..long.len() - 1], Code::CUT),
        (&packed(&lines(100)[1..]), Code::CUT),
    ] {
        let (id, _) = begin_put(&mut host, &header);
        host.write(id, sent);
        host.finish(id);
        assert_eq!(host.answer::<Whole>(id).unwrap_err().code, code, "{sent:?}");
        assert!(fs::read(path(&machine, "x")).is_err());
    }
    // Anything else is as it was; and what is not known is not packed.
    let line = String::from_utf8(header.line()).unwrap().replace("\"lz4\"", "\"later\"");
    let id = host.open(line.as_bytes());
    let PutOk { offset, pack, .. } = host.answer(id).unwrap();
    assert_eq!(pack, None);
    host.write(id, &bytes[offset as usize..]);
    host.finish(id);
    assert!(host.answer::<Whole>(id).is_err() == (offset > 0));
}

#[test]
fn a_packed_log_goes_on_with_the_first_block_that_was_not_taken() {
    let folder = Folder::new();
    let log = folder.join("messages");
    let option = format!("messages={}", log.display());
    let machine = Machine::start_in(folder, "pack = true\n", &["--log", &option]);
    let take = |host: &mut Host| {
        let (id, _) = host.announced_as("log/messages");
        host.write(id, &answer::ok(&LogOk { back: 0, pack: Some(Pack::Lz4) }));
        id
    };
    let mut host = machine.host();
    let id = take(&mut host);
    let bytes = [lines(2000), noise(200_000), b"last\n".to_vec()].concat();
    host.unread.insert(id);
    fs::write(&log, &bytes).unwrap();
    // Some blocks are taken, and a part of one. What comes next says that the acknowledgement has arrived.
    let mut have = Vec::new();
    host.until("half of it", |host| {
        let mut some = vec![0; host.session.received_len(id)];
        let n = host.session.read(id, &mut some).unwrap();
        have.extend_from_slice(&some[..n]);
        (have.len() > 100_000).then_some(())
    });
    host.until("more", |host| (host.session.received_len(id) > 0).then_some(()));
    let (came, _) = unpacked(&have, bytes.len());
    assert!(came == bytes[..came.len()] && !came.is_empty(), "the bytes are others");
    drop(host);

    let mut host = machine.host();
    let id = take(&mut host);
    let mut all = Vec::new();
    let rest = host.until("the rest", |host| {
        all.extend(host.take_all(id));
        let (rest, _) = unpacked(&all, bytes.len());
        rest.ends_with(b"last\n").then_some(rest)
    });
    let from = bytes.len() - rest.len();
    assert!(rest == bytes[from..], "the bytes are others");
    // What was taken last may not have been acked: a block may come again, and none is missing.
    assert!(
        from <= came.len() && from + MAX_BLOCK >= came.len(),
        "it goes on from {from}, not {}",
        came.len()
    );
}

#[test]
fn a_log_of_which_nothing_can_be_made_is_packed_to_its_end_for_a_host_that_takes_only_whole_blocks() {
    let folder = Folder::new();
    let log = folder.join("messages");
    let bytes = [noise(70_000), lines(500), noise(70_000)].concat();
    fs::write(&log, &bytes).unwrap();
    let option = format!("messages={}", log.display());
    let machine = Machine::start_in(folder, "pack = true\nsl = true\n", &["--log", &option]);
    let mut host = Host::sl(machine.line());
    host.hello(None).unwrap();
    let (id, _) = host.announced_as("log/messages");
    host.write(id, &answer::ok(&LogOk { back: 1 << 20, pack: Some(Pack::Lz4) }));
    host.unread.insert(id);
    let mut came = Vec::new();
    host.until("all of it", |host| {
        let mut runs = [std::io::IoSlice::new(&[]); 4];
        let filled = host.session.received_runs(id, &mut runs);
        let mut first = runs[..filled].iter().flat_map(|run| run.iter().copied());
        if let [Some(a), Some(b), Some(c), Some(d)] = std::array::from_fn(|_| first.next()) {
            let len = block_len([a, b, c, d]).unwrap();
            if host.session.received_len(id) >= len {
                let mut block = vec![0; len];
                host.session.read(id, &mut block).unwrap();
                host.session.acknowledge(id).unwrap();
                came.extend(unpacked(&block, MAX_BLOCK).0);
            }
        }
        (came.len() >= bytes.len()).then_some(())
    });
    assert!(came == bytes, "the bytes are others");
}
