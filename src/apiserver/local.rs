//! The way in for callers in the same process.

use super::authz::authorize;
use super::encoding::status_response;
use super::identity::Identity;
use super::impersonation::impersonate;
use super::server::{Asked, Server};
use super::tally::{Answered, Underway};
use crate::stdx::http::{Body, HttpService, Request, Response};
use crate::stdx::monotonic;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// A transport whose requests are those of one identity.
#[derive(Debug)]
pub(super) struct LocalService {
    server: Arc<Server>,
    identity: Arc<Identity>,
}

impl LocalService {
    pub(super) fn new(server: Arc<Server>, identity: Arc<Identity>) -> Self {
        Self { server, identity }
    }
}

impl HttpService for LocalService {
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let (server, identity) = (Arc::clone(&self.server), Arc::clone(&self.identity));
        Box::pin(async move {
            let began = monotonic();
            let (head, body) = request.into_parts();
            let asked = Asked::of(head);
            let allowed = async {
                let identity = impersonate(&server, identity, &asked.headers).await?;
                authorize(&server, &identity, &asked).await.map(|()| identity)
            };
            let response = match allowed.await {
                Ok(identity) => server.answer(&asked, &identity, body).await,
                Err(status) => {
                    // A component that asks for more than its role gives is a mistake of ours.
                    warn!(why = status.message, "a component was refused");
                    status_response(&status, &asked.headers)
                }
            };
            let waited = Duration::ZERO;
            let answered = Answered { asked: &asked, began, waited, is_cut: false };
            Ok(match server.count(answered, &response) {
                Some(underway) => response.map(|body| count_frames(body, underway)),
                None => response,
            })
        })
    }
}

/// A body that is counted while it is read, and over when it is dropped.
fn count_frames(body: Body, mut underway: Underway) -> Body {
    let counted = body.map_frame(move |frame| {
        underway.sent(frame.data_ref().map_or(0, |data| data.len()));
        frame
    });
    counted.boxed_unsync()
}
