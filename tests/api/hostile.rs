//! The worst bodies that we could think of, as large as a body may be: each is answered in time, and
//! the server goes on.
//!
//! What takes time in proportion to its size takes a few seconds here, where nothing is optimised;
//! what does not takes hours.

use super::support::{Answer, Api};
use http::Method;
use http::header::CONTENT_TYPE;
use kinglet::apiserver::Identity;
use serde_json::{Value, json};
use std::time::Duration;

/// None takes longer, also on a machine that has much else to do.
const WITHIN: Duration = Duration::from_secs(60);

/// A body is a little smaller than the largest.
const BYTES: usize = 3 * 1024 * 1024 - 4 * 1024;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MAP: &str = "/api/v1/namespaces/default/configmaps/a?fieldManager=me";
const PODS: &str = "/api/v1/namespaces/default/pods";
const POD: &str = "/api/v1/namespaces/default/pods/p";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

/// Elements side by side with commas between, of about `bytes`.
fn list(bytes: usize, element: impl Fn(usize) -> String) -> String {
    let mut text = String::with_capacity(bytes + 256);
    for index in 0.. {
        text.push_str(&element(index));
        if text.len() >= bytes {
            break;
        }
        text.push(',');
    }
    text
}

fn long_name() -> String {
    "k".repeat(1 << 20)
}

fn pod(container: &str) -> String {
    format!(r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{container}]}}}}"#)
}

fn definition(schema: &str) -> String {
    let version = format!(
        r#"{{"name":"v1","served":true,"storage":true,"schema":{{"openAPIV3Schema":{{"type":"object","properties":{{"spec":{schema}}}}}}}}}"#
    );
    format!(
        r#"{{"metadata":{{"name":"kites.example.com"}},"spec":{{"group":"example.com","scope":"Cluster","names":{{"plural":"kites","kind":"Kite"}},"versions":[{version}]}}}}"#
    )
}

/// Sends a body, which is to be answered with `code`.
async fn send(api: &Api, method: Method, target: (&str, &str), body: String, code: u16) -> Answer {
    let (path, of_type) = target;
    let begin: String = body.chars().take(120).collect();
    let started = tokio::time::Instant::now();
    let answer = api.send(method, path, &[(CONTENT_TYPE, of_type)], body).await;
    let took = started.elapsed();
    let said: String = answer.text().chars().take(300).collect();
    assert_eq!(answer.code, code, "{path} {begin}: {said}");
    assert!(took < WITHIN, "{path} {begin}: {took:?}");
    answer
}

async fn post(api: &Api, path: &str, body: String, code: u16) -> Answer {
    send(api, Method::POST, (path, JSON), body, code).await
}

async fn patch(api: &Api, target: (&str, &str), body: String, code: u16) -> Answer {
    send(api, Method::PATCH, target, body, code).await
}

async fn with_map() -> Api {
    let api = Api::start().await;
    let map = json!({"metadata": {"name": "a"}, "data": {"x": "1"}});
    post(&api, CONFIG_MAPS, map.to_string(), 201).await;
    api
}

