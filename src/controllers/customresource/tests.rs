//! Tables of what becomes of a definition.

use super::plan::{Content, Observed, Structure, plan};
use crate::control::Write;
use crate::controllers::definition::Definition;
use serde_json::{Value, json};
use std::sync::Arc;

fn definition(plural: &str, more: &Value) -> Arc<Definition> {
    let kind = plural.to_uppercase();
    let mut definition = json!({
        "metadata": {"name": format!("{plural}.example.com"), "uid": plural, "resourceVersion": "7"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, "shortNames": ["x"]},
            "versions": [{"name": "v1", "served": true}],
        },
    });
    json_patch::merge(&mut definition, more);
    Arc::new(serde_json::from_value(definition).unwrap())
}

/// What is planned: conditions as `Type=Status/Reason`, accepted names, deletions and finalizers.
fn planned(of: Arc<Definition>, others: &[Arc<Definition>], content: Option<Content>) -> String {
    planned_with(of, others, content, Structure::Sound)
}

fn planned_with(
    of: Arc<Definition>,
    others: &[Arc<Definition>],
    content: Option<Content>,
    structure: Structure,
) -> String {
    let observed = Observed {
        definition: of,
        others: others.to_vec(),
        content: content.map(Ok),
        structure,
        now: "2026-11-22T00:00:00Z".parse().unwrap(),
    };
    let planned = plan(&observed);
    let writes = planned.writes();
    let told = writes.map(|write| match write {
        Write::DeleteCollection { resource, namespace, .. } => {
            format!("delete {} in {}", resource.plural, namespace.as_deref().unwrap_or("cluster"))
        }
        write => {
            let body = write.body();
            assert_eq!(body["metadata"]["resourceVersion"], "7", "of what was looked at");
            let conditions = body["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let mut told: Vec<_> = conditions
                .iter()
                .map(|it| {
                    format!("{}={}/{}", text(&it["type"]), text(&it["status"]), text(&it["reason"]))
                })
                .collect();
            let names = &body["status"]["acceptedNames"];
            if names.is_object() {
                let short = names.get("shortNames").map(Value::to_string).unwrap_or_default();
                told.push(format!("{} {} {short}", text(&names["plural"]), text(&names["kind"])));
            }
            if let Some(finalizers) = body["metadata"].get("finalizers") {
                told.push(format!("finalizers {finalizers}"));
            }
            told.join(" ")
        }
    });
    told.collect::<Vec<_>>().join("; ")
}

fn established(plural: &str) -> Value {
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    json!({"status": {
        "acceptedNames": {"plural": plural, "kind": plural.to_uppercase(), "shortNames": ["x"]},
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted",
                "the initial names have been accepted"),
        ],
    }})
}

#[test]
fn a_definition_has_the_names_that_are_free() {
    let new = || definition("a", &json!({}));
    assert_eq!(
        planned(new(), &[], None),
        "NamesAccepted=True/NoConflicts Established=True/InitialNamesAccepted a A [\"x\"]"
    );
    let other = definition("b", &established("b"));
    assert_eq!(
        planned(new(), &[other], None),
        "NamesAccepted=False/ShortNamesConflict Established=False/NotAccepted a A "
    );
    let settled = definition("a", &established("a"));
    assert_eq!(planned(Arc::clone(&settled), &[], None), "", "nothing is left to be said");
    // What it asks for later it has only if it is free; it stays established.
    let mut asks = established("a");
    asks["spec"]["names"] = json!({"plural": "a", "kind": "C", "shortNames": ["x", "y"]});
    let kind = json!({"status": {"acceptedNames": {"plural": "c", "kind": "C"}}});
    assert_eq!(
        planned(definition("a", &asks), &[definition("c", &kind)], None),
        "NamesAccepted=False/KindConflict Established=True/InitialNamesAccepted a A [\"x\",\"y\"]"
    );
}

