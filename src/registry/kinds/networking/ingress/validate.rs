//! What is wrong with an Ingress.
//!
//! Follows upstream `ValidateIngressCreate`, `ValidateIngressUpdate` and
//! `ValidateIngressStatusUpdate` (pkg/apis/networking/validation, v1.35). What upstream still takes
//! because it was valid long ago cannot be stored here, and is not taken.

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, invalid_number, ip, parse_ip, required};
use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressLoadBalancerIngress, IngressRule,
    IngressServiceBackend, IngressSpec, IngressTLS,
};

/// How a class was named before there was `spec.ingressClassName`.
pub(super) const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Not in a path that is compared as it is: nobody could say what it is compared with.
const AMBIGUOUS_PARTS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const AMBIGUOUS_ENDS: [&str; 2] = ["/..", "/."];
const NOT_A_NAME: &str = "must be a DNS name, not an IP address";

pub(super) fn validate(spec: &IngressSpec) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    let rules = spec.rules.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    if rules.is_empty() && spec.default_backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&path, serde_json::Value::Null, detail));
    }
    if let Some(backend) = &spec.default_backend {
        errors.extend(validate_backend(backend, &path.child("defaultBackend")));
    }
    for (index, rule) in rules.iter().enumerate() {
        errors.extend(validate_rule(rule, &path.child("rules").index(index)));
    }
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        errors.extend(validate_tls(tls, &path.child("tls").index(index)));
    }
    if let Some(class) = spec.ingress_class_name.as_deref() {
        let path = path.child("ingressClassName");
        errors.extend(invalid(&path, class, names::dns1123_subdomain(class)));
    }
    errors
}

/// A new Ingress does not name two classes.
pub(super) fn validate_class(ingress: &Ingress) -> Option<FieldError> {
    let class = ingress.spec.as_ref()?.ingress_class_name.as_ref()?;
    let annotated = ingress.metadata.annotations.as_ref()?.get(CLASS_ANNOTATION)?;
    let path = FieldPath::new("annotations").child(CLASS_ANNOTATION);
    let detail = "must match `ingressClassName` when both are specified";
    (annotated != class).then(|| FieldError::invalid(&path, annotated.as_str(), detail))
}

pub(super) fn validate_status(ingress: &Ingress, old: &Ingress) -> Vec<FieldError> {
    let path = FieldPath::new("status").child("loadBalancer").child("ingress");
    let known: Vec<_> = served_at(old).filter_map(|one| one.ip.as_deref()).collect();
    let mut errors = Vec::new();
    for (index, one) in served_at(ingress).enumerate() {
        let path = path.index(index);
        let address = one.ip.as_deref().filter(|ip| !ip.is_empty() && !known.contains(ip));
        errors.extend(address.and_then(|address| ip(&path.child("ip"), address)));
        if let Some(name) = one.hostname.as_deref().filter(|name| !name.is_empty()) {
            let path = path.child("hostname");
            errors.extend(invalid(&path, name, names::dns1123_subdomain(name)));
            errors.extend(not_an_address(&path, name));
        }
    }
    errors
}

fn served_at(ingress: &Ingress) -> impl Iterator<Item = &IngressLoadBalancerIngress> {
    let balancer = ingress.status.iter().flat_map(|status| &status.load_balancer);
    balancer.flat_map(|balancer| balancer.ingress.iter().flatten())
}

fn not_an_address(path: &FieldPath, name: &str) -> Option<FieldError> {
    parse_ip(name).map(|_| FieldError::invalid(path, name, NOT_A_NAME))
}

fn validate_host(path: &FieldPath, host: &str) -> Vec<FieldError> {
    let is_pattern = host.contains('*');
    let rule =
        if is_pattern { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
    invalid(path, host, rule(host))
}

fn validate_tls(tls: &IngressTLS, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, host) in tls.hosts.iter().flatten().enumerate() {
        errors.extend(validate_host(&path.child("hosts").index(index), host));
    }
    if let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) {
        errors.extend(invalid(&path.child("secretName"), name, names::dns1123_subdomain(name)));
    }
    errors
}

fn validate_rule(rule: &IngressRule, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(host) = rule.host.as_deref().filter(|host| !host.is_empty()) {
        let path = path.child("host");
        errors.extend(not_an_address(&path, host));
        errors.extend(validate_host(&path, host));
    }
    if let Some(http) = &rule.http {
        let path = path.child("http").child("paths");
        if http.paths.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        for (index, one) in http.paths.iter().enumerate() {
            errors.extend(validate_path(one, &path.index(index)));
        }
    }
    errors
}

