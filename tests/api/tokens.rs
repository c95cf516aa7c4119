//! Tokens of service accounts: made on request, shown over TLS, and worth nothing when what they
//! speak of is gone.

use super::support::{Answer, Api, config, store};
use super::tls::{Served, drive, serve, serve_api};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use kinglet::pki::{Leaf, TokenKey};
use kinglet::stdx::Clock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

impl Served {
    /// Asks over TLS, with nothing but these headers.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        self.ask_over(None, (method, path), headers, body).await
    }

    /// As [`Served::ask`], with a certificate.
    pub(super) async fn ask_as(&self, leaf: &Leaf, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask_over(Some(leaf), (Method::GET, path), headers, &Value::Null).await
    }

    async fn ask_over(
        &self,
        leaf: Option<&Leaf>,
        (method, path): (Method, &str),
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let stream = TokioIo::new(self.connect(leaf, "http/1.1").await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        drive(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { code: head.status.as_u16(), headers: head.headers, body }
    }

    /// Code and message of the answer to whoever shows this token and wants to see pods.
    pub(super) async fn shows(&self, token: &str) -> String {
        let credential = format!("Bearer {token}");
        let answer =
            self.ask(Method::GET, PODS, &[("authorization", &credential)], &Value::Null).await;
        match answer.code {
            200 => "200".to_owned(),
            code => {
                let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
                let user = message.split('"').nth(1).unwrap_or(&message);
                format!("{code} {user}")
            }
        }
    }
}

pub(super) async fn account(api: &Api, name: &str) {
    api.post(ACCOUNTS, &json!({"metadata": {"name": name}})).await.ok();
}

pub(super) async fn request(api: &Api, name: &str, spec: Value) -> Answer {
    api.post(&format!("{ACCOUNTS}/{name}/token"), &json!({"spec": spec})).await
}

pub(super) async fn token(api: &Api, name: &str, spec: Value) -> String {
    let answer = request(api, name, spec).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()["status"]["token"].as_str().unwrap().to_owned()
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn pod(name: &str, account: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"serviceAccountName": account, "containers": [{"name": "c", "image": "i"}]},
    })
}

const BOT: &str = "403 system:serviceaccount:default:bot";

#[tokio::test]
async fn a_token_says_what_upstreams_do() {
    let api = Api::start().await;
    account(&api, "bot").await;
    let created = api.post(PODS, &pod("web", "bot")).await.ok();
    let uid = created["metadata"]["uid"].clone();
    let reference = json!({"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": uid});
    let spec = json!({"expirationSeconds": 3_607, "boundObjectRef": reference});
    let answer = request(&api, "bot", spec).await.ok();
    assert_eq!(answer["kind"], "TokenRequest");
    assert_eq!(answer["spec"]["audiences"][0], "https://kubernetes.default.svc.cluster.local");
    let claims = claims(answer["status"]["token"].as_str().unwrap());
    let begin = claims["iat"].as_i64().unwrap();
    assert_eq!(claims["nbf"], begin);
    assert_eq!(claims["exp"], begin + 31_536_000, "a token that every pod has is extended");
    let own = &claims["kubernetes.io"];
    assert_eq!(own["warnafter"], begin + 3_607);
    assert_eq!(own["pod"], json!({"name": "web", "uid": uid}));
    assert_eq!(own["namespace"], "default");
    assert_eq!(own["serviceaccount"]["name"], "bot");
    assert_eq!(claims["sub"], "system:serviceaccount:default:bot");
    assert_eq!(claims["iss"], "https://kubernetes.default.svc.cluster.local");
    let end: Timestamp = answer["status"]["expirationTimestamp"].as_str().unwrap().parse().unwrap();
    assert_eq!(end.as_second(), begin + 3_607);
}

