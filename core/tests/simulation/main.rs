//! Seeded simulation: hosts, clients, a network that fragments, delays, stalls and breaks, real vMotions
//! and peers that misbehave, against a model that knows every byte.
//!
//! A failure prints its seed; `SEED=<n>` plays that one again, `SEEDS=<n>` plays so many.

#[allow(dead_code, reason = "every test binary plays on its own part of the stage")]
#[path = "../world/mod.rs"]
mod world;

mod chance;
mod model;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use story::Story;

/// Seeds of an ordinary run: what fits a few seconds.
const SEEDS: u64 = 3000;

/// Steps of one story before it is brought to its end.
const STEPS: usize = 400;

#[allow(clippy::disallowed_methods, reason = "the seed to play again")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(seed: u64) -> Story {
    let told = catch_unwind(AssertUnwindSafe(|| {
        let mut story = Story::new(seed);
        for _ in 0..STEPS {
            story.step();
        }
        story.finish();
        story
    }));
    told.unwrap_or_else(|cause| {
        eprintln!("SEED={seed} plays this again");
        resume_unwind(cause)
    })
}

fn play_all(first: u64, every: u64) {
    if let Some(seed) = number("SEED") {
        play(seed);
        return;
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let mut totals = model::Totals::default();
    for seed in (first..seeds).step_by(every as usize) {
        totals += play(seed).totals();
    }
    eprintln!("{totals:?}");
    // A simulation in which nothing happens proves nothing.
    totals.check_that_everything_happened();
}

// Two halves, so that two cores share the work.

#[test]
fn every_byte_arrives_once_and_in_order_whatever_happens() {
    play_all(0, 2);
}

#[test]
fn every_byte_arrives_once_and_in_order_whatever_else_happens() {
    play_all(1, 2);
}

#[test]
fn same_seed_twice_is_the_same_story() {
    for seed in 0..40 {
        assert_eq!(play(seed).trace(), play(seed).trace(), "SEED={seed}");
    }
}
