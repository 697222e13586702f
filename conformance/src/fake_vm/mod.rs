//! `vspc-conformance fake-vm`: a VM without vSphere.
//!
//! It connects as an ESXi host does (waits for DO 232, offers WILL 37 first and WILL 44 behind its name),
//! prints, echoes, and moves itself with real vMotion dialogues: a second connection that proves itself, then
//! the first one's end. One event loop for all its ports, until Ctrl-C.

pub(crate) mod duration;
mod echo;
pub mod gdb_stub;
mod guest;
pub(crate) mod leg;
mod port;
mod progress;

use std::io::ErrorKind;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use mio::{Events, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use vspc_core::vmware::{Opens, Uuid, VmConfig};

use self::duration::parse_duration;
use self::echo::Echo;
use self::gdb_stub::GdbStub;
use self::guest::Guest;
use self::port::{Port, World};
use self::progress::Progress;
use crate::tunnel::{TlsArgs, VmForm};

/// Options of `fake-vm`.
#[derive(Args, Clone, Debug)]
pub struct FakeVmArgs {
    /// The VM's display name
    #[arg(long, default_value = "web01")]
    pub name: String,
    /// Its UUID; without it, one that follows from the name
    #[arg(long, value_parser = parse_uuid)]
    pub uuid: Option<Uuid>,
    /// Where the concentrator takes VMs
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:13370")]
    pub target: String,
    /// Service URI of a serial port; repeat it for several ports
    #[arg(long = "uri", value_name = "URI")]
    pub uris: Vec<String>,
    /// Number of serial ports, told apart as vSPC.py?port=com1, com2, ...
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "uris",
          value_parser = clap::value_parser!(u16).range(1..=32))]
    pub ports: u16,
    /// Time between the numbered lines that the VM prints; 0 for none
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub every: Duration,
    /// What these lines say
    #[arg(long, value_name = "TEXT")]
    pub print: Option<String>,
    /// What runs in it
    #[arg(long, value_enum, default_value_t = Inside::Echo)]
    pub guest: Inside,
    /// Move to another host again and again (vMotion)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub vmotion_every: Option<Duration>,
    /// Reboot again and again: the connection ends and comes back
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub reboot_every: Option<Duration>,
    /// How long a reboot takes
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub reboot_takes: Duration,
    /// Open with WILL 232 as the documents show it, instead of waiting for DO 232 as hosts do
    #[arg(long)]
    pub will_first: bool,
    /// Say nothing on standard error
    #[arg(long)]
    pub quiet: bool,
    /// Whether and how to speak TLS
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// What runs inside a fake VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Inside {
    /// A greeting, numbered lines, and an echo of what is typed
    Echo,
    /// A stub that gdb can attach to: target remote HOST:CLIENT-PORT
    Gdb,
}

/// Runs `fake-vm` until Ctrl-C.
#[must_use]
pub fn run(args: &FakeVmArgs) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            eprintln!("fake-vm: cannot watch for Ctrl-C: {error}");
            return ExitCode::from(2);
        }
    }
    match serve(args, &stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fake-vm: {error}");
            ExitCode::from(2)
        }
    }
}

