//! A webhook over HTTPS on a port of its own, which does as a test says.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kinglet::pki::self_signed;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What is answered: a code and a body.
pub(crate) type Reply = (u16, Vec<u8>);
type Behaviour = dyn Fn(Value) -> BoxFuture<'static, Reply> + Send + Sync;

/// See the module. Its connections end with it.
pub(crate) struct Hook {
    pub(crate) address: SocketAddr,
    /// By which it can be believed, in PEM.
    pub(crate) authority: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    behaviour: Arc<Mutex<Arc<Behaviour>>>,
    _tasks: JoinSet<()>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) body: Value,
    /// The connections before it.
    pub(crate) connection: usize,
}

impl Hook {
    /// Answers by `answer`, under these names.
    pub(crate) async fn start(
        names: &[&str],
        answer: impl Fn(&Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let leaf = self_signed("hook", names).unwrap();
        let tls = acceptor(&leaf.certificate, &leaf.key);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let behaviour = Arc::new(Mutex::new(at_once(answer)));
        let mut tasks = JoinSet::new();
        let serving = Serving { asked: Arc::clone(&asked), behaviour: Arc::clone(&behaviour) };
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let mut count = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serving.clone().serve(tls.clone(), stream, count));
                count += 1;
            }
        });
        Self { address, authority: leaf.certificate, asked, behaviour, _tasks: tasks }
    }

    pub(crate) fn behave(&self, answer: impl Fn(&Value) -> Reply + Send + Sync + 'static) {
        *self.behaviour.lock().unwrap() = at_once(answer);
    }

    /// As [`behave`](Self::behave), in its own time.
    pub(crate) fn behave_later(
        &self,
        answer: impl Fn(Value) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
    ) {
        *self.behaviour.lock().unwrap() = Arc::new(answer);
    }

    /// What it has been asked since this was last said.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn at_once(answer: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Arc<Behaviour> {
    Arc::new(move |asked| {
        let reply = answer(&asked);
        Box::pin(async move { reply })
    })
}

fn acceptor(certificate: &str, key: &str) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.unwrap(), key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[derive(Clone)]
struct Serving {
    asked: Arc<Mutex<Vec<Asked>>>,
    behaviour: Arc<Mutex<Arc<Behaviour>>>,
}

impl Serving {
    async fn serve(self, tls: TlsAcceptor, stream: TcpStream, connection: usize) {
        // Who does not believe it goes.
        let Ok(stream) = tls.accept(stream).await else { return };
        let service = service_fn(move |request: http::Request<Incoming>| {
            let own = self.clone();
            async move { Ok::<_, Infallible>(own.answer(request, connection).await) }
        });
        let serving = hyper::server::conn::http1::Builder::new();
        // A connection that breaks off has ended.
        serving.serve_connection(TokioIo::new(stream), service).await.ok();
    }

    async fn answer(
        self,
        request: http::Request<Incoming>,
        connection: usize,
    ) -> http::Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let host = head.headers["host"].to_str().unwrap().to_owned();
        let path = head.uri.to_string();
        self.asked.lock().unwrap().push(Asked { path, host, body: body.clone(), connection });
        let behaviour = Arc::clone(&*self.behaviour.lock().unwrap());
        let (code, reply) = behaviour(body).await;
        let response = http::Response::builder().status(code);
        response.header("content-type", "application/json").body(Full::from(reply)).unwrap()
    }
}

/// What a conversion webhook says that has converted each object by `convert`.
pub(crate) fn converted(asked: &Value, convert: impl Fn(Value, &str) -> Value) -> Reply {
    let request = &asked["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap().iter();
    let objects: Vec<_> = objects
        .map(|object| {
            let mut object = convert(object.clone(), wanted);
            object["apiVersion"] = json!(wanted);
            object
        })
        .collect();
    reply(asked, &json!({"result": {"status": "Success"}, "convertedObjects": objects}))
}

/// An answer that belongs to a question.
pub(crate) fn reply(asked: &Value, response: &Value) -> Reply {
    let mut response = response.clone();
    if response["uid"].is_null() {
        response["uid"] = asked["request"]["uid"].clone();
    }
    let review = json!({"apiVersion": asked["apiVersion"], "kind": "ConversionReview",
        "response": response});
    (200, review.to_string().into_bytes())
}
