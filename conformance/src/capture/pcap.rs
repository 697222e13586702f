//! The classic format: a header of 24 bytes, then records (draft-ietf-opsawg-pcap).
//!
//! Both byte orders, micro- and nanoseconds, and the variant with longer record headers that old Linux
//! systems wrote.

use std::io::Read;

use super::record::{Broken, Frame, MAX_FRAME, Order, body, record};

/// A file being read.
pub(super) struct Pcap<R> {
    input: R,
    order: Order,
    /// Nanoseconds in a unit of a record's second time field.
    unit: i64,
    /// Bytes of a record's header.
    header: usize,
    /// The file's link type, once its header has been read.
    link: Option<u32>,
}

impl<R: Read> Pcap<R> {
    /// `None` if no pcap file starts like this.
    pub(super) fn new(magic: [u8; 4], input: R) -> Option<Self> {
        let kind = |magic| match magic {
            0xa1b2_c3d4 => Some((1000, 16)),
            0xa1b2_3c4d => Some((1, 16)),
            0xa1b2_cd34 => Some((1000, 24)),
            _ => None,
        };
        let (order, (unit, header)) = match kind(u32::from_be_bytes(magic)) {
            Some(found) => (Order::Big, found),
            None => (Order::Little, kind(u32::from_le_bytes(magic))?),
        };
        Some(Self { input, order, unit, header, link: None })
    }

    /// Reads the next frame; false at the end of the file.
    pub(super) fn next(&mut self, frame: &mut Frame) -> Result<bool, Broken> {
        let link = match self.link {
            Some(link) => link,
            None => self.file_header()?,
        };
        let mut header = [0; 24];
        let header = &mut header[..self.header];
        if !record(&mut self.input, header)? {
            return Ok(false);
        }
        let (seconds, fraction) = (self.order.u32(header, 0), self.order.u32(header, 4));
        let (kept, length) = (self.order.u32(header, 8), self.order.u32(header, 12));
        if kept > MAX_FRAME {
            return Err(Broken::Damaged("a record longer than any frame"));
        }
        body(&mut self.input, &mut frame.data, kept as usize)?;
        frame.nanos = Some(i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * self.unit);
        frame.link = link;
        frame.length = length.max(kept);
        Ok(true)
    }

    fn file_header(&mut self) -> Result<u32, Broken> {
        let mut header = [0; 24];
        if !record(&mut self.input, &mut header)? {
            return Err(Broken::Cut);
        }
        // The upper half says how long the frame check sequences are; IP's own lengths make it needless.
        let link = self.order.u32(&header, 20) & 0xffff;
        self.link = Some(link);
        Ok(link)
    }
}
