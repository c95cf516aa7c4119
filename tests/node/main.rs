//! The runtime for real: shims, runc, namespaces, cgroups, mounts. Needs root.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod containers;
mod limits;
mod logs;
mod restarts;
mod rig;
mod sessions;
mod volumes;
