//! Which consoles something is about: by name or UUID.

use vspc_core::concentrator::Label;
use vspc_core::pattern::is_like;

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
        self.0.iter().any(|pattern| known_as.iter().any(|text| is_like(pattern, text)))
    }
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
