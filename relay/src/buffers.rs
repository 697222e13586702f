//! Buffers that reads go into: one for the whole loop, as long as what was read is taken at once.
//!
//! **Owns** the spare ones. Whoever is left with bytes that a socket does not take keeps the buffer, or a
//! copy where there are few.

/// What one read brings at most, and so what is held of one direction at most. Of 32 KiB to 512 KiB this size
/// carries most.
pub(crate) const BUFFER: usize = 256 << 10;

/// Buffers that nobody holds bytes in.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Vec<Box<[u8]>>,
}

/// Bytes that were read and not written yet.
#[derive(Debug, Default)]
pub(crate) struct Held {
    buffer: Box<[u8]>,
    at: usize,
    end: usize,
}

impl Buffers {
    /// A buffer of [`BUFFER`] bytes.
    pub(crate) fn take(&mut self) -> Box<[u8]> {
        self.spare.pop().unwrap_or_else(|| vec![0; BUFFER].into())
    }

    /// Takes one back. More than [`KEPT`] are not kept.
    pub(crate) fn put(&mut self, buffer: Box<[u8]>) {
        if buffer.len() == BUFFER && self.spare.len() < KEPT {
            self.spare.push(buffer);
        }
    }

    /// Holds the bytes of a buffer between these two places: in it, or a copy where they are few.
    pub(crate) fn hold(&mut self, buffer: Box<[u8]>, at: usize, end: usize) -> Held {
        if end - at > FEW {
            return Held { buffer, at, end };
        }
        let copy: Box<[u8]> = buffer[at..end].into();
        self.put(buffer);
        Held { at: 0, end: copy.len(), buffer: copy }
    }
}

impl Held {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.at..self.end]
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// So many of its bytes were written. The buffer goes back when it was the last of them.
    pub(crate) fn took(&mut self, n: usize, buffers: &mut Buffers) {
        self.at += n;
        if self.is_empty() {
            buffers.put(std::mem::take(self).buffer);
        }
    }
}

/// As many bytes are copied, so that thousands of lines whose peers stand still hold no more than these.
const FEW: usize = 16 << 10;

/// Spare buffers that are kept.
const KEPT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_out_whole_and_its_buffer_goes_back() {
        for length in [1, FEW, FEW + 1, BUFFER] {
            let mut buffers = Buffers::default();
            let mut buffer = buffers.take();
            buffer.iter_mut().zip(0_u8..=250).for_each(|(byte, n)| *byte = n);
            let first = buffer[..length].to_vec();
            let mut held = buffers.hold(buffer, 0, length);
            let mut out = Vec::new();
            while !held.is_empty() {
                let n = held.bytes().len().min(10_000);
                out.extend_from_slice(&held.bytes()[..n]);
                held.took(n, &mut buffers);
            }
            assert_eq!(out, first);
            assert_eq!(buffers.spare.len(), 1, "{length}");
        }
    }
}
