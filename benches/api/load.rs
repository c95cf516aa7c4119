//! Clients that ask over TLS, each on a connection of its own.

use super::percentile::percentile;
use super::target::Target;
use futures_util::future::{join_all, try_join_all};
use http::Method;
use kinglet::client::{Client, Content};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where the objects are that are listed.
const FILLED: &str = "/api/v1/namespaces/default/configmaps";
/// Where objects are created that are not.
const CREATED: &str = "/api/v1/namespaces/created/configmaps";

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/created/deployments";

/// Bytes of data in each ConfigMap.
const PAYLOAD_BYTES: usize = 1024;

/// Creates under way at once while objects are made that are measured later.
const FILL_SIDE_BY_SIDE: usize = 64;

/// What a client asks for again and again. Each client changes objects of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Create,
    Get,
    /// A merge patch of one value of a ConfigMap.
    MergePatch,
    /// A strategic merge patch of a container of a Deployment.
    StrategicPatch,
    /// Server-side apply of a Deployment in which one field has changed.
    Apply,
    /// Server-side apply of a Deployment in which nothing has: nothing is written.
    ApplyAgain,
}

impl Work {
    pub const ALL: [Self; 6] = [
        Self::Create,
        Self::Get,
        Self::MergePatch,
        Self::StrategicPatch,
        Self::Apply,
        Self::ApplyAgain,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "durable creates",
            Self::Get => "GET",
            Self::MergePatch => "merge patches",
            Self::StrategicPatch => "strategic merge patches",
            Self::Apply => "applies",
            Self::ApplyAgain => "applies of the same",
        }
    }

    /// The request of a client: the `turn`th of all that anybody makes.
    fn request(self, client: usize, turn: usize) -> (Method, String, Option<Content>) {
        let patch = |path: &str, media_type, body: &Value| {
            let content = Content { media_type, ..Content::json(body) };
            (Method::PATCH, path.to_owned(), Some(content))
        };
        let deployment_path = format!("{DEPLOYMENTS}/d-{client}");
        match self {
            Self::Create => {
                let object = config_map(&format!("n-{turn}"));
                (Method::POST, CREATED.to_owned(), Some(Content::json(&object)))
            }
            Self::Get => (Method::GET, format!("{FILLED}/c-{client}"), None),
            Self::MergePatch => {
                let body = json!({"data": {"turn": turn.to_string()}});
                let path = format!("{FILLED}/c-{client}");
                patch(&path, "application/merge-patch+json", &body)
            }
            Self::StrategicPatch => {
                let image = format!("web:{turn}");
                let containers = json!([{"name": "web", "image": image}]);
                let body = json!({"spec": {"template": {"spec": {"containers": containers}}}});
                patch(&deployment_path, "application/strategic-merge-patch+json", &body)
            }
            Self::Apply | Self::ApplyAgain => {
                let turn = if self == Self::Apply { turn } else { 0 };
                let path = format!("{deployment_path}?fieldManager=bench&force=true");
                patch(&path, "application/apply-patch+yaml", &deployment(client, turn))
            }
        }
    }
}

/// What came of some work.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Requests a second.
    pub rate: f64,
    /// Milliseconds.
    pub p50: f64,
    pub p99: f64,
    /// Processor time of the servers for one request.
    pub cpu_micros: f64,
}

impl Outcome {
    fn of(mut times: Vec<f64>, elapsed: Duration, cpu_seconds: f64) -> Self {
        let count = times.len() as f64;
        Self {
            rate: count / elapsed.as_secs_f64(),
            p50: percentile(&mut times, 50),
            p99: percentile(&mut times, 99),
            cpu_micros: cpu_seconds * 1e6 / count,
        }
    }
}

pub struct Load<'a> {
    target: &'a Target,
    turns: AtomicUsize,
    filled: AtomicUsize,
}

