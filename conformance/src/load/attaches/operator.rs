//! One operator connection with an attach at each console (operator.md).

use std::net::SocketAddr;
use std::time::Duration;

use super::{LoadError, Readers, lines_in};
use crate::load::link::numbered_vm;
use crate::load::operator::Connection;

pub(super) struct Operator(Connection);

impl Operator {
    /// Connects, and attaches to watch the consoles of the first `count` VMs of a fleet.
    pub(super) fn open(admin: SocketAddr, count: u16) -> Result<Self, LoadError> {
        let mut connection = Connection::narrow(admin)?;
        for number in 0..count {
            connection.watch(&numbered_vm(number.into()).name)?;
        }
        Ok(Self(connection))
    }
}

impl Readers for Operator {
    fn read(&mut self, wait: Duration) -> Result<u64, LoadError> {
        let mut lines = 0;
        self.0.hear(wait, |bytes| lines += lines_in(bytes))?;
        Ok(lines)
    }
}
