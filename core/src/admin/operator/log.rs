//! What a client may ask of a console's log, and what a stream carries that is read from one (operator.md
//! §10).

use serde::{Deserialize, Serialize};

/// Which part of a log is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogQuery {
    /// From this time on.
    pub since: Option<When>,
    /// Up to this time.
    pub until: Option<When>,
    /// So many of the last lines; means nothing beside `since`.
    pub lines: Option<u64>,
    /// From this place on, which [`LogRecord::Place`] named, in place of `since` and `lines`.
    pub after: Option<String>,
    /// And on, as the log grows.
    pub follow: bool,
}

/// A time, by the server's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// So many milliseconds before the request came.
    AgoMs(u64),
    /// So many milliseconds after 1970 began.
    AtMs(u64),
}

/// One piece of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogRecord<'a> {
    /// What the VM printed.
    Text(&'a [u8]),
    /// What follows was printed at this time: milliseconds since 1970, by the server's clock.
    Time(u64),
    /// The time before a line, as the log has it.
    Stamp(&'a [u8]),
    /// What has been read by now ends here: to be given as `after`.
    Place(&'a str),
    /// Something that whoever reads should know.
    Note(&'a str),
    /// Why no more comes.
    Failed(&'a str),
}

impl LogRecord<'_> {
    /// Writes it: its kind, the length of what it holds in four bytes, the first the highest, and that.
    pub fn put(&self, out: &mut Vec<u8>) {
        let time;
        let (kind, content) = match self {
            Self::Text(bytes) => (TEXT, *bytes),
            Self::Time(millis) => {
                time = millis.to_be_bytes();
                (TIME, &time[..])
            }
            Self::Stamp(bytes) => (STAMP, *bytes),
            Self::Place(text) => (PLACE, text.as_bytes()),
            Self::Note(text) => (NOTE, text.as_bytes()),
            Self::Failed(text) => (FAILED, text.as_bytes()),
        };
        // An empty text has its record, too.
        let mut pieces = content.chunks(RECORD_MOST);
        let mut piece = pieces.next().unwrap_or_default();
        loop {
            out.push(kind);
            out.extend_from_slice(&(piece.len() as u32).to_be_bytes());
            out.extend_from_slice(piece);
            match pieces.next() {
                Some(next) => piece = next,
                None => return,
            }
        }
    }
}

/// Puts records together that come in pieces. Holds the beginning of one at most.
#[derive(Debug, Default)]
pub struct LogRecords(Vec<u8>);

/// What came is none of these records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a record of a log is longer than it may be, or no text")]
pub struct BrokenRecord;

impl LogRecords {
    /// Takes what has come, and hands out the records that are whole. Those of a kind that is not known are
    /// passed over.
    ///
    /// # Errors
    ///
    /// What came is none of these records.
    pub fn take(&mut self, bytes: &[u8], mut record: impl FnMut(LogRecord<'_>)) -> Result<(), BrokenRecord> {
        self.0.extend_from_slice(bytes);
        let mut rest = &self.0[..];
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
            let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if len > RECORD_MOST {
                return Err(BrokenRecord);
            }
            let Some((content, next)) = behind.split_at_checked(len) else { break };
            let text = || std::str::from_utf8(content).map_err(|_| BrokenRecord);
            match head[0] {
                TEXT => record(LogRecord::Text(content)),
                TIME => {
                    let millis = content.try_into().map_err(|_| BrokenRecord)?;
                    record(LogRecord::Time(u64::from_be_bytes(millis)));
                }
                STAMP => record(LogRecord::Stamp(content)),
                PLACE => record(LogRecord::Place(text()?)),
                NOTE => record(LogRecord::Note(text()?)),
                FAILED => record(LogRecord::Failed(text()?)),
                _ => {}
            }
            rest = next;
        }
        let taken = self.0.len() - rest.len();
        self.0.drain(..taken);
        Ok(())
    }
}

const TEXT: u8 = 1;
const TIME: u8 = 2;
const STAMP: u8 = 3;
const PLACE: u8 = 4;
const NOTE: u8 = 5;
const FAILED: u8 = 6;

/// The kind and the length.
const HEAD: usize = 5;

/// What one record holds at most.
const RECORD_MOST: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_are_written_whatever_the_cuts() {
        let records = [
            LogRecord::Time(1_796_000_000_123),
            LogRecord::Text(b"login: \xff\0"),
            LogRecord::Stamp(b"2026"),
            LogRecord::Place("a.b.c"),
            LogRecord::Note("gone"),
            LogRecord::Failed(""),
        ];
        let mut bytes = Vec::new();
        for record in &records {
            record.put(&mut bytes);
            // A kind that came later.
            bytes.extend_from_slice(&[99, 0, 0, 0, 2, 1, 2]);
        }
        for cut in 0..bytes.len() {
            let (mut decoder, mut nth) = (LogRecords::default(), 0);
            for piece in [&bytes[..cut], &bytes[cut..]] {
                let taken = decoder.take(piece, |record| {
                    assert_eq!(record, records[nth], "cut at {cut}");
                    nth += 1;
                });
                assert_eq!(taken, Ok(()));
            }
            assert_eq!(nth, records.len());
        }
    }

    #[test]
    fn a_long_text_is_several_records_and_a_record_that_is_too_long_is_refused() {
        let long = vec![b'x'; 3 * RECORD_MOST + 1];
        let mut bytes = Vec::new();
        LogRecord::Text(&long).put(&mut bytes);
        let mut whole = Vec::new();
        let taken = LogRecords::default().take(&bytes, |record| match record {
            LogRecord::Text(text) => whole.extend_from_slice(text),
            other => panic!("{other:?}"),
        });
        assert!(taken.is_ok() && whole == long);
        assert_eq!(LogRecords::default().take(&[1, 0, 1, 0, 1], |_| {}), Err(BrokenRecord));
    }
}