impl<'a> Load<'a> {
    /// Makes the namespace that the work is done in.
    pub fn new(target: &'a Target) -> Self {
        let load = Self { target, turns: AtomicUsize::new(1), filled: AtomicUsize::new(0) };
        let namespace = Content::json(&json!({"metadata": {"name": "created"}}));
        let client = load.client();
        let path = "/api/v1/namespaces";
        let asked = target.run(async || client.request(Method::POST, path, Some(namespace)).await);
        asked.unwrap();
        load
    }

    fn client(&self) -> Client {
        Client::new(self.target.connection(), "bench")
    }

    /// Sees to it that so many ConfigMaps are there to be listed.
    pub fn fill(&self, count: usize) {
        let client = self.client();
        self.target.run(async || {
            while self.filled.load(Ordering::Relaxed) < count {
                let creates = (0..FILL_SIDE_BY_SIDE).map(|_| {
                    let index = self.filled.fetch_add(1, Ordering::Relaxed);
                    let object = Content::json(&config_map(&format!("c-{index}")));
                    client.request(Method::POST, FILLED, Some(object))
                });
                try_join_all(creates).await.unwrap();
            }
        });
    }

    /// Lists what was filled in, so many times, one after another.
    pub fn lists(&self, count: usize) -> Outcome {
        let client = self.client();
        let began = now();
        let (times, cpu) = self.target.with_cpu(|| {
            self.target.run(async || {
                let mut times = Vec::new();
                for _ in 0..count {
                    let asked = now();
                    client.request(Method::GET, FILLED, None).await.unwrap();
                    times.push(asked.elapsed().as_secs_f64() * 1000.0);
                }
                times
            })
        });
        Outcome::of(times, began.elapsed(), cpu)
    }

    /// Has so many clients do the same until `length` is over.
    pub fn work(&self, work: Work, clients: usize, length: Duration) -> Outcome {
        let clients: Vec<Client> = (0..clients).map(|_| self.client()).collect();
        let times = Mutex::new(Vec::new());
        let one = async |index: usize, client: &Client, turn: usize| {
            let (method, path, body) = work.request(index, turn);
            let asked = now();
            client.request(method, &path, body).await.unwrap();
            times.lock().unwrap().push(asked.elapsed().as_secs_f64() * 1000.0);
        };
        // Connections are there, and so is what is changed.
        self.target.run(async || {
            let numbered = clients.iter().enumerate();
            join_all(numbered.map(async |(index, client)| {
                let (method, path, body) = Work::Apply.request(index, 0);
                client.request(method, &path, body).await.unwrap();
            }))
            .await;
        });
        let (elapsed, cpu) = self.target.with_cpu(|| {
            let began = now();
            self.target.run(async || {
                let loops = clients.iter().enumerate().map(async |(index, client)| {
                    while began.elapsed() < length {
                        one(index, client, self.turns.fetch_add(1, Ordering::Relaxed)).await;
                    }
                });
                join_all(loops).await;
            });
            began.elapsed()
        });
        Outcome::of(times.into_inner().unwrap(), elapsed, cpu)
    }
}

pub fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"payload": "x".repeat(PAYLOAD_BYTES)},
    })
}

/// One as users write them, with replicas of which nobody makes pods.
fn deployment(client: usize, turn: usize) -> Value {
    let labels = json!({"app": "web", "of": client.to_string()});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": format!("d-{client}"), "labels": labels},
        "spec": {
            "replicas": 0,
            "paused": true,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"turn": turn.to_string()}},
                "spec": {"containers": [{
                    "name": "web",
                    "image": "web:1",
                    "ports": [{"containerPort": 80, "name": "http"}],
                    "env": [{"name": "ONE", "value": "1"}, {"name": "TWO", "value": "2"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                    "volumeMounts": [{"name": "settings", "mountPath": "/settings"}],
                }],
                "volumes": [{"name": "settings", "configMap": {"name": "settings"}}]},
            },
        },
    })
}

pub fn now() -> Instant {
    kinglet::stdx::monotonic()
}
