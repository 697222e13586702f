//! The body of the fuzz target `hyperstart_control`: any bytes of a guest, and anything asked of it. The fuzz
//! crate includes this file.

use std::time::Duration;

use vspc_core::hyperstart::{Code, Command, Control, ControlEvent, MOST_ASKED, MOST_UNDER_WAY, MOST_WAITING};
use vspc_core::time::Instant;

/// `data` is a program: what the guest says, and what is asked of it.
///
/// Checked: no panic; each command is answered once at most and in its order, and not after an end; no more
/// is under way than may be; memory stays within its bounds.
pub(crate) fn hyperstart_control(data: &[u8]) {
    let mut program = data.iter().copied();
    let mut control = Control::default();
    let mut now = Instant::ZERO;
    let mut asked = Vec::new();
    let mut under_way = 0;
    while let Some(op) = program.next() {
        let arg = program.next().unwrap_or(0);
        match op % 8 {
            0 => control.handle_opened(now),
            1 if arg < 16 => control.handle_closed(),
            2 => {
                now = now + Duration::from_millis(u64::from(arg) * 10);
                control.handle_timeout(now);
            }
            3 => {
                let code = [Code::PING, Code::DESTROYPOD, Code::EXECCMD][usize::from(arg) % 3];
                if let Ok(ticket) = control.ask(Command::new(code, vec![b'x'; usize::from(arg) * 8])) {
                    asked.push(ticket);
                }
            }
            4 => {
                let n = control.transmit_with(|bytes| bytes.len().min(arg.into()));
                under_way = (under_way + n).min(MOST_UNDER_WAY);
                assert!(n <= MOST_UNDER_WAY);
            }
            5 => {
                let wholes: [&[u8]; 6] = [
                    &[0, 0, 0, 8, 0, 0, 0, 8],
                    &[0, 0, 0, 9, 0, 0, 0, 8],
                    &[0, 0, 0, 10, 0, 0, 0, 9, 0],
                    &[0, 0, 0, 9, 0, 0, 0, 12, 0, 0, 0x10, 0x94],
                    &[0, 0, 0, 14, 0, 0, 0, 12, 0, 0, 0, 200],
                    &[0, 0, 0, 23, 0, 0, 0, 10, b'{', b'}'],
                ];
                control.handle_received(wholes[usize::from(arg) % 6], now);
            }
            _ => {
                let bytes: Vec<u8> = program.by_ref().take(usize::from(arg) % 40).collect();
                control.handle_received(&bytes, now);
            }
        }
        while let Some(event) = control.poll_event() {
            match event {
                ControlEvent::Answered { ticket, words, .. } => {
                    assert!(!asked.is_empty() && asked.remove(0) == ticket, "an answer out of turn");
                    assert!(words.len() <= 3 * 128);
                }
                ControlEvent::Down(_) => asked.clear(),
                ControlEvent::Up(api) => {
                    assert!(asked.is_empty() && (4242..=4244).contains(&api.number()));
                }
                _ => {}
            }
        }
        assert!(asked.len() <= MOST_ASKED);
        assert!(control.memory() <= 3 * MOST_WAITING + (64 << 10), "{}", control.memory());
    }
}
