//! Two hosts and an appliance on this machine: network namespaces (ip-netns(8)) with a wire from each host to
//! the appliance.
//!
//! **Owns** them: they go when this is dropped. What runs in one is a thread that has moved into it; a socket
//! stays in the namespace that it was made in.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio, id};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Namespaces that are there.
#[derive(Debug)]
pub(super) struct Spaces {
    names: Vec<String>,
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Space {
    Host(usize),
    Appliance,
}

/// How many hosts there are.
pub(super) const HOSTS: usize = 2;

impl Spaces {
    /// Makes them. `None`: this machine has none, or they are not for this user.
    pub(super) fn open() -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut spaces = Self { names: Vec::new() };
        for kind in ["host0", "host1", "appliance"] {
            let name = format!("vspc-{}-{number}-{kind}", id());
            // A machine that cannot is not waited for.
            if !run("timeout", &["1", "ip", "netns", "add", &name]) {
                return None;
            }
            spaces.names.push(name);
            let name = spaces.names.last()?;
            if !run("ip", &["-n", name, "link", "set", "lo", "up"]) {
                return None;
            }
        }
        (0..HOSTS).all(|host| spaces.connect(host)).then_some(spaces)
    }

    /// Where a host reaches the appliance.
    pub(super) fn appliance_seen_by(host: usize) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, host as u8 * 4 + 2)
    }

    /// Does something in one of them, and waits for it.
    pub(super) fn within<T: Send>(&self, space: Space, job: impl FnOnce() -> T + Send) -> io::Result<T> {
        let name = self.name(space);
        thread::scope(|scope| {
            let thread = scope.spawn(|| enter(name).map(|()| job()));
            thread.join().unwrap_or_else(|_| Err(io::Error::other("it has panicked")))
        })
    }

    /// A thread that runs in one of them.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        space: Space,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<io::Result<T>> {
        let name = self.name(space).to_owned();
        thread::spawn(move || enter(&name).map(|()| job()))
    }

    fn name(&self, space: Space) -> &str {
        match space {
            Space::Host(host) => &self.names[host],
            Space::Appliance => &self.names[HOSTS],
        }
    }

    /// A wire between a host and the appliance.
    fn connect(&self, host: usize) -> bool {
        let (here, there) = (self.name(Space::Host(host)), self.name(Space::Appliance));
        let (near, far) = (format!("up{host}"), format!("down{host}"));
        let address = format!("198.18.0.{}/30", host * 4 + 1);
        let peer = format!("{}/30", Self::appliance_seen_by(host));
        let add = ["link", "add", &near, "netns", here, "type", "veth", "peer", "name", &far, "netns", there];
        run("ip", &add)
            && [(here, &near, &address), (there, &far, &peer)].iter().all(|(space, link, address)| {
                run("ip", &["-n", space, "addr", "add", address, "dev", link])
                    && run("ip", &["-n", space, "link", "set", link, "up"])
            })
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in &self.names {
            run("ip", &["netns", "del", name]);
        }
    }
}

/// Moves the calling thread.
fn enter(name: &str) -> io::Result<()> {
    let file = File::open(Path::new("/run/netns").join(name))?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
