//! Those who come in numbers: handshakes, clients that quit at once, a whole fleet.

use std::time::{Duration, Instant};

use super::super::attack::{Attack, Visits};
use super::super::drill::{Drill, KEEPS_KIB, Tls};
use super::super::ground::NEWCOMERS;
use super::super::peer::{End, From};
use crate::load::LoadError;
use crate::load::fleet::Fleet;
use crate::load::strangers::{Addresses, Strangers};

pub(super) const HANDSHAKES: Drill = Drill::new(
    "handshakes",
    "300 TLS handshakes a second to the VM port and a client port go as far as the server's certificate",
    |attack| {
        let victim = attack.victim()?;
        let hello = client_hello()?;
        for (to, per_second) in [(attack.ground.vms(), 300.0), (victim.at, 300.0)] {
            let end = attack.set_end(attack.left() / if to == victim.at { 1 } else { 2 });
            attack.visits(Visits { to, per_second, kept: 32, end: None }, |_, _| hello.clone(), |_| {});
            attack.restore_end(end);
        }
        Ok(())
    },
)
.tls(Tls::All);

pub(super) const QUITS: Drill = Drill::new(
    "quits",
    "clients of one console quit and come back at once, with --max-clients 1; each is let in",
    quits,
)
.options(&["--max-clients", "1"]);

pub(super) const STORM: Drill = Drill::new(
    "storm",
    "9000 VMs at one moment beside 10 000 silent strangers are all served nearly as fast as a bare server is",
    storm,
)
.ports(10_000)
.keeps_kib(STORM_KEEPS_KIB)
.logs(u64::MAX);

/// As after any drill, and 9000 consoles with a client port each, of some 740 bytes, that stay for a day.
const STORM_KEEPS_KIB: u64 = KEEPS_KIB + 9000 * 740 / 1024;

/// What a TLS client says first.
fn client_hello() -> Result<Vec<u8>, LoadError> {
    let failed = |why: String| LoadError::Usage(format!("no TLS: {why}"));
    let config = crate::tunnel::Trust::default().into_config().map_err(failed)?;
    let name = rustls::pki_types::ServerName::IpAddress(crate::load::subject::LOCALHOST.into());
    let mut tls = rustls::ClientConnection::new(config, name).map_err(|error| failed(error.to_string()))?;
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).map_err(|error| failed(error.to_string()))?;
    Ok(hello)
}

/// One client at a time, each let in if it is told anything but that it is one too many.
fn quits(attack: &mut Attack<'_>) -> Result<(), LoadError> {
    let mut victim = attack.victim()?;
    drop(victim.client.take());
    let (mut came, mut longest) = (0u64, Duration::ZERO);
    let mut shut_out: Option<Instant> = None;
    let mut pace = attack.pace(50.0);
    let mut refused = 0u64;
    while attack.is_on() {
        let key = b'a' + (came % 26) as u8;
        let Some(mut peer) = attack.connect(victim.at, From::default(), vec![255, 253, 1, 255, 253, 3, key])
        else {
            continue;
        };
        came += 1;
        // It is in when its key reaches the VM.
        let limit = Instant::now() + Duration::from_millis(500);
        let mut is_in = !attack.ground.is_server;
        while !is_in && peer.is_open && Instant::now() < limit {
            attack.look(&mut peer);
            if victim.vm.receive_now().is_err() {
                attack.facts.problem("the VM whose clients quit lost its connection");
                return Ok(());
            }
            is_in = victim.vm.typed.contains(&key);
            std::thread::sleep(Duration::from_micros(500));
        }
        victim.vm.typed.clear();
        if is_in {
            longest = longest.max(shut_out.take().map_or(Duration::ZERO, |since| since.elapsed()));
        } else {
            refused += 1;
            shut_out.get_or_insert_with(Instant::now);
        }
        peer.leave(if came % 4 == 3 { End::Reset } else { End::Close });
        attack.keep(&mut pace, 1.0);
    }
    longest = longest.max(shut_out.map_or(Duration::ZERO, |since| since.elapsed()));
    attack.facts.say(format!("{refused} of {came} turned away, at most for {:.1} s", longest.as_secs_f64()));
    attack.facts.put("turned_away", refused);
    attack.facts.put("clients_came", came);
    if longest > SHUT_OUT {
        attack
            .facts
            .problem(format!("a client that came back was shut out for {:.1} s", longest.as_secs_f64()));
    }
    Ok(())
}

/// What `load storm --all-at-once --strangers` does, beside bystanders.
fn storm(attack: &mut Attack<'_>) -> Result<(), LoadError> {
    let mut strangers =
        Strangers::connect(STRANGERS, Addresses::One, attack.ground.vms(), Duration::from_secs(3))?;
    let mut fleet = Fleet::new(&attack.ground.subject, NEWCOMERS * 100, FLEET)?;
    let starts = fleet.start_at_once(Addresses::One, Duration::from_secs(60));
    attack.effort.connections += (STRANGERS + FLEET) as u64;
    attack.took = Some(starts.elapsed);
    fleet.idle(Duration::from_secs(1));
    let left = strangers.left();
    attack.facts.say(format!("{} of {FLEET} VMs up, {left} strangers left", fleet.up()));
    attack.facts.put("vms_up", fleet.up());
    attack.facts.put("strangers_left", left);
    if fleet.up() < FLEET {
        let why = starts.why.unwrap_or_else(|| "disconnected after they were up".into());
        attack.facts.problem(format!("{} of {FLEET} VMs are not up: {why}", FLEET - fleet.up()));
    }
    Ok(())
}

/// A client that comes back may meet its own last goodbye, not more.
const SHUT_OUT: Duration = Duration::from_secs(1);
/// As many VMs as one server has been measured with.
const FLEET: usize = 9000;
/// As many as fit beside them into what one process may have.
const STRANGERS: usize = 10_000;
