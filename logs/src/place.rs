//! Places in logs, as text too: what a reader is told to go on with.

use std::fmt;
use std::str::FromStr;

/// Where a reader stands, to go on there later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The inode that the file had when it was written to.
    pub(crate) file: u64,
    pub(crate) offset: u64,
    /// When what comes before was printed, in milliseconds since 1970; 0: not known.
    pub(crate) time: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}.{:x}", self.file, self.offset, self.time)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split('.').map(|number| u64::from_str_radix(number, 16));
        let mut number = || numbers.next().and_then(Result::ok).ok_or("that is no place in a log");
        Ok(Self { file: number()?, offset: number()?, time: number()? })
    }
}
