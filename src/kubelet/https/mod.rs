//! The kubelet's port: its answers over HTTPS, for who has shown who they are and may have them.
//!
//! Start at [`serve`]. What is answered is the same as in this process; only who asks is found out
//! here, by [`access`].

mod access;
mod attributes;

use super::Kubelet;
use crate::client::Client;
use crate::pki::{Acceptor, CertificateUser, ClientProof};
use crate::stdx::http::{
    ByteStream, Duplex, HttpService, Request, Response, Upgrade, full, read_whole,
};
use crate::stdx::{Tasks, chain};
use crate::sys::tcp;
use access::{Access, Denied, User};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// More connections are not accepted until one ends.
const CONNECTIONS_MAX: usize = 1_024;

/// After a failed accept nothing is accepted for this long, so that the failure does not become a
/// busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A TLS handshake that takes longer ends its connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A request whose head has not arrived after this long ends its connection, also where none has
/// begun.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Nothing that is asked here has a body; a longer one is refused.
const REQUEST_BODY_BYTES_MAX: usize = 64 << 10;

/// A peer that acknowledges nothing for this long is gone.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(60);

/// Answers on `listener` until the tasks are told to stop. `client`, with the node's identity, says
/// who may ask.
pub fn serve(
    kubelet: &Kubelet,
    listener: TcpListener,
    acceptor: Acceptor,
    client: Client,
    tasks: &mut Tasks,
) {
    let port = Arc::new(Port {
        service: kubelet.service(),
        access: Arc::new(Access::new(client, kubelet.node_name().to_owned())),
        closing: tasks.shutdown(),
    });
    tasks.spawn("kubelet-port", accept(port, listener, acceptor));
}

/// Answers on a connection whose other end is an API server that has judged who asks what: one that
/// this node has opened. Returns when the connection ends.
pub async fn talk(kubelet: &Kubelet, stream: ByteStream) {
    let (service, upgraded) = (kubelet.service(), Mutex::default());
    Arc::new(Connection { service, access: None, user: None, upgraded }).drive(stream).await;
}

struct Port {
    service: Arc<dyn HttpService>,
    access: Arc<Access>,
    closing: CancellationToken,
}

async fn accept(port: Arc<Port>, listener: TcpListener, acceptor: Acceptor) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let next = async {
            let place = place.await.expect("this semaphore is never closed");
            (listener.accept().await, place)
        };
        tokio::select! {
            () = port.closing.cancelled() => return,
            (accepted, place) = next => match accepted {
                Ok((stream, _peer)) => {
                    let (port, acceptor) = (Arc::clone(&port), acceptor.clone());
                    connections.spawn(async move {
                        let closing = port.closing.clone();
                        closing.run_until_cancelled(greet(port, stream, acceptor)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(error = chain(&error), "a connection to the kubelet was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// The handshake, and then the connection.
async fn greet(port: Arc<Port>, stream: TcpStream, acceptor: Acceptor) {
    if let Err(error) = tcp::prepare(&stream, PEER_SILENCE_MAX) {
        debug!(error = chain(&error), "socket options could not be set");
    }
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept_client(stream)).await {
        Ok(Ok((stream, proof))) => {
            let user = user(proof);
            let (service, access) = (Arc::clone(&port.service), Some(Arc::clone(&port.access)));
            let connection = Connection { service, access, user, upgraded: Mutex::default() };
            Arc::new(connection).drive(stream).await;
        }
        Ok(Err(error)) => debug!(error = chain(&error), "a TLS handshake failed"),
        Err(_elapsed) => {}
    }
}

/// Who the certificate at the other end speaks for, where it is good.
fn user(proof: ClientProof) -> Option<User> {
    match proof {
        ClientProof::Nothing => None,
        ClientProof::Certificate(certificate) => {
            CertificateUser::of(&certificate).ok().map(User::from)
        }
        ClientProof::Refused(error) => {
            info!(why = chain(&error), "a client certificate is refused by the kubelet");
            None
        }
    }
}

struct Connection {
    service: Arc<dyn HttpService>,
    /// Judges who asks. `None`: that has been done.
    access: Option<Arc<Access>>,
    /// As far as a certificate says.
    user: Option<User>,
    /// What the connection becomes when the answer that is on its way is out.
    upgraded: Mutex<Option<(OnUpgrade, Upgrade)>>,
}

impl Connection {
    async fn drive(self: Arc<Self>, stream: impl Duplex + 'static) {
        let service = service_fn(|request| {
            let connection = Arc::clone(&self);
            async move { Ok::<_, Infallible>(connection.answer(request).await.unwrap_or_else(refuse)) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(REQUEST_HEAD_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PEER_SILENCE_MAX / 2)
            .keep_alive_timeout(PEER_SILENCE_MAX / 2);
        let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        if let Err(error) = served {
            debug!(error = chain(&*error), "a connection to the kubelet broke");
        }
        let upgraded = self.upgraded.lock().expect("no panics under this lock").take();
        if let Some((connection, upgrade)) = upgraded {
            match connection.await {
                Ok(connection) => upgrade.run(Box::new(TokioIo::new(connection))).await,
                Err(error) => debug!(error = chain(&error), "a connection was not upgraded"),
            }
        }
    }

    async fn answer(&self, mut request: http::Request<Incoming>) -> Result<Response, Denied> {
        let connection = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        if let Some(access) = &self.access {
            access.admit(self.user.as_ref(), &head).await?;
        }
        let body = body.map_err(io::Error::other).boxed_unsync();
        let body = timeout(REQUEST_HEAD_TIMEOUT, read_whole(body, REQUEST_BODY_BYTES_MAX)).await;
        let Ok(Ok(body)) = body else {
            let text = "the body of the request did not arrive, or is too long".to_owned();
            return Err(Denied { code: StatusCode::BAD_REQUEST, text });
        };
        let answered = self.service.call(Request::from_parts(head, body)).await;
        let mut response = answered.map_err(|error| Denied {
            code: StatusCode::INTERNAL_SERVER_ERROR,
            text: chain(&error),
        })?;
        if let Some(upgrade) = Upgrade::take(&mut response) {
            let upgraded = Some((connection, upgrade));
            *self.upgraded.lock().expect("no panics under this lock") = upgraded;
        }
        Ok(response)
    }
}

fn refuse(denied: Denied) -> Response {
    let mut response = Response::new(full(Bytes::from(denied.text)));
    *response.status_mut() = denied.code;
    response
}
