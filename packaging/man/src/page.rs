//! One page: its title, sections, terms with what they mean.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Arg;

use crate::roff::{bold, escaped, italic, line, quoted};

/// A manual page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    name: String,
    section: u8,
    text: String,
    /// Nothing stands below the latest heading yet, so that a paragraph needs no space before it.
    is_fresh: bool,
}

impl Page {
    /// A page with its title and name. `SOURCE_DATE_EPOCH` is its date where that is set, so that one state
    /// of the source gives one page; else it is today.
    #[must_use]
    pub fn new(name: &str, section: u8, summary: &str) -> Self {
        let summary = summary.trim_end_matches('.');
        let text = format!(
            ".TH {} {section} {} {} {}\n.SH NAME\n{} \\- {}\n",
            quoted(name),
            date(),
            quoted(concat!("vspc ", env!("CARGO_PKG_VERSION"))),
            quoted(MANUAL),
            escaped(name),
            line(summary)
        );
        Self { name: name.to_owned(), section, text, is_fresh: false }
    }

    /// A page that people have written.
    #[must_use]
    pub fn written(name: &str, section: u8, text: &str) -> Self {
        Self { name: name.to_owned(), section, text: text.to_owned(), is_fresh: false }
    }

    /// What its file is called.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }

    /// What it is called in other pages.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}({})", self.name, self.section)
    }

    /// What it is about.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it, as roff.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Begins a section.
    pub fn heading(&mut self, heading: &str) {
        self.put(&format!(".SH {}", quoted(&heading.to_uppercase())));
        self.is_fresh = true;
    }

    /// Begins a part of a section.
    pub fn subheading(&mut self, heading: &str) {
        self.put(&format!(".SS {}", quoted(heading)));
        self.is_fresh = true;
    }

    /// Paragraphs, with an empty line between.
    pub fn paragraphs(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            self.part();
            self.put(&line(paragraph));
        }
    }

    /// A term, which is set off, and what it means.
    pub fn item(&mut self, term: &str, text: &str) {
        self.term(&bold(term), text);
    }

    /// Lines that stay as they are.
    pub fn verbatim(&mut self, text: &str) {
        self.part();
        self.put(".RS 4\n.nf");
        for text in text.lines() {
            let text = escaped(text);
            // A dot at the beginning of a line would make it a request.
            self.put(&if text.starts_with('.') { format!("\\&{text}") } else { text });
        }
        self.put(".fi\n.RE");
    }

    /// Other pages, which are told apart by commas.
    pub fn see_also(&mut self, pages: &[String]) {
        if pages.is_empty() {
            return;
        }
        self.heading("See also");
        let references = pages.iter().map(|page| match page.split_once('(') {
            Some((name, section)) => format!("{}({section}", bold(name)),
            None => line(page),
        });
        self.put(&references.collect::<Vec<_>>().join(",\n"));
    }

    /// One way to call a program.
    pub(crate) fn call(&mut self, program: &str, rest: &str) {
        self.part();
        self.put(&format!("{}{}", bold(program), escaped(rest)));
    }

    /// An option or an argument, and what it is for.
    pub(crate) fn option(&mut self, arg: &Arg, takes_value: bool, text: &str) {
        let names = arg.get_value_names().unwrap_or_default();
        let value = names.iter().map(|name| italic(name)).collect::<Vec<_>>().join(" ");
        let short = arg.get_short().map(|short| bold(&format!("-{short}")));
        let long = arg.get_long().map(|long| bold(&format!("--{long}")));
        let mut term = [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ");
        if takes_value {
            term += if term.is_empty() { "" } else { " " };
            term += &value;
        }
        self.term(&term, text);
    }

    fn term(&mut self, term: &str, text: &str) {
        self.put(&format!(".TP\n{term}"));
        for (at, paragraph) in text.split("\n\n").enumerate() {
            if at > 0 {
                self.put(".IP");
            }
            self.put(&line(paragraph));
        }
    }

    /// Parts what follows from what stands before it.
    fn part(&mut self) {
        if !self.is_fresh {
            self.put(".PP");
        }
    }

    fn put(&mut self, lines: &str) {
        self.is_fresh = false;
        self.text += lines;
        self.text += "\n";
    }
}

/// A day, as ISO 8601 has it.
fn date() -> String {
    let given = env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    day(given.unwrap_or_else(now))
}

/// The day of this second since 1970, in the Gregorian calendar. Counts from March 1 of the year 0, so that
/// a leap day is the last of its year.
fn day(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Which manual all of these pages are of.
const MANUAL: &str = "Virtual serial port concentrator";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_calendars() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_780_000_000, "2026-05-28"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(seconds), date);
        }
    }
}
