//! Options from the environment: `VSPC_` and the option's name, and the two variables that vSPC.py reads.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Command;

use super::keys::{Key, Kind};
use super::{DEFAULT_FILE, Origin, Setting, check};

/// What is around the process and may say something about options.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// The variables that may.
    pub variables: BTreeMap<String, OsString>,
    /// The file that is read if it is there and none is named.
    pub file: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        let names = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let variables = names.filter(|(name, _)| name.starts_with("VSPC_") || is_old(name)).collect();
        Self { variables, file: Some(DEFAULT_FILE.into()) }
    }

    /// The value of a variable. One that is empty counts as one that is not there, as for those who write
    /// `VSPC_CERT=` into a unit.
    pub(super) fn value(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// What the environment gives, and what is wrong with it.
    pub(super) fn read(&self, command: &Command, keys: &[Key]) -> (Vec<Setting>, Vec<String>) {
        let (mut settings, mut faults) = (Vec::new(), Vec::new());
        for key in keys {
            let variable = key.variable();
            let found = match self.value(&variable) {
                Some(value) => Some((variable, arguments(key, value))),
                None => self.old(key),
            };
            let Some((variable, args)) = found else { continue };
            let checked = args.and_then(|args| {
                let origin = Origin::Environment(variable.clone());
                let setting = Setting { id: key.id.clone(), args, origin };
                check(command, key, &setting).map(|()| setting)
            });
            match checked {
                Ok(setting) => settings.push(setting),
                Err(why) => faults.push(format!("{variable} in the environment: {why}")),
            }
        }
        (settings, faults)
    }

    /// What vSPC.py's variable for this option says, in the way in which vSPC.py reads it.
    fn old(&self, key: &Key) -> Option<(String, Result<Vec<OsString>, String>)> {
        let (variable, _) = OLD.iter().find(|(_, name)| *name == key.name)?;
        let value = self.value(variable)?.to_string_lossy();
        let args = match key.kind {
            Kind::Flag if value.eq_ignore_ascii_case("true") => Ok(vec![format!("--{}", key.name).into()]),
            Kind::Flag => Ok(Vec::new()),
            Kind::Value | Kind::List => match value.trim().parse::<i64>() {
                Ok(limit) if limit < 1 => Ok(vec![format!("--{}=none", key.name).into()]),
                Ok(limit) => Ok(vec![format!("--{}={limit}", key.name).into()]),
                Err(_) => Err("give a number, 0 for no limit".to_owned()),
            },
        };
        Some(((*variable).to_owned(), args))
    }
}

fn arguments(key: &Key, value: &OsStr) -> Result<Vec<OsString>, String> {
    let name = &key.name;
    if key.kind == Kind::Flag {
        return match value.to_string_lossy().to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(vec![format!("--{name}").into()]),
            "false" | "no" | "off" | "0" => Ok(Vec::new()),
            _ => Err(format!("{name} is true or false")),
        };
    }
    let mut option = OsString::from(format!("--{name}="));
    option.push(value);
    Ok(vec![option])
}

fn is_old(name: &str) -> bool {
    OLD.iter().any(|(variable, _)| *variable == name)
}

/// vSPC.py's variables, and the options that they are here.
const OLD: [(&str, &str); 2] =
    [("SUPPORT_MULTI_CONSOLE", "multi-console"), ("VM_CLIENT_LIMIT", "max-clients")];
