//! Phrases: steps under a name, with parameters.

use crate::transcript::Place;

pub(super) struct Phrase {
    /// Words and `<parameters>`; the last may be `<all...>`.
    pub(super) pattern: Vec<String>,
    pub(super) body: Vec<(Place, String)>,
}

impl Phrase {
    /// The arguments, if `line` is this phrase.
    pub(super) fn matches(&self, line: &str) -> Option<Vec<(String, String)>> {
        let mut arguments = Vec::new();
        let mut rest = line;
        for word in &self.pattern {
            rest = rest.trim_start();
            if let Some(name) = word.strip_suffix("...>") {
                if rest.is_empty() {
                    return None;
                }
                arguments.push((format!("{name}...>"), rest.to_owned()));
                rest = "";
                continue;
            }
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (said, after) = rest.split_at(end);
            if word.starts_with('<') && !said.is_empty() {
                arguments.push((word.clone(), said.to_owned()));
            } else if said != word {
                return None;
            }
            rest = after;
        }
        let rest = rest.trim_start();
        (rest.is_empty() || rest.starts_with('#')).then_some(arguments)
    }
}