fn validate_path(http: &HTTPIngressPath, path: &FieldPath) -> Vec<FieldError> {
    let (text, text_path) = (http.path.as_deref().unwrap_or_default(), path.child("path"));
    let mut errors = Vec::new();
    match http.path_type.as_str() {
        "" => {
            let detail = "pathType must be specified";
            return vec![FieldError::required(&path.child("pathType"), detail)];
        }
        "Exact" | "Prefix" => {
            errors.extend(absolute(&text_path, text));
            let parts = AMBIGUOUS_PARTS.iter().filter(|part| text.contains(**part));
            errors.extend(parts.map(|part| {
                FieldError::invalid(&text_path, text, format!("must not contain '{part}'"))
            }));
            let ends = AMBIGUOUS_ENDS.iter().filter(|end| text.ends_with(**end));
            errors.extend(ends.map(|end| {
                FieldError::invalid(&text_path, text, format!("cannot end with '{end}'"))
            }));
        }
        "ImplementationSpecific" => {
            errors.extend(absolute(&text_path, text).filter(|_| !text.is_empty()));
        }
        other => {
            let kinds = &["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(FieldError::not_supported(&path.child("pathType"), other, kinds));
        }
    }
    errors.extend(validate_backend(&http.backend, &path.child("backend")));
    errors
}

fn absolute(path: &FieldPath, text: &str) -> Option<FieldError> {
    let detail = "must be an absolute path";
    (!text.starts_with('/')).then(|| FieldError::invalid(path, text, detail))
}

fn validate_backend(backend: &IngressBackend, path: &FieldPath) -> Vec<FieldError> {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            let detail = "cannot set both resource and service backends";
            vec![FieldError::invalid(path, "", detail)]
        }
        (None, None) => {
            vec![FieldError::invalid(path, "", "resource or service backend is required")]
        }
        (Some(resource), None) => validate_resource(resource, &path.child("resource")),
        (None, Some(service)) => validate_service(service, path),
    }
}

/// Upstream `validateIngressTypedLocalObjectReference`.
fn validate_resource(resource: &TypedLocalObjectReference, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(group) = resource.api_group.as_deref() {
        errors.extend(invalid(&path.child("apiGroup"), group, names::dns1123_subdomain(group)));
    }
    errors.extend(required(&path.child("kind"), &resource.kind, names::path_segment));
    errors.extend(required(&path.child("name"), &resource.name, names::path_segment));
    errors
}

