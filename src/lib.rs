//! kinglet: a whole Kubernetes in one executable.
//!
//! ARCHITECTURE.md has the layers, the invariants and a walk through the house.

pub mod api;
pub mod apiserver;
pub mod cel;
pub mod cli;
pub mod client;
pub mod control;
pub mod controllers;
pub mod daemon;
pub mod dns;
pub mod ingress;
pub mod kubelet;
pub mod netpol;
pub mod network;
pub mod pki;
pub mod provision;
pub mod proxy;
pub mod registry;
pub mod runtime;
pub mod scheduler;
pub mod stdx;
pub mod storage;
pub mod streaming;
pub mod sys;
