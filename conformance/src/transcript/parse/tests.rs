//! Transcripts as text.

use std::time::Duration;

use super::{ParseError, parse};
use crate::transcript::{Action, Expect, Item, Part, Scope, Section, Setting, Template, Transcript};

fn one(body: &str) -> Result<Transcript, ParseError> {
    let text = format!("transcript t\ntitle T\nsource S\nA connect vm\n{body}\nA expect closed\n");
    parse(&[("t.txt", &text)]).map(|mut all| all.remove(0))
}

#[test]
fn a_transcript_is_read() {
    let text = "\
# a comment
phrase <vm> says <what...>
  <vm> send <what...>

transcript first-words
  title   Words
  section rfc854
  source  RFC 854
  config  service-uri a
  scope   ours
A connect vm
A says \"hi\", DO 6       # asks
A expect WILL TM | WONT TM within 2s
A expect SB VMWARE VMOTION-GOAHEAD {seq:m} {secret:*} SE
";
    let all = parse(&[("f.txt", text)]).unwrap();
    let t = &all[0];
    assert_eq!((t.id.as_str(), t.title.as_str(), t.section), ("first-words", "Words", Section::Rfc854));
    assert_eq!((t.scope, t.config.as_slice()), (Scope::Ours, &[Setting::ServiceUri("a".into())][..]));
    let Action::Send { items, .. } = &t.steps[1].action else { panic!("{:?}", t.steps[1]) };
    assert_eq!(*items, [Item::Data(vec![Part::Bytes(b"hi".to_vec())]), Item::Negotiation(253, 6)]);
    assert_eq!(t.steps[1].place.to_string(), "f.txt:12 (f.txt:3)");
    let Action::Expect { what: Expect::Words(words), within, .. } = &t.steps[2].action else { panic!() };
    assert_eq!(words[0], [Item::Negotiation(251, 6), Item::Negotiation(252, 6)]);
    assert_eq!(*within, Some(Duration::from_secs(2)));
    let Action::Expect { what: Expect::Words(words), .. } = &t.steps[3].action else { panic!() };
    assert_eq!(
        words[0],
        [Item::Sub(
            232,
            vec![
                Part::Bytes(vec![41]),
                Part::Template(Template::Sequence, "m".into()),
                Part::Capture("secret".into(), None)
            ]
        )]
    );
}

#[test]
fn an_error_names_the_line_and_says_what_to_write() {
    for (body, hint) in [
        ("A shout 1", "is neither a step"),
        ("B send \"x\"", "B has not connected"),
        ("A connect vm", "connected already"),
        ("A connect", "connect vm, connect client of"),
        ("A send", "a word (WILL 0"),
        ("A send WILL", "WILL wants an option"),
        ("A send WILL 300", "WILL wants an option"),
        ("A send 41", "is not a word"),
        ("A send SB VMWARE 81", "SB has no SE"),
        ("A send SB GET SE", "after SB comes an option"),
        ("A send SB VMWARE NO-SUCH SE", "neither a code nor a byte"),
        ("A send SB VMWARE 41 {x:*} SE", "captures and ..."),
        ("A expect SB VMWARE 41 {x:*} 3 SE", "take all there is"),
        ("A send DO 1 | DO 3", "say one thing"),
        ("A expect nothing", "for how long"),
        ("A expect \"x\" for 3s", "within TIME"),
        ("A expect nothing for 3", "is not a time"),
        ("A expect no DO 1 within 3s", "for how long"),
        ("A answer DO 1", "answer [once] WORD with"),
        ("A answer \"x\" with DO 1", "not data"),
        ("A close now", "nothing comes after"),
        ("wait", "wait 5s"),
        ("title late", "before the first step"),
        ("A send {x:y}", "{name:8}"),
        ("A repeat \"x\"", "until ACTOR hears it"),
        ("A repeat NOP until A hears it", "until ACTOR hears it"),
        ("A repeat \"x\" until c hears it", "c has not connected"),
        ("A expect closed unless nothing", "unless stands behind one word"),
        ("A expect DO 3, DO 1 unless DONT 3", "unless stands behind one word"),
        ("A expect DO 3 unless DONT 3, WONT 3", "is followed by nothing"),
    ] {
        let error = one(body).map(|t| t.id).unwrap_err();
        assert!(error.message.contains(hint), "{body}: {error}");
        assert!(error.to_string().starts_with("t.txt:5: "), "{error}");
    }
}

#[test]
fn a_whole_transcript_is_asked_for_what_it_lacks() {
    for (text, hint) in [
        ("A connect vm", "begin with a line: transcript"),
        ("transcript Bad Id", "lower case"),
        ("transcript a\nA connect vm\nA expect closed", "no title"),
        ("transcript a\ntitle t\nA connect vm\nA expect closed", "no source"),
        ("transcript a\ntitle t\nsource s", "no steps"),
        ("transcript a\ntitle t\nsource s\nA connect vm", "cannot fail"),
        ("transcript a\nsection b", "use one of rfc854"),
        ("transcript a\nscope b", "any or ours"),
        ("transcript a\nsegments b", "write bytes"),
        ("transcript a\nconfig b", "write multi-console"),
        ("phrase <a> loops\n<a> loops\ntranscript a\nA loops", "8 deep"),
    ] {
        let error = parse(&[("t.txt", text)]).map(|_| ()).unwrap_err();
        assert!(error.message.contains(hint), "{text}: {error}");
    }
    let twice = "transcript a\ntitle t\nsource s\nA connect vm\nA expect closed\n".repeat(2);
    assert!(parse(&[("t.txt", &twice)]).unwrap_err().message.contains("unique"));
}
