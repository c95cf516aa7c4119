//! Controllers in a small world that is played step by step: caches lag, writes conflict and fail,
//! controllers crash, and users change their minds, all in an order that a seed decides. And the
//! whole control plane ([`cluster`]), which is slower, and has everything that stands between
//! controllers in it.
//!
//! After every step the invariants hold; once the faults stop, everything comes to rest.
//! `SEED=7 cargo test --test sim` plays one seed and prints what happened; `SEEDS=100` plays many.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cluster;
mod jobs;
mod random;
mod scenario;
mod store;
#[path = "../support/mod.rs"]
mod support;
mod world;

use scenario::Scenario;
use world::World;

/// How many seeds each scenario is played with.
const SEEDS: u64 = 12;

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

/// Whatever users do, everything comes to rest in so few rounds of looking and writing: as many pods
/// as there are, one after the other, each in a few.
const ROUNDS_TO_REST_MAX: usize = 150;

/// How often users upset a world, and how much.
const UPSETS: usize = 6;
const CHANGES_AT_ONCE: usize = 8;

/// Plans lead to plans without writes.
fn settle_all(scenario: &Scenario) {
    for seed in seeds() {
        let mut world = World::new(scenario.clone(), seed);
        for _ in 0..UPSETS {
            world.upset(CHANGES_AT_ONCE);
            let rounds = world.settle(ROUNDS_TO_REST_MAX);
            let story =
                || format!("{}\nplay it again with SEED={seed}", world.report("it goes on"));
            assert!(rounds.is_some(), "{}", story());
            if let Err(problem) = world.check_rest() {
                panic!("{}\nplay it again with SEED={seed}", world.report(&problem));
            }
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    seeds_of(SEEDS)
}

/// So many seeds, or the one that is asked for, or as many as are asked for.
fn seeds_of(count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(count),
    }
}

fn play_all(scenario: &Scenario) {
    for seed in seeds() {
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

#[test]
fn replication_controllers_never_have_too_many_pods() {
    play_all(&Scenario {
        users_change: &["size", "pods", "recreate"],
        crashes: true,
        failing_writes: true,
        pods_fail: true,
        min_ready_seconds: 3,
        ..Scenario::REPLICATION
    });
}

#[test]
fn ordered_pods_are_updated_one_at_a_time() {
    play_all(&Scenario { users_change: &["template", "partition"], ..Scenario::STATEFUL });
    play_all(&Scenario {
        users_change: &["template"],
        crashes: true,
        failing_writes: true,
        min_ready_seconds: 4,
        ..Scenario::STATEFUL
    });
}

#[test]
fn parallel_pods_are_updated_within_bounds() {
    for rolling in [("0", "1"), ("0", "2"), ("0", "50%")] {
        play_all(&Scenario {
            users_change: &["template", "broken", "partition"],
            parallel: true,
            rolling: Some(rolling),
            ..Scenario::STATEFUL
        });
    }
}

#[test]
fn stateful_pods_keep_their_names_and_claims_through_everything() {
    for parallel in [false, true] {
        play_all(&Scenario {
            users_change: &["template", "size", "pods", "partition", "claims"],
            crashes: true,
            failing_writes: true,
            pods_fail: true,
            min_ready_seconds: 2,
            parallel,
            ..Scenario::STATEFUL
        });
    }
}

#[test]
fn claims_go_with_their_pods_and_sets() {
    for claims in [("Delete", "Retain"), ("Retain", "Delete"), ("Delete", "Delete")] {
        play_all(&Scenario {
            users_change: &["template", "size", "recreate"],
            crashes: true,
            failing_writes: true,
            parallel: true,
            claims: Some(claims),
            ..Scenario::STATEFUL
        });
        play_all(&Scenario {
            users_change: &["size"],
            pods_fail: true,
            claims: Some(claims),
            ..Scenario::STATEFUL
        });
    }
}

#[test]
fn daemons_are_updated_within_bounds() {
    for rolling in [("0", "1"), ("0", "50%"), ("1", "0"), ("50%", "0")] {
        play_all(&Scenario {
            users_change: &["template", "broken"],
            rolling: Some(rolling),
            ..Scenario::DAEMON
        });
        play_all(&Scenario {
            users_change: &["template"],
            crashes: true,
            failing_writes: true,
            min_ready_seconds: 4,
            rolling: Some(rolling),
            ..Scenario::DAEMON
        });
    }
}

#[test]
fn every_node_has_its_daemon_after_everything() {
    for rolling in [("0", "1"), ("2", "0")] {
        play_all(&Scenario {
            users_change: &["template", "nodes", "pods", "recreate"],
            crashes: true,
            failing_writes: true,
            pods_fail: true,
            min_ready_seconds: 2,
            rolling: Some(rolling),
            ..Scenario::DAEMON
        });
    }
}

#[test]
fn plans_lead_to_plans_without_writes() {
    settle_all(&Scenario {
        users_change: &["template", "broken", "size", "strategy", "pods"],
        progress_deadline_seconds: 60,
        ..Scenario::CALM
    });
    settle_all(&Scenario { users_change: &["size", "pods", "recreate"], ..Scenario::REPLICATION });
    let stateful = &["template", "size", "pods", "partition", "claims", "recreate"];
    for parallel in [false, true] {
        settle_all(&Scenario { users_change: stateful, parallel, ..Scenario::STATEFUL });
        let claims = Some(("Delete", "Delete"));
        settle_all(&Scenario { users_change: stateful, parallel, claims, ..Scenario::STATEFUL });
    }
    for rolling in [Some(("0", "1")), Some(("1", "0"))] {
        let users_change = &["template", "broken", "nodes", "pods", "recreate"];
        settle_all(&Scenario { users_change, rolling, ..Scenario::DAEMON });
    }
}
