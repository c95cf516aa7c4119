//! Images against real registries, faulty servers, and archives of every kind. Needs root, and
//! Debian's docker-registry, apache2-utils and busybox-static.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod crash;
mod faults;
mod hostile;
mod import;
mod registry;
mod rig;
mod rootfs;
mod server;
#[path = "../support/images.rs"]
mod support;
