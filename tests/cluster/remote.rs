//! The client over TLS and HTTP/2, and what it records.

use crate::support::{Api, eventually};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Event, ObjectReference};
use kinglet::api::ObjectKey;
use kinglet::client::remote::Remote;
use kinglet::client::{
    Cache, Client, Credentials, DeleteOptions, EventRecorder, EventType, Kubeconfig, Reporter,
    Selection,
};
use kinglet::pki::{Pki, ServerTls, Subject};
use kinglet::stdx::{Clock, Tasks, chain};
use serde_json::json;
use std::sync::Arc;
use tokio::net::TcpListener;

/// An API server on a port of its own.
struct Served {
    kubeconfig: Kubeconfig,
    pki: Pki,
    api: Api,
    tasks: Tasks,
    _directory: tempfile::TempDir,
}

async fn serve() -> Served {
    let directory = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let pki = Pki::open(directory.path(), now).unwrap();
    let leaf = pki.serving(&["127.0.0.1".to_owned()], now).unwrap();
    let tls = ServerTls::new(&leaf, pki.client_ca(), Clock::system()).unwrap();
    let api = Api::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    let mut tasks = Tasks::default();
    api.server.serve(listener, tls.acceptor(), &mut tasks);
    let subject = Subject { user: "system:admin", groups: &["system:masters"] };
    let leaf = pki.client("client-admin", subject, now).unwrap();
    let credentials = Credentials::Certificate {
        chain: leaf.certificate.as_bytes().to_vec(),
        key: leaf.key.as_bytes().to_vec(),
    };
    let certificate_authority = pki.server_ca().as_bytes().to_vec();
    let kubeconfig = Kubeconfig { server, certificate_authority, credentials };
    Served { kubeconfig, pki, api, tasks, _directory: directory }
}

fn client(kubeconfig: &Kubeconfig) -> Client {
    Client::new(Arc::new(Remote::new(kubeconfig).unwrap()), "test")
}

fn map(name: &str) -> ConfigMap {
    let map = json!({"metadata": {"name": name, "namespace": "default"}});
    serde_json::from_value(map).unwrap()
}

#[tokio::test]
async fn requests_and_watches_share_one_connection_over_tls() {
    let mut served = serve().await;
    let client = client(&served.kubeconfig);
    client.create(&map("a")).await.unwrap();
    let cache = Cache::<ConfigMap>::start(
        client.clone(),
        Selection::namespace("default"),
        &mut served.tasks,
    );
    cache.synced().await;
    let key = ObjectKey::namespaced("default", "b");
    let created = client.create(&map("b")).await.unwrap();
    let revision = created.metadata.resource_version.unwrap().parse().unwrap();
    cache.wait_seen(revision).await;
    assert!(cache.get(&key).is_some());
    client.delete::<ConfigMap>(&key, &DeleteOptions::default()).await.unwrap();
    eventually("the cache sees it go", async || cache.get(&key).is_none().then_some(())).await;
    let error = client.get::<ConfigMap>(&key).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_not_talked_to() {
    let served = serve().await;
    let key = ObjectKey::namespaced("default", "a");
    let mut stranger = served.kubeconfig.clone();
    stranger.certificate_authority = served.pki.client_ca().as_bytes().to_vec();
    let error = client(&stranger).get::<ConfigMap>(&key).await.unwrap_err();
    assert!(error.is_transient() && chain(&error).contains("certificate"), "{}", chain(&error));

    let mut nobody = served.kubeconfig.clone();
    nobody.credentials = Credentials::Anonymous;
    let error = client(&nobody).get::<ConfigMap>(&key).await.unwrap_err();
    assert!(!error.is_transient() && !error.is_not_found(), "{error}");

    for server in ["http://127.0.0.1:1", "127.0.0.1:1", "https://a b"] {
        let kubeconfig = Kubeconfig { server: server.to_owned(), ..served.kubeconfig.clone() };
        assert!(Remote::new(&kubeconfig).is_err(), "{server}");
    }
}

#[tokio::test]
async fn equal_events_are_counted_and_begin_anew_once_they_are_gone() {
    let mut served = serve().await;
    let client = client(&served.kubeconfig);
    let reporter = Reporter { component: "tester".to_owned(), host: "n1".to_owned() };
    let recorder =
        EventRecorder::start(client.clone(), reporter, Clock::system(), &mut served.tasks);
    let about = ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some("default".to_owned()),
        name: Some("web".to_owned()),
        ..ObjectReference::default()
    };
    let record =
        || recorder.record(about.clone(), EventType::Warning, "Tested", "again".to_owned());
    let counted = async |count: i32| {
        eventually(&format!("an event that counts {count}"), async || {
            let events = client.list::<Event>(&Selection::namespace("default")).await.unwrap();
            let [event] = &events.items[..] else { return None };
            (event.count == Some(count)).then(|| event.clone())
        })
        .await
    };
    record();
    let first = counted(1).await;
    assert_eq!(first.reason.as_deref(), Some("Tested"));
    assert_eq!(first.source.unwrap().host.as_deref(), Some("n1"));
    record();
    record();
    let third = counted(3).await;
    assert_eq!(third.metadata.uid, first.metadata.uid);
    let key = ObjectKey::namespaced("default", third.metadata.name.clone().unwrap());
    client.delete::<Event>(&key, &DeleteOptions::default()).await.unwrap();
    record();
    let anew = counted(4).await;
    assert_ne!(anew.metadata.uid, first.metadata.uid);
    drop(served.api);
}