/// A pod that has thousands of variables.
async fn with_pod() -> Api {
    let api = Api::start().await;
    let env = list(300_000, |index| format!(r#"{{"name":"e{index}"}}"#));
    let container = format!(r#"{{"name":"a","image":"b","env":[{env}]}}"#);
    post(&api, PODS, pod(&container), 201).await;
    api
}

#[tokio::test]
async fn documents_are_read_in_time() {
    let api = Api::start().await;
    let repeated = list(1 << 20, |_| r#""a":1"#.to_owned());
    for (text, code, strict) in [
        ("[".repeat(BYTES), 400, 400),
        (r#"{"a":"#.repeat(BYTES / 5), 400, 400),
        (format!(r#"{{"data":{}}}"#, "1".repeat(BYTES)), 400, 400),
        (format!("[{}]", list(500_000, |_| "0".to_owned())), 400, 400),
        (format!("[{}]", list(BYTES, |_| "0".to_owned())), 413, 413),
        (format!("{{{}}}", list(BYTES, |_| r#""a":1"#.to_owned())), 413, 413),
        (format!("[{}]", list(BYTES, |_| "{}".to_owned())), 413, 413),
        (format!(r#"{{"{}":{{{repeated}}}}}"#, long_name()), 422, 400),
    ] {
        post(&api, CONFIG_MAPS, text.clone(), code).await;
        post(&api, &format!("{CONFIG_MAPS}?fieldValidation=Strict"), text, strict).await;
    }
    let unknown = list(1 << 20, |index| format!(r#""a{index}":1"#));
    let schema = format!(r#"{{"properties":{{"{}":{{{unknown}}}}}}}"#, long_name());
    let path = format!("{DEFINITIONS}?fieldValidation=Warn");
    post(&api, &path, definition(&schema), 422).await;
}

#[tokio::test]
async fn yaml_is_read_in_time() {
    let api = Api::start().await;
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{},", level - 1).repeat(8);
        laughs.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    for (text, code) in [
        ("[".repeat(BYTES), 400),
        ("- ".repeat(BYTES / 2), 400),
        ("- 0\n".repeat(BYTES / 4), 413),
        ("a: 0\n".repeat(BYTES / 5), 413),
        (laughs, 400),
        ("%FOO a\n".repeat(BYTES / 8), 400),
        ("#\n".repeat(BYTES / 2), 422),
        (format!("{{{}}}", list(1 << 20, |index| format!("a{index}"))), 422),
        (format!("a: {}", "y ".repeat(BYTES / 3)), 422),
        (format!("a: |\n{}", "  y\n".repeat(BYTES / 5)), 422),
        (format!("a: \"{}\"", "x\n\n  ".repeat(BYTES / 6)), 422),
    ] {
        send(&api, Method::POST, (CONFIG_MAPS, YAML), text, code).await;
    }
}

#[tokio::test]
async fn json_patches_neither_take_long_nor_nest_without_end() {
    let api = with_map().await;
    let zeros = list(400_000, |_| "0".to_owned());
    let first = format!(r#"{{"op":"add","path":"/l","value":[{zeros}]}}"#);
    for again in [
        r#"{"op":"add","path":"/l/0","value":0}"#,
        r#"{"op":"move","from":"/l/0","path":"/l/-"}"#,
        r#"{"op":"remove","path":"/l/0"}"#,
    ] {
        let operations = format!("[{first}{}]", format!(",{again}").repeat(9_999));
        patch(&api, (MAP, JSON_PATCH), operations, 422).await;
    }
    let mut deep = vec![json!({"op": "add", "path": "/a", "value": {}})];
    for depth in (0..18).map(|power| 1 << power) {
        deep.push(json!({"op": "copy", "from": "/a", "path": "/a".repeat(depth + 1)}));
    }
    patch(&api, (MAP, JSON_PATCH), Value::Array(deep).to_string(), 422).await;
}

#[tokio::test]
async fn strategic_patches_do_not_merge_long_lists_again_and_again() {
    let api = with_pod().await;
    let again = list(1 << 20, |_| r#"{"name":"a","env":[{"name":"x"}]}"#.to_owned());
    let body = format!(r#"{{"spec":{{"containers":[{again}]}}}}"#);
    patch(&api, (POD, STRATEGIC), body, 422).await;
    let gone = list(2 << 20, |index| format!(r#"{{"$patch":"delete","name":"e{index}"}}"#));
    let body = format!(r#"{{"spec":{{"containers":[{{"name":"a","env":[{gone}]}}]}}}}"#);
    // A pod's variables cannot be changed.
    patch(&api, (POD, STRATEGIC), body, 422).await;
}

#[tokio::test]
async fn managers_of_many_fields_and_many_managers_are_reckoned_in_time() {
    let api = with_map().await;
    let entries = list(1_000_000, |index| {
        format!(
            r#"{{"manager":"{index}","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{{"f:data":{{"f:x":{{}}}}}}}}"#
        )
    });
    let metadata = format!(r#"{{"name":"a","managedFields":[{entries}]}}"#);
    let body = format!(r#"{{"metadata":{metadata},"data":{{"x":"1"}}}}"#);
    send(&api, Method::PUT, (MAP, JSON), body, 200).await;
    let data = list(200_000, |index| format!(r#""y{index}":"""#));
    patch(&api, (MAP, MERGE), format!(r#"{{"data":{{{data}}}}}"#), 200).await;
    let config = |value: &str| {
        let data = list(300_000, |index| format!(r#""z{index}":"{value}""#));
        let head = r#""apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}"#;
        format!(r#"{{{head},"data":{{{data}}}}}"#)
    };
    let path = |manager: &str| format!("{CONFIG_MAPS}/b?fieldManager={manager}");
    patch(&api, (&path("one"), APPLY), config("1"), 201).await;
    patch(&api, (&path("two"), APPLY), config("2"), 409).await;
}

#[tokio::test]
async fn lists_of_objects_are_judged_in_time() {
    let api = Api::start().await;
    let empty = |bytes: usize| pod(&list(bytes, |_| "{}".to_owned()));
    post(&api, PODS, empty(45_000), 422).await;
    // Sixty thousand containers would take more than a hundred megabytes, several times.
    post(&api, PODS, empty(180_000), 413).await;
    let spec = |field: &str, element: fn(usize) -> String| {
        let elements = list(900_000, element);
        let containers = r#"[{"name":"a","image":"b"}]"#;
        format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":{containers},"{field}":[{elements}]}}}}"#
        )
    };
    // Good, and too large for the store.
    post(&api, PODS, spec("schedulingGates", |it| format!(r#"{{"name":"g{it}"}}"#)), 413).await;
    post(&api, PODS, spec("resourceClaims", |it| format!(r#"{{"name":"c{it}"}}"#)), 422).await;
    let limits = list(1_400_000, |index| format!(r#"{{"type":"example.com/{index}"}}"#));
    let body = format!(r#"{{"metadata":{{"name":"a"}},"spec":{{"limits":[{limits}]}}}}"#);
    post(&api, "/api/v1/namespaces/default/limitranges", body, 201).await;
    let scopes = list(1_400_000, |index| format!(r#""s{index}""#));
    let body = format!(r#"{{"metadata":{{"name":"a"}},"spec":{{"scopes":[{scopes}]}}}}"#);
    post(&api, "/api/v1/namespaces/default/resourcequotas", body, 422).await;
}

/// Each would be an error with its path and what it should be, and a copy of all of them besides.
#[tokio::test]
async fn values_that_are_all_wrong_are_told_in_time() {
    let api = Api::start().await;
    let service = |field: &str, bytes| {
        let empty = list(bytes, |_| r#""""#.to_owned());
        let spec = format!(r#""ports":[{{"port":1}}],"{field}":[{empty}]"#);
        format!(r#"{{"metadata":{{"name":"s"}},"spec":{{{spec}}}}}"#)
    };
    let services = "/api/v1/namespaces/default/services";
    for field in ["clusterIPs", "externalIPs", "loadBalancerSourceRanges", "ipFamilies"] {
        let told = post(&api, services, service(field, 750_000), 422).await.text().len();
        assert!(told < 5 << 20, "{field}: {told}");
        post(&api, services, service(field, 1_000_000), 413).await;
    }
    let labels = list(2_000_000, |index| format!(r#""{index}=":"=""#));
    for field in ["labels", "annotations"] {
        let body = format!(r#"{{"metadata":{{"name":"a","{field}":{{{labels}}}}}}}"#);
        let told = post(&api, CONFIG_MAPS, body, 422).await.text().len();
        assert!(told < 2 << 20, "{field}: {told}");
    }
    let long = format!(r#"{{"type":"string","pattern":"({}"}}"#, "a".repeat(BYTES - 1_024));
    let told = post(&api, DEFINITIONS, definition(&long), 422).await.text().len();
    assert!(told < 5 << 20, "{told}");
}

#[tokio::test]
async fn nothing_is_not_many_structs() {
    let api = with_pod().await;
    let nothing = list(1_200_000, |_| "null".to_owned());
    post(&api, PODS, pod(&nothing), 413).await;
    let properties = list(BYTES - 1_024, |index| format!(r#""a{index}":null"#));
    let schema = format!(r#"{{"type":"object","properties":{{{properties}}}}}"#);
    post(&api, DEFINITIONS, definition(&schema), 413).await;
    let spec = format!(r#"{{"spec":{{"containers":[{nothing}]}}}}"#);
    patch(&api, (POD, MERGE), spec, 413).await;
    let operation = format!(r#"[{{"op":"add","path":"/spec/containers","value":[{nothing}]}}]"#);
    patch(&api, (POD, JSON_PATCH), operation, 413).await;
    let aliases = "containers: [&a ~".to_owned() + &", *a".repeat(BYTES / 4 - 64) + "]";
    let body = format!("metadata: {{name: q}}\nspec: {{{aliases}}}");
    send(&api, Method::POST, (PODS, YAML), body, 413).await;
}

#[tokio::test]
async fn variables_of_policies_are_not_copied_for_each_expression() {
    let api = Api::start().await;
    let variables = list(500_000, |it| format!(r#"{{"name":"v{it}","expression":"1"}}"#));
    let all = list(500_000, |it| format!(r#"{{"expression":"variables.v{it}==1"}}"#));
    let rule = r#"{"apiGroups":["*"],"apiVersions":["*"],"resources":["*"],"operations":["*"]}"#;
    let constraints = format!(r#""matchConstraints":{{"resourceRules":[{rule}]}}"#);
    let spec = format!(r#"{{{constraints},"variables":[{variables}],"validations":[{all}]}}"#);
    let body = format!(r#"{{"metadata":{{"name":"a"}},"spec":{spec}}}"#);
    post(&api, POLICIES, body, 201).await;
}

#[tokio::test]
async fn definitions_are_judged_in_time() {
    let api = Api::start().await;
    let names = |field: &str| {
        let names = list(1_400_000, |index| format!(r#""n{index}""#));
        format!(r#"{{"type":"array","items":{{"type":"object"}},"{field}":[{names}]}}"#)
    };
    post(&api, DEFINITIONS, definition(&names("x-kubernetes-list-map-keys")), 422).await;
    let patterns = list(400_000, |index| {
        format!(r#""p{index}":{{"type":"string","pattern":"(a{{1000}}){{60}}{index}"}}"#)
    });
    let schema = format!(r#"{{"type":"object","properties":{{{patterns}}}}}"#);
    post(&api, DEFINITIONS, definition(&schema), 422).await;
    let long = format!(r#"{{"type":"string","pattern":"{}"}}"#, "a?".repeat(600_000));
    post(&api, DEFINITIONS, definition(&long), 422).await;
    let patterns = list(1_200_000, |index| {
        format!(r#""p{index}":{{"type":"string","pattern":"(\\pL{{100}}){{9}}{index}"}}"#)
    });
    let schema = format!(r#"{{"type":"object","properties":{{{patterns}}}}}"#);
    post(&api, DEFINITIONS, definition(&schema), 422).await;
    let below = list(400_000, |index| format!(r#""a{index}":{{}}"#));
    let inner = format!(r#"{{"type":"object","properties":{{{below}}}}}"#);
    let schema = format!(r#"{{"type":"object","properties":{{"{}":{inner}}}}}"#, long_name());
    post(&api, DEFINITIONS, definition(&schema), 422).await;
}

#[tokio::test]
async fn versions_do_not_have_large_patterns_each() {
    let api = Api::start().await;
    let version = |at: usize| {
        let patterns = list(6_000, |it| {
            format!(r#""a{it}":{{"type":"string","pattern":"(a{{1000}}){{60}}{at}x{it}"}}"#)
        });
        let schema = format!(r#"{{"type":"object","properties":{{{patterns}}}}}"#);
        let storage = at == 0;
        format!(
            r#"{{"name":"v{}","served":true,"storage":{storage},"schema":{{"openAPIV3Schema":{schema}}}}}"#,
            at + 1
        )
    };
    let versions = list(1_200_000, version);
    let spec = format!(
        r#"{{"group":"example.com","scope":"Cluster","names":{{"plural":"kites","kind":"Kite"}},"versions":[{versions}]}}"#
    );
    let body = format!(r#"{{"metadata":{{"name":"kites.example.com"}},"spec":{spec}}}"#);
    post(&api, DEFINITIONS, body, 422).await;
}

#[tokio::test]
async fn rules_by_the_thousands_are_compiled_in_time() {
    let api = Api::start().await;
    let more = list(400_000, |index| format!(r#""a{index}":{{"type":"string"}}"#));
    let properties = format!(r#"{{"a":{{"type":"integer"}},{more}}}"#);
    let ruled = |rules: &str, properties: &str| {
        let kind = r#""type":"object""#;
        format!(r#"{{{kind},"properties":{properties},"x-kubernetes-validations":[{rules}]}}"#)
    };
    let thousands = list(600_000, |_| r#"{"rule":"self.a==1","fieldPath":".a"}"#.to_owned());
    post(&api, DEFINITIONS, definition(&ruled(&thousands, &properties)), 201).await;
    let long = format!(r#"{{"rule":"{}true"}}"#, "true||".repeat(16_000));
    let long = list(BYTES - 200_000, |_| long.clone());
    post(&api, DEFINITIONS, definition(&ruled(&long, "{}")), 422).await;
    // Each default has to keep all rules below it.
    let long = format!(r#"{{"rule":"{}true"}}"#, "true||".repeat(10_000));
    let mut schema = ruled(&list(200_000, |_| long.clone()), "{}");
    for _ in 0..50 {
        schema = format!(r#"{{"type":"object","default":{{}},"properties":{{"a":{schema}}}}}"#);
    }
    post(&api, DEFINITIONS, definition(&schema), 422).await;
}

#[tokio::test]
async fn rules_of_roles_are_not_multiplied_out() {
    let api = Api::start().await;
    let maker = json!({"metadata": {"name": "maker"}, "rules": [{
        "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
        "verbs": ["create"],
    }]});
    post(&api, ROLES, maker.to_string(), 201).await;
    let binding = json!({
        "metadata": {"name": "maker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maker"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    post(&api, bindings, binding.to_string(), 201).await;
    let bob = api.as_user(Identity::new("bob", &["system:authenticated"]));
    let thousand = list(5_000, |index| format!("\"{index}\""));
    let rule =
        format!(r#"{{"verbs":[{thousand}],"apiGroups":[{thousand}],"resources":[{thousand}]}}"#);
    let role = format!(r#"{{"metadata":{{"name":"all"}},"rules":[{rule}]}}"#);
    post(&bob, ROLES, role, 403).await;
}