fn validate_service(service: &IngressServiceBackend, path: &FieldPath) -> Vec<FieldError> {
    let service_path = path.child("service");
    let mut errors = required(&service_path.child("name"), &service.name, names::dns1035_label);
    let port_path = service_path.child("port");
    let port = service.port.clone().unwrap_or_default();
    let name = port.name.filter(|name| !name.is_empty());
    match (name, port.number.filter(|number| *number != 0)) {
        (Some(_), Some(_)) => {
            let detail = "cannot set both port name & port number";
            errors.push(FieldError::invalid(path, "", detail));
        }
        (Some(name), None) => {
            errors.extend(invalid(&port_path.child("name"), &name, names::port_name(&name)));
        }
        (None, Some(number)) => {
            errors.extend(invalid_number(&port_path.child("number"), number, names::port_number));
        }
        (None, None) => {
            errors.push(FieldError::required(path, "port name or number is required"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
    use serde_json::{Value, json};

    fn ingress(spec: Value) -> Case {
        let metadata = json!({"name": "web", "namespace": "default"});
        Case::of("ingresses", json!({"metadata": metadata, "spec": spec}))
    }

    fn service() -> Value {
        json!({"service": {"name": "web", "port": {"number": 80}}})
    }

    #[track_caller]
    fn check_backend(backend: Value, expected: &[&str]) {
        check(&ingress(json!({"defaultBackend": backend})), expected);
    }

    /// One path, by its type and text.
    #[track_caller]
    fn check_path(kind: &str, text: &str, expected: &[&str]) {
        let path = json!({"path": text, "pathType": kind, "backend": service()});
        check(&ingress(json!({"rules": [{"http": {"paths": [path]}}]})), expected);
    }

    #[track_caller]
    fn check_host(host: &str, expected: &[&str]) {
        check(&ingress(json!({"rules": [{"host": host}]})), expected);
    }

    #[test]
    fn it_leads_somewhere() {
        check(
            &ingress(json!({})),
            &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
        );
        check(
            &ingress(json!({"rules": [{"http": {"paths": []}}]})),
            &["spec.rules[0].http.paths: Required value"],
        );
        check_backend(service(), &[]);
        let path = "spec.defaultBackend";
        check_backend(
            json!({}),
            &[&format!("{path}: Invalid value: \"\": resource or service backend is required")],
        );
        check_backend(
            json!({"service": {"name": "web"}, "resource": {"kind": "K", "name": "n"}}),
            &[&format!("{path}: Invalid value: \"\": cannot set both resource and service")],
        );
        check_backend(
            json!({"resource": {"apiGroup": "A", "kind": "", "name": ".."}}),
            &[
                &format!("{path}.resource.apiGroup: Invalid value: \"A\": a lowercase RFC 1123"),
                &format!("{path}.resource.kind: Required value"),
                &format!("{path}.resource.name: Invalid value: \"..\": may not be '..'"),
            ],
        );
        for (backend, expected) in [
            (
                json!({"name": ""}),
                [".service.name: Required value", ": Required value: port name or"],
            ),
            (
                json!({"name": "9", "port": {"name": "a", "number": 1}}),
                [
                    ".service.name: Invalid value: \"9\": a DNS-1035 label must",
                    ": Invalid value: \"\": cannot set both port name & port number",
                ],
            ),
        ] {
            let expected = expected.map(|text| format!("{path}{text}"));
            check_backend(json!({"service": backend}), &[&expected[0], &expected[1]]);
        }
        for (port, expected) in [
            (json!({"name": "-"}), ".name: Invalid value: \"-\": must contain at least one letter"),
            (json!({"number": 65_536}), ".number: Invalid value: 65536: must be between 1 and"),
        ] {
            let case = ingress(json!({"defaultBackend": {"service": {"name": "a", "port": port}}}));
            let texts: Vec<_> = case.created().validate().iter().map(ToString::to_string).collect();
            let expected = format!("{path}.service.port{expected}");
            assert!(texts.iter().any(|text| text.starts_with(&expected)), "{texts:?}");
        }
    }

    #[test]
    fn paths_mean_one_thing() {
        let at = "spec.rules[0].http.paths[0]";
        let wrong =
            |text: &str, detail: &str| format!("{at}.path: Invalid value: \"{text}\": {detail}");
        for text in ["/", "/a", "/a/", "/a.b/...", "/a%20b"] {
            check_path("Exact", text, &[]);
            check_path("Prefix", text, &[]);
        }
        for (text, detail) in [
            ("", "must be an absolute path"),
            ("a", "must be an absolute path"),
            ("/a//b", "must not contain '//'"),
            ("/a/./b", "must not contain '/./'"),
            ("/a/../b", "must not contain '/../'"),
            ("/a%2fb", "must not contain '%2f'"),
            ("/a%2Fb", "must not contain '%2F'"),
            ("/a/..", "cannot end with '/..'"),
            ("/a/.", "cannot end with '/.'"),
        ] {
            check_path("Exact", text, &[&wrong(text, detail)]);
        }
        check_path("ImplementationSpecific", "", &[]);
        check_path("ImplementationSpecific", "/a//b", &[]);
        check_path("ImplementationSpecific", "a", &[&wrong("a", "must be an absolute path")]);
        check_path("Regex", "/", &[&format!("{at}.pathType: Unsupported value: \"Regex\"")]);
        check_path("", "/", &[&format!("{at}.pathType: Required value: pathType must be")]);
    }

    #[test]
    fn hosts_are_names_or_patterns_of_names() {
        for host in ["", "a.example.com", "*.example.com"] {
            check_host(host, &[]);
        }
        let at = "spec.rules[0].host: Invalid value";
        check_host("1.2.3.4", &[&format!("{at}: \"1.2.3.4\": must be a DNS name, not an IP")]);
        check_host("A", &[&format!("{at}: \"A\": a lowercase RFC 1123 subdomain")]);
        check_host("a.*.b", &[&format!("{at}: \"a.*.b\": a wildcard DNS-1123 subdomain")]);
        let tls = json!([{"hosts": ["*.a", "b"], "secretName": "s"}, {"hosts": ["*", "B"], "secretName": "S"}]);
        check(
            &ingress(json!({"defaultBackend": service(), "tls": tls})),
            &[
                "spec.tls[1].hosts[0]: Invalid value: \"*\": a wildcard DNS-1123 subdomain",
                "spec.tls[1].hosts[1]: Invalid value: \"B\": a lowercase RFC 1123 subdomain",
                "spec.tls[1].secretName: Invalid value: \"S\": a lowercase RFC 1123 subdomain",
            ],
        );
    }

    #[test]
    fn one_class() {
        let named = |class: &str, annotated: &str| {
            ingress(json!({"defaultBackend": service(), "ingressClassName": class})).with(
                json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": annotated}}}),
            )
        };
        check(&named("a", "a"), &[]);
        let both = "annotations.kubernetes.io/ingress.class: Invalid value: \"b\": must match `ingressClassName`";
        check(&named("a", "b"), &[both]);
        check_update(&named("a", "a"), &named("a", "b"), &[]);
        check(&named("A", "A"), &["spec.ingressClassName: Invalid value: \"A\": a lowercase"]);
    }

    #[test]
    fn where_it_is_served() {
        let served = |ingress: Value| {
            self::ingress(json!({"defaultBackend": service()}))
                .with(json!({"status": {"loadBalancer": {"ingress": ingress}}}))
        };
        let old = served(json!([{"ip": "odd"}]));
        check_status_update(&old, &served(json!([{"ip": "odd"}, {"hostname": "a.b"}])), &[]);
        let at = "status.loadBalancer.ingress";
        check_status_update(
            &old,
            &served(json!([{"ip": "1.2"}, {"hostname": "1.2.3.4"}, {"hostname": "A"}])),
            &[
                &format!("{at}[0].ip: Invalid value: \"1.2\": must be a valid IP address"),
                &format!("{at}[1].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not"),
                &format!("{at}[2].hostname: Invalid value: \"A\": a lowercase RFC 1123 subdomain"),
            ],
        );
    }
}
