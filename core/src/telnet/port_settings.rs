//! How a serial port is to be set, as a URI says it behind its `?`:
//! `speed=9600&data=8&parity=none&stop=1&flow=none`.
//!
//! **Owns** the words and which values there are. What is left out stays as it is at the port.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Settings of a serial port; `None`: as it is there. The values are those of RFC 2217.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PortSettings {
    /// Bits per second, 1 and more.
    pub speed: Option<u32>,
    /// Bits of a character, 5 to 8.
    pub data: Option<u8>,
    /// 1 none, 2 odd, 3 even, 4 mark, 5 space.
    pub parity: Option<u8>,
    /// 1: one stop bit, 2: two, 3: one and a half.
    pub stop: Option<u8>,
    /// 1 none, 2 XON/XOFF, 3 RTS/CTS.
    pub flow: Option<u8>,
}

/// Why a text says no settings.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NoSettings {
    /// There is nothing of the name, or no value behind it.
    #[error("{0:?} is no setting of a serial port: there are speed=, data=, parity=, stop= and flow=")]
    Name(Box<str>),
    /// There is no such value.
    #[error(
        "{0:?}: there are speed=9600 and so on, data=5 to 8, parity=none, odd, even, mark or space, \
         stop=1, 1.5 or 2, flow=none, xonxoff or rtscts"
    )]
    Value(Box<str>),
    /// It stands there twice.
    #[error("{0:?} is said twice")]
    Twice(Box<str>),
}

impl FromStr for PortSettings {
    type Err = NoSettings;

    fn from_str(text: &str) -> Result<Self, NoSettings> {
        let mut settings = Self::default();
        for part in text.split('&') {
            let (name, value) = part.split_once('=').ok_or_else(|| NoSettings::Name(part.into()))?;
            let word = |words: &[&str]| words.iter().position(|word| *word == value).map(|at| at as u8 + 1);
            let (place, read) = match name {
                "speed" => {
                    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                    let speed = value.parse().ok().filter(|&speed: &u32| is_number && speed > 0);
                    let speed = speed.ok_or_else(|| NoSettings::Value(part.into()))?;
                    if settings.speed.replace(speed).is_some() {
                        return Err(NoSettings::Twice(name.into()));
                    }
                    continue;
                }
                "data" => (&mut settings.data, word(&["5", "6", "7", "8"]).map(|at| at + 4)),
                "parity" => (&mut settings.parity, word(PARITIES)),
                "stop" => (&mut settings.stop, word(STOPS)),
                "flow" => (&mut settings.flow, word(FLOWS)),
                _ => return Err(NoSettings::Name(part.into())),
            };
            let value = read.ok_or_else(|| NoSettings::Value(part.into()))?;
            if place.replace(value).is_some() {
                return Err(NoSettings::Twice(name.into()));
            }
        }
        Ok(settings)
    }
}

/// In the order of RFC 2217's values, from 1.
const PARITIES: &[&str] = &["none", "odd", "even", "mark", "space"];
const STOPS: &[&str] = &["1", "2", "1.5"];
const FLOWS: &[&str] = &["none", "xonxoff", "rtscts"];

/// As it is written; nothing where nothing is set.
impl fmt::Display for PortSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |words: &[&'static str], value: Option<u8>| {
            value.and_then(|value| words.get(usize::from(value).checked_sub(1)?).copied())
        };
        let mut parts = Vec::new();
        parts.extend(self.speed.map(|speed| format!("speed={speed}")));
        parts.extend(self.data.map(|data| format!("data={data}")));
        parts.extend(word(PARITIES, self.parity).map(|parity| format!("parity={parity}")));
        parts.extend(word(STOPS, self.stop).map(|stop| format!("stop={stop}")));
        parts.extend(word(FLOWS, self.flow).map(|flow| format!("flow={flow}")));
        f.write_str(&parts.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_as_they_are_written() {
        for text in ["speed=9600", "speed=115200&data=7&parity=even&stop=1.5&flow=rtscts", "stop=2&flow=none"]
        {
            assert_eq!(
                text.parse::<PortSettings>().map(|settings| settings.to_string()).as_deref(),
                Ok(text)
            );
        }
        let all = "speed=1&data=5&parity=space&stop=1.5&flow=xonxoff".parse::<PortSettings>().unwrap();
        assert_eq!((all.data, all.parity, all.stop, all.flow), (Some(5), Some(5), Some(3), Some(2)));
    }

    #[test]
    fn what_is_no_setting_is_named() {
        for (text, error) in [
            ("", NoSettings::Name("".into())),
            ("speed", NoSettings::Name("speed".into())),
            ("baud=1", NoSettings::Name("baud=1".into())),
            ("speed=0", NoSettings::Value("speed=0".into())),
            ("speed=+9600", NoSettings::Value("speed=+9600".into())),
            ("data=9", NoSettings::Value("data=9".into())),
            ("parity=None", NoSettings::Value("parity=None".into())),
            ("speed=1&stop=0", NoSettings::Value("stop=0".into())),
            ("flow=none&flow=none", NoSettings::Twice("flow".into())),
        ] {
            assert_eq!(text.parse::<PortSettings>(), Err(error), "{text}");
        }
    }
}
