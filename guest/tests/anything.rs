//! Lines that can be anything.

use quickcheck::{TestResult, quickcheck};
use vspc_guest::{
    Announcement, ControlLine, Ending, Exec, FactLine, Header, Key, Listener, MAX_LINE, Pty, Put, Refusal,
    Shell, answer,
};

/// Lines that are right, to begin with.
fn seeds() -> Vec<Vec<u8>> {
    let key = Key::random([7; 16]);
    let exec = Exec { argv: vec!["/bin/sh".to_owned(), "-c".to_owned()], ..Exec::new(key.clone()) };
    let put = Put { path: "/srv/x".to_owned(), size: 7, mode: 0o644, sha256: "0a".repeat(32) };
    vec![
        Header::Exec(Exec { pty: Some(Pty::default()), ..exec }).line(),
        Header::Shell(Shell { key: key.clone(), pty: Pty::default(), with: Vec::new() }).line(),
        Header::Put(put).line(),
        Header::Control { key }.line(),
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
}
