//! Tables of Ingresses and what is served of them.

use super::*;
use crate::api::ingress::CONTROLLER;
use serde_json::{Value, json};

const CREATED: [&str; 3] = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"];

/// An Ingress of namespace `n`; `age` 0 is the oldest.
fn ingress(name: &str, age: usize, mut spec: Value) -> Arc<Ingress> {
    if spec.get("ingressClassName").is_none() {
        spec["ingressClassName"] = json!("kinglet");
    }
    let annotations = spec.get("annotations").cloned().unwrap_or_default();
    let metadata = json!({
        "namespace": "n", "name": name, "creationTimestamp": CREATED[age],
        "annotations": annotations,
    });
    Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
}

fn backend(text: &str) -> Value {
    let (name, port) = text.split_once(':').unwrap();
    let port = match port.parse::<u16>() {
        Ok(number) => json!({ "number": number }),
        Err(_) => json!({ "name": port }),
    };
    json!({ "service": { "name": name, "port": port } })
}

/// A rule of paths, each `type path service:port`.
fn rule(host: &str, paths: &[&str]) -> Value {
    let path = |text: &&str| {
        let parts: Vec<&str> = text.split(' ').collect();
        let kind = match parts[0] {
            "=" => "Exact",
            "^" => "Prefix",
            _ => "ImplementationSpecific",
        };
        json!({ "pathType": kind, "path": parts[1], "backend": backend(parts[2]) })
    };
    let paths: Vec<_> = paths.iter().map(path).collect();
    match host {
        "" => json!({ "http": { "paths": paths } }),
        host => json!({ "host": host, "http": { "paths": paths } }),
    }
}

fn services() -> BTreeMap<ObjectKey, Arc<Service>> {
    let service = |name: &str, kind: &str| {
        let ports = json!([{ "port": 80, "name": "http" }, { "port": 443, "name": "tls" }]);
        let unnamed = json!([{ "port": 80 }]);
        let ports = if name == "plain" { unnamed } else { ports };
        let service = json!({ "spec": { "type": kind, "ports": ports } });
        (ObjectKey::namespaced("n", name), Arc::new(serde_json::from_value(service).unwrap()))
    };
    BTreeMap::from([
        service("a", "ClusterIP"),
        service("b", "NodePort"),
        service("plain", "ClusterIP"),
        service("away", "ExternalName"),
    ])
}

fn observed(ingresses: &[Arc<Ingress>]) -> Observed {
    let class = json!({ "metadata": { "name": "kinglet" }, "spec": { "controller": CONTROLLER } });
    Observed {
        ingresses: ingresses.to_vec(),
        classes: vec![Arc::new(serde_json::from_value(class).unwrap())],
        services: services(),
    }
}

fn target(rule: &Rule) -> String {
    let target = match &rule.target {
        Target::Backend(BackendId { service, port }) => format!("{}:{port}", service.name),
        Target::Nothing(_) => "nothing".to_owned(),
    };
    let redirect = if rule.settings.redirects_to_https { " to https" } else { "" };
    format!("{} {target}{redirect}", rule.source.name)
}

fn pattern(host: &HostPattern) -> String {
    match host {
        HostPattern::Any => "*".to_owned(),
        HostPattern::Wildcard(suffix) => format!("*.{suffix}"),
        HostPattern::Exact(name) => name.to_string(),
    }
}

/// The model as lines: `host path: ingress service:port`.
fn lines(model: &Model) -> Vec<String> {
    let mut lines = Vec::new();
    for (host, rules) in &model.hosts {
        let host = pattern(host);
        for (path, rule) in &rules.rules {
            let path = match path {
                PathMatch::Exact(path) => format!("={}", str::from_utf8(path).unwrap()),
                PathMatch::Prefix(path) => format!("^{}/", str::from_utf8(path).unwrap()),
            };
            lines.push(format!("{host} {path}: {}", target(rule)));
        }
        lines.extend(rules.fallback.iter().map(|rule| format!("{host} else: {}", target(rule))));
        if rules.rules.is_empty() && rules.fallback.is_none() {
            lines.push(format!("{host}: nothing"));
        }
    }
    lines.extend(model.fallback.iter().map(|rule| format!("else: {}", target(rule))));
    lines
}

