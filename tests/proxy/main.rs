//! Services for real: nftables in network namespaces, between pods, the node and the world outside.
//!
//! Needs root and `nft`. Every test makes a namespace that stands for the node, with no way out.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod affinity;
mod faults;
mod golden;
mod health;
mod policies;
mod ranges;
mod rig;
mod services;
mod strays;
#[path = "../support/mod.rs"]
mod support;
