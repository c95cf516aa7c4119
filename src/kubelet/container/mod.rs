//! What a container and its sandbox are to be: the pod's spec and the facts around it, turned into
//! what the runtime is told.
//!
//! Start at [`config::container()`] and [`sandbox::sandbox()`]. Architecture invariant: everything
//! here is a pure function of plain data.

pub mod classes;
pub mod config;
pub mod environment;
pub mod expansion;
pub mod fields;
pub mod mounts;
pub mod references;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod services;

/// Why a container cannot be made from what the pod says. Its status shows it as
/// `CreateContainerConfigError`; the words are upstream's where users know them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{kind} {name:?} not found")]
    NotFound { kind: &'static str, name: String },
    /// Nobody has to be told: the answer is on its way.
    #[error("{kind} {name:?} is not known yet")]
    Unknown { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {object}")]
    NoKey { key: String, object: String },
    #[error("unsupported fieldPath: {path}")]
    BadField { path: String },
    #[error("unsupported container resource : {resource}")]
    BadResource { resource: String },
    #[error("container {name} not found")]
    NoContainer { name: String },
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error("{what}")]
    WrongMode { what: String },
    #[error("subPath {path:?} must stay inside its volume")]
    BadSubPath { path: String },
    #[error(
        "container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})"
    )]
    RunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})"
    )]
    ImageRunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \"{pod}\", container: {container})"
    )]
    ImageUserUnknown { user: String, pod: String, container: String },
    #[error("localhostProfile must be set if seccompProfile type is Localhost.")]
    NoSeccompProfile,
    #[error("{what} is not supported by this kubelet")]
    Unsupported { what: String },
}

impl ConfigError {
    /// Whether it will be known by itself in a moment.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}
