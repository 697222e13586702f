//! One search: the VMs print marks, and ports are looked at until each mark was seen.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::knocks::Knocks;
use super::{Ports, Printing, STEP};

pub(super) struct Search<'a> {
    pub(super) ports: &'a Ports,
    pub(super) vms: &'a mut dyn Printing,
    /// What every mark of this search begins with; the VM's number and the mark's follow.
    pub(super) mark: String,
    pub(super) prints: u32,
    pub(super) begun: Instant,
    pub(super) sought: Vec<Sought>,
    pub(super) knocks: Knocks,
    /// How many ports are tried before what they show is looked at.
    pub(super) step: usize,
    pub(super) any_open: bool,
    /// Someone may count a client that has hung up.
    pub(super) hung_up: bool,
}

/// A VM whose port is looked for.
#[derive(Clone, Copy, Default)]
pub(super) struct Sought {
    pub(super) port: Option<u16>,
    /// The last mark that it printed, and the last that its port showed.
    pub(super) printed: u32,
    shown: u32,
}

impl Search<'_> {
    /// Tries every port once. A server may open the port only now, so that fresh ones are looked at again and
    /// again before the consoles of others are bothered.
    pub(super) fn round(&mut self) -> Result<(), String> {
        for look in 1..=LOOKS {
            let (fresh, likely) = self.ports.fresh(self.sought.len());
            self.knock(if look < LOOKS { &fresh[..likely] } else { &fresh })?;
            self.watch(PRINT_EVERY)?;
        }
        if self.knocks.are_open() {
            self.watch(SHOWS_WITHIN)?;
        }
        self.knock(&self.ports.others())?;
        if self.knocks.are_open() {
            self.watch(SHOWS_WITHIN)?;
        }
        self.clear();
        Ok(())
    }

    pub(super) fn is_done(&self) -> bool {
        self.sought.iter().all(|sought| sought.port.is_some())
    }

    /// Connects to each of these ports that is not connected to.
    pub(super) fn knock(&mut self, ports: &[u16]) -> Result<(), String> {
        let mut rest = ports;
        while !rest.is_empty() && !self.is_done() {
            let (some, more) = rest.split_at(self.step.min(rest.len()));
            if self.knocks.doors.len() + some.len() > MOST {
                self.watch(SHOWS_WITHIN)?;
                self.clear();
            }
            for port in some {
                self.knocks.knock(*port, self.ports.at(*port), &self.ports.dial)?;
            }
            // A closed port of this machine refuses at once.
            let until = Instant::now() + GLANCE;
            while !self.is_done() && Instant::now() < until && !self.knocks.doors.is_empty() {
                self.turn()?;
            }
            self.hang_up_where_found();
            (rest, self.step) = (more, (self.step * 4).min(STEP.1));
        }
        Ok(())
    }

    /// Lets the VMs print, until each was seen, or `time` has gone by since a connection came up.
    pub(super) fn watch(&mut self, time: Duration) -> Result<(), String> {
        let mut until = Instant::now() + time;
        while !self.is_done() && Instant::now() < until {
            if self.turn()? {
                until = Instant::now() + time;
            }
        }
        Ok(())
    }

    /// A moment in which the VMs print, if it is time, and what has come is read; true when a connection came
    /// up.
    pub(super) fn turn(&mut self) -> Result<bool, String> {
        if self.begun.elapsed() >= PRINT_EVERY * self.prints {
            self.print()?;
        }
        Ok(self.read())
    }

    pub(super) fn read(&mut self) -> bool {
        let came_up = self.knocks.turn(Duration::from_millis(1));
        self.vms.serve();
        self.any_open |= self.knocks.are_open();
        for door in self.knocks.doors.values_mut() {
            for (vm, number) in door.marks(&self.mark) {
                if let Some(sought) = self.sought.get_mut(vm) {
                    sought.port = Some(door.port);
                    sought.shown = sought.shown.max(number);
                }
            }
        }
        came_up
    }

    pub(super) fn print(&mut self) -> Result<(), String> {
        self.prints += 1;
        for (vm, sought) in self.sought.iter_mut().enumerate().filter(|(_, sought)| sought.port.is_none()) {
            sought.printed = self.prints;
            if !self.vms.print(vm, format!("{}{vm}.{}]\r\n", self.mark, self.prints).as_bytes()) {
                return Err("the server has ended the VM's connection".into());
            }
        }
        Ok(())
    }

    /// Hangs up everywhere: after the last marks have come, so that none turns up later where it is not
    /// expected.
    pub(super) fn clear(&mut self) {
        let limit = Instant::now() + LAST_MARK;
        while self.sought.iter().any(|sought| sought.port.is_some() && !sought.is_over())
            && Instant::now() < limit
        {
            self.read();
        }
        self.hung_up |= !self.knocks.doors.is_empty();
        self.knocks.hang_up();
    }

    fn hang_up_where_found(&mut self) {
        let over: HashSet<u16> =
            self.sought.iter().filter(|sought| sought.is_over()).filter_map(|sought| sought.port).collect();
        self.hung_up |= !over.is_empty();
        // They are not connected to again as long as the others are looked for.
        self.knocks.doors.retain(|_, door| !over.contains(&door.port));
    }
}

impl Sought {
    /// Its port is found and has shown all its marks.
    fn is_over(&self) -> bool {
        self.port.is_some() && self.shown >= self.printed
    }
}

/// How long a client port may take to show what its VM prints. vSPC.py lets half a second pass in which
/// the client negotiates.
const SHOWS_WITHIN: Duration = Duration::from_millis(800);

/// How often the VMs print their marks.
const PRINT_EVERY: Duration = Duration::from_millis(100);

/// A look at some ports before more are tried: a fresh console on this machine shows its VM's mark within.
const GLANCE: Duration = Duration::from_millis(5);

/// How long the last mark may be on its way.
const LAST_MARK: Duration = Duration::from_secs(1);

/// How often fresh ports are looked at in a round: they open within milliseconds, as a rule.
const LOOKS: u32 = 4;

/// How many connections a search keeps at most: well within what a process may have open, also when eight
/// search.
const MOST: usize = 512;
