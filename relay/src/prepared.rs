//! Settings with all that files say which they name: what a loop is arranged by, without waiting for a disk.

use std::sync::Arc;
use std::time::Duration;

use vspc_trust::Files;

use crate::config::{FolderRoute, LineRoute, Route, Settings};
use crate::dial::Goal;
use crate::endpoint::Endpoint;
use crate::fatal::Fatal;
use crate::tls::{Server, dialer};

/// What is to be relayed, ready for use.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) routes: Vec<(Route, Arc<Goal>, Option<Server>)>,
    pub(crate) lines: Vec<(LineRoute, Arc<Goal>)>,
    pub(crate) folders: Vec<(FolderRoute, Arc<Goal>)>,
    pub(crate) control: Option<Endpoint>,
}

impl Prepared {
    /// Reads certificates and keys.
    pub(crate) fn load(settings: Settings) -> Result<Self, Fatal> {
        let routes = settings.routes.into_iter().map(|route| {
            let mut goal = goal(&route.to, &route.dialer, route.connect_timeout)?;
            goal.is_told_for_whom = route.proxy_protocol;
            let is_served = route.listen.iter().any(|at| at.tls);
            let server = is_served.then(|| Server::load(&route.server)).transpose()?;
            Ok((route, Arc::new(goal), server))
        });
        let lines = settings.lines.into_iter().map(|line| {
            let to = goal(&line.to.to, &line.to.dialer, line.to.connect_timeout)?;
            Ok((line, Arc::new(to)))
        });
        let folders = settings.folders.into_iter().map(|lines| {
            let to = goal(&lines.to.to, &lines.to.dialer, lines.to.connect_timeout)?;
            Ok((lines, Arc::new(to)))
        });
        Ok(Self {
            routes: routes.collect::<Result<_, Fatal>>()?,
            lines: lines.collect::<Result<_, Fatal>>()?,
            folders: folders.collect::<Result<_, Fatal>>()?,
            control: settings.control,
        })
    }
}

/// A target with what TLS needs.
fn goal(to: &Endpoint, files: &Files, patience: Duration) -> Result<Goal, Fatal> {
    let tls = to.tls.then(|| dialer(files, to.host())).transpose()?;
    Ok(Goal { endpoint: to.clone(), tls, patience, is_told_for_whom: false })
}
