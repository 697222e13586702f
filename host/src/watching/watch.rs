//! What is watched for: a pattern, on which consoles, and how often that is told.

use std::fmt;
use std::time::Duration;

use super::pattern::Pattern;
use super::selector::Selector;

/// One `[[watch]]` of the configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Watch {
    /// What those who are told know it by.
    pub(crate) name: String,
    pub(crate) pattern: Pattern,
    /// The consoles that are watched.
    pub(crate) consoles: Selector,
    pub(crate) at_most: Rate,
}

/// How often something is told of one console at the most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    pub(crate) count: u32,
    pub(crate) period: Duration,
}

impl Rate {
    /// What `10/minute` means.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(count, unit)| {
            let seconds = match unit.trim() {
                "second" => 1,
                "minute" => 60,
                "hour" => 3600,
                _ => return None,
            };
            let count = count.trim().parse().ok().filter(|count| (1..=MOST).contains(count))?;
            Some(Self { count, period: Duration::from_secs(seconds) })
        });
        parsed.ok_or_else(|| {
            format!("takes a number up to {MOST} for each second, minute or hour, like \"10/minute\"")
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "second",
            60 => "minute",
            _ => "hour",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self { count: 10, period: Duration::from_secs(60) }
    }
}

/// The most that is told in a second, a minute or an hour: beyond that a log is what is wanted.
const MOST: u32 = 1000;

/// How many of these there may be: which of them a console has is a bit each.
pub(crate) const MOST_WATCHES: usize = 64;