#[track_caller]
fn check(ingresses: &[Arc<Ingress>], expected: &[&str]) -> Planned {
    let planned = plan(&observed(ingresses));
    assert_eq!(lines(&planned.model), expected);
    planned
}

fn problems(planned: &Planned) -> Vec<String> {
    planned.problems.iter().map(|(key, problem)| format!("{}: {problem}", key.name)).collect()
}

#[test]
fn hosts_and_paths_are_taken_over() {
    let rules = json!([
        rule("A.example", &["= /x a:80", "^ /y/ b:tls", "^ / plain:80"]),
        rule("*.b.example", &["? /z/* a:http", "^ /%7Eu/ a:80"]),
        rule("", &["^ /w a:80"]),
    ]);
    let planned = check(
        &[ingress("i", 0, json!({ "rules": rules }))],
        &[
            "* ^/w/: i a:http",
            "*.b.example ^/z/: i a:http",
            "*.b.example ^/~u/: i a:http",
            "a.example =/x: i a:http",
            "a.example ^/: i plain:",
            "a.example ^/y/: i b:tls",
        ],
    );
    assert!(planned.problems.is_empty());
    let backends: Vec<_> =
        planned.backends.iter().map(|id| format!("{}:{}", id.service, id.port)).collect();
    assert_eq!(backends, ["n/a:http", "n/b:tls", "n/plain:"]);
}

#[test]
fn only_ours_are_served() {
    let rules = json!([rule("h", &["^ / a:80"])]);
    check(&[ingress("i", 0, json!({ "ingressClassName": "nginx", "rules": rules }))], &[]);
}

#[test]
fn of_two_the_older_has_it() {
    let young = ingress("a", 1, json!({ "rules": [rule("h", &["^ /x a:80", "^ /y a:80"])] }));
    let old = ingress("b", 0, json!({ "rules": [rule("h", &["^ /x b:80", "= /x b:80"])] }));
    let planned =
        check(&[young, old], &["h =/x: b b:http", "h ^/x/: b b:http", "h ^/y/: a a:http"]);
    assert_eq!(problems(&planned), ["a: prefix path \"/x\" is served by Ingress n/b"]);
    let first = ingress("a", 0, json!({ "rules": [rule("h", &["^ /x a:80"])] }));
    let second = ingress("b", 0, json!({ "rules": [rule("h", &["^ /x b:80"])] }));
    check(&[second, first], &["h ^/x/: a a:http"]);
}

#[test]
fn of_two_paths_that_match_the_same_the_longer_has_it() {
    let rules = json!([rule("h", &["^ /foo a:80", "^ /foo/ b:80"])]);
    check(&[ingress("i", 0, json!({ "rules": rules }))], &["h ^/foo/: i b:http"]);
}

#[test]
fn default_backends() {
    let alone = |name: &str, age| ingress(name, age, json!({ "defaultBackend": backend("a:80") }));
    check(&[alone("young", 1), alone("old", 0)], &["else: old a:http"]);
    let both = json!({ "defaultBackend": backend("b:80"), "rules": [rule("h", &["^ /x a:80"])] });
    let both = ingress("both", 0, both);
    let own = ["h ^/x/: both a:http", "h else: both b:http"];
    check(std::slice::from_ref(&both), &[own[0], own[1], "else: both b:http"]);
    check(&[both, alone("young", 1)], &[own[0], own[1], "else: young a:http"]);
    let spec = json!({ "defaultBackend": backend("b:80"), "rules": [{ "host": "h" }] });
    check(&[ingress("i", 0, spec)], &["h else: i b:http", "else: i b:http"]);
    check(&[ingress("i", 0, json!({ "rules": [{ "host": "h" }] }))], &[]);
    let empty = json!({ "rules": [{ "host": "h", "http": { "paths": [] } }] });
    check(&[ingress("i", 0, empty)], &["h: nothing"]);
}

