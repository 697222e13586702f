//! Logs that are read while they are written, renamed, compressed and emptied.

use super::*;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::marks::FINEST;

/// A log directory, and one for the index beside it.
struct Rig(PathBuf);

impl Rig {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vspc-reader-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("index")).unwrap();
        Self(path)
    }

    fn log(&self) -> PathBuf {
        self.0.join("vm.log")
    }

    fn append(&self, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.log()).unwrap();
        file.write_all(bytes).unwrap();
    }

    /// The same, and says when.
    fn print(&self, time: u64, bytes: &[u8]) {
        self.append(b"");
        let metadata = fs::metadata(self.log()).unwrap();
        let mark = Mark { time, exactness: FINEST, file: metadata.ino(), offset: metadata.len() };
        marks::append(&self.0.join("index"), Path::new("vm.log"), 0o600, &[mark]).unwrap();
        self.append(bytes);
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(time);
        fs::OpenOptions::new().append(true).open(self.log()).unwrap().set_modified(time).unwrap();
    }

    fn rotate(&self, is_packed: bool) {
        let name = |n: usize, ending: &str| self.0.join(format!("vm.log.{n}{ending}"));
        for n in (1..9).rev() {
            for ending in ["", ".gz"] {
                let _ = fs::rename(name(n, ending), name(n + 1, ending));
            }
        }
        if !is_packed {
            return fs::rename(self.log(), name(1, "")).unwrap();
        }
        let mut packed = GzEncoder::new(fs::File::create(name(1, ".gz")).unwrap(), Compression::fast());
        packed.write_all(&fs::read(self.log()).unwrap()).unwrap();
        packed.finish().unwrap();
        fs::remove_file(self.log()).unwrap();
    }

    fn open(&self, span: Span) -> Reader {
        let index = Some(marks::index_of(&self.0.join("index"), Path::new("vm.log")));
        Reader::open(vec![Source { log: self.log(), index }], span, None).unwrap()
    }

    fn text(&self, span: Span) -> String {
        text(&mut self.open(span))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All that the VM printed, up to the end.
fn text(reader: &mut Reader) -> String {
    let mut whole = Vec::new();
    loop {
        for item in reader.read(7).unwrap() {
            if let Item::Text(text) = item {
                whole.extend(text);
            }
        }
        if reader.is_at_end() {
            return String::from_utf8(whole).unwrap();
        }
    }
}

const T: u64 = 1_764_000_000_000;

fn three_files(rig: &Rig) {
    rig.print(T, b"first\n");
    rig.print(T + 1000, b"second\n");
    rig.rotate(true);
    rig.print(T + 2000, b"third\n");
    rig.rotate(true);
    rig.print(T + 3000, b"fourth\n");
    rig.rotate(false);
    rig.print(T + 4000, b"fifth\n");
    rig.print(T + 5000, b"six");
}

#[test]
fn a_log_is_read_from_its_oldest_file_on_and_between_times() {
    let rig = Rig::new("times");
    three_files(&rig);
    let all = "first\nsecond\nthird\nfourth\nfifth\nsix";
    assert_eq!(rig.text(Span::default()), all);
    for (since, until, part) in [
        (Some(T + 1000), None, "second\nthird\nfourth\nfifth\nsix"),
        (Some(T + 1500), None, "third\nfourth\nfifth\nsix"),
        (Some(T + 2900), Some(T + 4500), "fourth\nfifth\n"),
        (None, Some(T + 500), "first\n"),
        (Some(T + 4200), Some(T + 4300), ""),
        (Some(0), None, all),
    ] {
        let span = Span { since, until, ..Span::default() };
        assert_eq!(rig.text(span), part, "{since:?} {until:?}");
    }
}

#[test]
fn the_last_lines_are_found_over_the_ends_of_files() {
    let rig = Rig::new("lines");
    three_files(&rig);
    for (lines, part) in [
        (0, ""),
        (1, "six"),
        (2, "fifth\nsix"),
        (3, "fourth\nfifth\nsix"),
        (4, "third\nfourth\nfifth\nsix"),
        (5, "second\nthird\nfourth\nfifth\nsix"),
        (99, "first\nsecond\nthird\nfourth\nfifth\nsix"),
    ] {
        assert_eq!(rig.text(Span { lines: Some(lines), ..Span::default() }), part, "{lines}");
    }
    rig.append(b"th\n");
    assert_eq!(rig.text(Span { lines: Some(2), ..Span::default() }), "fifth\nsixth\n");
}

#[test]
fn each_piece_has_the_time_at_which_it_was_printed() {
    let rig = Rig::new("items");
    three_files(&rig);
    let mut reader = rig.open(Span::default());
    let mut found = Vec::new();
    let mut time = 0;
    while !reader.is_at_end() {
        for item in reader.read(100).unwrap() {
            match item {
                Item::Time(at) => time = at - T,
                Item::Text(text) => found.push((time, text)),
                other => panic!("{other:?}"),
            }
        }
    }
    let words = ["first\n", "second\n", "third\n", "fourth\n", "fifth\n", "six"];
    let expected: Vec<_> =
        words.iter().zip(0..).map(|(word, n)| (n * 1000, word.as_bytes().to_vec())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_reader_that_follows_misses_nothing_when_files_are_renamed_or_emptied() {
    let rig = Rig::new("follow");
    rig.print(T, b"one ");
    let mut reader = rig.open(Span { follow: true, ..Span::default() });
    assert_eq!(text(&mut reader), "one ");
    rig.append(b"two ");
    assert_eq!(text(&mut reader), "two ");
    rig.append(b"three ");
    rig.rotate(false);
    rig.print(T + 1, b"four ");
    rig.rotate(false);
    rig.print(T + 2, b"five ");
    assert_eq!(text(&mut reader), "three four five ");
    fs::write(rig.log(), b"six ").unwrap();
    assert_eq!(text(&mut reader), "six ");
}

#[test]
fn a_reader_goes_on_where_another_stopped_also_when_the_file_is_compressed_since() {
    let rig = Rig::new("place");
    rig.print(T, b"one two ");
    let mut reader = rig.open(Span::default());
    let _ = reader.read(4).unwrap();
    let place: Place = reader.place().unwrap().to_string().parse().unwrap();
    let after = Span { after: Some(place), ..Span::default() };
    assert_eq!(rig.text(after.clone()), "two ");
    rig.rotate(true);
    rig.print(T + 1000, b"three");
    assert_eq!(rig.text(after.clone()), "two three");
    // Where the index is gone, too, only the time is known.
    fs::remove_dir_all(rig.0.join("index")).unwrap();
    let mut reader = rig.open(after);
    let items = reader.read(100).unwrap();
    assert!(matches!(&items[0], Item::Note(_)), "{items:?}");
    assert!("a.b".parse::<Place>().is_err());
}

#[test]
fn times_before_lines_are_told_apart_and_found_without_an_index() {
    let rig = Rig::new("stamps");
    let line = |n: u64, text: &str| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(T + n * 1000);
        format!("{} {text}", date::stamp(time))
    };
    rig.append(line(0, "first\n").as_bytes());
    rig.rotate(true);
    rig.append(line(1, "second\n").as_bytes());
    rig.append(line(2, "third\n").as_bytes());
    assert_eq!(rig.text(Span::default()), "first\nsecond\nthird\n");
    let span = Span { since: Some(T + 500), until: Some(T + 1500), ..Span::default() };
    assert_eq!(rig.text(span.clone()), "second\n");
    let items = rig.open(span).read(1000).unwrap();
    assert_eq!(items[0], Item::Time(T + 1000));
    assert_eq!(items[1], Item::Stamp(line(1, "").into_bytes()));
}
