//! The product as users meet it: the real executable, the real kubectl, containers from a registry.
//!
//! Needs root, kubectl, docker-registry, containerd's shim, runc and nft.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(unreachable_pub, reason = "the machine is shared with the benchmarks")]

mod access;
mod account;
mod agents;
mod apart;
mod autoscaling;
mod backup;
mod deployment;
mod drain;
mod everyday;
mod examples;
mod families;
mod faults;
mod full_disk;
mod hostile;
mod hundred;
mod idle;
mod ingress;
mod interactive;
mod killed;
#[path = "../support/lan.rs"]
#[expect(dead_code, reason = "other suites need more of the wire")]
mod lan;
mod leftovers;
mod machine;
mod mistakes;
mod names;
mod nfs;
mod old_kubectl;
mod policies;
mod push;
mod reboot;
mod remote_kubelet;
mod restart;
mod service;
mod services;
mod shutdown;
mod storage;
mod streams;
mod talk;
mod two_machines;
mod wireguard;
mod workloads;
