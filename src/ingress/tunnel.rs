//! A connection that client and endpoint have agreed to use for something else than HTTP.

use super::crowd::Underway;
use super::upstream::Stream;
use crate::stdx::chain;
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tracing::debug;

/// Both ends of it.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) client: OnUpgrade,
    pub(super) stream: Stream,
    /// What the endpoint has said already.
    pub(super) read: Bytes,
    /// As long as it lasts, the connection is in use.
    pub(super) underway: Underway,
}

impl Tunnel {
    /// Carries bytes both ways until one side has enough. There is no limit to how long nothing is
    /// said: that both ends are still there, TCP finds out.
    pub(super) async fn run(self) {
        let Self { client, mut stream, read, underway } = self;
        let carried = async {
            let client = client.await.map_err(io::Error::other)?;
            let mut client = TokioIo::new(client);
            client.write_all(&read).await?;
            copy_bidirectional(&mut client, &mut stream).await
        };
        if let Err(error) = carried.await {
            debug!(error = chain(&error), "a connection that was no longer HTTP broke");
        }
        drop(underway);
    }
}
