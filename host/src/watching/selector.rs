//! Which consoles something is about: by name or UUID.

use vspc_core::concentrator::Label;

/// Patterns, of which a console's name or UUID has to match one; none: every console.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Selector(Vec<String>);

impl Selector {
    /// These, without regard to case; `*` is any text and `?` any character.
    pub(crate) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self(patterns.into_iter().map(str::to_lowercase).collect())
    }

    /// The patterns, in small letters.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether a console is meant. Costs the product of the lengths of names and patterns at most.
    pub(crate) fn means(&self, label: &Label) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let uuid = label.uuid;
        let known_as = [label.name.to_lowercase(), uuid.simple().to_string(), uuid.to_string()];
        let known_as = known_as.map(|text| text.chars().collect::<Vec<_>>());
        self.0.iter().any(|pattern| {
            let pattern: Vec<char> = pattern.chars().collect();
            known_as.iter().any(|text| is_like(&pattern, text))
        })
    }
}

/// Whether a text is of a pattern's form.
fn is_like(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlets::tests::label;

    #[test]
    fn a_console_is_meant_by_its_name_or_its_uuid() {
        let label = label();
        for (pattern, is_meant) in [
            ("vm1", true),
            ("VM?", true),
            ("vm", false),
            ("v*", true),
            ("*", true),
            ("?", false),
            ("01010101010101010101010101010101", true),
            ("01010101-*", true),
            ("02*", false),
        ] {
            assert_eq!(Selector::new([pattern]).means(&label), is_meant, "{pattern}");
        }
        assert!(Selector::new(["x", "vm1"]).means(&label));
        assert!(Selector::default().means(&label));
    }
}
