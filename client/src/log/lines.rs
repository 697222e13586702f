//! Lines out of pieces.

/// Puts lines together. Holds the beginning of one at most, and of that no more than [`LONGEST`].
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Hands out the lines that are whole, with their ends; one that is too long in pieces.
    pub(super) fn take(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (this, rest) = bytes.split_at(end + 1);
            match self.0.is_empty() {
                true => line(this),
                false => {
                    self.0.extend_from_slice(this);
                    line(&self.0);
                    self.0.clear();
                }
            }
            bytes = rest;
        }
        self.0.extend_from_slice(bytes);
        if self.0.len() > LONGEST {
            line(&self.0);
            self.0.clear();
        }
    }

    /// What has begun and not ended.
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

const LONGEST: usize = 1 << 20;
