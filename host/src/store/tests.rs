//! A store from the loop to the backend and back, with a backend that does as the test says.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use vspc_core::concentrator::{Concentrator, Config, ConsoleId, PortRange, Reservation};
use vspc_core::time::Instant;

use super::keeper::BATCH;
use super::record::Seen;
use super::record::tests::record;
use super::*;
use crate::commands::{self, Command};
use crate::housekeeping::Housekeeping;
use crate::work::Work;

/// What the backend is asked to keep, and where its answer goes.
struct Ask {
    records: Vec<Record>,
    answer: Sender<io::Result<()>>,
}

impl Ask {
    fn ports(&self) -> Vec<Option<u16>> {
        self.records.iter().map(|record| record.port).collect()
    }
}

/// A backend that hangs until the test answers.
struct Asking(Sender<Ask>);

impl Backend for Asking {
    fn keep(&mut self, records: &[&Record]) -> io::Result<()> {
        let (answer, answers) = channel();
        let records = records.iter().map(|&record| record.clone()).collect();
        self.0.send(Ask { records, answer }).unwrap();
        answers.recv().unwrap()
    }
}

/// A loop without sockets, whose store is the test.
struct Rig {
    engine: Concentrator,
    house: Housekeeping,
    commands: commands::Receiver,
    woken: std::os::unix::net::UnixStream,
    asks: Receiver<Ask>,
    ending: Option<Ending>,
    /// How far the thread was behind, each time that it has said so.
    lags: Vec<Duration>,
}

impl Rig {
    fn new(range: PortRange, kept: Vec<Record>) -> Self {
        let config = Config { client_ports: Some(range), ..Config::default() };
        let mut engine = Concentrator::new(Arc::new(config), [1; 32], Instant::ZERO);
        let (sender, commands, woken) = commands::pair().unwrap();
        let (asking, asks) = channel();
        let (mirror, ending) = start(Asking(asking), Opened { kept, grant: None }, sender).unwrap();
        let mut house = Housekeeping::new(false).unwrap();
        house.restore(mirror, &mut engine, Instant::ZERO);
        let mut rig = Self { engine, house, commands, woken, asks, ending: Some(ending), lags: Vec::new() };
        rig.carry_out();
        rig
    }

    /// Opens whatever is to be opened.
    fn carry_out(&mut self) {
        while let Some(work) = self.house.next_work(&mut self.engine, Instant::ZERO) {
            if let Work::Listen(id, address) = work {
                self.house.listened(&mut self.engine, id, address.clone(), Ok(address), Instant::ZERO);
            }
        }
    }

    /// A VM is there that was not there before.
    fn add(&mut self, number: u8) -> ConsoleId {
        let reservation = Reservation { port: None, ..record(number, 1).reservation(0) };
        let id = self.engine.restore(reservation, Instant::ZERO).unwrap();
        self.carry_out();
        id
    }

    /// Does what the thread has said, if it has said anything.
    fn listen_to_the_thread(&mut self) {
        for command in self.commands.take(&self.woken) {
            if let Command::Kept(_, Some(lag)) = command {
                self.lags.push(lag);
            }
            self.house.execute(&mut self.engine, command, Instant::ZERO);
        }
        self.house.woken(&mut self.engine, Instant::ZERO);
        self.carry_out();
        thread::yield_now();
    }

    fn is_kept(&self, id: ConsoleId) -> bool {
        self.engine.console(id).unwrap().kept
    }

    fn wait_until_kept(&mut self, id: ConsoleId) {
        while !self.is_kept(id) {
            self.listen_to_the_thread();
        }
    }

    /// The thread ends, and all that it asks for meanwhile is answered.
    fn end(mut self) -> Vec<Ask> {
        self.house.execute(&mut self.engine, Command::Stop, Instant::ZERO);
        self.carry_out();
        let mut last = Vec::new();
        while let Ok(ask) = self.asks.recv() {
            ask.answer.send(Ok(())).unwrap();
            last.push(ask);
        }
        self.ending.take().unwrap().wait(Duration::from_secs(30));
        last
    }
}

const RANGE: PortRange = PortRange { first: 50000, last: 59999 };

#[test]
fn what_comes_together_is_kept_by_one_write_and_reported_once_it_is() {
    let mut rig = Rig::new(RANGE, Vec::new());
    let ids = [1, 2, 3].map(|number| rig.add(number));
    let ask = rig.asks.recv().unwrap();
    assert_eq!(ask.ports(), [Some(50000), Some(50001), Some(50002)]);
    assert_eq!(ask.records[0].name, "vm1");
    assert!(!ids.iter().any(|&id| rig.is_kept(id)));
    ask.answer.send(Ok(())).unwrap();
    ids.iter().for_each(|&id| rig.wait_until_kept(id));
    assert!(matches!(rig.lags[..], [lag] if lag >= BATCH), "{:?}", rig.lags);
    assert_eq!(rig.end().len(), 0, "that they are kept is no change");
}

