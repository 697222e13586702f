//! Which of the two file formats a capture has, and reading it.

use std::io::Read;

use super::pcap::Pcap;
use super::pcapng::{self, Pcapng};
use super::record::{Broken, Frame};

/// A file in one of the formats.
pub(super) enum Format<R> {
    Pcap(Pcap<R>),
    Pcapng(Pcapng<R>),
}

impl<R: Read> Format<R> {
    /// The format that starts with `magic`; `input` starts with it too.
    pub(super) fn detect(magic: [u8; 4], input: R) -> Option<Self> {
        if u32::from_be_bytes(magic) == pcapng::SECTION_HEADER {
            return Some(Self::Pcapng(Pcapng::new(input)));
        }
        Pcap::new(magic, input).map(Self::Pcap)
    }

    /// Reads the next frame; false at the end of the file.
    pub(super) fn next(&mut self, frame: &mut Frame) -> Result<bool, Broken> {
        match self {
            Self::Pcap(file) => file.next(frame),
            Self::Pcapng(file) => file.next(frame),
        }
    }
}
