//! Credentials that are not believed: each is refused in the same words, and why is for the log.

use super::support::{Answer, Api, config, store};
use super::tls::{Served, serve_api};
use super::tokens::{account, request, token};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use kinglet::pki::{Leaf, Pki, Subject};
use kinglet::stdx::Clock;
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tracing::subscriber::DefaultGuard;

const PODS: &str = "/api/v1/namespaces/default/pods";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn begin(&self) -> DefaultGuard {
        let own = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || own.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A server with an account `bot`, a clock that can be set, and a log.
struct Rig {
    served: Served,
    now: Arc<AtomicI64>,
    log: Log,
    _logging: DefaultGuard,
}

impl Rig {
    async fn start() -> Self {
        let log = Log::default();
        let logging = log.begin();
        let now = Arc::new(AtomicI64::new(Timestamp::now().as_second()));
        let clock = {
            let now = Arc::clone(&now);
            Clock::from_fn(move || Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap())
        };
        let config = kinglet::apiserver::Config { clock, ..config() };
        let served = serve_api(Api::on(store(), config).await).await;
        account(&served.api, "bot").await;
        Self { served, now, log, _logging: logging }
    }

    fn api(&self) -> &Api {
        &self.served.api
    }

    fn later(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    /// A token of `bot` that is bound to this object.
    async fn bound_to(&self, kind: &str, path: &str, object: Value) -> String {
        let created = self.api().post(path, &object).await.ok();
        let name = created["metadata"]["name"].clone();
        let reference = json!({"kind": kind, "apiVersion": "v1", "name": name});
        token(self.api(), "bot", json!({"boundObjectRef": reference})).await
    }

    /// The token is refused, and the log says why.
    async fn refuses(&self, token: &str, why: &str) {
        self.log.take();
        let credential = format!("Bearer {token}");
        let headers = [("authorization", credential.as_str())];
        let answer = self.served.ask(http::Method::GET, PODS, &headers, &Value::Null).await;
        self.is_refused(&answer, why);
    }

    #[track_caller]
    fn is_refused(&self, answer: &Answer, why: &str) {
        let status = answer.json();
        let (reason, message) = (&status["reason"], &status["message"]);
        assert_eq!((answer.code, reason), (401, &json!("Unauthorized")), "{why}");
        assert_eq!(message, "Unauthorized", "the client does not learn: {why}");
        let log = self.log.take();
        assert!(log.contains(why), "the log does not say {why:?}: {log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }

    /// Whoever shows this certificate is refused, and the log says why.
    async fn refuses_certificate(&self, leaf: &Leaf, why: &str) {
        self.log.take();
        for protocol in ["http/1.1", "h2"] {
            let (_, code, body) = self.served.get(Some(leaf), protocol, PODS).await;
            let answer = Answer { code: code.as_u16(), headers: Default::default(), body };
            self.is_refused(&answer, why);
        }
    }
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"serviceAccountName": "bot",
        "containers": [{"name": "c", "image": "i"}]}})
}

/// The token, with another claim.
fn changed(token: &str, claim: &str, value: &str) -> String {
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    let payload = BASE64_URL_SAFE_NO_PAD.decode(&parts[1]).unwrap();
    let mut claims: Value = serde_json::from_slice(&payload).unwrap();
    claims[claim] = json!(value);
    parts[1] = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    parts.join(".")
}

#[tokio::test]
async fn tokens_that_were_never_good() {
    let rig = Rig::start().await;
    let good = token(rig.api(), "bot", json!({})).await;
    assert_eq!(rig.served.shows(&good).await, "403 system:serviceaccount:default:bot");
    let elsewhere = token(rig.api(), "bot", json!({"audiences": ["vault"]})).await;
    rig.refuses(&elsewhere, "token audiences [\\\"vault\\\"] is invalid for the target").await;
    let foreign = Api::start().await;
    account(&foreign, "bot").await;
    let forged = token(&foreign, "bot", json!({})).await;
    rig.refuses(&forged, "invalid signature, no keys found").await;
    let sub = changed(&good, "sub", "system:serviceaccount:kube-system:root");
    rig.refuses(&sub, "invalid signature").await;
    rig.refuses(&changed(&good, "iss", "https://elsewhere"), "unknown form").await;
    let (_, rest) = good.split_once('.').unwrap();
    let unsigned = BASE64_URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string());
    rig.refuses(&format!("{unsigned}.{rest}"), "the token is malformed").await;
    rig.refuses("a.b.c", "unknown form").await;
    rig.refuses("abcdef.0123456789abcdef", "unknown form").await;
    let headers = [("authorization", "Basic YTpi")];
    rig.log.take();
    let answer = rig.served.ask(http::Method::GET, PODS, &headers, &Value::Null).await;
    rig.is_refused(&answer, "it is no bearer token");
}