#[tokio::test]
async fn a_request_for_a_token_must_make_sense() {
    let api = Api::start().await;
    account(&api, "bot").await;
    account(&api, "other").await;
    api.post(PODS, &pod("web", "bot")).await.ok();
    let check = async |name: &str, spec: Value, expected: &str| {
        let (code, _, message) = request(&api, name, spec).await.refused();
        assert!(format!("{code} {message}").starts_with(expected), "{code} {message}");
    };
    let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, "uid": uid}});
    check("gone", json!({}), "404 serviceaccounts \"gone\" not found").await;
    check(
        "bot",
        json!({"expirationSeconds": 599}),
        "422 TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid \
         value: 599: may not specify a duration less than 10 minutes",
    )
    .await;
    check("bot", bound("Pod", "gone", ""), "404 pods \"gone\" not found").await;
    check("bot", bound("Pod", "web", "1"), "409 Operation cannot be fulfilled on Pod \"web\": the UID in the bound object reference (1) does not match").await;
    check("bot", bound("ConfigMap", "a", ""), "400 cannot bind token to object of type").await;
    check(
        "other",
        bound("Pod", "web", ""),
        "400 cannot bind token for serviceaccount \"other\" to pod running with different",
    )
    .await;
}

#[tokio::test]
async fn a_token_is_worth_as_much_as_its_account() {
    let served = serve().await;
    let api = &served.api;
    account(api, "bot").await;
    let token = token(api, "bot", json!({})).await;
    assert_eq!(served.shows(&token).await, BOT);
    api.delete(&format!("{ACCOUNTS}/bot")).await.ok();
    assert_eq!(served.shows(&token).await, "401 Unauthorized");
    // One of the same name is another.
    account(api, "bot").await;
    assert_eq!(served.shows(&token).await, "401 Unauthorized");
}

#[tokio::test]
async fn a_token_is_worth_as_much_as_the_object_it_is_bound_to() {
    let served = serve().await;
    let api = &served.api;
    account(api, "bot").await;
    api.post(PODS, &pod("web", "bot")).await.ok();
    api.post(SECRETS, &json!({"metadata": {"name": "s"}})).await.ok();
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.ok();
    for (kind, path) in [
        ("Pod", format!("{PODS}/web?gracePeriodSeconds=0")),
        ("Secret", format!("{SECRETS}/s")),
        ("Node", "/api/v1/nodes/n".to_owned()),
    ] {
        let name = path.rsplit('/').next().unwrap().split('?').next().unwrap();
        let reference = json!({"kind": kind, "apiVersion": "v1", "name": name});
        let token = token(api, "bot", json!({"boundObjectRef": reference})).await;
        assert_eq!(served.shows(&token).await, BOT, "{kind}");
        api.delete(&path).await.ok();
        assert_eq!(served.shows(&token).await, "401 Unauthorized", "{kind}");
    }
}

#[tokio::test]
async fn only_tokens_of_this_server_for_this_server_are_believed() {
    let (served, foreign) = (serve().await, Api::start().await);
    let api = &served.api;
    for api in [api, &foreign] {
        account(api, "bot").await;
    }
    let good = token(api, "bot", json!({})).await;
    assert_eq!(served.shows(&good).await, BOT);
    let elsewhere = token(api, "bot", json!({"audiences": ["vault"]})).await;
    assert_eq!(served.shows(&elsewhere).await, "401 Unauthorized");
    let forged = token(&foreign, "bot", json!({})).await;
    assert_eq!(served.shows(&forged).await, "401 Unauthorized");
    let mut parts: Vec<_> = good.split('.').map(str::to_owned).collect();
    let mut changed = claims(&good);
    changed["sub"] = json!("system:serviceaccount:kube-system:root");
    parts[1] = BASE64_URL_SAFE_NO_PAD.encode(changed.to_string());
    for bad in [parts.join("."), "abc".to_owned(), "a.b.c".to_owned()] {
        assert_eq!(served.shows(&bad).await, "401 Unauthorized", "{bad}");
    }
}

#[tokio::test]
async fn a_token_ends() {
    let now = Arc::new(AtomicI64::new(1_800_000_000));
    let clock = {
        let now = Arc::clone(&now);
        Clock::from_fn(move || Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap())
    };
    let config = kinglet::apiserver::Config { clock, ..config() };
    let served = serve_api(Api::on(store(), config).await).await;
    account(&served.api, "bot").await;
    let token = token(&served.api, "bot", json!({"expirationSeconds": 600})).await;
    for (seconds, expected) in [(0, BOT), (660, BOT), (661, "401 Unauthorized")] {
        now.store(1_800_000_000 + seconds, Ordering::Relaxed);
        assert_eq!(served.shows(&token).await, expected, "{seconds}");
    }
}

