//! IPAddresses: who has an address of the cluster. The name is the address.
//!
//! Follows upstream `ValidateIPAddress` (pkg/apis/networking/validation, v1.35). Those of Services are
//! made and removed with them (`apiserver::allocate`).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{canonical_ip, immutable, invalid, required, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ParentReference};
use serde_json::Value;
use std::borrow::Cow;

impl Resource for IPAddress {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "ipaddress",
        short_names: &[Cow::Borrowed("ip")],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::IP_ADDRESS;
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::text("ParentRef", "The object that has the address.")];
    const NAME_RULE: names::Rule = address;

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("spec").child("parentRef");
        match parent(self) {
            // Decoding makes an empty one of none.
            None => vec![FieldError::required(&path, "")],
            Some(parent) => validate_parent(parent, &path),
        }
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let path = FieldPath::new("spec").child("parentRef");
        immutable(&path, to_value(&parent(self)), &to_value(&parent(old))).into_iter().collect()
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        let parent = parent(self).map(|parent| {
            let group = parent.group.as_deref().filter(|group| !group.is_empty());
            let mut text = parent.resource.to_lowercase();
            text.extend(group.map(|group| format!(".{group}")));
            let namespace = parent.namespace.as_deref().filter(|namespace| !namespace.is_empty());
            text.extend(namespace.map(|namespace| format!("/{namespace}")));
            format!("{text}/{}", parent.name)
        });
        vec![cells::name(&self.metadata), cells::or_none(parent.as_deref())]
    }
}

/// Upstream `ValidateIPAddressName`.
fn address(name: &str) -> Vec<String> {
    canonical_ip(&FieldPath::new("name"), name).map(|error| error.detail).into_iter().collect()
}

fn parent(address: &IPAddress) -> Option<&ParentReference> {
    let parent = &address.spec.as_ref()?.parent_ref;
    (*parent != ParentReference::default()).then_some(parent)
}

/// Upstream `validateIPAddressParentReference`.
fn validate_parent(parent: &ParentReference, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(group) = parent.group.as_deref().filter(|group| !group.is_empty()) {
        errors.extend(invalid(&path.child("group"), group, names::dns1123_subdomain(group)));
    }
    errors.extend(required(&path.child("resource"), &parent.resource, names::path_segment));
    errors.extend(required(&path.child("name"), &parent.name, names::path_segment));
    if let Some(namespace) = parent.namespace.as_deref().filter(|name| !name.is_empty()) {
        let path = path.child("namespace");
        errors.extend(invalid(&path, namespace, names::path_segment(namespace)));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn address(name: &str, parent: Value) -> Case {
        Case::of("ipaddresses", json!({"metadata": {"name": name}, "spec": {"parentRef": parent}}))
    }

    fn service() -> Value {
        json!({"resource": "services", "namespace": "default", "name": "web"})
    }

    #[test]
    fn names_are_addresses() {
        check(&address("10.43.0.1", service()), &[]);
        check(&address("fd00::1", service()), &[]);
        check(
            &address("fd00:0::1", service()),
            &[
                "metadata.name: Invalid value: \"fd00:0::1\": must be in canonical form (\"fd00::1\")",
            ],
        );
        check(
            &address("web", service()),
            &["metadata.name: Invalid value: \"web\": must be a valid IP address"],
        );
    }

    #[test]
    fn an_address_is_somebodys_and_stays_so() {
        check(&address("10.43.0.1", json!({})), &["spec.parentRef: Required value"]);
        check(
            &address("10.43.0.1", json!({"group": "A", "name": "a/b", "namespace": ".."})),
            &[
                "spec.parentRef.group: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "spec.parentRef.resource: Required value",
                "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'",
                "spec.parentRef.namespace: Invalid value: \"..\": may not be '..'",
            ],
        );
        check_update(
            &address("10.43.0.1", service()),
            &address("10.43.0.1", json!({"resource": "services", "name": "other"})),
            &["spec.parentRef: Invalid value: {"],
        );
    }

    #[test]
    fn cells() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let row = |parent| json!(address("10.43.0.1", parent).decode().row(now));
        assert_eq!(row(service()), json!(["10.43.0.1", "services/default/web"]));
        let gateway = json!({"group": "a.io", "resource": "Gateways", "name": "g"});
        assert_eq!(row(gateway), json!(["10.43.0.1", "gateways.a.io/g"]));
    }
}
