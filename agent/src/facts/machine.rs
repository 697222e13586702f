//! What the agent knows of its machine by itself.

use std::fs;

use vspc_guest::Facts;

/// A few facts that everybody asks for.
pub(crate) fn facts() -> Facts {
    let mut facts = Facts::default();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = facts.set(key, value.trim());
        }
    };
    set("agent.version", Some(env!("CARGO_PKG_VERSION").to_owned()));
    set("host.name", fs::read_to_string("/proc/sys/kernel/hostname").ok());
    set("os.kernel", fs::read_to_string("/proc/sys/kernel/osrelease").ok());
    set("os.name", fs::read_to_string("/etc/os-release").ok().and_then(|text| pretty_name(&text)));
    facts
}

fn pretty_name(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_it_is_called() {
        let text = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(text).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("NAME=x\n"), None);
    }
}