/// Plays the VM until `stop` is set; looks at it four times a second at least.
pub fn serve(args: &FakeVmArgs, stop: &AtomicBool) -> std::io::Result<()> {
    let progress = Progress { quiet: args.quiet };
    let dial = args.tls.open(&args.target).map_err(std::io::Error::other)?;
    let mut poll = Poll::new()?;
    let start = Instant::now();
    let mut ports = ports(args, progress, start);
    let mut events = Events::with_capacity(64);
    let mut next_move = args.vmotion_every.map(|every| start + every);
    let mut next_reboot = args.reboot_every.map(|every| start + every);
    let mut sequence = u32::from_be_bytes(*b"\xFFvsp");
    while !stop.load(Ordering::Relaxed) {
        let due = ports.iter().filter_map(Port::deadline).chain(next_move).chain(next_reboot).min();
        // Never for ever: a signal between the test above and the wait would be overlooked.
        let wait = due.map_or(LOOK_AROUND, |due| due.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, Some(wait.min(LOOK_AROUND))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        let now = Instant::now();
        let world = World { dial: &dial, registry: poll.registry(), progress, now };
        for event in &events {
            let Token(token) = event.token();
            if let Some(port) = ports.get_mut(token / 2) {
                port.wake(token % 2, event, world);
            }
        }
        if let Some(every) = args.vmotion_every.filter(|_| next_move.is_some_and(|at| at <= now)) {
            // All ports of a VM move at once, each with a sequence of its own.
            for port in &mut ports {
                sequence = sequence.wrapping_mul(0x0019_660D).wrapping_add(0x3C6E_F35F);
                port.begin_move(sequence.to_be_bytes(), world);
            }
            next_move = Some(now + every);
        }
        if let Some(every) = args.reboot_every.filter(|_| next_reboot.is_some_and(|at| at <= now)) {
            for port in &mut ports {
                port.reboot(args.reboot_takes, world);
            }
            next_reboot = Some(now + every);
        }
        for port in &mut ports {
            if port.deadline().is_some_and(|at| at <= now) {
                port.tick(world);
            }
        }
    }
    for port in &mut ports {
        port.hang_up(poll.registry());
    }
    progress.say(&args.name, "switched off");
    Ok(())
}

fn ports(args: &FakeVmArgs, progress: Progress, start: Instant) -> Vec<Port> {
    let uuid = args.uuid.unwrap_or_else(|| uuid_from_name(&args.name));
    let uris = service_uris(args);
    let plural =
        if uris.len() == 1 { "1 serial port".into() } else { format!("{} serial ports", uris.len()) };
    progress.say(&args.name, &format!("UUID {uuid}, {plural}; Ctrl-C ends it"));
    let text = args.print.clone().unwrap_or_else(|| format!("{} line", args.name));
    let every = (!args.every.is_zero()).then_some(args.every);
    let port = |(number, uri): (usize, &String)| {
        let label = if uris.len() == 1 { args.name.clone() } else { format!("{} ({uri})", args.name) };
        let config = vm_config(args, uuid, uri);
        let guest = match args.guest {
            Inside::Echo => Guest::Echo(Echo::new(&args.name, &text)),
            Inside::Gdb => Guest::Gdb(GdbStub::new()),
        };
        Port::new(label, args.target.clone(), config, guest, every, number * 2, start)
    };
    uris.iter().enumerate().map(port).collect()
}

fn service_uris(args: &FakeVmArgs) -> Vec<String> {
    match (args.uris.is_empty(), args.ports) {
        (false, _) => args.uris.clone(),
        (true, 1) => vec!["vSPC.py".into()],
        (true, ports) => (1..=ports).map(|port| format!("vSPC.py?port=com{port}")).collect(),
    }
}

fn vm_config(args: &FakeVmArgs, uuid: Uuid, uri: &str) -> VmConfig {
    VmConfig {
        name: args.name.clone(),
        vc_uuid: Some(uuid),
        uri: uri.into(),
        opens: if args.will_first { Opens::WillFirst } else { Opens::WaitsForDo },
        // Inside TLS that was agreed by it, the option is on.
        offers_auth: args.tls.tls != VmForm::InBand,
        offers_com_port: true,
        ..VmConfig::default()
    }
}

/// A UUID that belongs to a name, so that the same name finds the same console: FNV-1a of it in the form of
/// RFC 9562's version 8.
#[must_use]
pub fn uuid_from_name(name: &str) -> Uuid {
    let mut bytes = [0; 16];
    for (salt, half) in (1u8..).zip(bytes.chunks_exact_mut(8)) {
        let hash = [salt].into_iter().chain(name.bytes()).fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        half.copy_from_slice(&hash.to_be_bytes());
    }
    bytes[6] = bytes[6] & 0x0F | 0x80;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    Uuid::from_bytes(bytes)
}

fn parse_uuid(text: &str) -> Result<Uuid, String> {
    Uuid::parse(text.as_bytes()).map_err(|error| error.to_string())
}

/// The longest sleep of the loop.
const LOOK_AROUND: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::stand_in::StandIn;

    /// Plays `args` against a stand-in until `watch` has seen enough.
    fn play(args: FakeVmArgs, watch: impl FnOnce(&StandIn)) {
        let proxy = StandIn::start();
        let args = FakeVmArgs { target: proxy.vms.to_string(), ..args };
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| serve(&args, &stop).unwrap());
            watch(&proxy);
            stop.store(true, Ordering::Relaxed);
        });
    }

    fn web01(more: &[&str]) -> FakeVmArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: FakeVmArgs,
        }
        let words = ["fake-vm", "--quiet"].iter().chain(more);
        <Line as clap::Parser>::parse_from(words).args
    }

    #[test]
    fn it_introduces_itself_greets_and_echoes() {
        play(web01(&[]), |proxy| {
            proxy.wait_for(|heard| heard.name == "web01" && heard.uuid == Some(uuid_from_name("web01")));
            proxy.wait_for(|heard| heard.text().contains("web01 is up"));
            proxy.type_on(0, b"hi\r");
            proxy.wait_for(|heard| heard.text().ends_with("hi\r\nyou typed: hi\r\nweb01> "));
        });
    }

    #[test]
    fn it_moves_by_the_dialogue_and_goes_on_where_it_was() {
        play(web01(&["--vmotion-every", "50ms"]), |proxy| {
            proxy.wait_for(|heard| heard.completed >= 3);
            proxy.type_on(3, b"hi\r");
            proxy.wait_for(|heard| heard.text().contains("you typed: hi"));
            // It was never switched off on the way.
            proxy.wait_for(|heard| heard.text().matches("is up").count() == 1);
        });
    }

    #[test]
    fn it_reboots_and_comes_back() {
        play(web01(&["--reboot-every", "50ms", "--reboot-takes", "1ms"]), |proxy| {
            proxy.wait_for(|heard| heard.text().matches("web01 is up").count() >= 3);
        });
    }

    #[test]
    fn lines_are_numbered() {
        play(web01(&["--every", "1ms", "--print", "tick"]), |proxy| {
            proxy.wait_for(|heard| heard.text().contains("\r\ntick 3\r\n"));
        });
    }

    #[test]
    fn a_name_always_has_the_same_uuid_and_no_other_name_has_it() {
        assert_eq!(uuid_from_name("web01"), uuid_from_name("web01"));
        assert_ne!(uuid_from_name("web01"), uuid_from_name("web02"));
        assert_ne!(uuid_from_name(""), Uuid::NIL);
    }
}
