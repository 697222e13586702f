//! What a user means by a name: the exact one, a unique beginning of one, or a choice.
//!
//! Owns who is asked and what is suggested. The server decides what matches.

use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::{Value, json};
use vspc_core::pattern::is_like;

use crate::connection::Connection;
use crate::endings::failure;
use crate::failure::{Code, Failure};
use crate::printable::printable;

/// The console that `name` means. Where several are meant the user is asked, if there is one.
pub(crate) fn resolve(connection: &mut Connection, name: &str) -> Result<Value, Failure> {
    let refusal = match connection.ask("show", json!({"console": name}))? {
        Ok(mut answer) => return Ok(answer["console"].take()),
        Err(refusal) => refusal,
    };
    let mut candidates = match refusal.code.as_str() {
        "ambiguous" => several(connection, &refusal.details["candidates"])?,
        "no-such-console" if !name.is_empty() => connection.list(Some(&format!("{name}*")), OFFERED + 1)?,
        _ => return Err(failure(&refusal)),
    };
    candidates.sort_by_cached_key(name_of);
    match candidates.len() {
        0 => Err(unknown(connection, name, &refusal.details["candidates"])?),
        1 => Ok(candidates.into_iter().next().unwrap_or_default()),
        _ if may_ask() => choose(name, candidates),
        _ => {
            let mut message = format!("{} may be any of these:", printable(name));
            for console in candidates.iter().take(OFFERED) {
                message.push_str(&format!("\n  {}", describe(console)));
            }
            if candidates.len() > OFFERED {
                message.push_str("\n  and more");
            }
            Err(Failure::new(Code::NoSuchConsole, message))
        }
    }
}

/// Whether the text fits the pattern, as servers compare them (operator.md §5): without regard to case; with
/// `*` or `?` in it the pattern is for all of the text, otherwise for a part.
pub(crate) fn fits(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.to_lowercase(), pattern.to_lowercase());
    if !pattern.contains(['*', '?']) {
        return text.contains(&pattern);
    }
    is_like(&pattern, &text)
}

/// The console's name, or what it is known by without one.
pub(crate) fn name_of(console: &Value) -> String {
    ["name", "uuid", "id"]
        .iter()
        .find_map(|key| console[*key].as_str().filter(|text| !text.is_empty()))
        .map_or_else(|| "(nameless)".to_owned(), |text| printable(text).into_owned())
}

/// What names the console for as long as it exists.
pub(crate) fn reference(console: &Value) -> String {
    let reference = ["id", "uuid", "name"].iter().find_map(|key| console[*key].as_str());
    reference.unwrap_or_default().to_owned()
}

/// Candidates are names or objects with id and name; all there is to know of them is asked for.
fn several(connection: &mut Connection, candidates: &Value) -> Result<Vec<Value>, Failure> {
    let mut consoles = Vec::new();
    for candidate in candidates.as_array().into_iter().flatten().take(OFFERED + 1) {
        let reference = candidate.as_str().map_or_else(|| reference(candidate), str::to_owned);
        // One that ended meanwhile is no candidate any more.
        if let Ok(mut answer) = connection.ask("show", json!({"console": reference}))? {
            consoles.push(answer["console"].take());
        }
    }
    Ok(consoles)
}

fn unknown(connection: &mut Connection, name: &str, candidates: &Value) -> Result<Failure, Failure> {
    let mut alike: Vec<String> = candidates
        .as_array()
        .into_iter()
        .flatten()
        .map(|candidate| {
            candidate.as_str().map_or_else(|| name_of(candidate), |text| printable(text).into_owned())
        })
        .collect();
    if alike.is_empty() {
        let names: Vec<String> = connection.list(None, COMPARED)?.iter().map(name_of).collect();
        alike = similar(name, names.iter().map(String::as_str)).into_iter().map(str::to_owned).collect();
    }
    let mut message = format!("there is no console {}", printable(name));
    match alike.split_last() {
        None => {}
        Some((only, [])) => message.push_str(&format!("; did you mean {only}?")),
        Some((last, others)) => message.push_str(&format!("; did you mean {} or {last}?", others.join(", "))),
    }
    Ok(Failure::new(Code::NoSuchConsole, message))
}