#[test]
fn a_definition_goes_after_its_objects() {
    let going = |more: Value| {
        let mut going = established("a");
        let finalizers = json!(["example.com/other", "customresourcecleanup.apiextensions.k8s.io"]);
        going["metadata"] = json!({
            "deletionTimestamp": "2026-11-22T00:00:00Z", "finalizers": finalizers,
        });
        json_patch::merge(&mut going, &more);
        definition("a", &going)
    };
    let content = |namespaces: &[(&str, usize)]| {
        let of = namespaces.iter();
        Some(of.map(|(namespace, count)| (Some((*namespace).to_owned()), *count)).collect())
    };
    let before = "NamesAccepted=True/NoConflicts Established=True/InitialNamesAccepted";
    assert_eq!(
        planned(going(json!({})), &[], content(&[("n", 2), ("m", 0)])),
        format!("{before} Terminating=True/InstanceDeletionInProgress; delete a in n")
    );
    assert_eq!(
        planned(going(json!({})), &[], content(&[])),
        format!("{before} Terminating=False/InstanceDeletionCompleted")
    );
    let mut done = established("a");
    done["status"]["conditions"].as_array_mut().unwrap().push(json!({
        "type": "Terminating", "status": "False", "reason": "InstanceDeletionCompleted",
        "message": "removed all instances", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }));
    assert_eq!(
        planned(going(json!({"status": done["status"]})), &[], content(&[])),
        "finalizers [\"example.com/other\"]"
    );
    let never = json!({"status": {"conditions": null, "acceptedNames": null}});
    assert_eq!(planned(going(never), &[], None), "Terminating=False/NeverEstablished");
    let gone = json!({"metadata": {"finalizers": ["example.com/other"]}});
    assert_eq!(planned(going(gone), &[], None), "", "the rest is not ours to decide");
}

#[test]
fn a_definition_whose_webhook_nobody_could_believe_is_not_served() {
    let webhook = |bundle: &str| {
        let client = json!({"url": "https://a", "caBundle": bundle});
        json!({"spec": {"conversion": {"strategy": "Webhook", "webhook":
            {"clientConfig": client, "conversionReviewVersions": ["v1"]}}}})
    };
    assert_eq!(
        planned(definition("a", &webhook("eA==")), &[], None),
        "NamesAccepted=True/NoConflicts Established=False/InvalidCABundle a A [\"x\"]"
    );
    assert_eq!(
        planned(definition("a", &webhook("")), &[], None),
        "NamesAccepted=True/NoConflicts Established=True/InitialNamesAccepted a A [\"x\"]"
    );
    // What is established stays so.
    let mut settled = established("a");
    json_patch::merge(&mut settled, &webhook("eA=="));
    assert_eq!(planned(definition("a", &settled), &[], None), "");
}

#[test]
fn groups_of_the_community_are_told_whether_they_are_approved() {
    let check = |annotation: &str, expected: &str| {
        let mut protected = established("a");
        protected["spec"] = json!({"group": "example.k8s.io"});
        protected["metadata"] = json!({"annotations": {"api-approved.kubernetes.io": annotation}});
        let told = planned(definition("a", &protected), &[], None);
        let last = told.rsplit(' ').next().unwrap_or_default();
        assert_eq!(last, format!("KubernetesAPIApprovalPolicyConformant={expected}"));
    };
    check("https://github.com/kubernetes/kubernetes/pull/1", "True/ApprovedAnnotation");
    check("unapproved, an experiment", "False/UnapprovedAnnotation");
    check("", "False/MissingAnnotation");
    check("x", "False/InvalidAnnotation");
}

#[test]
fn schemas_without_structure_are_told_and_forgotten() {
    use crate::registry::kinds::apiextensions::conditions::{NON_STRUCTURAL, condition};
    let settled = || definition("a", &established("a"));
    let odd = condition(NON_STRUCTURAL, "True", "Violations", "they are odd");
    let told = planned_with(settled(), &[], None, Structure::Odd(Box::new(odd)));
    assert!(told.ends_with(" NonStructuralSchema=True/Violations"), "{told}");
    let mut was_odd = established("a");
    was_odd["status"]["conditions"].as_array_mut().unwrap().push(json!({
        "type": "NonStructuralSchema", "status": "True", "reason": "Violations",
        "message": "they are odd", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }));
    let of = || definition("a", &was_odd);
    let before = "NamesAccepted=True/NoConflicts Established=True/InitialNamesAccepted";
    assert_eq!(planned(of(), &[], None), before, "the condition goes");
    assert_eq!(planned_with(of(), &[], None, Structure::Unknown), "", "it is left as it is");
}

#[test]
fn a_built_in_kind_keeps_its_objects_when_its_definition_goes() {
    let mut going = established("ingresses");
    going["metadata"] = json!({
        "deletionTimestamp": "2026-11-22T00:00:00Z",
        "finalizers": ["customresourcecleanup.apiextensions.k8s.io"],
    });
    going["spec"] = json!({"group": "networking.k8s.io"});
    let told = planned(definition("ingresses", &going), &[], None);
    assert!(told.ends_with(" Terminating=False/OverlappingBuiltInResource"), "{told}");
}
