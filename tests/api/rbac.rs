//! Who may do what, decided by roles: default ones, those that are given, and those that nobody may
//! give out.

use super::support::{Answer, Api, eventually};
use super::tls::serve;
use super::tokens;
use http::{HeaderName, Method};
use kinglet::apiserver::Identity;
use kinglet::stdx::Tasks;
use serde_json::{Value, json};

const GROUP: &str = "/apis/rbac.authorization.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources})
}

fn role(name: &str, rules: &[Value]) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, role: (&str, &str), user: &str) -> Value {
    let (kind, role) = role;
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "User", "name": user}],
    })
}

impl Api {
    /// Lets a user do this everywhere.
    pub(super) async fn grant(&self, user: &str, rules: &[Value]) {
        let name = format!("{}-own", user.replace(':', "-"));
        self.post(&format!("{GROUP}/clusterroles"), &role(&name, rules)).await.ok();
        let binding = binding(&name, ("ClusterRole", &name), user);
        self.post(&format!("{GROUP}/clusterrolebindings"), &binding).await.ok();
    }

    pub(super) fn user(&self, name: &str) -> Api {
        self.as_user(Identity::new(name, &[]))
    }
}

#[tokio::test]
async fn strangers_learn_health_and_version_only() {
    let api = Api::start().await;
    let (stranger, user) = (api.as_user(Identity::anonymous()), api.user("alice"));
    for (path, of_stranger, of_user) in [
        ("/healthz", 200, 200),
        ("/livez", 200, 200),
        ("/readyz", 200, 200),
        ("/version", 200, 200),
        ("/livez/ping", 403, 403),
        ("/api", 403, 200),
        ("/apis/apps/v1", 403, 200),
        ("/openapi/v2", 403, 200),
        ("/.well-known/openid-configuration", 403, 403),
        ("/metrics", 403, 403),
        (PODS, 403, 403),
    ] {
        assert_eq!(stranger.get(path).await.code, of_stranger, "{path}");
        assert_eq!(user.get(path).await.code, of_user, "{path}");
    }
    let account = api.as_user(Identity::service_account("default", "bot"));
    assert_eq!(account.get("/openid/v1/jwks").await.code, 200);
}

/// As with upstream's `withAuthorization`: who may only update makes nothing new by it.
#[tokio::test]
async fn an_update_that_creates_takes_the_right_to_create() {
    let api = Api::start().await;
    let alice = api.user("alice");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let (path, lease) = (format!("{leases}/a"), json!({"metadata": {"name": "a"}, "spec": {}}));
    api.grant("alice", &[rule(&["update"], "coordination.k8s.io", &["leases"])]).await;
    let (code, _, message) = alice.put(&path, &lease).await.refused();
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            "leases.coordination.k8s.io \"a\" is forbidden: User \"alice\" cannot create resource \
             \"leases\" in API group \"coordination.k8s.io\" in the namespace \"default\""
        )
    );
    assert_eq!(api.get(&path).await.code, 404);
    let created = api.put(&path, &lease).await.ok();
    alice.put(&path, &created).await.ok();
}

