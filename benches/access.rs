//! What it costs to ask who may do what. Prints figures; checks nothing.
//!
//! `cargo bench --bench access`: an API server in this process, on a store in memory, with a thousand
//! roles and bindings. Compare runs of one machine.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed run")]
#![expect(clippy::print_stdout, reason = "figures go to stdout")]

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use kinglet::apiserver::rbac::{Action, Asker, Place, Policy, Verdict};
use kinglet::apiserver::{Config, Identity, NodeService, Server, TokenSettings};
use kinglet::pki::TokenKey;
use kinglet::stdx::http::{HttpService, Request, Response};
use kinglet::stdx::{Clock, Entropy, monotonic};
use kinglet::storage::sqlite::{self, History, Sqlite};
use serde_json::{Value, from_value, json};
use std::io;
use std::sync::Arc;

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROLES: usize = 1_000;
const ROUNDS: u32 = 20_000;
const GROUP: &str = "/apis/rbac.authorization.k8s.io/v1";

#[derive(Debug)]
struct NoNodes;

impl NodeService for NoNodes {
    fn call(&self, _node: &str, _request: Request) -> BoxFuture<'static, io::Result<Response>> {
        Box::pin(async { Err(io::Error::other("there are no nodes")) })
    }
}

fn main() {
    decisions();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(requests());
}

fn row(what: &str, began: std::time::Instant, rounds: u32, reach: &str) {
    let each = began.elapsed() / rounds;
    println!("{what:<60} {:>8.2} us   to reach: {reach}", each.as_secs_f64() * 1e6);
}

fn rules(number: usize) -> Value {
    json!([{
        "verbs": ["get", "list", "watch"], "apiGroups": ["", "apps"],
        "resources": [format!("widgets{number}"), "pods", "configmaps"],
    }])
}

fn role_ref(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name})
}

/// The decision alone, for somebody with twenty bindings among a thousand.
fn decisions() {
    let mut policy = Policy::default();
    for number in 0..ROLES {
        let name = format!("role-{number}");
        let place = Place { namespace: None, name: &name };
        policy.set_role(place, Some(from_value(rules(number)).unwrap()));
        let user = format!("user-{}", number % (ROLES / 20));
        let subject = json!([{"kind": "User", "name": user}]);
        let bound = (from_value(role_ref(&name)).unwrap(), from_value(subject).unwrap());
        policy.set_binding(place, Some(bound));
    }
    let groups = ["system:authenticated".to_owned()];
    for (what, verb) in [("allowed by the first of 20", "get"), ("allowed by none of 20", "delete")]
    {
        let action = Action::Resource {
            verb,
            group: "",
            resource: "pods",
            subresource: "",
            name: "web",
            namespace: Some("default"),
        };
        let began = monotonic();
        let mut allowed = 0;
        for _ in 0..ROUNDS {
            let verdict = policy.decide(Asker { user: "user-7", groups: &groups }, &action);
            allowed += u32::from(matches!(verdict, Verdict::Allowed(_)));
        }
        row(&format!("RBAC, 1,000 roles: {what} ({allowed})"), began, ROUNDS, "-");
    }
}

async fn ask(service: &dyn HttpService, method: Method, path: &str, body: &Value) -> u16 {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = http::Request::builder().method(method).uri(path).body(body).unwrap();
    service.call(request).await.unwrap().status().as_u16()
}

/// Whole requests in this process: what the asker's roles add shows beside the administrator's.
async fn requests() {
    let config = Config {
        clock: Clock::system(),
        entropy: Entropy::system(),
        advertise_address: [192, 0, 2, 1].into(),
        https_port: 6443,
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        node_ports: 30_000..=32_767,
        components: vec!["controller-manager", "scheduler"],
        event_ttl: Config::EVENT_TTL,
        tokens: TokenSettings::of_cluster("cluster.local"),
        connections_max: 100,
    };
    let store = Sqlite::open(sqlite::Config { path: None, history: History::DEFAULT }).unwrap();
    let server = Server::new(config, Arc::new(store), Arc::new(NoNodes));
    server.use_token_keys(&[TokenKey::ephemeral().unwrap()]).unwrap();
    server.bootstrap().await.unwrap();
    let admin = server.local(Identity::new("admin", &["system:masters"]));
    let account = json!({"metadata": {"name": "default"}});
    let path = "/api/v1/namespaces/default/serviceaccounts";
    ask(&*admin, Method::POST, path, &account).await;
    for number in 0..ROLES {
        let name = format!("role-{number}");
        let role = json!({"metadata": {"name": name}, "rules": rules(number)});
        ask(&*admin, Method::POST, &format!("{GROUP}/clusterroles"), &role).await;
        let user = format!("user-{}", number % (ROLES / 20));
        let binding = json!({
            "metadata": {"name": name}, "roleRef": role_ref(&name),
            "subjects": [{"kind": "User", "name": user}],
        });
        ask(&*admin, Method::POST, &format!("{GROUP}/clusterrolebindings"), &binding).await;
    }
    let bind = json!({
        "metadata": {"name": "edit-7"}, "roleRef": role_ref("edit"),
        "subjects": [{"kind": "User", "name": "user-7"}],
    });
    ask(&*admin, Method::POST, &format!("{GROUP}/clusterrolebindings"), &bind).await;
    let user = server.local(Identity::new("user-7", &[]));
    let rounds = ROUNDS / 10;
    let map = json!({"metadata": {"name": "a"}});
    let pod =
        json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let maps = "/api/v1/namespaces/default/configmaps";
    let pods = "/api/v1/namespaces/default/pods?dryRun=All";
    for (what, method, path, body, reach) in [
        ("GET of what is not there", Method::GET, &*format!("{maps}/none"), Value::Null, "-"),
        (
            "create of a ConfigMap, not stored",
            Method::POST,
            &*format!("{maps}?dryRun=All"),
            map,
            "50 us",
        ),
        ("create of a Pod, not stored", Method::POST, pods, pod, "-"),
    ] {
        for (who, service) in [("administrator", &admin), ("user with 21 of 1,000 roles", &user)] {
            let began = monotonic();
            let mut code = 0;
            for _ in 0..rounds {
                code = ask(&**service, method.clone(), path, &body).await;
            }
            row(&format!("{what} ({code}): {who}"), began, rounds, reach);
        }
    }
}
