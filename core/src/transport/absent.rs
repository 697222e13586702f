//! What is left of TLS where the feature `tls` is off: types of which there is no value, so that the
//! engine needs no second version of itself.

use std::io::IoSlice;

use super::TlsFailure;

/// With what TLS connections would be answered. There is none: this build has no TLS.
#[derive(Clone, Debug)]
pub enum Acceptor {}

/// With what TLS connections would be begun. There is none.
#[derive(Clone, Debug)]
pub enum Connector {}

/// A TLS connection. There is none.
#[derive(Debug)]
pub(crate) struct Tls {
    never: Acceptor,
    pub(crate) unread: Vec<u8>,
    pub(crate) peer_closed: bool,
    pub(crate) peer_closed_both: bool,
    pub(crate) failed: bool,
}

impl Tls {
    pub(crate) fn accept(acceptor: &Acceptor, _: Vec<u8>) -> Result<Box<Self>, TlsFailure> {
        match *acceptor {}
    }

    pub(crate) fn connect(connector: &Connector, _: &str, _: Vec<u8>) -> Result<Box<Self>, TlsFailure> {
        match *connector {}
    }

    pub(crate) fn has_come_up(&self) -> bool {
        match self.never {}
    }

    pub(crate) fn is_up(&self) -> bool {
        match self.never {}
    }

    pub(crate) fn unfinished(&self) -> usize {
        match self.never {}
    }

    pub(crate) fn give_up(&mut self) -> TlsFailure {
        match self.never {}
    }

    pub(crate) fn terms(&self) -> (&'static str, &'static str) {
        match self.never {}
    }

    pub(crate) fn peer_names(&self) -> Vec<Box<str>> {
        match self.never {}
    }

    pub(crate) fn open(&mut self, _: &mut [u8], _: &mut Vec<u8>) -> Result<(), TlsFailure> {
        match self.never {}
    }

    pub(crate) fn seal(&mut self, _: &[IoSlice<'_>]) -> Result<usize, TlsFailure> {
        match self.never {}
    }

    pub(crate) fn close(&mut self) {
        match self.never {}
    }

    pub(crate) fn pending(&self) -> &[u8] {
        match self.never {}
    }

    pub(crate) fn took(&mut self, _: usize) {
        match self.never {}
    }
}
