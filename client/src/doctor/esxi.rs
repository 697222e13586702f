//! What an ESXi host will find at an address: whether it is let in, who answers, and in which ways.
//!
//! Owns the order of the attempts. Each is a connection of its own, which says what a host says first and
//! tells no UUID, so that a server makes no console of it. Refuses to know what is pasted where.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::finding::Report;
use super::secure::{self, Certificate, Refusal};
use super::settings;
use super::words::{Answer, FIRST, NO_TLS, START_TLS};
use crate::args::HostPort;
use crate::clock;

/// Looks, and says what was found.
pub(super) fn look(place: &HostPort) -> Report {
    let mut report = Report::default();
    let Some(address) = reach(place, &mut report) else { return report };
    let look = Look { place, address };
    let clear = look.in_clear();
    let over_tls = look.over_tls();
    let in_band = clear.as_ref().is_ok_and(|answer| answer.asks_for_tls).then(|| look.in_band());
    let mut uris = Vec::new();
    let is_over_tls = tell_tls(&mut report, place, &over_tls, &mut uris);
    if let Some(in_band) = in_band {
        tell_in_band(
            &mut report,
            place,
            &in_band,
            clear.as_ref().is_ok_and(|it| it.has_extension),
            &mut uris,
        );
    }
    match &clear {
        Ok(answer) if answer.has_extension => {
            report.ok("telnet", "it takes telnet:// and is a concentrator (option 232)");
            uris.push(place.uri("telnet", None));
        }
        Ok(answer) if uris.is_empty() => tell_other(&mut report, &look, answer, is_over_tls),
        Err(error) if uris.is_empty() => {
            report.error("telnet", format!("the connection fails: {error}"), WHO_IS_IT);
        }
        Ok(_) | Err(_) => report.ok("telnet", "it does not serve hosts in clear (telnet:// without TLS)"),
    }
    if let Some(best) = uris.first() {
        settings::tell(&mut report, best);
    }
    report
}

/// Connects; says with which outcome, for each address that the name has.
fn reach(place: &HostPort, report: &mut Report) -> Option<SocketAddr> {
    const CHECK: &str = "reach";
    let HostPort { host, port } = place;
    let addresses: Vec<SocketAddr> = match (host.as_str(), *port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let text = format!("{host} is not resolved here: {error}");
            report.error(CHECK, text, "correct the name, or its record in DNS; in doubt use an address");
            return None;
        }
    };
    let mut reached = None;
    let mut failed = Vec::new();
    for address in addresses {
        if reached.is_some_and(|other: SocketAddr| other.is_ipv4() == address.is_ipv4()) {
            continue;
        }
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => {
                report.ok(CHECK, format!("{address} takes connections from here"));
                reached = reached.or(Some(address));
            }
            Err(error) => failed.push((address, error)),
        }
    }
    for (address, error) in failed {
        let (text, remedy) = unreachable(address, &error);
        match reached {
            None => report.error(CHECK, text, remedy),
            // A name with two addresses of which one is dead costs each host the time to find out.
            Some(_) => report.warn(CHECK, text, "have the server listen there, or take it out of DNS"),
        }
    }
    if reached.is_some_and(|address| address.ip().to_canonical().is_loopback()) {
        let text = format!("{host} is this machine alone: no ESXi host gets there by that name");
        report.warn(CHECK, text, "give the address that hosts reach: vspc doctor --esxi ADDRESS:PORT");
    }
    reached
}

fn unreachable(address: SocketAddr, error: &io::Error) -> (String, String) {
    match error.kind() {
        ErrorKind::ConnectionRefused => (
            format!("{address} refuses connections: nothing listens there, or a firewall says no"),
            "start the server, or correct its --proxy-iface and --proxy-port (vspc doctor, on its machine)"
                .to_owned(),
        ),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => (
            format!(
                "{address} does not answer within {} s: a firewall drops it, or no such machine",
                PATIENCE.as_secs()
            ),
            format!("open TCP port {} towards the server, for the hosts' VMkernel addresses", address.port()),
        ),
        _ => (
            format!("{address} cannot be reached: {error}"),
            "mend the way there (ip route get ADDRESS)".to_owned(),
        ),
    }
}

struct Look<'a> {
    place: &'a HostPort,
    address: SocketAddr,
}

/// What came of an attempt to go over to TLS.
type Secured = Result<(Certificate, Answer), Refusal>;

impl Look<'_> {
    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// What is answered to a host's first words. To one that asks for TLS it is said that there will be none:
    /// what comes then tells whether TLS is required.
    fn in_clear(&self) -> io::Result<Answer> {
        let mut stream = self.connect()?;
        let mut answer = Answer::new();
        say(&mut stream, FIRST)?;
        listen(&mut stream, &mut answer, Answer::is_clear);
        if answer.asks_for_tls {
            say(&mut stream, NO_TLS)?;
            listen(&mut stream, &mut answer, |answer| answer.has_extension);
        }
        Ok(answer)
    }

    fn over_tls(&self) -> Secured {
        let stream = self.connect().map_err(|_| Refusal::NoTls)?;
        self.secured(stream)
    }

    fn in_band(&self) -> Secured {
        let broken = |error: io::Error| Refusal::Fault(error.to_string());
        let mut stream = self.connect().map_err(broken)?;
        let mut answer = Answer::new();
        say(&mut stream, FIRST).map_err(broken)?;
        listen(&mut stream, &mut answer, |answer| answer.asks_for_tls);
        say(&mut stream, START_TLS).map_err(broken)?;
        listen(&mut stream, &mut answer, |answer| answer.accepts_tls);
        match answer.accepts_tls {
            true => self.secured(stream),
            false => Err(Refusal::Fault("it asks for TLS, and does not begin it".to_owned())),
        }
    }

    fn secured(&self, stream: TcpStream) -> Secured {
        let (mut session, certificate) = secure::open(stream, &self.place.host)?;
        let mut answer = Answer::new();
        if say(&mut session, FIRST).is_ok() {
            listen(&mut session, &mut answer, |answer| answer.has_extension || answer.is_clear());
        }
        Ok((certificate, answer))
    }

    /// Whether it answers a request as web servers do.
    fn is_web(&self) -> bool {
        let Ok(mut stream) = self.connect() else { return false };
        let mut answer = Answer::new();
        if say(&mut stream, b"GET / HTTP/1.0\r\n\r\n").is_ok() {
            listen(&mut stream, &mut answer, |answer| answer.first.len() >= HTTP.len());
        }
        answer.first.starts_with(HTTP)
    }
}

