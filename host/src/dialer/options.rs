//! The options of connections that the server makes.

use std::sync::Arc;

use vspc_core::concentrator::{Pattern, Target};

/// What consoles are connected to.
#[derive(Clone, PartialEq, Eq, Debug, clap::Args)]
#[command(next_help_heading = "Connections that the server makes")]
pub(crate) struct DialOptions {
    /// Connect each console whose VM has this name or UUID (* stands for any characters, ? for one) to
    /// tcp://HOST:PORT, tls://HOST:PORT, telnet://HOST:PORT, telnets://HOST:PORT or unix:/PATH, as to one of
    /// its clients, while its VM is there. With ?hello behind the address the first line says which console
    /// it is, in JSON. Repeat it; the first that matches counts.
    #[arg(long, value_name = "PATTERN=URI", value_parser = forward)]
    pub(crate) forward: Vec<Forward>,

    /// Let VMs whose serial port has the direction "Client" be connected to where its URI says, if that
    /// matches: tcp://*.lab.example:2377, with * and ? as in --forward. Repeat it. Without, no VM is.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    pub(crate) dial_allow: Vec<Pattern>,
}

/// Which consoles are connected, and to what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Forward {
    pub(crate) pattern: Pattern,
    pub(crate) target: Arc<Target>,
}

impl DialOptions {
    /// Which consoles are connected to what.
    pub(crate) fn forwards(&self) -> Vec<(Pattern, Arc<Target>)> {
        self.forward.iter().map(|forward| (forward.pattern.clone(), Arc::clone(&forward.target))).collect()
    }
}

fn forward(text: &str) -> Result<Forward, String> {
    // A URI has no = in it.
    let Some((pattern, uri)) = text.rsplit_once('=') else {
        return Err("give a pattern, = and where to, as in web*=tcp://attach.example:2377".to_owned());
    };
    let pattern = self::pattern(pattern)?;
    Ok(Forward { pattern, target: target(uri)? })
}

fn pattern(text: &str) -> Result<Pattern, String> {
    text.parse().map_err(|_| "the pattern is empty, and would match nothing".to_owned())
}

/// Something to connect to.
pub(crate) fn target(uri: &str) -> Result<Arc<Target>, String> {
    uri.parse().map(Arc::new).map_err(|why: vspc_core::concentrator::NoTarget| why.to_string())
}
