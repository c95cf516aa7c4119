//! Asking programs of users over HTTPS: webhooks, for conversions now and for admission later.
//!
//! Start at [`Hooks::post`]. A [`Hook`] says where one is and whom to believe; connections to it are kept
//! for all who mean the same. Nothing here holds a lock while it waits, for the one who is asked may
//! ask this server before it answers. Follows upstream's apiserver pkg/util/webhook/client.go and, for
//! what is told of answers that are none, client-go rest/request.go (v1.35).

mod answer;
mod client;
mod endpoint;
mod hook;
mod network;

pub(super) use client::Hooks;
pub(super) use hook::Hook;
pub(super) use network::Network;
