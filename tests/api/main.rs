//! The API server, in process, on a store in memory.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod admission;
mod apply;
mod certificates;
mod compression;
mod credentials;
mod crud;
mod definitions;
mod delete;
mod discovery;
mod errors;
mod every_kind;
mod expiry;
mod fairness;
mod fixtures;
mod health;
mod hostile;
mod limits;
mod list_paging;
mod metrics;
mod nodes;
mod openapi;
mod patch;
mod pod_security;
mod protobuf;
mod quota;
mod races;
mod rbac;
mod remembered;
mod reviews;
mod selectors;
mod services;
mod store_errors;
mod subresources;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod tls;
mod tokens;
mod versions;
mod watch;
mod websocket;
mod yaml;