fn say(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

/// Reads until `is_enough`, the end, or silence.
fn listen(stream: &mut impl Read, answer: &mut Answer, is_enough: impl Fn(&Answer) -> bool) {
    let deadline = clock::now() + PATIENCE;
    let mut bytes = [0; 1024];
    while !is_enough(answer) && clock::now() < deadline {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(n) => answer.hear(&bytes[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Returns whether it speaks TLS, whoever it is.
fn tell_tls(report: &mut Report, place: &HostPort, found: &Secured, uris: &mut Vec<String>) -> bool {
    const CHECK: &str = "tls";
    match found {
        Ok((certificate, answer)) if answer.has_extension => {
            report.ok(CHECK, "it takes telnets:// and is a concentrator (option 232)");
            tell_certificate(report, certificate);
            uris.push(place.uri("telnets", Some(certificate)));
            true
        }
        Ok((_, answer)) => {
            let said = said(&answer.line());
            report.error(CHECK, format!("it speaks TLS, but is no concentrator{said}"), WHO_IS_IT);
            true
        }
        Err(Refusal::Fault(why)) => {
            report.warn(CHECK, format!("TLS fails: {why}"), "see the server's log (docs/tls.md)");
            true
        }
        Err(Refusal::NoTls) => false,
    }
}

fn tell_in_band(
    report: &mut Report,
    place: &HostPort,
    found: &Secured,
    may_be_clear: bool,
    uris: &mut Vec<String>,
) {
    const CHECK: &str = "in-band-tls";
    let policy = match may_be_clear {
        true => "it takes hosts over to TLS on telnet:// (option 37), and others in clear",
        false => "it takes hosts over to TLS on telnet:// (option 37), and serves no others",
    };
    match found {
        Ok((certificate, answer)) if answer.has_extension => {
            report.ok(CHECK, policy);
            tell_certificate(report, certificate);
            uris.push(place.uri("telnet", Some(certificate)));
        }
        Ok(_) => report.error(CHECK, "it goes over to TLS, and is no concentrator there", WHO_IS_IT),
        Err(Refusal::NoTls) => {
            report.error(CHECK, "it begins TLS, and then speaks something else", "see the server's log");
        }
        Err(Refusal::Fault(why)) => {
            report.error(CHECK, format!("it begins TLS, which fails: {why}"), "see the server's log");
        }
    }
}

fn tell_certificate(report: &mut Report, certificate: &Certificate) {
    const CHECK: &str = "certificate";
    let Certificate { sha1, sha256, is_for_name } = certificate;
    report.ok(CHECK, format!("SHA-1 {sha1} SHA-256 {sha256}: compare it with the server's log"));
    if !is_for_name {
        report.warn(
            CHECK,
            "it is not for this name: hosts that go by #thumbprint= do not mind, those that verify do",
            "make one for this name (vspc-mio cert --hostname NAME), or use #thumbprint=",
        );
    }
}

/// Who answers, where that is no concentrator.
fn tell_other(report: &mut Report, look: &Look<'_>, answer: &Answer, is_over_tls: bool) {
    const CHECK: &str = "telnet";
    let line = answer.line();
    let text = match () {
        () if is_over_tls || answer.begins_tls() => return,
        () if line.starts_with("SSH-") => format!("an ssh server answers ({line})"),
        () if answer.first.starts_with(HTTP) || look.is_web() => "a web server answers (HTTP)".to_owned(),
        () if answer.is_telnet => format!(
            "telnet answers, without VMware's extension (option 232){}: a client port, or a device's own",
            said(&line)
        ),
        () if answer.first.is_empty() => {
            "it takes connections and says nothing: no concentrator, or one that hangs".to_owned()
        }
        () => format!("something else answers{}", said(&line)),
    };
    report.error(CHECK, text, WHO_IS_IT);
}

fn said(line: &str) -> String {
    if line.is_empty() { String::new() } else { format!(", and says {line:?}") }
}

impl HostPort {
    /// The URI for serial ports.
    fn uri(&self, scheme: &str, certificate: Option<&Certificate>) -> String {
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.host.clone(),
        };
        let thumbprint = certificate.map(|it| format!("#thumbprint={}", it.sha1)).unwrap_or_default();
        format!("{scheme}://{host}:{}{thumbprint}", self.port)
    }
}

const HTTP: &[u8] = b"HTTP/";

const WHO_IS_IT: &str = "give the address and port that the server's log shows behind \"listening on\" \
    (13370 by default)";

/// How long each answer is waited for. The server itself gives hosts two seconds to begin.
const PATIENCE: Duration = Duration::from_secs(3);
