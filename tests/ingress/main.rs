//! The ingress, in process: real connections on the loopback, endpoints that see every byte, and an API
//! server that is only lists and watches.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod api;
mod crowds;
mod endpoint;
mod hostile;
mod retries;
mod rig;
mod routing;
mod streams;
mod tls;
