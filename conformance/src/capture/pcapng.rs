//! The newer format: blocks in sections (draft-ietf-opsawg-pcapng).
//!
//! Each section has its own byte order and its own interfaces, each interface its own link type and clock.
//! Options other than those about time are skipped, as are blocks that hold no frame.

use std::io::Read;

use super::record::{Broken, Frame, MAX_FRAME, Order, body, record};

/// A file being read.
pub(super) struct Pcapng<R> {
    input: R,
    order: Order,
    interfaces: Vec<Interface>,
    block: Vec<u8>,
}

/// What an interface description says.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u32,
    snap: u32,
    resolution: u8,
    /// Seconds to add to each time.
    offset: i64,
}

impl<R: Read> Pcapng<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, order: Order::Big, interfaces: Vec::new(), block: Vec::new() }
    }

    /// Reads the next frame; false at the end of the file.
    pub(super) fn next(&mut self, frame: &mut Frame) -> Result<bool, Broken> {
        loop {
            let Some(kind) = self.next_block()? else { return Ok(false) };
            let found = match kind {
                SECTION_HEADER => {
                    self.interfaces.clear();
                    false
                }
                INTERFACE => self.interface()?,
                ENHANCED_PACKET => self.enhanced(frame)?,
                SIMPLE_PACKET => self.simple(frame)?,
                OLD_PACKET => self.old(frame)?,
                _ => false,
            };
            if found {
                return Ok(true);
            }
        }
    }

    /// Reads one block into `self.block`, without its type and lengths; its type. Large blocks that hold
    /// no frame are not kept.
    fn next_block(&mut self) -> Result<Option<u32>, Broken> {
        let mut head = [0; 8];
        if !record(&mut self.input, &mut head)? {
            return Ok(None);
        }
        let mut rest = 0;
        if u32::from_be_bytes([head[0], head[1], head[2], head[3]]) == SECTION_HEADER {
            let mut magic = [0; 4];
            if !record(&mut self.input, &mut magic)? {
                return Err(Broken::Cut);
            }
            rest = 4;
            self.order = match u32::from_be_bytes(magic) {
                BYTE_ORDER => Order::Big,
                0x4d3c_2b1a => Order::Little,
                _ => return Err(Broken::Damaged("a section without byte order")),
            };
        }
        let (kind, length) = (self.order.u32(&head, 0), self.order.u32(&head, 4));
        // Writers that forget the padding exist; what follows is aligned all the same.
        let length = (length as usize).next_multiple_of(4);
        let Some(left) = length.checked_sub(12 + rest) else {
            return Err(Broken::Damaged("a block shorter than its own header"));
        };
        let wanted = matches!(kind, INTERFACE | ENHANCED_PACKET | SIMPLE_PACKET | OLD_PACKET);
        if wanted && left > 2 * MAX_FRAME as usize {
            return Err(Broken::Damaged("a block longer than any frame"));
        }
        if wanted {
            body(&mut self.input, &mut self.block, left)?;
        } else {
            let skipped = std::io::copy(&mut self.input.by_ref().take(left as u64), &mut std::io::sink())?;
            if skipped < left as u64 {
                return Err(Broken::Cut);
            }
        }
        let mut tail = [0; 4];
        if !record(&mut self.input, &mut tail)? {
            return Err(Broken::Cut);
        }
        Ok(Some(kind))
    }

    fn interface(&mut self) -> Result<bool, Broken> {
        let block = &self.block;
        if block.len() < 8 {
            return Err(Broken::Damaged("a short interface description"));
        }
        let mut interface = Interface {
            link: u32::from(self.order.u16(block, 0)),
            snap: self.order.u32(block, 4),
            resolution: 6,
            offset: 0,
        };
        let mut at = 8;
        while at + 4 <= block.len() {
            let (code, length) = (self.order.u16(block, at), usize::from(self.order.u16(block, at + 2)));
            let Some(value) = block.get(at + 4..at + 4 + length) else { break };
            match (code, length) {
                (0, _) => break,
                (IF_TSRESOL, 1) => interface.resolution = value[0],
                (IF_TSOFFSET, 8) => {
                    let (first, second) = (self.order.u32(value, 0), self.order.u32(value, 4));
                    let (high, low) =
                        if self.order == Order::Big { (first, second) } else { (second, first) };
                    interface.offset = (u64::from(high) << 32 | u64::from(low)).cast_signed();
                }
                _ => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        self.interfaces.push(interface);
        Ok(false)
    }

    fn enhanced(&mut self, frame: &mut Frame) -> Result<bool, Broken> {
        if self.block.len() < 20 {
            return Err(Broken::Damaged("a short packet block"));
        }
        let interface = self.order.u32(&self.block, 0) as usize;
        self.packet(interface, frame)
    }

    /// The block that the enhanced one replaced: its interface has 16 bits, the rest is alike.
    fn old(&mut self, frame: &mut Frame) -> Result<bool, Broken> {
        if self.block.len() < 20 {
            return Err(Broken::Damaged("a short packet block"));
        }
        let interface = usize::from(self.order.u16(&self.block, 0));
        self.packet(interface, frame)
    }

    fn packet(&self, interface: usize, frame: &mut Frame) -> Result<bool, Broken> {
        let Some(interface) = self.interfaces.get(interface) else {
            return Err(Broken::Damaged("a packet of an interface that was not described"));
        };
        let block = &self.block;
        let ticks = u64::from(self.order.u32(block, 4)) << 32 | u64::from(self.order.u32(block, 8));
        let (kept, length) = (self.order.u32(block, 12), self.order.u32(block, 16));
        let Some(data) = block.get(20..).and_then(|rest| rest.get(..kept as usize)) else {
            return Err(Broken::Damaged("a packet longer than its block"));
        };
        frame.data.clear();
        frame.data.extend_from_slice(data);
        frame.nanos = Some(interface.nanos(ticks));
        frame.link = interface.link;
        frame.length = length.max(kept);
        Ok(true)
    }

    /// A packet without a time, of the first interface.
    fn simple(&mut self, frame: &mut Frame) -> Result<bool, Broken> {
        let block = &self.block;
        let Some(interface) = self.interfaces.first() else {
            return Err(Broken::Damaged("a packet of an interface that was not described"));
        };
        if block.len() < 4 {
            return Err(Broken::Damaged("a short packet block"));
        }
        let length = self.order.u32(block, 0);
        let snap = if interface.snap == 0 { u32::MAX } else { interface.snap };
        let kept = (length.min(snap) as usize).min(block.len() - 4);
        frame.data.clear();
        frame.data.extend_from_slice(&block[4..4 + kept]);
        frame.nanos = None;
        frame.link = interface.link;
        frame.length = length;
        Ok(true)
    }
}

impl Interface {
    /// A time in this interface's ticks, in nanoseconds since 1970.
    fn nanos(&self, ticks: u64) -> i64 {
        let ticks = u128::from(ticks) * 1_000_000_000;
        let power = self.resolution & 0x7f;
        let nanos = if self.resolution & 0x80 != 0 {
            ticks >> power
        } else {
            10u128.checked_pow(u32::from(power)).map_or(0, |per_second| ticks / per_second)
        };
        let offset = i128::from(self.offset) * 1_000_000_000;
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX).saturating_add(offset);
        i64::try_from(nanos).unwrap_or(i64::MAX)
    }
}

/// The block that opens a section; the same in both byte orders.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;
