//! The body of the fuzz target `proxy_header`: a proxy's header against how it was cut. The fuzz crate
//! includes this file.

use vspc_core::proxy_protocol::Decoder;

/// `data` is four bytes that say where to cut, then what a proxy sends.
///
/// Checked: however it is cut, and also read no further than is needed, the same is said and the same is
/// left.
pub(crate) fn proxy_header(data: &[u8]) {
    let Some((cuts, stream)) = data.split_at_checked(4) else { return };
    let mut rest = stream;
    let whole = Decoder::new().receive(&mut rest);
    let taken = stream.len() - rest.len();

    let mut decoder = Decoder::new();
    let (mut at, mut said) = (0, Ok(None));
    for cut in cuts.iter().cycle() {
        let end = (at + usize::from(cut % 23) + 1).min(stream.len());
        let mut piece = &stream[at..end];
        said = decoder.receive(&mut piece);
        at = end - piece.len();
        if said != Ok(None) || at == stream.len() {
            break;
        }
    }
    assert_eq!(said, whole);
    if let Ok(Some(_)) = said {
        assert_eq!((at, decoder.needed()), (taken, 0));
    }

    let mut decoder = Decoder::new();
    let mut rest = stream;
    while decoder.needed() > 0 && !rest.is_empty() {
        let (mut piece, behind) = rest.split_at(decoder.needed().min(rest.len()));
        let outcome = decoder.receive(&mut piece);
        if outcome.is_err() {
            return assert_eq!(outcome, whole);
        }
        assert!(piece.is_empty(), "what is needed is taken");
        rest = behind;
    }
    if whole == Ok(None) {
        assert!(rest.is_empty());
    } else {
        assert_eq!(stream.len() - rest.len(), taken, "no more is needed than is taken");
    }
}