#[tokio::test]
async fn what_is_given_counts_at_once_and_where_it_is_given() {
    let api = Api::start().await;
    let alice = api.user("alice");
    let told = alice.get(PODS).await.refused().2;
    assert_eq!(
        told,
        "pods is forbidden: User \"alice\" cannot list resource \"pods\" in API group \"\" in the \
         namespace \"default\""
    );
    let given = binding("b", ("Role", "reader"), "alice");
    api.post(&format!("{GROUP}/namespaces/default/rolebindings"), &given).await.ok();
    let told = alice.get(PODS).await.refused().2;
    assert!(told.ends_with("RBAC: role.rbac.authorization.k8s.io \"reader\" not found"), "{told}");
    let reader = role("reader", &[rule(&["get", "list"], "", &["pods"])]);
    api.post(&format!("{GROUP}/namespaces/default/roles"), &reader).await.ok();
    alice.get(PODS).await.ok();
    assert_eq!(alice.get("/api/v1/pods").await.code, 403);
    assert_eq!(alice.get("/api/v1/namespaces/kube-system/pods").await.code, 403);
    assert_eq!(alice.get(&format!("{PODS}?watch=true")).await.code, 403);
    assert_eq!(alice.delete(PODS).await.code, 403);
    api.delete(&format!("{GROUP}/namespaces/default/rolebindings/b")).await.ok();
    eventually("the role is taken away", async || {
        (alice.get(PODS).await.code == 403).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_verbs_of_collections_and_subresources_are_their_own() {
    let api = Api::start().await;
    let alice = api.user("alice");
    api.grant(
        "alice",
        &[rule(&["get", "list", "delete", "deletecollection"], "", &["configmaps"])],
    )
    .await;
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(alice.get(maps).await.code, 200);
    assert_eq!(alice.delete(maps).await.code, 200);
    let bob = api.user("bob");
    api.grant("bob", &[rule(&["get", "delete"], "", &["configmaps", "pods"])]).await;
    assert_eq!(bob.delete(maps).await.code, 403);
    assert_eq!(bob.get(&format!("{PODS}/a")).await.code, 404);
    assert_eq!(bob.get(&format!("{PODS}/a/log")).await.code, 403);
    let named = json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["own"]});
    api.grant("carol", &[named]).await;
    let carol = api.user("carol");
    let secrets = "/api/v1/namespaces/default/secrets";
    assert_eq!(carol.get(&format!("{secrets}/own")).await.code, 404);
    assert_eq!(carol.get(&format!("{secrets}/other")).await.code, 403);
    assert_eq!(carol.get(secrets).await.code, 403);
    assert_eq!(carol.get(&format!("{secrets}?fieldSelector=metadata.name%3Down")).await.code, 200);
}

#[tokio::test]
async fn nobody_gives_out_more_than_they_have() {
    let api = Api::start().await;
    let alice = api.user("alice");
    let roles = format!("{GROUP}/clusterroles");
    let bindings = format!("{GROUP}/clusterrolebindings");
    let group = "rbac.authorization.k8s.io";
    let all = ["create", "get", "update", "patch", "delete"];
    api.grant(
        "alice",
        &[
            rule(&all, group, &["clusterroles", "clusterrolebindings", "roles", "rolebindings"]),
            rule(&["get"], "", &["pods"]),
        ],
    )
    .await;
    alice.post(&roles, &role("good", &[rule(&["get"], "", &["pods"])])).await.ok();
    let (code, _, told) =
        alice.post(&roles, &role("bad", &[rule(&["get"], "", &["secrets"])])).await.refused();
    assert_eq!(code, 403);
    assert_eq!(
        told,
        "clusterroles.rbac.authorization.k8s.io \"bad\" is forbidden: user \"alice\" \
         (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently \
         held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
    );
    let more = json!({"rules": [rule(&["get", "list"], "", &["pods"])]});
    assert_eq!(alice.patch(&format!("{roles}/good"), "merge", &more).await.code, 403);
    let collects = json!({
        "metadata": {"name": "all"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]},
    });
    let told = alice.post(&roles, &collects).await.refused().2;
    assert!(told.ends_with("must have cluster-admin privileges to use the aggregationRule"));
    // What the garbage collector needs is no gift.
    let admin = format!("{roles}/cluster-admin");
    let finalizer = json!({"metadata": {"finalizers": ["example.com/a"]}});
    alice.patch(&admin, "merge", &finalizer).await.ok();
    alice.patch(&admin, "merge", &json!({"metadata": {"finalizers": null}})).await.ok();

    alice.post(&bindings, &binding("own", ("ClusterRole", "good"), "bob")).await.ok();
    let root = binding("root", ("ClusterRole", "cluster-admin"), "bob");
    let (code, _, told) = alice.post(&bindings, &root).await.refused();
    assert_eq!(code, 403);
    assert!(told.contains("is attempting to grant RBAC permissions not currently held"), "{told}");
    let none = binding("none", ("ClusterRole", "none"), "bob");
    let (code, _, told) = alice.post(&bindings, &none).await.refused();
    assert_eq!(
        (code, told.as_str()),
        (404, "clusterroles.rbac.authorization.k8s.io \"none\" not found")
    );
    let other =
        json!({"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"}});
    let (code, _, told) = api.patch(&format!("{bindings}/own"), "merge", &other).await.refused();
    assert_eq!(code, 422);
    assert!(told.contains("cannot change roleRef"), "{told}");
}

#[tokio::test]
async fn escalate_and_bind_are_verbs_of_their_own() {
    let api = Api::start().await;
    let group = "rbac.authorization.k8s.io";
    let bind = json!({"verbs": ["bind"], "apiGroups": [group], "resources": ["clusterroles"], "resourceNames": ["view"]});
    api.grant(
        "alice",
        &[
            rule(&["create", "escalate"], group, &["roles"]),
            rule(&["create"], group, &["rolebindings"]),
            bind,
        ],
    )
    .await;
    let alice = api.user("alice");
    let namespace = format!("{GROUP}/namespaces/default");
    let all = role("all", &[rule(&["*"], "*", &["*"])]);
    alice.post(&format!("{namespace}/roles"), &all).await.ok();
    let bindings = format!("{namespace}/rolebindings");
    alice.post(&bindings, &binding("v", ("ClusterRole", "view"), "bob")).await.ok();
    assert_eq!(
        alice.post(&bindings, &binding("e", ("ClusterRole", "edit"), "bob")).await.code,
        403
    );
    assert_eq!(alice.post(&bindings, &binding("a", ("Role", "all"), "bob")).await.code, 403);
}

