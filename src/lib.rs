//! kinglet: a whole Kubernetes in one executable.
//!
//! ARCHITECTURE.md has the layers, the invariants and a walk through the house.
//!
//! Fuzz targets (`cfg(fuzzing)`) get no further than the API server: what is not below it is left
//! out for them, as it takes as long to build as what is.

pub mod api;
pub mod apiserver;
pub mod cel;
#[cfg(not(fuzzing))]
pub mod cli;
#[cfg(not(fuzzing))]
pub mod client;
#[cfg(not(fuzzing))]
pub mod control;
#[cfg(not(fuzzing))]
pub mod controllers;
#[cfg(not(fuzzing))]
pub mod daemon;
#[cfg(not(fuzzing))]
pub mod dns;
#[cfg(not(fuzzing))]
pub mod ingress;
#[cfg(not(fuzzing))]
pub mod kubelet;
#[cfg(not(fuzzing))]
pub mod netpol;
#[cfg(not(fuzzing))]
pub mod network;
pub mod pki;
#[cfg(not(fuzzing))]
pub mod provision;
#[cfg(not(fuzzing))]
pub mod proxy;
pub mod registry;
#[cfg(not(fuzzing))]
pub mod runtime;
#[cfg(not(fuzzing))]
pub mod scheduler;
pub mod stdx;
pub mod storage;
pub mod streaming;
pub mod sys;