/// Whether there is somebody to ask.
pub(crate) fn may_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks the user. Returns the answer without spaces around it; nothing where there is none.
pub(crate) fn ask(question: &str) -> String {
    let mut out = io::stderr();
    let _ = write!(out, "{question}");
    let _ = out.flush();
    let mut line = String::new();
    let _ = io::stdin().lock().read_line(&mut line);
    line.trim().to_owned()
}

fn choose(name: &str, mut candidates: Vec<Value>) -> Result<Value, Failure> {
    let more = if candidates.len() > OFFERED { " (and there are more)" } else { "" };
    candidates.truncate(OFFERED);
    let mut out = io::stderr();
    let _ = writeln!(out, "{} may be any of these{more}:", printable(name));
    for (i, console) in candidates.iter().enumerate() {
        let _ = writeln!(out, "{:>4}  {}", i + 1, describe(console));
    }
    let chosen = ask("Which one? ").parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    match chosen {
        Some(number) if number < candidates.len() => Ok(candidates.swap_remove(number)),
        _ => Err(Failure::new(Code::NoSuchConsole, "none was chosen")),
    }
}

fn describe(console: &Value) -> String {
    let text = |key: &str| printable(console[key].as_str().unwrap_or_default()).into_owned();
    let port = console["port"].as_u64().map(|port| format!("  port {port}")).unwrap_or_default();
    format!("{}  {}{port}  {}", name_of(console), text("uuid"), text("state")).trim_end().to_owned()
}

/// The names that a slip of the finger would make `name` of, the likeliest first.
fn similar<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    let mut close: Vec<(usize, &str)> = names
        .map(|other| (distance(&wanted, &other.to_lowercase().chars().collect::<Vec<_>>()), other))
        .filter(|&(distance, _)| distance <= wanted.len().div_ceil(3))
        .collect();
    close.sort();
    close.dedup();
    // What is farther off than the closest only distracts.
    let closest = close.first().map_or(0, |(distance, _)| *distance);
    close.retain(|(distance, _)| *distance == closest);
    close.truncate(SUGGESTED);
    close.into_iter().map(|(_, name)| name).collect()
}

/// How many letters have to be added, left out, changed, or swapped with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Consoles offered at a time: what fits a screen.
const OFFERED: usize = 20;
/// Names suggested in place of an unknown one.
const SUGGESTED: usize = 3;
/// Names compared with an unknown one. That many take a moment.
const COMPARED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let names = ["web01", "web02", "db01", "mail", "WEB03"];
        assert_eq!(similar("wbe01", names.into_iter()), ["web01"]);
        assert_eq!(similar("web0", names.into_iter()), ["WEB03", "web01", "web02"]);
        assert_eq!(similar("mial", names.into_iter()), ["mail"]);
        assert_eq!(similar("ldap", names.into_iter()), [""; 0]);
    }

    #[test]
    fn letters_are_added_left_out_changed_and_swapped() {
        let distance =
            |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("abc", "axc"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn patterns_are_for_a_part_or_with_stars_for_the_whole() {
        for (text, pattern, fit) in [
            ("web01", "EB", true),
            ("web01", "", true),
            ("web01", "web?1", true),
            ("web01", "web?", false),
            ("web01", "w*1", true),
            ("web01", "w*0", false),
            ("abcabd", "*ab?", true),
            ("abc", "*", true),
            ("", "*", true),
            ("", "?", false),
        ] {
            assert_eq!(fits(text, pattern), fit, "{text} {pattern}");
        }
    }

    #[test]
    fn a_console_without_a_name_is_known_by_its_uuid() {
        assert_eq!(name_of(&json!({"id": "1.1", "name": "web\u{1b}", "uuid": "00"})), "web\\x1b");
        assert_eq!(name_of(&json!({"id": "1.1", "name": "", "uuid": "00"})), "00");
        assert_eq!(name_of(&json!({})), "(nameless)");
    }
}
