//! The multiplexer's parts, one core: `cargo bench -p vspc-core --bench mux`.
//!
//! Both ends and the copy between them where a session or a link is measured; `vspc-conformance` has S2
//! beside yamux.

use std::hint::black_box;
use std::io::IoSlice;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vspc_core::mux::link::frame::{EscapeSet, FrameDecoder, FrameType, Header, encode};
use vspc_core::mux::link::{Link, LinkConfig};
use vspc_core::mux::{Config, Received, Role, Session};
use vspc_core::time::Instant;

const NOW: Instant = Instant::from_micros(0);
const CHUNK: usize = 64 * 1024;

/// Moves everything from one end to the other, where it is taken as it arrives or kept.
fn pass(from: &mut Session, to: &mut Session, line: &mut Vec<u8>, take: bool) {
    loop {
        line.clear();
        let mut runs = [IoSlice::new(&[]); 64];
        let filled = from.transmit(&mut runs);
        if filled == 0 {
            return;
        }
        for run in &runs[..filled] {
            line.extend_from_slice(run);
        }
        from.handle_sent(line.len(), NOW);
        let mut input = &line[..];
        while let Some(mut payload) = to.poll_received(&mut input, NOW) {
            if take {
                payload.consume(black_box(payload.bytes()).len());
            }
        }
    }
}

fn sessions(c: &mut Criterion) {
    let mut group = c.benchmark_group("session");
    for (streams, take) in [(1usize, true), (1, false), (64, true), (64, false)] {
        group.throughput(Throughput::Bytes((CHUNK * streams) as u64));
        let how = if take { "taken" } else { "kept" };
        group.bench_function(format!("64 KiB through each of {streams}, {how}"), |b| {
            let mut host = Session::new(Config::new(Role::Host), NOW).unwrap();
            let mut guest = Session::new(Config::new(Role::Guest), NOW).unwrap();
            let mut line = Vec::new();
            pass(&mut host, &mut guest, &mut line, take);
            pass(&mut guest, &mut host, &mut line, take);
            let ids: Vec<_> = (0..streams).map(|_| host.open().unwrap()).collect();
            let data = vec![7; CHUNK];
            b.iter(|| {
                for id in &ids {
                    assert_eq!(host.write(*id, &data), Ok(CHUNK));
                }
                pass(&mut host, &mut guest, &mut line, take);
                for id in &ids {
                    while let Ok(Received::Bytes(bytes)) = guest.received(*id) {
                        let n = black_box(bytes).len();
                        guest.consume(*id, n).unwrap();
                    }
                }
                pass(&mut guest, &mut host, &mut line, take);
                while guest.poll_event().is_some() {}
            });
        });
    }
    group.finish();
}

fn links(c: &mut Criterion) {
    let mut group = c.benchmark_group("link");
    let payload: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let header = Header { kind: FrameType::Data, has_ack: true, seq: 1, ack: 2, window: 16 };
    let escapes = EscapeSet::serial();
    group.throughput(Throughput::Bytes(payload.len() as u64));
    let mut bytes = Vec::new();
    group.bench_function("encode 4096", |b| {
        b.iter(|| {
            bytes.clear();
            encode(&header, black_box(&payload), &escapes, &mut bytes);
        });
    });
    bytes.insert(0, 0x7e);
    group.bench_function("decode 4096", |b| {
        let mut decoder = FrameDecoder::new(4096);
        b.iter(|| {
            let mut input = black_box(&bytes[..]);
            while let Some(frame) = decoder.decode(&mut input) {
                black_box(frame).unwrap();
            }
        });
    });
    group.bench_function("4096 through two ends in frames of 256", |b| {
        let (mut a, mut z) = (Link::new(LinkConfig::new(1)), Link::new(LinkConfig::new(2)));
        a.open(NOW);
        let pass = |from: &mut Link, to: &mut Link| loop {
            let mut runs = [IoSlice::new(&[]); 1];
            if from.transmit(&mut runs) == 0 {
                return;
            }
            let n = runs[0].len();
            to.handle_received(&runs[0], NOW);
            from.handle_sent(n, NOW);
        };
        for _ in 0..3 {
            pass(&mut a, &mut z);
            pass(&mut z, &mut a);
        }
        b.iter(|| {
            let mut left = &payload[..];
            while !left.is_empty() {
                let n = a.write(left);
                left = &left[n..];
                pass(&mut a, &mut z);
                let n = black_box(z.received()).len();
                z.consume(n);
                pass(&mut z, &mut a);
            }
        });
    });
    group.finish();
}

/// A line that takes 12 bytes at a time, as a UART's queue does: what a byte costs its sender, whose receiver
/// is fed a read's worth at a time.
fn trickles(c: &mut Criterion) {
    let mut group = c.benchmark_group("12 bytes at a time");
    for streams in [1usize, 64] {
        group.throughput(Throughput::Bytes((CHUNK * streams) as u64));
        group.bench_function(format!("64 KiB through each of {streams}"), |b| {
            let mut host = Session::new(Config::new(Role::Host), NOW).unwrap();
            let mut guest = Session::new(Config::new(Role::Guest), NOW).unwrap();
            let mut line = Vec::new();
            pass(&mut host, &mut guest, &mut line, true);
            pass(&mut guest, &mut host, &mut line, true);
            let ids: Vec<_> = (0..streams).map(|_| host.open().unwrap()).collect();
            let data = vec![7; CHUNK];
            b.iter(|| {
                for id in &ids {
                    assert_eq!(host.write(*id, &data), Ok(CHUNK));
                }
                line.clear();
                while host.transmit_with(NOW, |runs| {
                    let before = line.len();
                    for run in runs {
                        line.extend_from_slice(&run[..run.len().min(12 + before - line.len())]);
                    }
                    line.len() - before
                }) > 0
                {}
                let mut input = &line[..];
                while let Some(mut payload) = guest.poll_received(&mut input, NOW) {
                    payload.consume(black_box(payload.bytes()).len());
                }
                while guest.poll_event().is_some() {}
                for id in &ids {
                    // What came before it was polled that the stream is there.
                    while let Ok(Received::Bytes(bytes)) = guest.received(*id) {
                        let n = bytes.len();
                        guest.consume(*id, n).unwrap();
                    }
                }
                let mut answer = Vec::new();
                pass(&mut guest, &mut host, &mut answer, true);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sessions, links, trickles);
criterion_main!(benches);
