//! How fast telnet is read and written: `cargo bench -p vspc-core --bench telnet`.
//!
//! Inputs are 64 KiB, what a runtime reads at a time: text, random bytes (one doubled IAC in 257),
//! nothing but IACs, pairs every few bytes, and a stream of commands.

#![allow(missing_docs, reason = "criterion's macros write undocumented items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vspc_core::telnet::{
    Command, Decoder, IAC, Item, Opt, Verb, WireRun, escape_into, guest_slices, put_command, put_negotiation,
    put_subnegotiation,
};

fn inputs() -> [(&'static str, Vec<u8>); 6] {
    let line = b"[    1.234567] eth0: link becomes ready, 10000 Mbit/s full duplex\r\n";
    let text: Vec<u8> = line.iter().copied().cycle().take(SIZE).collect();
    let mut commands = Vec::new();
    while commands.len() < SIZE - 64 {
        put_command(Command::NOP, &mut commands);
        put_negotiation(Verb::Do, Opt::SGA, &mut commands);
        put_subnegotiation(Opt::NAWS, &[0, 80, 0, 24], &mut commands);
        commands.extend_from_slice(b"login: ");
    }
    let spaced = |gap: usize| {
        let guest: Vec<u8> = (0..SIZE).map(|at| if at % (gap + 1) == 0 { IAC } else { b'x' }).collect();
        wire(&guest)
    };
    [
        ("text", text),
        ("random", wire(&random())),
        ("all_iac", vec![IAC; SIZE]),
        ("pair_each_4", spaced(4)),
        ("pair_each_32", spaced(32)),
        ("commands", commands),
    ]
}

/// Escaped, and cut to `SIZE` without cutting a pair.
fn wire(guest: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    escape_into(guest, &mut wire);
    wire.truncate(SIZE);
    if wire.iter().rev().take_while(|&&byte| byte == IAC).count() % 2 == 1 {
        wire.pop();
    }
    wire
}

/// xorshift64*: the same bytes each time.
fn random() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..SIZE)
        .map(|_| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
        })
        .collect()
}

fn weigh<D>(item: Item<'_, D>, len: impl Fn(D) -> usize) -> usize {
    match item {
        Item::Data(data) => len(data),
        _ => 1,
    }
}

fn decoding(c: &mut Criterion) {
    for wire in [true, false] {
        let mut group = c.benchmark_group(if wire { "decode_wire" } else { "decode" });
        for (name, input) in &inputs() {
            group.throughput(Throughput::Bytes(input.len() as u64));
            group.bench_with_input(BenchmarkId::from_parameter(name), &input[..], |b, input| {
                let mut decoder = Decoder::new();
                b.iter(|| {
                    let mut rest = black_box(input);
                    let mut weight = 0;
                    if wire {
                        while let Some(item) = decoder.decode_wire(&mut rest) {
                            weight += weigh(item, |run: WireRun<'_>| run.guest_len());
                        }
                    } else {
                        while let Some(item) = decoder.decode(&mut rest) {
                            weight += weigh(item, <[u8]>::len);
                        }
                    }
                    weight
                });
            });
        }
    }
}

fn encoding(c: &mut Criterion) {
    let guests = || {
        inputs().into_iter().take(5).map(|(name, wire)| {
            let guest: Vec<u8> = guest_slices(&wire).flatten().copied().collect();
            (name, wire, guest)
        })
    };
    let mut group = c.benchmark_group("escape_into");
    for (name, _, guest) in guests() {
        group.throughput(Throughput::Bytes(guest.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &guest[..], |b, guest| {
            let mut out = Vec::with_capacity(2 * SIZE);
            b.iter(|| {
                out.clear();
                escape_into(black_box(guest), &mut out);
                out.len()
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("guest_slices");
    for (name, wire, _) in guests() {
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &wire[..], |b, wire| {
            b.iter(|| guest_slices(black_box(wire)).map(<[u8]>::len).sum::<usize>());
        });
    }
}

const SIZE: usize = 64 * 1024;

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
