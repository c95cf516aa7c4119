//! The composition root: builds the components of a role, starts them in order and stops them in
//! the reverse order.
//!
//! Start at [`Server::start`]. Architecture invariant: wiring only; nothing here decides anything
//! about pods, nodes or requests.

mod access;
mod address;
mod agent;
pub mod backup;
mod certificates;
mod config;
mod control_plane;
mod dns;
pub mod images;
mod ingress;
mod join;
mod join_tokens;
mod node_role;
mod nodes;
mod overlay;
mod ports;
mod process;
mod proxy;
mod purge;
mod removal;
mod reports;
mod role;
mod rotation;
mod scheduler_caches;
mod server;
mod settings;
mod socket;
mod tls_directory;
mod token_keys;
mod tunnels;
mod user_agents;

pub use address::{address_towards, default_address};
pub use config::{
    AgentConfig, ClusterConfig, Component, Layout, NodeConfig, NodePortRange, PodNetworkKind,
    ServerConfig,
};
pub use ingress::IngressConfig;
pub use join_tokens::{JOIN_GROUP, NewToken, TokenAnswer, TokenCommand, TokenFacts, manage_tokens};
pub use node_role::{AgentNode, run_agent};
pub use purge::{Places, purge};
pub use removal::remove_everything;
pub use rotation::{Renewal, Rotated, rotate_certificates};
pub use server::{Server, run_server};
