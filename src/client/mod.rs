//! How everything but the API server itself reaches the API: requests, watches, shared caches.
//!
//! Start at [`Client`] for single requests and at [`Cache`] for anything that is looked at more than
//! once. Whether TLS or a function call is behind a client is decided by the
//! [`HttpService`](crate::stdx::http::HttpService) it is made with; [`remote`] is the one that goes
//! over the network.
//!
//! Architecture invariants: what is generic over the kind only encodes and decodes, the requests
//! themselves are made by code that exists once; a watch never ends by itself and never skips a
//! change without listing again.

mod cache;
mod error;
mod events;
mod held;
mod known;
mod kubeconfig;
mod object;
pub mod remote;
mod request;
mod resource;
mod servers;
pub mod watch;

pub use cache::{Cache, Change, Seen};
pub use error::ClientError;
pub use events::{EventRecorder, EventType, Reporter};
pub use known::LastKnown;
pub use kubeconfig::{Credentials, Kubeconfig, KubeconfigError};
pub use object::{ApiObject, Watched, key_of, object_reference, revision_of};
pub use request::{
    Client, Content, DeleteOptions, ObjectList, Patch, Propagation, Selection, revision_of_answer,
};
pub use resource::ResourceType;
pub use servers::Servers;