#[tokio::test]
async fn tokens_that_are_good_no_more() {
    let rig = Rig::start().await;
    let api = rig.api();
    let of_pod = rig.bound_to("Pod", PODS, pod("web")).await;
    let node = json!({"metadata": {"name": "n"}});
    let of_node = rig.bound_to("Node", "/api/v1/nodes", node).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let of_secret = rig.bound_to("Secret", secrets, json!({"metadata": {"name": "s"}})).await;
    let of_account = token(api, "bot", json!({})).await;
    for token in [&of_pod, &of_node, &of_secret, &of_account] {
        assert_eq!(rig.served.shows(token).await, "403 system:serviceaccount:default:bot");
    }
    let gone = "service account token has been invalidated";
    api.delete(&format!("{PODS}/web?gracePeriodSeconds=0")).await.ok();
    rig.refuses(&of_pod, gone).await;
    // Another of the same name is not the one that is meant.
    api.post(PODS, &pod("web")).await.ok();
    rig.refuses(&of_pod, "pod UID (").await;
    api.delete("/api/v1/nodes/n").await.ok();
    rig.refuses(&of_node, gone).await;
    api.delete(&format!("{secrets}/s")).await.ok();
    rig.refuses(&of_secret, gone).await;
    api.delete(&format!("{ACCOUNTS}/bot")).await.ok();
    rig.refuses(&of_account, "serviceaccounts \\\"bot\\\" not found").await;
    account(api, "bot").await;
    rig.refuses(&of_account, "service account UID (").await;
    let short = request(api, "bot", json!({"expirationSeconds": 600})).await.ok();
    let short = short["status"]["token"].as_str().unwrap().to_owned();
    rig.later(700);
    rig.refuses(&short, "service account token has expired").await;
    rig.later(-2_000);
    rig.refuses(&short, "service account token is not valid yet").await;
}

#[tokio::test]
async fn certificates_that_are_not_good() {
    let rig = Rig::start().await;
    let (_, code, _) = rig.served.get(Some(&rig.served.admin()), "h2", PODS).await;
    assert_eq!(code, 200);
    let directory = tempfile::tempdir().unwrap();
    // Authorities that were made in one second have one name.
    let made = Timestamp::now() - SignedDuration::from_hours(1);
    let foreign = Pki::open(directory.path(), made).unwrap();
    let subject = Subject { user: "system:admin", groups: &["system:masters"] };
    let leaf = foreign.client("client-admin", subject, Timestamp::now()).unwrap();
    rig.refuses_certificate(&leaf, "UnknownIssuer").await;
    let two_years = SignedDuration::from_hours(2 * 365 * 24);
    let expired = rig.served.certificate("system:admin", Timestamp::now() - two_years);
    rig.refuses_certificate(&expired, "its certificate was good until").await;
    let serving = foreign.serving(&["a".to_owned()], Timestamp::now()).unwrap();
    rig.refuses_certificate(&serving, "does not allow extended key usage for client auth").await;
    let nameless = rig.served.certificate("", Timestamp::now());
    rig.refuses_certificate(&nameless, "the client certificate has no common name").await;
    // A good token counts, whatever the certificate is.
    let good = token(rig.api(), "bot", json!({})).await;
    let credential = format!("Bearer {good}");
    let answer = rig.served.ask_as(&leaf, PODS, &[("authorization", &credential)]).await;
    assert_eq!(answer.code, 403);
    assert!(answer.text().contains("system:serviceaccount:default:bot"), "{}", answer.text());
}
