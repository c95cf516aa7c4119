//! One pod of this node: what is known of it, what to do next, what to report.
//!
//! Start at [`plan::plan()`] and [`status::status()`]. Architecture invariant: everything here is
//! a pure function of plain data; the worker does what is decided.

mod admission;
mod backoff;
mod bound;
mod conditions;
mod container_status;
mod facts;
mod fit;
#[cfg(test)]
pub(super) mod fixtures;
mod init;
pub mod patch;
mod phase;
pub mod plan;
mod preempt;
mod probes;
mod resize;
pub mod status;
mod words;

pub use admission::{Admission, Refusal, Surroundings, admit};
pub use backoff::{RESTART_BACKOFF, Restarts};
pub use bound::{BoundPod, RestartPolicy, restarts};
pub use container_status::{IMAGE_ID_LABEL, IMAGE_NAME_LABEL};
pub use facts::{ContainerFacts, PodFacts};
pub use fit::{Occupant, is_critical};
pub use phase::Phase;
pub use preempt::{PREEMPTED_CONDITION, PREEMPTED_MESSAGE, PREEMPTING};
pub use probes::{ProbeKind, ProbeResult, Probes};
pub use resize::{Allocation, Denied, Resize, fits};
pub use words::go_duration;
