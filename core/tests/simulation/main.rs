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

use story::{Form, Story};

/// Stories choose for themselves what is TLS.
const SEALED: bool = false;

/// Seeds of an ordinary run: what fits a few seconds.
const SEEDS: u64 = 3000;

/// The same over TLS, where a step costs more.
#[cfg(feature = "tls")]
const SEALED_SEEDS: u64 = 400;

/// Steps of one story before it is brought to its end.
const STEPS: usize = 400;

#[allow(clippy::disallowed_methods, reason = "the seed to play again")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(seed: u64, form: Form) -> Story {
    let told = catch_unwind(AssertUnwindSafe(|| {
        let mut story = Story::new(seed, form);
        for _ in 0..STEPS {
            story.step();
        }
        story.finish();
        story
    }));
    told.unwrap_or_else(|cause| {
        eprintln!("SEED={seed} plays this again ({form:?})");
        resume_unwind(cause)
    })
}

fn play_all(form: Form, most: u64, first: u64, every: u64) {
    if let Some(seed) = number("SEED") {
        play(seed, form);
        return;
    }
    let seeds = number("SEEDS").unwrap_or(most);
    let mut totals = model::Totals::default();
    for seed in (first..seeds).step_by(every as usize) {
        totals += play(seed, form).totals();
    }
    eprintln!("{totals:?}");
    // A simulation in which nothing happens proves nothing.
    totals.check_that_everything_happened();
}

// Two halves, so that two cores share the work.

#[test]
fn every_byte_arrives_once_and_in_order_whatever_happens() {
    play_all(Form::Plain, SEEDS, 0, 2);
}

#[test]
fn every_byte_arrives_once_and_in_order_whatever_else_happens() {
    play_all(Form::Plain, SEEDS, 1, 2);
}

#[test]
fn same_seed_twice_is_the_same_story() {
    for seed in 0..40 {
        assert_eq!(play(seed, Form::Plain).trace(), play(seed, Form::Plain).trace(), "SEED={seed}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn every_byte_arrives_once_and_in_order_over_tls() {
    play_all(Form::Tls, SEALED_SEEDS, 0, 1);
}

#[cfg(feature = "tls")]
#[test]
fn every_byte_arrives_once_and_in_order_over_tls_that_began_in_telnet() {
    play_all(Form::InBand, SEALED_SEEDS, 0, 1);
}

#[cfg(feature = "tls")]
#[test]
fn same_seed_twice_is_the_same_plaintext_over_tls() {
    for seed in 0..20 {
        for form in [Form::Tls, Form::InBand] {
            assert_eq!(play(seed, form).trace(), play(seed, form).trace(), "SEED={seed} {form:?}");
        }
    }
}
