//! A relay between real sockets.

use std::io::Write;
use std::net;
use std::thread;

use super::*;

fn start() -> (SocketAddr, SocketAddr) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let relay = Relay::bind(any, any, BUFFER).unwrap();
    let at = (relay.vms_at, relay.clients_at);
    thread::spawn(move || relay.run(false));
    at
}

#[test]
fn every_client_gets_every_byte_of_the_first_vm() {
    let (vms, clients) = start();
    let mut vm = net::TcpStream::connect(vms).unwrap();
    let mut other = net::TcpStream::connect(vms).unwrap();
    let mut watching: Vec<_> = (0..3).map(|_| net::TcpStream::connect(clients).unwrap()).collect();
    // Each client is known to be attached when the VM hears it.
    for client in &mut watching {
        client.write_all(b"?").unwrap();
        vm.read_exact(&mut [0]).unwrap();
    }
    other.write_all(b"nobody sees this").unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_be_bytes).collect();
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        vm.write_all(&sent).unwrap();
        vm
    });
    let readers: Vec<_> = watching
        .into_iter()
        .map(|mut client| {
            let length = expected.len();
            thread::spawn(move || {
                let mut received = vec![0; length];
                client.read_exact(&mut received).unwrap();
                (client, received)
            })
        })
        .collect();
    let received: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert!(received.iter().all(|(_, received)| *received == expected));
    // The VM's end is its clients' end.
    drop(writer.join().unwrap());
    for (mut client, _) in received {
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn clients_reach_the_vm_and_a_leaving_one_disturbs_nobody() {
    let (vms, clients) = start();
    let mut vm = net::TcpStream::connect(vms).unwrap();
    let mut leaving = net::TcpStream::connect(clients).unwrap();
    leaving.write_all(b"bye").unwrap();
    let mut heard = [0; 3];
    vm.read_exact(&mut heard).unwrap();
    drop(leaving);
    let mut staying = net::TcpStream::connect(clients).unwrap();
    let sent: Vec<u8> = (0..2_000_000u32).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        staying.write_all(&sent).unwrap();
        staying
    });
    let mut received = vec![0; expected.len()];
    vm.read_exact(&mut received).unwrap();
    assert!(received == expected);
    vm.write_all(b"still here").unwrap();
    let mut answer = [0; 10];
    writer.join().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still here");
}
