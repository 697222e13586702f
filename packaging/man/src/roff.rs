//! Text as roff has it, so that nothing in it is taken for a request (groff(7), mandoc_char(7)).

/// The same words on a line of their own. What stands between backticks is bold.
pub(crate) fn line(text: &str) -> String {
    let mut line = String::new();
    let mut is_bold = false;
    for (at, part) in text.split('`').enumerate() {
        if at > 0 {
            is_bold = !is_bold;
            line += if is_bold { BOLD } else { ROMAN };
        }
        line += &escaped(part);
    }
    if is_bold {
        line += ROMAN;
    }
    shielded(line)
}

/// These words in bold, as they are.
pub(crate) fn bold(text: &str) -> String {
    format!("{BOLD}{}{ROMAN}", escaped(text))
}

/// These words in italics, as they are.
pub(crate) fn italic(text: &str) -> String {
    format!("{ITALIC}{}{ROMAN}", escaped(text))
}

/// An argument of a request.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text).replace('"', "\\(dq"))
}

/// The same words, none of which is an escape. A hyphen is one that can be copied and searched for.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped += "\\e",
            '-' => escaped += "\\-",
            '\'' => escaped += "\\(aq",
            '`' => escaped += "\\(ga",
            '^' => escaped += "\\(ha",
            '~' => escaped += "\\(ti",
            '\n' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A line that begins with a dot is a request; this one is none.
fn shielded(line: String) -> String {
    match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line,
    }
}

const BOLD: &str = "\\fB";
const ITALIC: &str = "\\fI";
const ROMAN: &str = "\\fR";