#[tokio::test]
async fn a_secret_can_hold_a_token_without_an_end() {
    let served = serve().await;
    let api = &served.api;
    let secret = json!({
        "metadata": {"name": "s", "annotations": {"kubernetes.io/service-account.name": "bot"}},
        "type": "kubernetes.io/service-account-token",
    });
    let early = api.post(SECRETS, &secret).await.ok();
    assert!(early.get("data").is_none(), "there is no such account yet: {early}");
    account(api, "bot").await;
    let path = format!("{SECRETS}/s");
    let filled = api.put(&path, &secret).await.ok();
    let data = |key: &str| {
        let text = filled["data"][key].as_str().unwrap();
        String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap()
    };
    assert_eq!(data("namespace"), "default");
    let token = data("token");
    assert_eq!(claims(&token)["iss"], "kubernetes/serviceaccount");
    assert_eq!(served.shows(&token).await, BOT);
    let other = json!({"data": {"token": BASE64_STANDARD.encode("other")}});
    api.patch(&path, "merge", &other).await.ok();
    assert_eq!(served.shows(&token).await, "401 Unauthorized");
    api.patch(&path, "merge", &json!({"data": {"token": BASE64_STANDARD.encode(&token)}}))
        .await
        .ok();
    assert_eq!(served.shows(&token).await, BOT);
    api.delete(&path).await.ok();
    assert_eq!(served.shows(&token).await, "401 Unauthorized");
}

#[tokio::test]
async fn machines_join_with_tokens_of_secrets() {
    let served = serve().await;
    let token = "abcdef.0123456789abcdef";
    assert_eq!(served.shows(token).await, "401 Unauthorized");
    let secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
        },
    });
    let path = "/api/v1/namespaces/kube-system/secrets";
    served.api.post(path, &secret).await.ok();
    assert_eq!(served.shows(token).await, "403 system:bootstrap:abcdef");
    served.api.delete(&format!("{path}/bootstrap-token-abcdef")).await.ok();
    assert_eq!(served.shows(token).await, "401 Unauthorized");
}

#[tokio::test]
async fn others_can_learn_how_to_verify_tokens() {
    let api = Api::start().await;
    let configuration = api.get("/.well-known/openid-configuration").await.ok();
    assert_eq!(configuration["issuer"], "https://kubernetes.default.svc.cluster.local");
    assert_eq!(configuration["jwks_uri"], "https://192.0.2.1:6443/openid/v1/jwks");
    let keys = api.get("/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    assert_eq!(keys.json()["keys"][0]["use"], "sig");
}

#[tokio::test]
async fn tokens_of_older_keys_are_believed_and_the_newest_key_signs() {
    let served = serve().await;
    let api = &served.api;
    account(api, "bot").await;
    let (old, new) = (TokenKey::ephemeral().unwrap(), TokenKey::ephemeral().unwrap());
    let key_of = |token: &str| {
        let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    api.server.use_token_keys(std::slice::from_ref(&old)).unwrap();
    let before = token(api, "bot", json!({})).await;
    assert_eq!(key_of(&before), old.id());
    assert_eq!(served.shows(&before).await, BOT);
    api.server.use_token_keys(&[new.clone(), old.clone()]).unwrap();
    let after = token(api, "bot", json!({})).await;
    assert_eq!(key_of(&after), new.id());
    for token in [&before, &after] {
        assert_eq!(served.shows(token).await, BOT);
    }
    let keys = api.get("/openid/v1/jwks").await.ok();
    let listed: Vec<_> = keys["keys"].as_array().unwrap().iter().map(|key| &key["kid"]).collect();
    assert_eq!(listed, [new.id(), old.id()]);
    // A key that is taken away takes its tokens with it, also those that were believed before.
    api.server.use_token_keys(&[new]).unwrap();
    assert_eq!(served.shows(&before).await, "401 Unauthorized");
    assert_eq!(served.shows(&after).await, BOT);
    assert!(api.server.use_token_keys(&[]).is_err());
}
