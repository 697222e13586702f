//! A log as an asciicast, version 2, while it comes.
//!
//! Owns the form. Characters that are cut are put together; bytes that are none become U+FFFD, because the
//! form has text only. What was printed nobody knows when is shown at the beginning.

use std::borrow::Cow;

use serde_json::json;

#[derive(Default)]
pub(super) struct Cast {
    title: String,
    has_head: bool,
    /// When it begins, in milliseconds since 1970.
    start: Option<u64>,
    /// Since then.
    now: u64,
    /// The beginning of a character.
    begun: Vec<u8>,
}

impl Cast {
    pub(super) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), ..Self::default() }
    }

    /// What follows was printed at this time.
    pub(super) fn time(&mut self, millis: u64) {
        // A clock that was put back stands still meanwhile.
        let start = *self.start.get_or_insert(millis);
        self.now = self.now.max(millis.saturating_sub(start));
    }

    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.head(out);
        let begun = std::mem::take(&mut self.begun);
        let joined = if begun.is_empty() { Cow::Borrowed(bytes) } else { [&begun, bytes].concat().into() };
        let mut text = String::with_capacity(joined.len());
        let mut chunks = joined.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let rest = chunk.invalid();
            let is_begun = || std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
            if chunks.peek().is_none() && is_begun() {
                rest.clone_into(&mut self.begun);
            } else if !rest.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.put(&text, out);
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.head(out);
        let rest = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned();
        self.put(&rest, out);
    }

    fn head(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_head, true) {
            let mut head = json!({"version": 2, "width": 80, "height": 24, "title": self.title});
            if let Some(start) = self.start {
                head["timestamp"] = (start / 1000).into();
            }
            out.extend_from_slice(format!("{head}\n").as_bytes());
        }
    }

    fn put(&self, text: &str, out: &mut Vec<u8>) {
        if !text.is_empty() {
            let line = json!([self.now as f64 / 1000.0, "o", text]);
            out.extend_from_slice(format!("{line}\n").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cast;

    #[test]
    fn pieces_have_their_seconds_and_cut_characters_are_whole() {
        let (mut cast, mut out) = (Cast::new("web"), Vec::new());
        cast.time(5000);
        cast.take(&"a\u{e4}".as_bytes()[..2], &mut out);
        cast.time(6500);
        cast.take(&"\u{e4}".as_bytes()[1..], &mut out);
        cast.time(6000);
        cast.take(b"\xff\xe4", &mut out);
        cast.finish(&mut out);
        let lines: Vec<serde_json::Value> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["version"], &lines[0]["timestamp"]), (&2.into(), &5.into()));
        let rest = serde_json::json!([
            [0.0, "o", "a"],
            [1.5, "o", "\u{e4}"],
            [1.5, "o", "\u{fffd}"],
            [1.5, "o", "\u{fffd}"]
        ]);
        assert_eq!(serde_json::Value::from(lines[1..].to_vec()), rest);
    }

    #[test]
    fn bytes_that_are_no_text_take_no_longer_the_more_there_are() {
        let (mut cast, mut out) = (Cast::new("web"), Vec::new());
        // Were what is left moved for each of them, this would take hours.
        cast.take(&vec![0xff; 8 << 20], &mut out);
        assert_eq!(String::from_utf8(out).unwrap().matches('\u{fffd}').count(), 8 << 20);
    }
}
