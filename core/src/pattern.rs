//! Patterns for whole names, as options, rules and lists take them: `*` stands for any characters, `?` for
//! one, all others for themselves.
//!
//! **Owns** what matches. **Refuses to know** what is named, and whether capitals count: who does not want
//! them to gives both in small letters.

/// Whether all of `text` is of the pattern's form. Costs the product of both lengths at most.
#[must_use]
pub fn is_like(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on if what follows the last star does not match here: with that star one longer.
    let mut retry = None;
    loop {
        let mut rest = pattern.clone();
        match (rest.next(), text.clone().next()) {
            (Some('*'), _) => {
                pattern = rest;
                retry = Some((pattern.clone(), text.clone()));
            }
            (Some(wanted), Some(c)) if wanted == '?' || wanted == c => {
                pattern = rest;
                text.next();
            }
            (None, None) => return true,
            _ => {
                let Some((behind_star, mut from)) = retry.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, text) = (behind_star.clone(), from.clone());
                retry = Some((behind_star, from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_all_of_a_text() {
        for (pattern, text, is_so) in [
            ("", "", true),
            ("", "a", false),
            ("web", "web", true),
            ("web", "web01", false),
            ("web", "Web", false),
            ("*", "", true),
            ("*", "anything", true),
            ("web*", "web", true),
            ("web*", "web01", true),
            ("web*", "aweb", false),
            ("*01", "web0101", true),
            ("*01", "web010", false),
            ("?", "", false),
            ("?", "ü", true),
            ("w?b*1", "web011", true),
            ("w?b*1", "web012", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("**", "", true),
            ("a**c", "abc", true),
        ] {
            assert_eq!(is_like(pattern, text), is_so, "{pattern:?} {text:?}");
        }
    }

    /// Stars that match nothing in the end are tried one after the other, not in all combinations.
    #[test]
    fn many_stars_cost_no_more_than_the_product_of_the_lengths() {
        let (pattern, text) = ("*a".repeat(400) + "b", "a".repeat(4000));
        assert!(!is_like(&pattern, &text));
    }
}
