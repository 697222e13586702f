//! A raw `tee`: what a VM prints goes to a file and to one client, and what that types to the VM. The limit
//! of what any server that logs can reach.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use crate::load::LoadError;
use crate::load::subject::Subject;

/// Starts one, which serves one VM and then one client; it ends with its VM.
pub(super) fn start(file: &Path) -> Result<Subject, LoadError> {
    let failed = |error: io::Error| LoadError::Usage(format!("cannot start the tee: {error}"));
    let listen = || TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let (vms, clients) = (listen().map_err(failed)?, listen().map_err(failed)?);
    let subject = Subject::Relay {
        vms: vms.local_addr().map_err(failed)?,
        clients: clients.local_addr().map_err(failed)?,
    };
    let mut file = File::create(file).map_err(failed)?;
    thread::spawn(move || -> io::Result<()> {
        let (mut vm, mut client) = (vms.accept()?.0, clients.accept()?.0);
        for stream in [&vm, &client] {
            stream.set_nodelay(true)?;
        }
        let (mut typing, mut typed) = (client.try_clone()?, vm.try_clone()?);
        thread::spawn(move || copy(&mut typing, |bytes| typed.write_all(bytes)));
        copy(&mut vm, |bytes| {
            file.write_all(bytes)?;
            client.write_all(bytes)
        })
    });
    Ok(subject)
}

fn copy(from: &mut TcpStream, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            n => to(&buffer[..n])?,
        }
    }
}

/// As much as the servers read at once.
const READ: usize = 256 << 10;
