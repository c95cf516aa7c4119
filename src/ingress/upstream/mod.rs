//! Endpoints: connections to them, kept between requests, and what is asked and answered on them.
//!
//! Start at [`Backend::choose`] and [`Connector`].

mod answering;
mod asking;
mod backend;
mod connect;
mod endpoint;
mod exchange;
mod multiplexed;
mod patience;
mod stream;

pub(super) use answering::Answering;
pub(super) use asking::Asking;
pub(super) use backend::{Backend, BackendKey};
pub(super) use connect::{ConnectError, Connector};
pub(super) use endpoint::{Endpoint, Kept};
pub(super) use exchange::{Exchange, NoAnswer};
pub(super) use patience::Patience;
pub(super) use stream::Stream;
