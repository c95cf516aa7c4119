//! What load balancers outside ask this node: whether it has endpoints of a Service
//! ([`services`]), and whether it is to be used at all ([`node`]). Who is on the node is told more
//! ([`status`]).

mod listen;
mod node;
mod progress;
mod services;
mod status;

pub(super) use node::NodeHealth;
pub(super) use progress::{Progress, State as ProgressState};
pub(super) use services::HealthChecks;
pub(super) use status::serve as serve_status;
