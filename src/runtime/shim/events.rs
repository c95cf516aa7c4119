//! Where shims report what happens.
//!
//! A shim does not start without somebody to report to, and drops what it cannot report after some
//! attempts: nothing may depend on these reports. They are taken and forgotten; how containers end
//! is heard from the `Wait` of each, and what happened to their memory is read from their cgroups.

use async_trait::async_trait;
use containerd_shim_protos::api::Empty;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Events, create_events};
use containerd_shim_protos::ttrpc::Result as TtrpcResult;
use containerd_shim_protos::ttrpc::asynchronous::{Server, TtrpcContext};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The socket that shims report to. Dropping it closes it.
pub(in super::super) struct EventsServer {
    server: Server,
}

impl fmt::Debug for EventsServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EventsServer")
    }
}

struct Sink;

#[async_trait]
impl Events for Sink {
    async fn forward(
        &self,
        _context: &TtrpcContext,
        request: ForwardRequest,
    ) -> TtrpcResult<Empty> {
        tracing::trace!(topic = %request.envelope().topic, "a shim reports");
        Ok(Empty::default())
    }
}

impl EventsServer {
    /// Listens at `socket`, in place of what an earlier process left there.
    pub(in super::super) async fn listen(socket: &Path) -> io::Result<Self> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut server = Server::new()
            .bind(&format!("unix://{}", socket.display()))
            .map_err(io::Error::other)?
            .register_service(create_events(Arc::new(Sink)));
        server.start().await.map_err(io::Error::other)?;
        Ok(Self { server })
    }

    /// Stops listening.
    pub(in super::super) async fn close(&mut self) -> io::Result<()> {
        self.server.shutdown().await.map_err(io::Error::other)
    }
}