#[test]
fn what_cannot_be_served_is_told_and_takes_nothing_from_others() {
    let resource = json!({ "resource": { "kind": "Bucket", "name": "x" } });
    let path = json!({ "pathType": "Prefix", "path": "/r", "backend": resource });
    let mut rules = rule(
        "h",
        &["^ /gone gone:80", "^ /port a:81", "^ /name a:nope", "^ /away away:80", "^ /ok a:80"],
    );
    rules["http"]["paths"].as_array_mut().unwrap().push(path);
    let planned = check(
        &[ingress("i", 0, json!({ "rules": [rules] }))],
        &[
            "h ^/away/: i nothing",
            "h ^/gone/: i nothing",
            "h ^/name/: i nothing",
            "h ^/ok/: i a:http",
            "h ^/port/: i nothing",
            "h ^/r/: i nothing",
        ],
    );
    assert_eq!(
        problems(&planned),
        [
            "i: Service n/a has no port 81",
            "i: Service n/a has no port nope",
            "i: Service n/away is an ExternalName, which is not served",
            "i: backend Bucket x: only Services are served",
            "i: there is no Service n/gone",
        ]
    );
}

#[test]
fn hosts_with_a_certificate_are_redirected() {
    let rules = json!([rule("a.x", &["^ / a:80"]), rule("b.x", &["^ / a:80"])]);
    let check_tls = |tls: Value, annotations: Value, expected: [&str; 2]| {
        let spec = json!({ "rules": rules, "tls": tls, "annotations": annotations });
        let lines = lines(&plan(&observed(&[ingress("i", 0, spec)])).model);
        let ends: Vec<_> = lines.iter().map(|line| line.split_once("http").unwrap().1).collect();
        assert_eq!(ends, expected, "{tls} {annotations}");
    };
    let none = json!({});
    let only_a = json!([{ "hosts": ["a.x"], "secretName": "s" }]);
    check_tls(json!([]), none.clone(), ["", ""]);
    check_tls(only_a.clone(), none.clone(), [" to https", ""]);
    check_tls(json!([{ "hosts": ["*.x"] }]), none.clone(), [" to https", " to https"]);
    check_tls(json!([{ "secretName": "s" }]), none, [" to https", " to https"]);
    let off = json!({ "nginx.ingress.kubernetes.io/ssl-redirect": "false" });
    check_tls(only_a.clone(), off, ["", ""]);
    let all = json!({ "nginx.ingress.kubernetes.io/force-ssl-redirect": "true" });
    check_tls(only_a, all, [" to https", " to https"]);
}

#[test]
fn certificates_are_for_hosts() {
    let tls = json!([
        { "hosts": ["A.x", "*.y"], "secretName": "s" },
        { "secretName": "t" },
        { "hosts": ["z"] },
    ]);
    let planned = plan(&observed(&[ingress("i", 0, json!({ "tls": tls }))]));
    let uses: Vec<_> = planned
        .model
        .certificates
        .iter()
        .map(|it| (it.hosts.as_ref().map(pattern), it.secret.to_string()))
        .collect();
    let own = |host: &str, secret: &str| (Some(host.to_owned()), secret.to_owned());
    assert_eq!(uses, [own("a.x", "n/s"), own("*.y", "n/s"), (None, "n/t".to_owned())]);
    let secrets: Vec<_> = planned.secrets.iter().map(ObjectKey::to_string).collect();
    assert_eq!(secrets, ["n/s", "n/t"]);
}

#[test]
fn what_annotations_say_badly_is_told() {
    let annotations = json!({ "ingress.kinglet.dev/proxy-read-timeout": "x" });
    let planned = plan(&observed(&[ingress("i", 0, json!({ "annotations": annotations }))]));
    assert_eq!(
        problems(&planned),
        ["i: annotation ingress.kinglet.dev/proxy-read-timeout: \"x\" is not understood"]
    );
}