#[tokio::test]
async fn roles_collect_those_with_a_label() {
    let api = Api::start().await;
    let mut tasks = Tasks::default();
    api.server.keep(&mut tasks);
    let view = api.get(&format!("{GROUP}/clusterroles/view")).await.ok();
    assert!(view["rules"].as_array().unwrap().len() > 5, "filled from the start");
    let mut added = role("widgets", &[rule(&["get"], "example.com", &["widgets"])]);
    added["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    api.post(&format!("{GROUP}/clusterroles"), &added).await.ok();
    let admin = binding("x", ("ClusterRole", "admin"), "alice");
    api.post(&format!("{GROUP}/clusterrolebindings"), &admin).await.ok();
    let may = async || {
        let review = json!({"spec": {"user": "alice", "resourceAttributes":
            {"verb": "get", "group": "example.com", "resource": "widgets"}}});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        api.post(path, &review).await.ok()["status"]["allowed"] == true
    };
    eventually("view, edit and admin have it", async || may().await.then_some(())).await;
    api.delete(&format!("{GROUP}/clusterroles/widgets")).await.ok();
    eventually("it is taken out again", async || (!may().await).then_some(())).await;
}

#[tokio::test]
async fn default_roles_come_back_with_a_restart() {
    let api = Api::start().await;
    let path = format!("{GROUP}/clusterroles/system:basic-user");
    let whole = api.get(&path).await.ok();
    api.patch(&path, "merge", &json!({"rules": []})).await.ok();
    let own = format!("{GROUP}/clusterroles/system:discovery");
    let protected = json!({
        "rules": [],
        "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}},
    });
    api.patch(&own, "merge", &protected).await.ok();
    api.delete(&format!("{GROUP}/clusterrolebindings/system:basic-user")).await.ok();
    let again = Api::on(api.store.clone(), super::support::config()).await;
    let rules = |role: &Value| role["rules"].as_array().map_or(0, Vec::len);
    assert_eq!(again.get(&path).await.ok()["rules"].to_string().matches("create").count(), 3);
    assert!(rules(&whole) > 0);
    assert_eq!(rules(&again.get(&own).await.ok()), 0);
    again.get(&format!("{GROUP}/clusterrolebindings/system:basic-user")).await.ok();
}

async fn as_other(api: &Api, headers: &[(HeaderName, &str)]) -> Answer {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    api.send(Method::POST, path, headers, "{}").await
}

#[tokio::test]
async fn acting_as_somebody_else_has_to_be_allowed() {
    let api = Api::start().await;
    let alice = api.user("alice");
    let user = HeaderName::from_static("impersonate-user");
    let group = HeaderName::from_static("impersonate-group");
    let own = as_other(&alice, &[]).await.ok();
    assert_eq!(own["status"]["userInfo"]["username"], "alice");
    let (code, _, told) = as_other(&alice, &[(user.clone(), "bob")]).await.refused();
    assert_eq!(code, 403);
    assert_eq!(
        told,
        "users \"bob\" is forbidden: User \"alice\" cannot impersonate resource \"users\" in API \
         group \"\" at the cluster scope"
    );
    let named = json!({"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"]});
    api.grant("alice", &[named]).await;
    let other = as_other(&alice, &[(user.clone(), "bob")]).await.ok();
    assert_eq!(
        other["status"]["userInfo"],
        json!({"username": "bob", "groups": ["system:authenticated"]})
    );
    assert_eq!(as_other(&alice, &[(user.clone(), "carol")]).await.code, 403);
    let masters = [(user.clone(), "bob"), (group.clone(), "system:masters")];
    assert_eq!(as_other(&alice, &masters).await.code, 403);
    assert_eq!(as_other(&alice, &[(group.clone(), "dev")]).await.code, 500);
    // What somebody else may not, one may not as them.
    let as_bob = api.send(Method::GET, PODS, &[(user, "bob")], "").await;
    assert_eq!(as_bob.code, 403);
}

#[tokio::test]
async fn a_pod_does_what_its_account_may() {
    let served = serve().await;
    let api = &served.api;
    tokens::account(api, "bot").await;
    let token = tokens::token(api, "bot", json!({})).await;
    api.grant(
        "system:serviceaccount:default:bot",
        &[rule(&["create", "get", "list"], "", &["configmaps"])],
    )
    .await;
    let credential = format!("Bearer {token}");
    let headers = [("authorization", credential.as_str()), ("content-type", "application/json")];
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"metadata": {"name": "a"}});
    served.ask(Method::POST, maps, &headers, &map).await.ok();
    served.ask(Method::GET, &format!("{maps}/a"), &headers, &Value::Null).await.ok();
    let refused = served.ask(Method::DELETE, &format!("{maps}/a"), &headers, &Value::Null).await;
    assert_eq!(refused.code, 403);
    assert_eq!(served.shows(&token).await, "403 system:serviceaccount:default:bot");
}