#[test]
fn a_backend_that_hangs_keeps_the_loop_from_nothing_and_gets_all_of_it_in_the_end() {
    let mut rig = Rig::new(RANGE, Vec::new());
    let first = rig.add(1);
    let hanging = rig.asks.recv().unwrap();
    let mut ids = Vec::new();
    for n in 0..3 * QUEUE as u32 {
        let uuid = vspc_core::vmware::Uuid::from_bytes((u128::from(n) << 64).to_be_bytes());
        let reservation = Reservation::new(vspc_core::concentrator::Identity::of(uuid));
        ids.push(rig.engine.restore(reservation, Instant::ZERO).unwrap());
        rig.carry_out();
    }
    hanging.answer.send(Ok(())).unwrap();
    let all = 3 * QUEUE + 1;
    let mut writes = 1;
    while !ids.iter().all(|&id| rig.is_kept(id)) {
        // So many at one moment have their ports one after the other, a moment later.
        while let Some(due) = rig.engine.poll_timeout().filter(|due| *due < Instant::from_millis(60_000)) {
            rig.engine.handle_timeout(due);
            rig.carry_out();
        }
        while let Ok(ask) = rig.asks.try_recv() {
            writes += 1;
            ask.answer.send(Ok(())).unwrap();
        }
        rig.listen_to_the_thread();
    }
    assert!(rig.is_kept(first));
    assert!(writes < 20, "{writes} writes for {all} consoles");
    // Now all but the first are forgotten.
    rig.engine.handle_timeout(Instant::ZERO + Duration::from_secs(86_400));
    rig.carry_out();
    let last = rig.end();
    assert_eq!(last.last().unwrap().records.len(), 0, "all have expired");
}

#[test]
fn a_write_that_fails_is_tried_again_with_all_that_has_come_and_nothing_counts_as_kept_before() {
    let mut rig = Rig::new(RANGE, Vec::new());
    let first = rig.add(1);
    let ask = rig.asks.recv().unwrap();
    ask.answer.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    let second = rig.add(2);
    let ask = rig.asks.recv().unwrap();
    assert_eq!(ask.ports(), [Some(50000), Some(50001)]);
    assert!(!rig.is_kept(first));
    ask.answer.send(Ok(())).unwrap();
    rig.wait_until_kept(second);
    assert!(rig.is_kept(first));
}

#[test]
fn a_server_that_stops_closes_its_ports_and_keeps_them() {
    let mut rig = Rig::new(RANGE, Vec::new());
    rig.add(1);
    let ask = rig.asks.recv().unwrap();
    rig.add(2);
    ask.answer.send(Ok(())).unwrap();
    let last = rig.end();
    assert_eq!(last.last().unwrap().ports(), [Some(50000), Some(50001)]);
}

#[test]
fn what_was_kept_is_put_back_and_stays_as_it_was() {
    let mut home = record(1, 50007);
    home.home = Some([192, 0, 2, 1].into());
    let today = mirror::today();
    home.seen = Seen::At(today - 100);
    let mut here = record(2, 50003);
    (here.seen, here.shared) = (Seen::Now, true);
    let mut rig = Rig::new(RANGE, vec![home.clone(), here.clone()]);
    let newcomer = rig.add(3);
    let ask = rig.asks.recv().unwrap();
    assert_eq!(ask.ports(), [Some(50000), Some(50003), Some(50007)]);
    assert_eq!(ask.records[2], home, "when it was seen too");
    // Nobody is there since this start.
    assert!(matches!(ask.records[1].seen, Seen::At(seen) if seen >= today));
    assert_eq!((ask.records[1].shared, ask.records[1].stayed), (true, here.stayed));
    ask.answer.send(Ok(())).unwrap();
    rig.wait_until_kept(newcomer);
}

#[test]
fn a_port_outside_the_range_is_given_up_and_nobody_gets_anothers() {
    let range = PortRange { first: 50000, last: 50002 };
    let kept = vec![record(1, 40000), record(2, 50000), record(3, 50002)];
    let mut rig = Rig::new(range, kept);
    rig.carry_out();
    let ask = rig.asks.recv().unwrap();
    let ports: Vec<_> = ask.records.iter().map(|record| (&*record.name, record.port)).collect();
    assert_eq!(ports, [("vm2", Some(50000)), ("vm1", Some(50001)), ("vm3", Some(50002))]);
    ask.answer.send(Ok(())).unwrap();
}
