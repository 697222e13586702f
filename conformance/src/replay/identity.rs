//! Which VM a connection belongs to: from what it says, or else from the moves that link it to others.

use super::dialogue::{Act, By, Step};
use super::moves::Ledger;
use crate::telnet::names::code;

/// A UUID's text as 32 lower-case hex digits; `None` if it is no UUID or all zeros, which is nobody's.
#[must_use]
pub(super) fn fold(text: &[u8]) -> Option<String> {
    let filler = |byte: &u8| byte.is_ascii_whitespace() || b"-{}".contains(byte);
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !filler(byte)).collect();
    let fits = digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit);
    let somebody = digits.iter().any(|digit| *digit != b'0');
    (fits && somebody).then(|| String::from_utf8_lossy(&digits).to_ascii_lowercase())
}

/// 32 hex digits as people write a UUID: 8-4-4-4-12.
#[must_use]
pub(super) fn dashed(folded: &str) -> String {
    let part = |range: std::ops::Range<usize>| folded.get(range).unwrap_or("");
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// 32 hex digits as a VM tells its UUID: pairs, spaces, one dash.
#[must_use]
pub(super) fn spoken(folded: &str) -> String {
    let pairs: Vec<&str> = (0..16).filter_map(|n| folded.get(2 * n..2 * n + 2)).collect();
    let (first, second) = pairs.split_at(pairs.len() / 2);
    format!("{}-{}", first.join(" "), second.join(" "))
}

/// What a connection says about itself.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The VM's UUID, folded: its vCenter one, or else its BIOS one.
    pub uuid: Option<String>,
    /// Its name, as told last.
    pub name: Option<String>,
    /// The service URI of the port.
    pub uri: Option<String>,
    /// Whether its own words say who it is; if not, a move does.
    pub own: bool,
}

/// What each of `conns` connections says about itself in `steps`, or what `moves` say about it.
#[must_use]
pub(super) fn of(steps: &[Step], moves: &Ledger, conns: usize) -> Vec<Identity> {
    let mut all = vec![Identity::default(); conns];
    let mut bios = vec![None; conns];
    for step in steps {
        let Act::Say(By::Vm, word) = &step.act else { continue };
        let Some((what, parameters)) = word.as_vmware() else { continue };
        let identity = &mut all[step.conn];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match what {
            code::UUID if identity.uuid.is_none() => identity.uuid = fold(parameters),
            code::BIOS_UUID if bios[step.conn].is_none() => bios[step.conn] = fold(parameters),
            code::NAME => identity.name = Some(text(parameters)),
            code::DO_PROXY if !parameters.is_empty() => identity.uri = Some(text(&parameters[1..])),
            _ => {}
        }
    }
    for (identity, bios) in all.iter_mut().zip(bios) {
        identity.uuid = identity.uuid.take().or(bios);
        identity.own = identity.uuid.is_some();
    }
    // A chain of moves hands on what is known, either way; each round goes one link further.
    for _ in 0..moves.moves.len() {
        for m in &moves.moves {
            let Some(target) = m.target else { continue };
            for (from, to) in [(m.source, target), (target, m.source)] {
                let known = all[from].clone();
                let other = &mut all[to];
                other.uuid = other.uuid.take().or(known.uuid);
                other.name = other.name.take().or(known.name);
                other.uri = other.uri.take().or(known.uri);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_fold_and_unfold() {
        let told = b"01 23 45 67 89 ab cd ef-fe DC ba 98 00 00 00 00";
        let folded = fold(told).unwrap();
        assert_eq!(folded, "0123456789abcdeffedcba9800000000");
        assert_eq!(dashed(&folded), "01234567-89ab-cdef-fedc-ba9800000000");
        assert_eq!(spoken(&folded).as_bytes(), told.to_ascii_lowercase());
        assert_eq!(fold(b""), None);
        assert_eq!(fold(b"01 23"), None);
        assert_eq!(fold(b"01 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 0x"), None);
    }
}
