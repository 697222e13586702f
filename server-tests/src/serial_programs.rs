//! Programs that take a console for a serial port (com-port.md §2).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use super::peer::Peer;
use super::process::{PATIENCE, Server};
use super::programs::{Folder, Program, is_here};
use super::waiting::{wait_for, wait_until};

pub(super) fn pyserial_opens_a_console_as_a_port_sets_it_and_sends_every_byte_through_it() {
    // It comes with pyserial, for the same Python.
    if !is_here("pyserial-miniterm") {
        return;
    }
    let server = Server::start(&[]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let url = format!("rfc2217://{port}?timeout=30");
    let mut pyserial = Program::start(&["/usr/bin/python3", "-u", "-c", SCRIPT, &url]);
    pyserial.expect(b"open");
    let every: Vec<u8> = (0..=255).chain(*b"\r\n\r\0\xff\xff\r").collect();
    vm.expect(&every);
    vm.print(&every);
    pyserial.expect(b"same");
    drop(vm);
    pyserial.expect(b"no carrier");
    let (_vm, _) = Peer::vm(&server, 1);
    pyserial.expect(b"carrier again");
    assert_eq!(pyserial.end().len(), b"open\nsame\nno carrier\ncarrier again\n".len());
}

pub(super) fn ser2net_carries_a_console_on_byte_for_byte() {
    if !is_here("ser2net") {
        return;
    }
    let server = Server::start(&[]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let here = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let accepter = format!("connection: &console\n  accepter: tcp,{},{}\n", here.ip(), here.port());
    let connector = format!("  connector: telnet(rfc2217=true),tcp,{},{}\n", port.ip(), port.port());
    let configuration = accepter + &connector;
    let _ser2net = Program::start(&["ser2net", "-n", "-u", "-Y", &configuration]);
    let mut client = connect(here);
    server.line_with("client attached");
    client.write_all(b"root\r").unwrap();
    vm.expect(b"root\r");
    let every: Vec<u8> = (0..=255).chain(*b"\r\n\r\0\xff\xff\r").collect();
    vm.print(&every);
    let mut got = vec![0; every.len()];
    client.read_exact(&mut got).unwrap();
    assert_eq!(got, every);
}

/// A real serial device (the terminal side of a pty) behind a real access server: our settings are the
/// device's, those that a client makes too, and every byte passes.
pub(super) fn ser2net_s_port_is_a_console_and_is_set_for_real() {
    if !(is_here("ser2net") && is_here("socat") && is_here("stty")) {
        return;
    }
    let folder = Folder::new("rfc2217");
    let device = folder.0.join("device");
    let mut far = Program::start(&["socat", &format!("PTY,link={},raw,echo=0", device.display()), "STDIO"]);
    wait_until("the device is there", || device.exists());
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let accepter = format!("connection: &port\n  accepter: telnet(rfc2217),tcp,{},{}\n", at.ip(), at.port());
    let connector = format!("  connector: serialdev,{},9600n81,local\n", device.display());
    let _ser2net = Program::start(&["ser2net", "-n", "-u", "-Y", &(accepter + &connector)]);
    let line = format!("plc1=rfc2217://{at}?speed=4800");
    let server = Server::start(&["--line", &line, "--no-banner"]);
    let identified = server.line_with("vm identified vm=\"plc1\"");
    let port: u16 = identified.split_once("port=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    wait_until("it is set as the URI says", || speed(&device) == "4800");
    let mut client = connect((server.vms.ip(), port).into());
    client.write_all(b"\xff\xfb\x2c").unwrap();
    read_until(&mut client, b"\xff\xfa\x2c\x6b");
    client.write_all(b"\xff\xfa\x2c\x01\x00\x00\x4b\x00\xff\xf0").unwrap();
    read_until(&mut client, b"\xff\xfa\x2c\x65\x00\x00\x4b\x00\xff\xf0");
    assert_eq!(speed(&device), "19200");
    let every: Vec<u8> = (0..255).chain(*b"\r\n\r\0").collect();
    client.write_all(&every).unwrap();
    far.expect(&every);
    far.input.write_all(&every).unwrap();
    read_until(&mut client, &every);
}

fn speed(device: &Path) -> String {
    let stty = Command::new("stty").arg("-F").arg(device).arg("speed").output().unwrap();
    String::from_utf8_lossy(&stty.stdout).trim().to_owned()
}

fn read_until(stream: &mut TcpStream, what: &[u8]) {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(what) {
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} behind {seen:x?}"));
        seen.push(byte[0]);
    }
}

/// A connection to a program that says nothing when it listens.
fn connect(to: SocketAddr) -> TcpStream {
    let stream = wait_for(PATIENCE, "the program listens", || TcpStream::connect(to).ok());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sets every parameter, each of which pyserial waits to be confirmed; sends all bytes and reads them back;
/// sends a break; waits for the carrier to go and come.
const SCRIPT: &str = r#"
import serial, sys, time
port = serial.serial_for_url(sys.argv[1], baudrate=115200, timeout=30)
port.baudrate, port.bytesize, port.parity, port.stopbits = 9600, 7, "E", 2
port.baudrate, port.bytesize, port.parity, port.stopbits = 65280, 8, "N", 1
port.xonxoff = True
port.xonxoff = False
port.rtscts = True
port.rtscts = False
port.dtr, port.rts = False, True
port.dtr = True
port.send_break(0.01)
assert port.cd and port.dsr and port.cts and not port.ri
print("open")
every = bytes(range(256)) + b"\r\n\r\0\xff\xff\r"
port.write(every)
got = port.read(len(every))
assert got == every, got
print("same")
while port.cd:
    time.sleep(0.01)
print("no carrier")
while not port.cd:
    time.sleep(0.01)
print("carrier again")
"#;
