//! Controllers in a small world that is played step by step: caches lag, writes conflict and fail,
//! controllers crash, and users change their minds, all in an order that a seed decides.
//!
//! After every step the invariants hold; once the faults stop, everything comes to rest.
//! `SEED=7 cargo test --test sim` plays one seed and prints what happened.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod random;
mod scenario;
mod store;
mod world;

use scenario::Scenario;
use world::World;

/// How many seeds each scenario is played with.
const SEEDS: u64 = 40;

/// Steps with faults; then the world has to come to rest.
const STEPS: usize = 400;

/// More steps than this after the last fault, and something runs in circles.
const STEPS_TO_REST_MAX: usize = 20_000;

fn play(scenario: &Scenario, seed: u64) -> Result<(), String> {
    let mut world = World::new(scenario.clone(), seed);
    for _ in 0..STEPS {
        world.step();
        world.check().map_err(|problem| world.report(&problem))?;
    }
    world.stop_faults();
    for _ in 0..STEPS_TO_REST_MAX {
        if !world.step() {
            return world.check_rest().map_err(|problem| world.report(&problem));
        }
        world.check().map_err(|problem| world.report(&problem))?;
    }
    Err(world.report("it does not come to rest"))
}

fn play_all(scenario: &Scenario) {
    let replayed = std::env::var("SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = replayed.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        if let Err(story) = play(scenario, seed) {
            panic!("{story}\nplay it again with SEED={seed}");
        }
    }
}

#[test]
fn rolling_updates_stay_within_bounds() {
    play_all(&Scenario { users_change: &["template"], ..Scenario::CALM });
}

#[test]
fn rolling_updates_stay_within_bounds_without_surge() {
    let rolling = Some(("0", "40%"));
    play_all(&Scenario { users_change: &["template"], rolling, ..Scenario::CALM });
}

#[test]
fn rolling_updates_stay_within_bounds_without_unavailability() {
    let rolling = Some(("34%", "0"));
    play_all(&Scenario { users_change: &["template"], rolling, ..Scenario::CALM });
}

#[test]
fn crashes_conflicts_and_failed_writes_break_no_bounds() {
    play_all(&Scenario {
        users_change: &["template"],
        crashes: true,
        failing_writes: true,
        ..Scenario::CALM
    });
}

#[test]
fn pods_are_available_only_after_a_while() {
    play_all(&Scenario { users_change: &["template"], min_ready_seconds: 10, ..Scenario::CALM });
}

#[test]
fn failing_pods_are_replaced() {
    play_all(&Scenario { users_change: &["template"], pods_fail: true, ..Scenario::CALM });
}

#[test]
fn broken_templates_are_given_up_and_rolled_back() {
    play_all(&Scenario {
        users_change: &["template", "broken"],
        progress_deadline_seconds: 60,
        ..Scenario::CALM
    });
}

#[test]
fn everything_at_once_comes_to_rest() {
    play_all(&Scenario {
        users_change: &["template", "broken", "size", "pause", "strategy", "pods"],
        crashes: true,
        failing_writes: true,
        pods_fail: true,
        min_ready_seconds: 3,
        progress_deadline_seconds: 60,
        ..Scenario::CALM
    });
}

#[test]
fn nothing_old_runs_beside_the_new_where_pods_are_recreated() {
    play_all(&Scenario {
        users_change: &["template", "size"],
        crashes: true,
        failing_writes: true,
        pods_fail: true,
        rolling: None,
        ..Scenario::CALM
    });
}
