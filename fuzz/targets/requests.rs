//! Whole requests to an API server: any method, any path and query, any body.

#![no_main]

use futures_util::future::BoxFuture;
use http::StatusCode;
use kinglet::apiserver::{Config, Identity, NodeService, Server, TokenSettings};
use kinglet::pki::TokenKey;
use kinglet::stdx::http::{HttpService, Request, Response, full, read_whole};
use kinglet::stdx::{Clock, Entropy};
use kinglet::storage::Sqlite;
use kinglet::storage::sqlite::{Config as SqliteConfig, History};
use libfuzzer_sys::fuzz_target;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Runtime;

/// No answer takes longer, but those of watches.
const WITHIN: Duration = Duration::from_secs(5);

/// So long is looked at what never ends by itself.
const WATCHED: Duration = Duration::from_millis(20);
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
struct NoNodes;

impl NodeService for NoNodes {
    fn call(&self, _node: &str, _request: Request) -> BoxFuture<'static, io::Result<Response>> {
        Box::pin(async { Ok(Response::new(full("nobody"))) })
    }
}

struct Rig {
    runtime: Runtime,
    admin: Arc<dyn HttpService>,
    _server: Arc<Server>,
}

fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let server = runtime.block_on(async {
            let config = SqliteConfig { path: None, history: History::DEFAULT };
            let store = Arc::new(Sqlite::open(config).expect("a store in memory"));
            let config = Config {
                clock: Clock::system(),
                entropy: Entropy::system(),
                advertise_address: [192, 0, 2, 1].into(),
                https_port: 6443,
                service_cidrs: vec!["10.43.0.0/16".parse().expect("a range")],
                node_ports: 30_000..=32_767,
                components: Vec::new(),
                event_ttl: Config::EVENT_TTL,
                tokens: TokenSettings::of_cluster("cluster.local"),
                connections_max: 100,
            };
            let server = Server::new(config, store, Arc::new(NoNodes));
            let key = TokenKey::ephemeral().expect("a key");
            server.use_token_keys(&[key]).expect("a key can be used");
            server.bootstrap().await.expect("the first objects");
            server
        });
        let admin = server.local(Identity::new("admin", &["system:masters"]));
        Rig { runtime, admin, _server: server }
    })
}

/// A request as HTTP/1 has it: `GET /path?query`, headers, an empty line, and the body.
fn request(text: &str) -> Option<Request> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let mut request = http::Request::builder().method(method).uri(path);
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        request = request.header(name, value);
    }
    request.body(body.to_owned().into()).ok()
}

fuzz_target!(|text: &str| {
    let Some(request) = request(text) else { return };
    let rig = rig();
    rig.runtime.block_on(async {
        let answer = async {
            let answer = rig.admin.call(request).await.expect("an answer");
            let code = answer.status();
            let body = read_whole(answer.into_body(), ANSWER_BYTES_MAX).await.unwrap_or_default();
            // An applied object that does not fit the schema is answered with 500, as upstream does,
            // which has no reason for it.
            code == StatusCode::INTERNAL_SERVER_ERROR
                && String::from_utf8_lossy(&body).contains(r#""reason":"InternalError""#)
        };
        // Paths and queries say `watch` where a watch is meant, and hardly anywhere else.
        let may_last = text.lines().next().is_some_and(|line| line.contains("watch"));
        let within = if may_last { WATCHED } else { WITHIN };
        match tokio::time::timeout(within, answer).await {
            Ok(is_broken) => assert!(!is_broken, "{text}"),
            Err(_late) => assert!(may_last, "{text}"),
        }
    });
});
