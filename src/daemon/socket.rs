//! A socket on this host through which the command line reaches a running server.
//!
//! Whoever may open it is root: its directory is for root only.

use crate::stdx::http::{HttpService, Request, Response, read_whole};
use crate::stdx::{Tasks, chain};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tracing::debug;

/// Commands carry what they ask for in their path.
const REQUEST_BODY_BYTES_MAX: usize = 64 << 10;

/// More commands at once wait until one has ended.
const CONNECTIONS_MAX: usize = 16;

/// Answers on `path` until the tasks are told to stop.
///
/// # Errors
/// Where the socket cannot be made.
pub(super) fn serve(
    path: &Path,
    service: Arc<dyn HttpService>,
    tasks: &mut Tasks,
) -> io::Result<()> {
    // Left by a process that was killed: whoever has the store has the right to the name.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let (path, shutdown) = (path.to_owned(), tasks.shutdown());
    tasks.spawn("command-socket", async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(answer(stream, Arc::clone(&service)));
                    }
                }
            }
        }
        // The next process makes it anew in any case.
        fs::remove_file(&path).ok();
    });
    Ok(())
}

async fn answer(stream: UnixStream, service: Arc<dyn HttpService>) {
    let respond = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let service = Arc::clone(&service);
        async move {
            let (head, body) = request.into_parts();
            let body = body.map_err(io::Error::other).boxed_unsync();
            let body = read_whole(body, REQUEST_BODY_BYTES_MAX).await?;
            service.call(Request::from_parts(head, body)).await
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), respond);
    if let Err(error) = connection.await {
        debug!(error = chain(&error), "a command went away");
    }
}

/// The server behind a socket; `None` where none answers.
pub(super) async fn connect(path: &Path) -> Option<Arc<dyn HttpService>> {
    UnixStream::connect(path).await.ok()?;
    Some(Arc::new(Remote { path: path.to_owned() }))
}

/// A connection for each request.
#[derive(Debug)]
struct Remote {
    path: PathBuf,
}

impl HttpService for Remote {
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let path = self.path.clone();
        async move {
            let stream = TokioIo::new(UnixStream::connect(path).await?);
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
            // The body carries its connection along, so that both end together.
            let mut connection = Box::pin(connection.map(drop).fuse());
            let mut request = request.map(Full::new);
            request.headers_mut().insert(http::header::HOST, "localhost".parse().expect("a name"));
            let asked = sender.send_request(request);
            tokio::pin!(asked);
            let response = loop {
                tokio::select! {
                    response = &mut asked => break response.map_err(io::Error::other)?,
                    () = &mut connection => {}
                }
            };
            let (head, body) = response.into_parts();
            let pieces = futures_util::stream::unfold(
                (body, connection, sender),
                |(mut body, mut connection, sender)| async move {
                    let frame = loop {
                        tokio::select! {
                            frame = body.frame() => break frame?,
                            () = &mut connection => {}
                        }
                    };
                    let piece = frame.map_err(io::Error::other);
                    let piece = piece.map(|frame| frame.into_data().unwrap_or_default());
                    Some((piece, (body, connection, sender)))
                },
            );
            Ok(Response::from_parts(head, crate::stdx::http::streamed(pieces)))
        }
        .boxed()
    }
}
