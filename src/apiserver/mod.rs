//! The API server: the only user of the store, and the one way into the cluster.
//!
//! Start at [`Server`], then [`verbs`]. A request is authenticated by the transport it came through
//! ([`connection`], [`local`]), authorized ([`authz`]), routed ([`request`]), and then decoded,
//! defaulted, admitted ([`admission`]), validated and stored by its verb. Architecture invariants:
//! one pipeline for every caller; objects are never decoded where bytes will do; what is special
//! about a kind is in the registry, never here.

mod activity;
mod admission;
mod allocate;
mod authn;
mod authz;
mod bodies;
mod bootstrap;
mod config;
mod connection;
mod conversion;
mod definitions;
mod discovery;
mod encoding;
mod errors;
mod etag;
mod expiry;
mod fairness;
mod follow;
mod freshness;
mod guarded;
mod health;
mod identity;
mod impersonation;
mod index;
mod inflight;
mod join;
mod keys;
mod listener;
mod local;
mod metadata;
mod metrics;
mod node_facts;
mod node_names;
mod openapi;
mod query;
pub mod rbac;
mod request;
mod selection;
mod sending;
mod server;
mod tally;
mod tokens;
mod verbs;
mod watch_frame;
mod webhook;
mod websocket;

pub use bootstrap::BootstrapError;
pub use config::Config;
pub use health::GIT_VERSION;
pub use identity::{Extra, Identity};
pub use join::{TUNNEL_PATH, TUNNEL_PROTOCOL};
pub use server::{NodeService, Server};
pub use tokens::{KeyError, TokenSettings};
