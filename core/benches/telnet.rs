//! How fast telnet is read and written: `cargo bench -p vspc-core --bench telnet`.
//!
//! Inputs are pieces of 64 KiB: text, random bytes (one doubled IAC in 257), nothing but IACs, pairs every
//! few bytes, pairs and runs of pairs at random, and a stream of commands. The random inputs are 8 MiB long,
//! because a processor learns to predict the branches on 64 KiB that are repeated.

#![allow(missing_docs, reason = "criterion's macros write undocumented items")]

use std::hint::black_box;
use std::iter::Cycle;
use std::slice::Iter;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vspc_core::telnet::{
    Command, Decoder, IAC, Item, Opt, Verb, WireRun, escape_into, guest_slices, put_command, put_negotiation,
    put_subnegotiation,
};

/// Pieces in wire form, used in turn.
struct Input {
    name: &'static str,
    pieces: Vec<Vec<u8>>,
}

impl Input {
    fn new(name: &'static str, pieces: Vec<Vec<u8>>) -> Self {
        Self { name, pieces }
    }

    /// The guest bytes of the same.
    fn guest(&self) -> Self {
        let guest = |wire: &Vec<u8>| guest_slices(wire).flatten().copied().collect();
        Self::new(self.name, self.pieces.iter().map(guest).collect())
    }

    fn turns(&self) -> Cycle<Iter<'_, Vec<u8>>> {
        self.pieces.iter().cycle()
    }

    fn throughput(&self) -> Throughput {
        let bytes: usize = self.pieces.iter().map(Vec::len).sum();
        Throughput::Bytes((bytes / self.pieces.len()) as u64)
    }
}

fn data() -> Vec<Input> {
    let line = b"[    1.234567] eth0: link becomes ready, 10000 Mbit/s full duplex\r\n";
    let text: Vec<u8> = line.iter().copied().cycle().take(SIZE).collect();
    let spaced = |gap: usize| {
        let guest: Vec<u8> = (0..SIZE).map(|at| if at % (gap + 1) == 0 { IAC } else { b'x' }).collect();
        vec![wire(&guest)]
    };
    let mut random = random();
    let mut piece = || -> Vec<u8> { random.by_ref().take(SIZE).collect() };
    let bytes = (0..PIECES).map(|_| wire(&piece())).collect();
    // One random byte in four ends a run, of plain bytes or of IACs.
    let mut fill = b'x';
    let mut run = |byte: u8| {
        if byte < 64 {
            fill = if fill == IAC { b'x' } else { IAC };
        }
        fill
    };
    let runs = (0..PIECES).map(|_| wire(&piece().into_iter().map(&mut run).collect::<Vec<_>>())).collect();
    vec![
        Input::new("text", vec![text]),
        Input::new("random", bytes),
        Input::new("all_iac", vec![vec![IAC; SIZE]]),
        Input::new("pair_each_4", spaced(4)),
        Input::new("pair_each_32", spaced(32)),
        Input::new("random_runs", runs),
    ]
}

fn commands() -> Input {
    let mut commands = Vec::new();
    while commands.len() < SIZE - 64 {
        put_command(Command::NOP, &mut commands);
        put_negotiation(Verb::Do, Opt::SGA, &mut commands);
        put_subnegotiation(Opt::NAWS, &[0, 80, 0, 24], &mut commands);
        commands.extend_from_slice(b"login: ");
    }
    Input::new("commands", vec![commands])
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
fn random() -> impl Iterator<Item = u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    })
}

fn weigh<D>(item: Item<'_, D>, len: impl Fn(D) -> usize) -> usize {
    match item {
        Item::Data(data) => len(data),
        _ => 1,
    }
}

fn decoding(c: &mut Criterion) {
    let mut inputs = data();
    inputs.push(commands());
    for wire in [true, false] {
        let mut group = c.benchmark_group(if wire { "decode_wire" } else { "decode" });
        for input in &inputs {
            group.throughput(input.throughput());
            group.bench_with_input(BenchmarkId::from_parameter(input.name), input, |b, input| {
                let mut decoder = Decoder::new();
                let mut turns = input.turns();
                b.iter(|| {
                    let mut rest = black_box(&turns.next().unwrap()[..]);
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
    let mut group = c.benchmark_group("escape_into");
    for input in data().iter().map(Input::guest) {
        group.throughput(input.throughput());
        group.bench_with_input(BenchmarkId::from_parameter(input.name), &input, |b, input| {
            let mut out = Vec::with_capacity(2 * SIZE);
            let mut turns = input.turns();
            b.iter(|| {
                out.clear();
                escape_into(black_box(turns.next().unwrap()), &mut out);
                out.len()
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("guest_slices");
    for input in data() {
        group.throughput(input.throughput());
        group.bench_with_input(BenchmarkId::from_parameter(input.name), &input, |b, input| {
            let mut turns = input.turns();
            b.iter(|| guest_slices(black_box(turns.next().unwrap())).map(<[u8]>::len).sum::<usize>());
        });
    }
}

const SIZE: usize = 64 * 1024;
const PIECES: usize = 128;

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
