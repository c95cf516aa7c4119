//! A whole control plane in process: the API server on a store in memory, all controllers, and a
//! kubelet that only pretends.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod addons;
mod certificates;
mod clients;
mod cluster;
mod collection;
mod conversion;
mod daemonsets;
mod defined;
mod definitions;
mod definitions_apply;
mod definitions_rules;
mod deployments;
mod disruption;
mod hook;
mod ipam;
mod jobs;
mod namespace_content;
mod namespaces;
mod nodes;
mod quota;
mod remote;
mod replicasets;
mod replication_controllers;
mod rollout;
mod scheduling;
mod services;
mod statefulsets;
mod storage;
#[path = "../support/mod.rs"]
mod support;
