//! Lines that can be anything.

use quickcheck::{TestResult, quickcheck};
use vspc_guest::{
    Announcement, ControlLine, Ending, Exec, FactLine, Header, Key, Listener, MAX_BLOCK, MAX_LINE,
    MAX_PACKED, Name, Pack, Pty, Put, Refusal, Shell, Sum, Unpacker, answer, pack,
};

/// Lines that are right, to begin with.
fn seeds() -> Vec<Vec<u8>> {
    let key = Key::random([7; 16]);
    let exec = Exec { argv: vec!["/bin/sh".to_owned(), "-c".to_owned()], ..Exec::new(key.clone()) };
    let put = Put {
        path: "/srv/x".to_owned(),
        size: 7,
        mode: 0o644,
        sha256: Some("0a".repeat(32)),
        tag: None,
        sum: Sum::Sha256,
        pack: Some(Pack::Lz4),
    };
    let tagged = Put { sha256: None, tag: Some("0a".repeat(16)), sum: Sum::Blake3, ..put.clone() };
    vec![
        Header::Exec(Exec { pty: Some(Pty::default()), ..exec }).line(),
        Header::Shell(Shell { key: key.clone(), pty: Pty::default(), with: Vec::new() }).line(),
        Header::Put(put).line(),
        Header::Put(tagged).line(),
        Header::Control { key }.line(),
        Header::Window { name: Name::new("shell").unwrap() }.line(),
        ControlLine::Size { rows: 1, cols: 2 }.line(),
        Ending::Killed("TERM".to_owned()).line(),
        FactLine::Set("a".to_owned(), "b".to_owned()).line(),
        answer::ok(&answer::Done {}),
    ]
}

quickcheck! {
    /// What is read is what is written, or a refusal that fits into a line; nothing panics.
    fn a_line_is_read_or_refused(which: usize, at: usize, bytes: Vec<u8>, cut: bool) -> TestResult {
        let seeds = seeds();
        let mut line = seeds[which % seeds.len()].clone();
        let at = at % line.len();
        let end = if cut { (at + bytes.len()).min(line.len()) } else { at };
        line.splice(at..end, bytes);
        let fits = |refusal: Refusal| refusal.line().len() <= MAX_LINE;
        let header = match Header::parse(&line) {
            Ok(header) => Header::parse(&header.line()) == Ok(header),
            Err(refusal) => fits(refusal),
        };
        let announcement = match Announcement::parse(&line) {
            Ok(announcement) => Announcement::parse(&announcement.line()) == Ok(announcement),
            Err(refusal) => fits(refusal),
        };
        let control = ControlLine::parse(&line).map_or_else(fits, |_| true);
        let answered = answer::parse::<answer::Done>(&line).map_or_else(fits, |_| true);
        let _ = Ending::parse(&line);
        let mut listener = Listener::default();
        let heard = listener.handle_line(&line).map_or_else(fits, |_| true);
        TestResult::from_bool(header && announcement && control && answered && heard)
    }

    /// What was packed comes out again, however the line cuts it.
    fn blocks_come_out_as_they_went_in(pieces: Vec<(Vec<u8>, u16)>, cut: u16) -> bool {
        let repeated = pieces.iter().map(|(bytes, n)| bytes.repeat(usize::from(*n % 999)));
        let bytes: Vec<u8> = repeated.flatten().collect();
        let (mut packed, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let begin = packed.len();
            at += pack(&bytes[at..], &mut packed);
            assert!(packed.len() - begin <= MAX_PACKED);
        }
        let (came, fault) = unpacked(&packed, usize::from(cut) + 1);
        came == bytes && !fault
    }

    /// Anything is unpacked or refused, and no more is kept than a block.
    fn anything_is_unpacked_or_refused(bytes: Vec<u8>, which: usize, to: u8, cut: u16) -> bool {
        let (come, _) = unpacked(&bytes, usize::from(cut) + 1);
        let mut packed = Vec::new();
        pack(&bytes.repeat(50), &mut packed);
        if !packed.is_empty() {
            let which = which % packed.len();
            packed[which] = to;
        }
        let (spoilt, _) = unpacked(&packed, usize::from(cut) + 1);
        come.len() <= bytes.len() / 5 * MAX_BLOCK && spoilt.len() <= packed.len() / 5 * MAX_BLOCK
    }
}

/// What blocks hold that come so many bytes at a time, up to a fault.
fn unpacked(mut bytes: &[u8], cut: usize) -> (Vec<u8>, bool) {
    let (mut unpacker, mut scratch, mut came) = (Unpacker::new(), vec![0; MAX_BLOCK], Vec::new());
    while !bytes.is_empty() {
        let taken = unpacker.take(&bytes[..cut.min(bytes.len())]);
        bytes = &bytes[taken..];
        match unpacker.block(&mut scratch) {
            None => continue,
            Some(Ok(block)) => came.extend_from_slice(block),
            Some(Err(refusal)) => {
                assert!(refusal.line().len() <= MAX_LINE);
                return (came, true);
            }
        }
        unpacker.clear();
    }
    (came, !unpacker.is_empty())
}
