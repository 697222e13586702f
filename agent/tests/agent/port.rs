//! A serial port with an agent on it: a pseudoterminal, whose other end is the host's, and what a bad line
//! does to the bytes on it.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::process::Child;

use rustix::pty::OpenptFlags;
use rustix::termios::LocalModes;

use crate::host::{Host, Noise};
use crate::machine::{Folder, agent};

/// Every program may be run.
pub(crate) const EXEC: &str = "[exec]\nprograms = [\"*\"]\n";

/// A serial port: the agent's end by its name, the host's as a descriptor.
pub(crate) struct Port {
    pub(crate) folder: Folder,
    child: Child,
    options: Vec<String>,
    /// A serial port is there whether or not somebody is at its other end.
    theirs: Option<OwnedFd>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Port {
    /// A file of the folder that everything may be copied of and into.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Waits until an agent has set the port.
    pub(crate) fn until_raw(&self) {
        let theirs = self.theirs.as_ref().unwrap();
        while rustix::termios::tcgetattr(theirs).unwrap().local_modes.contains(LocalModes::ECHO) {
            std::thread::yield_now();
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The agent is killed, and another one started.
    pub(crate) fn start_again(&mut self) {
        self.kill();
        self.child = start(&self.folder, &self.options);
    }

    /// The port says EIO from now on, and another one has its name: the host's end of that.
    pub(crate) fn replace(&mut self) -> OwnedFd {
        self.theirs = None;
        let (ours, theirs, name) = pair();
        self.theirs = Some(theirs);
        symlink(name, self.folder.join("new")).unwrap();
        std::fs::rename(self.folder.join("new"), self.folder.join("port")).unwrap();
        ours
    }
}

/// An agent at a port, which lets all programs run and its folder be copied, and the host's end.
pub(crate) fn port(options: &[&str]) -> (Port, OwnedFd) {
    let (ours, theirs, name) = pair();
    let folder = Folder::new();
    symlink(name, folder.join("port")).unwrap();
    let copy = format!("[[copy]]\nroot = {:?}\nwrite = true\n", folder.path());
    folder.write("agent.toml", format!("{EXEC}{copy}"));
    let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    let child = start(&folder, &options);
    (Port { folder, child, options, theirs: Some(theirs) }, ours)
}

fn start(folder: &Folder, options: &[String]) -> Child {
    let mut agent = agent();
    agent.arg("--config").arg(folder.join("agent.toml"));
    agent.arg("--line").arg(folder.join("port")).args(options).spawn().unwrap()
}

/// Both ends of a serial port, and its name.
pub(crate) fn pair() -> (OwnedFd, OwnedFd, String) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&ours).unwrap();
    rustix::pty::unlockpt(&ours).unwrap();
    let name = rustix::pty::ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags).unwrap();
    (ours, theirs, name)
}

/// One byte in so many is another one, is not there, or is there twice.
pub(crate) struct OneIn {
    bytes: u64,
    chance: u64,
}

impl OneIn {
    /// The seed tells which ones.
    pub(crate) const fn new(bytes: u64, seed: u64) -> Self {
        Self { bytes, chance: seed }
    }
}

impl Noise for OneIn {
    fn damage(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            self.chance =
                self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = self.chance >> 33;
            let which = chance / self.bytes;
            match (chance.is_multiple_of(self.bytes), which % 3) {
                (false, _) => out.push(byte),
                (true, 0) => out.push(byte ^ (1 << (which / 3 % 8))),
                (true, 1) => {}
                (true, _) => out.extend([byte, byte]),
            }
        }
        out
    }
}

/// A host of this port that has said hello.
pub(crate) fn host(ours: &OwnedFd) -> Host {
    let mut host = Host::sl(ours.try_clone().unwrap());
    host.hello(None).unwrap();
    host
}
