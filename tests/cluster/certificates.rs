//! Who asks for a certificate gets it where they may have it.

use crate::cluster::Cluster;
use crate::support::eventually;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinglet::apiserver::Identity;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request(name: &str, signer: &str, subject: (&str, &str)) -> Value {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, subject.0);
    parameters.distinguished_name.push(DnType::OrganizationName, subject.1);
    let pem = parameters.serialize_request(&key).unwrap().pem().unwrap();
    json!({"metadata": {"name": name}, "spec": {
        "signerName": format!("kubernetes.io/{signer}"), "request": STANDARD.encode(pem),
        "usages": ["client auth", "digital signature"], "expirationSeconds": 3600,
    }})
}

async fn certificate(cluster: &Cluster, name: &str) -> String {
    let path = format!("{REQUESTS}/{name}");
    eventually("a certificate", async || {
        let found = cluster.api.get(&path).await.ok();
        found["status"]["certificate"].as_str().map(str::to_owned)
    })
    .await
}

#[tokio::test]
async fn what_an_administrator_approves_is_signed() {
    let cluster = Cluster::start().await;
    let asked = request("jane", "kube-apiserver-client", ("jane", "ops"));
    cluster.api.post(REQUESTS, &asked).await.ok();
    let approval = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    cluster.api.patch(&format!("{REQUESTS}/jane/approval"), "merge", &approval).await.ok();
    let pem = STANDARD.decode(certificate(&cluster, "jane").await).unwrap();
    assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----"));
    // What a signer signs nothing like is told.
    let mut odd = request("odd", "kube-apiserver-client", ("odd", "ops"));
    odd["spec"]["usages"] = json!(["server auth"]);
    cluster.api.post(REQUESTS, &odd).await.ok();
    cluster.api.patch(&format!("{REQUESTS}/odd/approval"), "merge", &approval).await.ok();
    eventually("the signer says no", async || {
        let found = cluster.api.get(&format!("{REQUESTS}/odd")).await.ok();
        let conditions = found["status"]["conditions"].as_array()?.clone();
        let failed = conditions.into_iter().find(|it| it["type"] == "Failed")?;
        (failed["message"] == "invalid usage for client certificate: server auth").then_some(())
    })
    .await;
}

#[tokio::test]
async fn nodes_renew_their_own_where_they_may() {
    let cluster = Cluster::start().await;
    let role = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    let binding = json!({"metadata": {"name": "nodes-renew"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]});
    cluster.api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await.ok();
    let node = cluster.api.as_user(Identity::node("n1"));
    let subject = ("system:node:n1", "system:nodes");
    let asked = request("own", "kube-apiserver-client-kubelet", subject);
    node.post(REQUESTS, &asked).await.ok();
    certificate(&cluster, "own").await;
    let other = ("system:node:n2", "system:nodes");
    let asked = request("other", "kube-apiserver-client-kubelet", other);
    // Not even asked for: that is NodeRestriction's.
    assert_eq!(node.post(REQUESTS, &asked).await.code, 403);
}

#[tokio::test]
async fn nobody_signs_or_approves_without_the_signers_leave() {
    let cluster = Cluster::start().await;
    let rules = json!([{"apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"], "verbs": ["*"]}]);
    let role = json!({"metadata": {"name": "clerk"}, "rules": rules});
    cluster.api.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await.ok();
    let binding = json!({"metadata": {"name": "clerk"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "clerk"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]});
    cluster.api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await.ok();
    let asked = request("jane", "kube-apiserver-client", ("jane", "ops"));
    cluster.api.post(REQUESTS, &asked).await.ok();
    let bob = cluster.api.as_user(Identity::new("bob", &[]));
    let approval = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    let answer = bob.patch(&format!("{REQUESTS}/jane/approval"), "merge", &approval).await;
    let (code, _, message) = answer.refused();
    assert_eq!(code, 403);
    assert!(
        message.ends_with("user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""),
        "{message}"
    );
    let masters = request("root", "kube-apiserver-client", ("root", "system:masters"));
    let (_, _, message) = cluster.api.post(REQUESTS, &masters).await.refused();
    assert!(message.contains("system:masters group is not allowed"), "{message}");
}
