//! What code, corpus and pages cite can be opened: each cited page and section exists, and says what is
//! quoted.
//!
//! A citation is the name of a page under `docs/`, then its sections: `vmware.md §3`, `telnet.md §4-§9`,
//! `vmotion.md §4 and §5`; in `mux` also `SPEC §8`; `APPLICATION §2`; a law is `law 8`. Words in quotes right
//! behind one, in parentheses, stand in one of the cited sections.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Documents that nobody outside can open.
const ELSEWHERE: [&str; 4] = ["PROTOCOL.md", "DESIGN", "FINDINGS", "../shared"];

/// Folders without text of ours, and this file, which has wrong citations in it.
const SKIPPED: [&str; 5] =
    ["target", ".git", "fuzz/corpus", "node_modules", "conformance/tests/citations.rs"];

/// Pages of the multiplexer's, cited without their ending.
const OF_MUX: [&str; 2] = ["SPEC", "APPLICATION"];

/// Kinds of files in which people cite.
const TEXTS: [&str; 4] = ["rs", "md", "txt", "toml"];

#[test]
fn every_cited_section_exists_and_says_what_is_quoted() {
    let pages = pages();
    let mut wrong = String::new();
    let (mut citations, mut quotations) = (0, 0);
    for file in texts() {
        let text = Text::new(name(&file), &read(&file));
        for citation in text.citations(&pages) {
            citations += citation.sections.len();
            quotations += citation.quotes.len();
            if let Some(fault) = citation.fault(&pages) {
                let _ = writeln!(wrong, "{}:{}: {fault}", text.name, text.line(citation.at));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(citations > 300 && quotations > 70, "only {citations} citations and {quotations} quotations");
}

#[test]
fn a_wrong_citation_is_found() {
    let page = "# A page\n\n## §1 One\n\nIt says\nthis.\n\n## §2 Two\n\nIt says that.\n";
    let pages = BTreeMap::from([
        ("page.md".to_owned(), sections(page)),
        ("laws.md".to_owned(), sections("## Law 1: first\n")),
    ]);
    for (text, fault) in [
        ("page.md, or docs/page.md §1", None),
        ("(page.md §1 (\"says this\")", None),
        ("//! page.md §1\n//! and §2; law 1", None),
        ("page.md §1-§2 (\"that\", \"this\")", None),
        ("page.md §1-§3", Some("no section 3")),
        ("# page.md\n# §2.1", Some("no section 2.1")),
        ("page.md §1 (\"says that\")", Some("does not say \"says that\"")),
        ("page.md §2 (\"that\": a remark) and page.md §2 (\"those\")", Some("\"those\"")),
        ("other.md §1", Some("other.md is no page")),
        ("by law 2 it is", Some("no section 2")),
    ] {
        let text = Text::new("somewhere".to_owned(), text);
        let faults: Vec<String> =
            text.citations(&pages).iter().filter_map(|citation| citation.fault(&pages)).collect();
        assert_eq!(faults.len(), usize::from(fault.is_some()), "{}: {faults:?}", text.joined);
        assert!(fault.is_none_or(|fault| faults[0].contains(fault)), "{}: {faults:?}", text.joined);
    }
}

#[test]
fn nothing_outside_the_repository_is_cited() {
    let mut wrong = String::new();
    for file in texts() {
        let text = Text::new(name(&file), &read(&file));
        for word in ELSEWHERE {
            for (at, _) in text.joined.match_indices(word) {
                if is_word(&text.joined, at, word.len()) {
                    let _ = writeln!(wrong, "{}:{}: {word}", text.name, text.line(at));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_source_of_the_corpus_is_an_rfc_or_a_page() {
    let pages = pages();
    let mut wrong = String::new();
    for file in texts().iter().filter(|file| file.starts_with(root().join("conformance/corpus"))) {
        for (number, line) in read(file).lines().enumerate() {
            let Some(source) = line.trim_start().strip_prefix("source ") else { continue };
            // A semicolon inside a quotation or a remark separates nothing.
            let mut depth = 0;
            let parts = source.split(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                c == ';' && depth == 0
            });
            for part in parts.map(str::trim) {
                let cited = part.split([' ', ',']).next().unwrap_or_default();
                if cited != "RFC" && !pages.contains_key(cited) {
                    let _ = writeln!(wrong, "{}:{}: {part}", name(file), number + 1);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_law_names_tests_that_exist() {
    let code = code();
    let mut named = BTreeSet::new();
    for bullet in bullets("docs/laws.md") {
        for test in bullet.split('`').skip(1).step_by(2) {
            let is_there = root().join(test).exists() || is_function(test, &code);
            assert!(is_there, "laws.md names {test}, which is nowhere");
            named.insert(test.to_owned());
        }
    }
    assert!(named.len() > 20, "only {} tests were found in laws.md", named.len());
}

#[test]
fn every_point_on_security_names_a_test_that_exists() {
    let code = code();
    let mut named = 0;
    for bullet in bullets("docs/security.md") {
        // Options are in the same type.
        let tests = bullet.split('`').skip(1).step_by(2).filter(|word| !word.starts_with('-'));
        let tests: Vec<&str> = tests.collect();
        assert!(!tests.is_empty(), "security.md names no test for this: {bullet}");
        for test in &tests {
            assert!(is_function(test, &code), "security.md names {test}, which is nowhere");
        }
        named += tests.len();
    }
    assert!(named > 20, "only {named} tests were found in security.md");
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut wrong = String::new();
    for file in texts().iter().filter(|file| has_ending(file, "md")) {
        for link in read(file).split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            let is_ours =
                !target.is_empty() && !target.contains("://") && !target.contains(char::is_whitespace);
            if is_ours && !file.parent().is_some_and(|folder| folder.join(target).exists()) {
                let _ = writeln!(wrong, "{}: {target}", name(file));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_page_is_in_its_list() {
    for (list, folder) in [("README.md", "docs"), ("docs/protocol/README.md", "docs/protocol")] {
        let text = read(&root().join(list));
        for page in texts().iter().filter(|file| file.parent() == Some(&root().join(folder))) {
            let page = page.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(page == "README.md" || text.contains(page), "{list} does not name {page}");
        }
    }
}

/// Every source text of the repository.
fn code() -> Vec<String> {
    texts().iter().filter(|file| has_ending(file, "rs")).map(|file| read(file)).collect()
}

fn is_function(name: &str, code: &[String]) -> bool {
    code.iter().any(|text| text.contains(&format!("fn {name}(")))
}

/// The points of a page's lists.
fn bullets(page: &str) -> Vec<String> {
    let text = read(&root().join(page));
    let bullets = text.split("\n* ").skip(1);
    bullets.map(|bullet| bullet.split("\n\n").next().unwrap_or_default().to_owned()).collect()
}

/// A page's sections: number, text.
type Page = BTreeMap<String, String>;

/// A page under `docs/` by its file name; the multiplexer's two are in it as `SPEC` and `APPLICATION`.
fn pages() -> BTreeMap<String, Page> {
    let mut pages = BTreeMap::new();
    for file in texts() {
        let of_mux = OF_MUX.iter().find(|page| name(&file) == format!("core/src/mux/{page}.md"));
        if of_mux.is_some() || (name(&file).starts_with("docs/") && has_ending(&file, "md")) {
            let page = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let page = of_mux.copied().unwrap_or(page);
            pages.insert(page.to_owned(), sections(&read(&file)));
        }
    }
    pages
}

fn sections(text: &str) -> Page {
    let mut sections = Page::new();
    // A page without numbers is one section, cited by its name alone.
    let mut at = String::new();
    for line in text.lines() {
        let heading = line.strip_prefix("## ").and_then(|line| {
            let number = line.strip_prefix('§').or_else(|| line.strip_prefix("Law "))?;
            Some(number.split([' ', ':']).next().unwrap_or_default().to_owned())
        });
        at = heading.unwrap_or(at);
        let section = sections.entry(at.clone()).or_default();
        section.push_str(line.trim());
        section.push(' ');
    }
    sections
}

/// A file as one line, comment marks left out, so that a citation may be broken anywhere.
struct Text {
    name: String,
    joined: String,
    /// Where each line begins in `joined`.
    lines: Vec<usize>,
}

impl Text {
    fn new(name: String, text: &str) -> Self {
        let lines = text.lines();
        let mut text = Self { name, joined: String::new(), lines: Vec::new() };
        for line in lines {
            text.lines.push(text.joined.len());
            let line = line.trim();
            let line =
                ["//!", "///", "//", "#"].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
            text.joined.push_str(line.trim());
            text.joined.push(' ');
        }
        text
    }

    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|&begin| begin <= at)
    }

    fn citations<'a>(&'a self, pages: &BTreeMap<String, Page>) -> Vec<Citation<'a>> {
        let mut found = Vec::new();
        let mut look_for = |what: &'a str, at: usize, rest: &'a str| {
            let (sections, rest) = cited_sections(rest);
            found.push(Citation { page: what, sections, quotes: quotes(rest), at });
        };
        for (dot, _) in self.joined.match_indices(".md") {
            let begin = self.joined[..dot].rfind(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)));
            let begin = begin
                .map_or(0, |begin| begin + self.joined[begin..].chars().next().map_or(1, char::len_utf8));
            let (page, rest) = self.joined[begin..].split_at(dot + ".md".len() - begin);
            if pages.contains_key(page) || rest.starts_with(" §") {
                look_for(page, begin, rest);
            }
        }
        if self.name.contains("/mux/") {
            for (at, _) in self.joined.match_indices("SPEC §") {
                look_for("SPEC", at, &self.joined[at + "SPEC".len()..]);
            }
        }
        for (at, _) in self.joined.match_indices("APPLICATION §") {
            look_for("APPLICATION", at, &self.joined[at + "APPLICATION".len()..]);
        }
        for (at, _) in self.joined.match_indices("law ").filter(|&(at, _)| is_word(&self.joined, at, 3)) {
            let rest = &self.joined[at + "law ".len()..];
            let number = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            if !number.is_empty() {
                let quotes = quotes(&rest[number.len()..]);
                found.push(Citation { page: "laws.md", sections: vec![number.to_owned()], quotes, at });
            }
        }
        found
    }
}

/// `§4`, `§4-§9`, `§4 to §9`, `§4, §5 and §9`: the sections that are named, and what follows.
fn cited_sections(text: &str) -> (Vec<String>, &str) {
    let mut sections = Vec::new();
    let mut rest = text;
    loop {
        let before = [" and ", " to ", ", ", "-", " "]
            .iter()
            .find(|before| rest.strip_prefix(**before).is_some_and(|after| after.starts_with('§')));
        let Some(before) = before.filter(|&&before| !sections.is_empty() || before == " ") else {
            return (sections, rest);
        };
        let number = &rest[before.len() + '§'.len_utf8()..];
        let end = number.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(number.len());
        let number = number[..end].trim_end_matches('.');
        sections.push(number.to_owned());
        rest = &rest[before.len() + '§'.len_utf8() + number.len()..];
    }
}

/// What is quoted in parentheses right behind a citation.
fn quotes(rest: &str) -> Vec<&str> {
    if !rest.starts_with(" (\"") {
        return Vec::new();
    }
    let inside = rest[2..].split_once("\")").map_or("", |(inside, _)| inside);
    // Until the first remark that is no quotation.
    let inside = inside.split_once("\":").map_or(inside, |(quote, _)| quote);
    inside.split('"').skip(1).step_by(2).collect()
}

struct Citation<'a> {
    page: &'a str,
    sections: Vec<String>,
    quotes: Vec<&'a str>,
    at: usize,
}

impl Citation<'_> {
    fn fault(&self, pages: &BTreeMap<String, Page>) -> Option<String> {
        let Some(page) = pages.get(self.page) else {
            return Some(format!("{} is no page of docs", self.page));
        };
        if let Some(section) = self.sections.iter().find(|&section| !page.contains_key(section)) {
            return Some(format!("{} has no section {section}", self.page));
        }
        let is_cited = |number: &String| self.sections.is_empty() || self.sections.contains(number);
        let says = |quote: &str| page.iter().any(|(number, text)| is_cited(number) && text.contains(quote));
        let quote = self.quotes.iter().find(|quote| !says(quote))?;
        Some(format!("{} §{} does not say \"{quote}\"", self.page, self.sections.join(", §")))
    }
}

fn is_word(text: &str, at: usize, len: usize) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    !text[..at].ends_with(is_part) && !text[at + len..].starts_with(is_part)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn name(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn has_ending(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|own| own == ending)
}

/// Every text of the repository, sorted.
fn texts() -> Vec<PathBuf> {
    let mut texts = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if SKIPPED.iter().any(|skipped| path.ends_with(skipped)) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if TEXTS.iter().any(|ending| has_ending(&path, ending)) {
                texts.push(path);
            }
        }
    }
    texts.sort();
    texts
}
