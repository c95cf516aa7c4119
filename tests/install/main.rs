//! packaging/install.sh and the scripts that it installs, as dash and busybox run them, on machines
//! whose service managers only write down what they are asked.
//!
//! Needs root, for root directories of its own, and busybox. Where they are installed, shellcheck and
//! systemd-analyze have their say too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::disallowed_methods, reason = "programs are what is tested")]
#![expect(unreachable_pub, reason = "modules of a test")]

mod download;
mod environment;
mod failures;
mod host;
mod openrc;
mod packages;
mod removal;
mod systemd;
mod text;
