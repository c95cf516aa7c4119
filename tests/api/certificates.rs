//! Requests for certificates: who may decide about them, and who may sign them.

use super::support::Api;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use http::header::CONTENT_TYPE;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const GROUP: &str = "certificates.k8s.io";

fn request(name: &str, signer: &str, organization: &str) -> Value {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.distinguished_name.push(DnType::OrganizationName, organization);
    let pem = parameters.serialize_request(&key).unwrap().pem().unwrap();
    json!({"metadata": {"name": name}, "spec": {
        "signerName": signer, "request": BASE64_STANDARD.encode(pem), "usages": ["client auth"],
    }})
}

/// May write about every request, and do `verb` for the signers that `names` stand for.
async fn clerk(api: &Api, user: &str, verb: &str, names: &[&str]) -> Api {
    let requests = json!({"apiGroups": [GROUP], "verbs": ["*"], "resources": [
        "certificatesigningrequests", "certificatesigningrequests/approval",
        "certificatesigningrequests/status",
    ]});
    let signers = json!({"apiGroups": [GROUP], "resources": ["signers"], "verbs": [verb],
        "resourceNames": names});
    api.grant(user, &[requests, signers]).await;
    api.user(user)
}

/// As `kubectl certificate approve` and `deny` do: the whole object, with one condition more.
async fn decide(user: &Api, name: &str, decision: &str) -> String {
    let mut found = user.get(&format!("{REQUESTS}/{name}")).await.ok();
    found["status"]["conditions"] = json!([{"type": decision, "status": "True",
        "reason": "KubectlApprove", "message": "by kubectl",
        "lastUpdateTime": "2026-01-01T00:00:00Z"}]);
    told(user, &format!("{REQUESTS}/{name}/approval"), &found).await
}

async fn told(user: &Api, path: &str, object: &Value) -> String {
    let headers = [(CONTENT_TYPE, "application/json")];
    let answer = user.send(Method::PUT, path, &headers, object.to_string()).await;
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    format!("{} {message}", answer.code).trim_end().to_owned()
}

fn refusal(name: &str, verb: &str, signer: &str) -> String {
    format!(
        "403 certificatesigningrequests.certificates.k8s.io \"{name}\" is forbidden: user not \
         permitted to {verb} requests with signerName \"{signer}\""
    )
}

#[tokio::test]
async fn a_decision_takes_the_leave_of_the_signer() {
    let api = Api::start().await;
    let one = clerk(&api, "one", "approve", &["example.com/a"]).await;
    let domain = clerk(&api, "domain", "approve", &["example.com/*"]).await;
    let signer = clerk(&api, "signer", "sign", &["example.com/*"]).await;
    for (number, (user, name_of_signer, may)) in [
        (&one, "example.com/a", true),
        (&one, "example.com/b", false),
        (&domain, "example.com/a", true),
        (&domain, "example.com/b", true),
        (&domain, "example.org/a", false),
        // To sign is not to approve.
        (&signer, "example.com/a", false),
    ]
    .into_iter()
    .enumerate()
    {
        for decision in ["Approved", "Denied"] {
            let name = format!("r{number}-{}", decision.to_lowercase());
            api.post(REQUESTS, &request(&name, name_of_signer, "ops")).await.ok();
            let expected = match may {
                true => "200".to_owned(),
                false => refusal(&name, "approve", name_of_signer),
            };
            assert_eq!(decide(user, &name, decision).await, expected, "{name_of_signer}");
        }
    }
}

#[tokio::test]
async fn a_certificate_takes_the_leave_of_the_signer() {
    let api = Api::start().await;
    let signer = clerk(&api, "signer", "sign", &["example.com/*"]).await;
    let clerk = clerk(&api, "clerk", "approve", &["example.com/*"]).await;
    api.post(REQUESTS, &request("r", "example.com/a", "ops")).await.ok();
    assert_eq!(decide(&clerk, "r", "Approved").await, "200");
    let path = format!("{REQUESTS}/r/status");
    let mut signed = api.get(&format!("{REQUESTS}/r")).await.ok();
    // What changes nothing asks nobody.
    assert_eq!(told(&clerk, &path, &signed).await, "200");
    let authority = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    signed["status"]["certificate"] = json!(BASE64_STANDARD.encode(authority.cert.pem()));
    assert_eq!(told(&clerk, &path, &signed).await, refusal("r", "sign", "example.com/a"));
    assert_eq!(told(&signer, &path, &signed).await, "200");
    let failed = json!([{"type": "Failed", "status": "True", "reason": "No", "message": "no"}]);
    api.post(REQUESTS, &request("f", "example.com/a", "ops")).await.ok();
    let mut refused = api.get(&format!("{REQUESTS}/f")).await.ok();
    refused["status"]["conditions"] = failed;
    let path = format!("{REQUESTS}/f/status");
    assert_eq!(told(&clerk, &path, &refused).await, refusal("f", "sign", "example.com/a"));
    assert_eq!(told(&signer, &path, &refused).await, "200");
}

#[tokio::test]
async fn nobody_becomes_an_administrator_by_a_certificate() {
    let api = Api::start().await;
    let signer = "kubernetes.io/kube-apiserver-client";
    let asked = request("root", signer, "system:masters");
    let (code, _, message) = api.post(REQUESTS, &asked).await.refused();
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            "certificatesigningrequests.certificates.k8s.io \"root\" is forbidden: use of \
             kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
        )
    );
    api.post(REQUESTS, &request("ops", signer, "ops")).await.ok();
    api.post(REQUESTS, &request("other", "example.com/a", "system:masters")).await.ok();
}
