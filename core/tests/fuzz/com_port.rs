//! The body of the fuzz target `com_port`: whatever a client says of a serial line. The fuzz crate includes
//! this file.

use vspc_core::telnet::com_port::{Asked, Line, Session};
use vspc_core::telnet::{Decoder, Item, Opt};

/// `data` is bodies of subnegotiations, each behind its length modulo 12. Where that leaves nothing, a state
/// of the modem.
///
/// Checked: a line has values that exist, whatever was asked for; an answer is one whole subnegotiation of
/// the option, with a code of the side that has the line; the value that is confirmed is confirmed again when
/// it is asked for; a fault changes nothing and has no answer.
pub(crate) fn com_port(data: &[u8]) {
    let (mut line, mut session) = (Line::default(), Session::default());
    let mut rest = data;
    while let Some((&length, behind)) = rest.split_first() {
        let (body, behind) = behind.split_at(usize::from(length % 12).min(behind.len()));
        rest = behind;
        let mut out = Vec::new();
        if body.is_empty() {
            session.tell_modem(length & 0xf0, &mut out);
            assert!(answer(&out).is_none_or(|body| body.len() == 2 && body[0] == 107));
            continue;
        }
        let before = (line, session);
        let outcome = session.handle(body, &mut line, "signature", &mut out);
        let answered = answer(&out);
        match outcome {
            Err(_) => assert!((line, session) == before && out.is_empty(), "{body:?}"),
            Ok(asked) => {
                assert_eq!(
                    session.is_suspended(),
                    match asked {
                        Some(Asked::Suspend) => true,
                        Some(Asked::Resume) => false,
                        _ => before.1.is_suspended(),
                    }
                );
                assert!(asked != Some(Asked::Break) || body == [5, 5]);
            }
        }
        let Line { baud, data, parity, stop, flow_out, flow_in, .. } = line;
        assert!(baud > 0 && (5..=8).contains(&data) && (1..=5).contains(&parity) && (1..=3).contains(&stop));
        assert!(matches!(flow_out, 1..=3 | 17 | 19) && matches!(flow_in, 14..=16 | 18), "{line:?}");
        let Some(answered) = answered else { continue };
        assert_eq!(answered[0], body[0] + 100);
        if let (1..=4, [_, value @ ..]) = (body[0], &answered[..]) {
            let query = [&[body[0]], &vec![0; value.len()][..]].concat();
            let mut again = Vec::new();
            assert_eq!(session.handle(&query, &mut line, "signature", &mut again), Ok(None));
            assert_eq!(again, out, "{body:?}");
        }
    }
}

/// The one answer that there is, if there is one.
fn answer(mut wire: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new();
    let mut answer = None;
    while let Some(item) = decoder.decode(&mut wire) {
        let Item::Subnegotiation(Opt::COM_PORT, body) = item else { panic!("{item:?}") };
        assert!(answer.replace(body.to_vec()).is_none(), "two answers");
    }
    assert!(decoder.is_idle());
    answer
}
