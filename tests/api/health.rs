//! `/healthz`, `/livez` and `/readyz`, by themselves and check by check.

use super::support::{Api, config, eventually, store};
use super::tls::serve;
use kinglet::storage::{Sqlite, Store};
use std::sync::Arc;

const HOOKS: &str = "[+]poststarthook/start-apiserver-admission-initializer ok\n\
                     [+]poststarthook/generic-apiserver-start-informers ok\n\
                     [+]poststarthook/priority-and-fairness-config-consumer ok\n\
                     [+]poststarthook/start-apiextensions-informers ok\n\
                     [+]poststarthook/start-apiextensions-controllers ok\n\
                     [+]poststarthook/crd-informer-synced ok\n\
                     [+]poststarthook/bootstrap-controller ok\n\
                     [+]poststarthook/priority-and-fairness-config-producer ok\n\
                     [+]poststarthook/rbac/bootstrap-roles ok\n\
                     [+]poststarthook/scheduling/bootstrap-system-priority-classes ok\n\
                     [+]poststarthook/start-service-ip-repair-controllers ok\n\
                     [+]poststarthook/start-system-namespaces-controller ok\n\
                     [+]poststarthook/kube-apiserver-autoregistration ok\n\
                     [+]autoregister-completion ok\n";

#[tokio::test]
async fn what_is_well_is_told_in_a_word() {
    let api = Api::start().await;
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/livez/ping",
        "/readyz/etcd",
        "/readyz/shutdown",
        "/readyz/poststarthook/rbac/bootstrap-roles",
    ] {
        let answer = api.get(path).await;
        assert_eq!((answer.code, answer.text().as_str()), (200, "ok"), "{path}");
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
    }
    for path in ["/livez/none", "/livez/shutdown", "/readyz/poststarthook"] {
        assert_eq!(api.get(path).await.code, 404, "{path}");
    }
}

#[tokio::test]
async fn each_endpoint_has_checks_of_its_own() {
    let api = Api::start().await;
    eventually("everything is followed", async || {
        (api.get("/readyz/informer-sync").await.code == 200).then_some(())
    })
    .await;
    let begun = format!("[+]ping ok\n[+]log ok\n[+]etcd ok\n{HOOKS}");
    let text = api.get("/healthz?verbose").await.text();
    assert_eq!(text, format!("{begun}healthz check passed\n"));
    let text = api.get("/livez?verbose=").await.text();
    assert_eq!(text, format!("{begun}livez check passed\n"));
    let text = api.get("/readyz?verbose=1").await.text();
    let first = "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n";
    assert_eq!(text, format!("{first}{HOOKS}[+]shutdown ok\nreadyz check passed\n"));
}

#[tokio::test]
async fn checks_can_be_left_out() {
    let api = Api::start().await;
    let text = api.get("/livez?verbose&exclude=etcd&exclude=none&exclude=a").await.text();
    assert_eq!(
        text,
        format!(
            "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n{HOOKS}warn: some health checks cannot be \
             excluded: no matches for \"a\",\"none\"\nlivez check passed\n"
        )
    );
}

#[tokio::test]
async fn a_server_that_has_not_begun_lives_and_is_not_ready() {
    let store = store();
    let shared: Arc<dyn Store> = Arc::<Sqlite>::clone(&store);
    let api = Api::unstarted(shared, store, config());
    assert_eq!(api.get("/livez").await.code, 200);
    let roles = "/livez/poststarthook/rbac/bootstrap-roles";
    assert_eq!(api.get(roles).await.code, 200, "what it has not done yet, it will have done");
    let answer = api.get("/readyz").await;
    assert_eq!(answer.code, 500);
    let text = answer.text();
    assert!(text.contains("[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\n"));
    assert!(text.contains("[-]informer-sync failed: reason withheld\n"), "{text}");
    assert!(text.ends_with("readyz check failed\n"), "{text}");
    let why = api.get("/readyz/poststarthook/rbac/bootstrap-roles").await;
    assert_eq!((why.code, why.text().as_str()), (500, "internal server error: not finished\n"));
    let text = api.get("/metrics").await.text();
    let shown = |line: &str| assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    shown("kubernetes_healthcheck{name=\"ping\",type=\"readyz\"} 1");
    shown("kubernetes_healthcheck{name=\"informer-sync\",type=\"readyz\"} 0");
    shown("kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"readyz\"} 1");
    let of = "name=\"informer-sync\",status=\"error\",type=\"readyz\"";
    shown(&format!("kubernetes_healthchecks_total{{{of}}} 1"));
}

#[tokio::test]
async fn a_server_that_ends_is_alive_and_not_ready() {
    let served = serve().await;
    assert_eq!(served.api.get("/readyz/shutdown").await.code, 200);
    let api = served.end().await;
    assert_eq!(api.get("/livez").await.code, 200);
    let answer = api.get("/readyz").await;
    assert_eq!(answer.code, 500);
    assert!(answer.text().contains("[-]shutdown failed: reason withheld\n"), "{}", answer.text());
    let why = api.get("/readyz/shutdown").await;
    assert_eq!(why.text(), "internal server error: process is shutting down\n");
}
