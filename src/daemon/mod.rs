//! The composition root: builds the components of a role, starts them in order and stops them in
//! the reverse order.
//!
//! Start at [`Server::start`]. Architecture invariant: wiring only; nothing here decides anything
//! about pods, nodes or requests.

mod address;
mod agent;
mod certificates;
mod config;
mod control_plane;
mod dns;
pub mod images;
mod nodes;
mod removal;
mod rotation;
mod scheduler_caches;
mod server;
mod socket;
mod tls_directory;
mod token_keys;

pub use address::default_address;
pub use config::{Component, Layout, NodePortRange, PodNetworkKind, ServerConfig};
pub use removal::remove_everything;
pub use rotation::{Renewal, Rotated, rotate_certificates};
pub use server::{Server, run_server};
