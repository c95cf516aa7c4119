//! The kubelet, in process: against the real API server on a store in memory, with a runtime and a
//! network that live in memory.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod admission;
mod adoption;
mod away;
mod claims;
mod deletion;
mod ephemeral;
mod eviction;
mod hooks;
mod image_volumes;
mod lifecycle;
mod logs;
mod nodes;
mod objects;
mod probes;
mod pulls;
mod resize;
mod restarts;
mod rig;
#[path = "../support/runtime.rs"]
mod runtime;
mod runtime_classes;
mod shutdown;
mod static_pods;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
