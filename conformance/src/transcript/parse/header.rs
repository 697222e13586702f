//! What stands above the steps of a transcript: its title, source, scope and settings.

use std::time::Duration;

use crate::transcript::{Scope, Section, Setting, Transcript};

pub(super) fn header(transcript: &mut Transcript, key: &str, value: &str) -> Result<(), String> {
    match key {
        "title" => value.clone_into(&mut transcript.title),
        "source" => value.clone_into(&mut transcript.source),
        "section" => {
            transcript.section =
                Section::ALL.into_iter().find(|section| section.word() == value).ok_or_else(|| {
                    let words = Section::ALL.map(Section::word).join(", ");
                    format!("there is no section {value:?}: use one of {words}")
                })?;
        }
        "scope" => {
            transcript.scope = match value {
                "any" => Scope::Any,
                "ours" => Scope::Ours,
                _ => return Err(format!("scope {value:?}: write any or ours")),
            }
        }
        "segments" => match value {
            "bytes" => transcript.single_bytes = true,
            _ => return Err(format!("segments {value:?}: write bytes, or leave the line out")),
        },
        _ => transcript.config.push(parse_setting(value)?),
    }
    Ok(())
}

/// Reads what stands behind `config`.
///
/// # Errors
///
/// What to write instead.
pub fn parse_setting(value: &str) -> Result<Setting, String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number"));
    match words.as_slice() {
        ["multi-console"] => Ok(Setting::MultiConsole),
        ["service-uri", uri] => Ok(Setting::ServiceUri((*uri).to_owned())),
        ["identify-timeout", time] => Ok(Setting::IdentifyTimeout(duration(time)?)),
        ["vm-expire", time] => Ok(Setting::VmExpire(duration(time)?)),
        ["max-clients", n] => Ok(Setting::MaxClients(number(n)?)),
        ["scrollback", n] => Ok(Setting::Scrollback(number(n)?)),
        _ => Err(format!(
            "config {value:?}: write multi-console, service-uri TEXT, identify-timeout TIME, vm-expire TIME, \
             max-clients N or scrollback N"
        )),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    number
        .parse::<f64>()
        .ok()
        .map(|n| n * factor)
        .filter(|seconds| seconds.is_finite() && *seconds <= 1e6)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{text:?} is not a time: write 300ms, 5s, 2m"))
}
