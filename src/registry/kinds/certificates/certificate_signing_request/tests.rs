//! Tables of requests for certificates and what is wrong with them.

use crate::registry::kinds::testing::{Case, check, check_part, check_status_update, check_update};
use crate::registry::{Creator, Object};
use serde_json::{Value, json};

/// A request that openssl made, and a certificate for it.
const MANIFEST: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/kinds/CertificateSigningRequest.json"
));

fn signed() -> Case {
    Case::of("certificatesigningrequests", serde_json::from_str(MANIFEST).unwrap())
}

fn pending() -> Case {
    signed().with(json!({"status": null}))
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status})
}

fn with_conditions(request: &Case, conditions: &[Value]) -> Case {
    request.with(json!({"status": {"conditions": conditions}}))
}

/// An update of `/approval` has exactly these errors.
#[track_caller]
fn check_approval(old: &Case, new: &Case, expected: &[&str]) {
    check_part("approval", old, new, expected);
}

#[test]
fn requests() {
    check(&pending(), &[]);
    let not_a_request = signed().decode().to_value()["status"]["certificate"].clone();
    check(
        &pending().with(json!({"spec": {
            "request": not_a_request, "usages": ["any", "flying", "any"],
            "signerName": "kubernetes.io/legacy-unknown", "expirationSeconds": 599,
        }})),
        &[
            "spec.request: Invalid value:",
            "spec.usages[1]: Unsupported value: \"flying\": supported values: \"any\", \"cert sign\"",
            "spec.usages[2]: Duplicate value: \"any\"",
            "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version",
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
        ],
    );
    check(&pending().with(json!({"spec": {"usages": []}})), &["spec.usages: Required value"]);
}

#[test]
fn names_of_signers() {
    for (name, expected) in [
        ("example.com/a.b", [].as_slice()),
        ("", &["spec.signerName: Required value"]),
        (
            "a",
            &["spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path"],
        ),
        ("a.b/c/d", &["spec.signerName: Invalid value: \"a.b/c/d\": must be a fully qualified"]),
        (
            "a/b",
            &[
                "spec.signerName: Invalid value: \"a\": should be a domain with at least two segments",
            ],
        ),
        (
            "A.b/C",
            &[
                "spec.signerName: Invalid value: \"A.b\": validating label \"A\": a lowercase RFC 1123 label",
                "spec.signerName: Invalid value: \"C\": validating label \"C\": a lowercase RFC 1123 subdomain",
            ],
        ),
    ] {
        check(&pending().with(json!({"spec": {"signerName": name}})), expected);
    }
}

#[test]
fn nobody_asks_for_somebody_else_and_nothing_is_asked_twice() {
    let mut object = pending().created();
    let extra = [("key".to_owned(), vec!["value".to_owned()])].into();
    let groups = ["a".to_owned()];
    object.stamp_creator(Creator { user: "bob", uid: "7", groups: &groups, extra: &extra });
    let spec = object.to_value()["spec"].clone();
    assert_eq!((&spec["username"], &spec["groups"]), (&json!("bob"), &json!(["a"])));
    assert_eq!((&spec["uid"], &spec["extra"]), (&json!("7"), &json!({"key": ["value"]})));
    // An update of the object itself changes neither what was asked nor what was answered.
    check_update(&pending(), &signed().with(json!({"spec": {"usages": []}})), &[]);
}

#[test]
fn only_an_approval_decides() {
    let approved = with_conditions(&pending(), &[condition("Approved", "True")]);
    check_approval(&pending(), &approved, &[]);
    check_status_update(
        &pending(),
        &approved,
        &["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
    );
    check_approval(
        &approved,
        &with_conditions(&pending(), &[condition("Denied", "False"), condition("", "")]),
        &[
            "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
            "status.conditions[1].type: Required value",
            "status.conditions[1].status: Required value",
            "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"",
        ],
    );
    check_approval(
        &approved,
        &with_conditions(&pending(), &[condition("Approved", "True"), condition("Denied", "True")]),
        &[
            "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
        ],
    );
    // Who approves cannot sign: the certificate stays as it was.
    check_approval(&pending(), &signed(), &[]);
}

#[test]
fn a_certificate_is_set_once_by_the_status() {
    let approved = with_conditions(&pending(), &[condition("Approved", "True")]);
    check_status_update(&approved, &signed(), &[]);
    check_status_update(&signed(), &signed(), &[]);
    check_status_update(
        &signed(),
        &signed().with(json!({"status": {"certificate": null}})),
        &["status.certificate: Forbidden: updates may not modify existing certificate content"],
    );
    check_status_update(
        &approved,
        &approved.with(json!({"status": {"certificate": "aGVsbG8="}})),
        &[
            "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
        ],
    );
    let failed = [condition("Approved", "True"), condition("Failed", "True")];
    check_status_update(&approved, &with_conditions(&approved, &failed), &[]);
}

#[test]
fn conditions_know_since_when() {
    let began = "2026-01-01T00:00:00Z";
    let before = json!({"type": "Custom", "status": "True", "lastTransitionTime": began});
    let old = with_conditions(&pending(), &[before]).decode();
    let now = "2026-01-01T01:00:00Z";
    let again = [condition("Custom", "True"), condition("Approved", "True")];
    let mut new = with_conditions(&pending(), &again).decode();
    new.stamp_status(&*old, now.parse().unwrap());
    let conditions = new.to_value()["status"]["conditions"].clone();
    let times = |index: usize| {
        let condition = &conditions[index];
        (condition["lastTransitionTime"].clone(), condition["lastUpdateTime"].clone())
    };
    assert_eq!(times(0), (json!(began), json!(now)));
    assert_eq!(times(1), (json!(now), json!(now)));
}

#[test]
fn what_became_of_a_request() {
    let summary = |request: &dyn Object| request.row(jiff::Timestamp::UNIX_EPOCH)[5].clone();
    let denied =
        with_conditions(&pending(), &[condition("Denied", "True"), condition("Failed", "True")]);
    for (request, expected) in
        [(pending(), "Pending"), (signed(), "Approved,Issued"), (denied, "Denied,Failed")]
    {
        assert_eq!(summary(&*request.decode()), expected);
    }
}
