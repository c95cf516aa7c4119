//! The store from outside: what its trait promises, however the disk and the machine behave.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod basics;
mod child;
mod concurrent;
mod copying;
mod crash;
mod forgetting;
mod full;
mod model;
mod opening;
mod pieces;
mod support;
mod watching;
