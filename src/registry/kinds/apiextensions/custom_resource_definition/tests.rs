//! Tables of what is wrong with definitions, and of what controllers decide of them.

use super::conditions;
use crate::registry::kinds::testing::{Case, check, check_update};
use crate::registry::{KINDS, Resource};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition,
};
use serde_json::{Value, json};

fn schema(spec: Value) -> Value {
    json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}})
}

fn version(name: &str, schema: Value) -> Value {
    json!({"name": name, "served": true, "storage": name == "v1", "schema": schema})
}

/// A definition with these versions.
fn of(versions: Value) -> Case {
    Case::of(
        "customresourcedefinitions",
        json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget"},
                "versions": versions,
            },
        }),
    )
}

fn good() -> Case {
    with_spec(json!({"type": "object", "properties": {"size": {"type": "integer"}}}))
}

fn with_spec(spec: Value) -> Case {
    of(json!([version("v1", schema(spec))]))
}

fn check_spec(spec: Value, expected: &[&str]) {
    let prefix = "spec.validation.openAPIV3Schema.properties[spec]";
    let expected: Vec<_> = expected.iter().map(|text| format!("{prefix}{text}")).collect();
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    check(&with_spec(spec), &expected);
}

#[test]
fn definitions_that_are_right_are_taken() {
    check(&good(), &[]);
    check(
        &of(json!([
            version("v1", schema(json!({"type": "object"}))),
            version("v2", schema(json!({"type": "string"}))),
        ])),
        &[],
    );
}

#[test]
fn names_are_filled_in_and_must_fit() {
    let created: Value = good().created().to_value();
    assert_eq!(created["spec"]["names"]["singular"], "widget");
    assert_eq!(created["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(created["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(created["status"]["storedVersions"], json!(["v1"]));
    check(
        &good().with(json!({
            "metadata": {"name": "other"},
            "spec": {
                "group": "nodots", "scope": "Everywhere",
                "names": {
                    "plural": "Widgets", "kind": "9Widget", "listKind": "9Widget",
                    "shortNames": ["ok", "No"], "categories": ["-"],
                },
            },
        })),
        &[
            "metadata.name: Invalid value: \"other\": must be spec.names.plural+\".\"+spec.group",
            "spec.group: Invalid value: \"nodots\": should be a domain with at least one dot",
            "spec.scope: Unsupported value: \"Everywhere\": supported values: \"Cluster\", \"Namespaced\"",
            "spec.names.plural: Invalid value: \"Widgets\": a DNS-1035 label must",
            "spec.names.singular: Invalid value: \"9widget\": a DNS-1035 label must",
            "spec.names.kind: Invalid value: \"9Widget\": may have mixed case, but should otherwise match: a DNS-1035 label",
            "spec.names.listKind: Invalid value: \"9Widget\": may have mixed case, but should",
            "spec.names.shortNames[1]: Invalid value: \"No\": a DNS-1035 label must",
            "spec.names.listKind: Invalid value: \"9Widget\": kind and listKind may not be the same",
            "spec.names.categories[0]: Invalid value: \"-\": a DNS-1035 label must",
        ],
    );
}

#[test]
fn exactly_one_version_is_stored_and_each_has_a_schema() {
    check(
        &of(json!([
            {"name": "v1", "served": true, "storage": true},
            {"name": "v1", "served": true, "storage": true},
            {"name": "V", "served": true, "storage": false, "schema": schema(json!({"type": "object"}))},
        ])),
        &[
            "spec.versions[0].schema.openAPIV3Schema: Required value",
            "spec.versions[1].schema.openAPIV3Schema: Required value",
            "spec.versions[2].name: Invalid value: \"V\": a DNS-1035 label",
            "spec.versions: Invalid value: [{",
            "spec.versions: Invalid value: [{",
        ],
    );
    let kept = good().with(json!({"spec": {"preserveUnknownFields": true}}));
    check(
        &kept,
        &[
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ],
    );
}

#[test]
fn schemas_are_structural() {
    check_spec(
        json!({}),
        &[".type: Required value: must not be empty for specified object fields"],
    );
    check_spec(
        json!({"type": "text", "nullable": true}),
        &[".type: Unsupported value: \"text\": supported values: \"array\", \"boolean\""],
    );
    check(
        &of(json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "nullable": true, "$ref": "x",
        }}}])),
        &[
            "spec.validation.openAPIV3Schema.nullable: Forbidden: nullable cannot be true at the root",
            "spec.validation.openAPIV3Schema.$ref: Forbidden: $ref is not supported",
        ],
    );
    check_spec(
        json!({
            "type": "object", "uniqueItems": true, "additionalProperties": {"type": "string"},
            "properties": {"a": {"type": "string", "pattern": "("}},
        }),
        &[
            ".properties[a].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`",
            ".uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ],
    );
}

#[test]
fn defaults_are_values_of_their_schema() {
    check_spec(json!({"type": "integer", "default": 1}), &[]);
    check_spec(
        json!({"type": "object", "properties": {
            "a": {"type": "integer", "default": "x"},
            "b": {"type": "object", "default": {"c": 1}, "properties": {"d": {"type": "integer"}}},
        }}),
        &[
            ".properties[a].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
            ".properties[b].default: Invalid value: {\"c\":1}: must not have unknown fields",
        ],
    );
    check(
        &of(json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object",
            "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "x"}}}},
        }}}])),
        &[
            "spec.validation.openAPIV3Schema.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata",
        ],
    );
}

#[test]
fn lists_say_how_their_elements_differ() {
    let list = |more: Value| {
        let mut list = json!({"type": "array", "items": {"type": "object", "properties": {
            "name": {"type": "string"}, "parts": {"type": "array", "items": {"type": "string"}},
        }}});
        json_patch::merge(&mut list, &more);
        list
    };
    check_spec(
        list(
            json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "parts", "none", "name"]}),
        ),
        &[
            ".items.properties[parts].type: Invalid value: \"object\": must be a scalar type if parent array's x-kubernetes-list-type is map",
            ".x-kubernetes-list-map-keys: Invalid value: [\"name\",\"parts\",\"none\",\"name\"]: entries must all be names of item properties",
            ".x-kubernetes-list-map-keys: Invalid value: [\"name\",\"parts\",\"none\",\"name\"]: must not contain duplicate entries",
            ".items.properties[name].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ".items.properties[parts].default: Required value: this property is in",
            ".items.properties[name].default: Required value: this property is in",
        ],
    );
    check_spec(
        list(json!({"x-kubernetes-list-type": "set"})),
        &[
            ".items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ],
    );
    check_spec(
        list(json!({"x-kubernetes-list-type": "odd", "x-kubernetes-list-map-keys": ["name"]})),
        &[
            ".x-kubernetes-list-type: Unsupported value: \"odd\": supported values: \"atomic\", \"set\", \"map\"",
            ".x-kubernetes-list-type: Invalid value: \"odd\": must be map if x-kubernetes-list-map-keys is non-empty",
        ],
    );
    check_spec(
        json!({"type": "string", "x-kubernetes-list-type": "atomic", "x-kubernetes-map-type": "odd"}),
        &[
            ".type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified",
            ".x-kubernetes-map-type: Unsupported value: \"odd\": supported values: \"atomic\", \"granular\"",
            ".type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
        ],
    );
}

#[test]
fn rules_have_the_form_of_rules() {
    check_spec(
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [
            {"rule": "self.a == ''", "message": "no", "fieldPath": ".a", "reason": "FieldValueForbidden"},
            {"rule": " "},
            {"rule": "x", "message": " "},
            {"rule": "x\ny"},
            {"rule": "x", "message": "a\nb", "messageExpression": " ", "reason": "Odd", "fieldPath": ".b"},
        ]}),
        &[
            ".x-kubernetes-validations[1].rule: Required value: rule is not specified",
            ".x-kubernetes-validations[2].message: Invalid value: \" \": must be non-empty if specified",
            ".x-kubernetes-validations[3].message: Required value: message must be specified if rule contains line breaks",
            ".x-kubernetes-validations[4].message: Invalid value: \"a\\nb\": must not contain line breaks",
            ".x-kubernetes-validations[4].messageExpression: Required value: messageExpression must be non-empty if specified",
            ".x-kubernetes-validations[4].reason: Unsupported value: \"Odd\": supported values: \"FieldValueDuplicate\"",
            ".x-kubernetes-validations[4].fieldPath: Invalid value: \".b\": must be a valid path",
        ],
    );
}

/// The form in which Go shows a rule.
fn shown(rule: &str) -> String {
    format!(
        "{{\"Rule\":\"{rule}\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}"
    )
}

#[test]
fn rules_can_be_compiled() {
    let with = |rule: Value| {
        json!({"type": "object", "x-kubernetes-validations": [rule], "properties": {
            "x": {"type": "integer"},
            "free": {"x-kubernetes-preserve-unknown-fields": true},
        }})
    };
    let at = ".x-kubernetes-validations[0]";
    check_spec(
        with(json!({"rule": "self.x > 1", "messageExpression": "self.x > 0 ? 'one' : 'few'"})),
        &[],
    );
    check_spec(
        with(json!({"rule": "self.z == 100"})),
        &[&format!(
            "{at}.rule: Invalid value: {}: compilation failed: ERROR: <input>:1:5: undefined field 'z'\n | self.z == 100\n | ....^",
            shown("self.z == 100")
        )],
    );
    check_spec(
        with(json!({"rule": "self = 42"})),
        &[&format!(
            "{at}.rule: Invalid value: {}: compilation failed: ERROR: <input>:1:6: Syntax error: ",
            shown("self = 42")
        )],
    );
    check_spec(
        with(json!({"rule": "self.x < 1 ? 1 : 2"})),
        &[&format!(
            "{at}.rule: Invalid value: {}: cel expression must evaluate to a bool",
            shown("self.x \\u003c 1 ? 1 : 2")
        )],
    );
    check_spec(
        with(json!({"rule": "has(self.free)"})),
        &[&format!(
            "{at}.rule: Invalid value: {}: compilation failed: ERROR: <input>:1:4: undefined field \
             'free'\n | has(self.free)\n | ...^",
            shown("has(self.free)")
        )],
    );
    check_spec(
        with(json!({"rule": "true", "messageExpression": "self.x"})),
        &[&format!(
            "{at}.messageExpression: Invalid value: {}: messageExpression must evaluate to a string",
            shown("true").replace("Expression\":\"\"", "Expression\":\"self.x\"")
        )],
    );
    check_spec(
        with(json!({"rule": "true", "optionalOldSelf": true})),
        &[
            ".x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ],
    );
    check_spec(
        json!({"type": "object", "properties": {
            "free": {"x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-validations": [{"rule": "true"}]},
        }}),
        &[
            ".properties[free].x-kubernetes-validations: Internal error: internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations",
        ],
    );
}

#[test]
fn rules_compare_what_can_be_told_to_be_the_same() {
    let list = |kind: &str| {
        let mut list = json!({"type": "array", "maxItems": 5, "x-kubernetes-list-type": kind, "items": {
            "type": "object", "required": ["k"], "x-kubernetes-map-type": "atomic",
            "properties": {"k": {"type": "string"}, "v": {"type": "integer",
                "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}});
        if kind == "map" {
            list["x-kubernetes-list-map-keys"] = json!(["k"]);
        }
        json!({"type": "object", "properties": {"list": list}})
    };
    check_spec(list("map"), &[]);
    let wrong = ".properties[list].items.properties[v].x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[spec].properties[list]";
    check_spec(list("set"), &[wrong]);
    check_spec(list("atomic"), &[wrong]);
}

#[test]
fn rules_may_not_cost_too_much() {
    let texts = |rule: &str| json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": rule}]});
    let advice = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
    let rule = "self.all(s, s == 'string constant')";
    let nested =
        json!({"type": "object", "properties": {"x": {"type": "array", "items": texts(rule)}}});
    let at = ".properties[x].items.x-kubernetes-validations[0].rule";
    let too_much = format!(
        "{at}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {advice}"
    );
    let contributed = format!(
        "{at}: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
    );
    let whole = format!(
        "spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x {advice}"
    );
    let prefix = "spec.validation.openAPIV3Schema.properties[spec]";
    let case = with_spec(nested);
    let expected = [format!("{prefix}{too_much}"), format!("{prefix}{contributed}"), whole];
    check(&case, &expected.each_ref().map(String::as_str));
    // What was taken before stays, but for all of it together.
    let same = case.with(json!({"metadata": {"labels": {"a": "b"}}}));
    check_update(&case, &same, &[&expected[1], &expected[2]]);
    let mut bounded = texts(rule);
    bounded["maxItems"] = json!(10);
    bounded["items"]["maxLength"] = json!(10);
    check_spec(json!({"type": "array", "maxItems": 10, "items": bounded}), &[]);
}

#[test]
fn defaults_keep_the_rules() {
    check_spec(
        json!({"type": "object", "properties": {
            "a": {"type": "integer", "default": 1, "x-kubernetes-validations": [{"rule": "self > 1"}]},
            "b": {"type": "object", "default": {"c": 1}, "properties": {"c": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "oldSelf.hasValue()", "optionalOldSelf": true}]},
        }}),
        &[
            ".properties[a].default: Invalid value: 1: failed rule: self > 1",
            ".properties[b].default: Invalid value: failed rule: oldSelf.hasValue()",
        ],
    );
}

#[test]
fn what_a_version_says_beside_its_schema() {
    let mut version = version(
        "v1",
        schema(
            json!({"type": "object", "properties": {"a": {"type": "string"}, "o": {"type": "object"}}}),
        ),
    );
    version["deprecationWarning"] = json!("x");
    version["subresources"] = json!({"scale": {
        "specReplicasPath": "spec.x", "statusReplicasPath": ".spec.x", "labelSelectorPath": ".metadata.x",
    }});
    version["additionalPrinterColumns"] = json!([
        {"name": "", "type": "odd", "format": "odd", "jsonPath": "x"},
        {"name": "A", "type": "date", "format": "date-time", "jsonPath": ".a"},
    ]);
    version["selectableFields"] = json!([
        {"jsonPath": ".spec.a"}, {"jsonPath": ".spec.a"}, {"jsonPath": ".spec.o"}, {"jsonPath": ".spec.x"}, {"jsonPath": ""},
    ]);
    check(
        &of(json!([version])),
        &[
            "spec.versions[0].deprecationWarning: Invalid value: \"x\": can only be set for deprecated versions",
            "spec.subresources.scale.specReplicasPath: Invalid value: \"spec.x\": must be a simple json path starting with .",
            "spec.subresources.scale.statusReplicasPath: Invalid value: \".spec.x\": should be a json path under .status",
            "spec.subresources.scale.labelSelectorPath: Invalid value: \".metadata.x\": should be a json path under either .spec or .status",
            "spec.additionalPrinterColumns[0].name: Required value",
            "spec.additionalPrinterColumns[0].type: Invalid value: \"odd\": must be one of boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].format: Invalid value: \"odd\": must be one of byte,date",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"x\": must be a simple json path starting with .",
            "spec.selectableFields[1].jsonPath: Duplicate value: \".spec.a\"",
            "spec.selectableFields[2].jsonPath: Invalid value: \".spec.o\": must point to a field of type string",
            "spec.selectableFields[3].jsonPath: Invalid value: \".spec.x\": is an invalid path: does not refer to a valid field",
            "spec.selectableFields[4].jsonPath: Required value",
        ],
    );
}

#[test]
fn a_status_that_is_a_subresource_stands_alone() {
    let mut version = version("v1", schema(json!({"type": "object"})));
    version["subresources"] = json!({"status": {}});
    check(&of(json!([version.clone()])), &[]);
    version["schema"]["openAPIV3Schema"]["minProperties"] = json!(1);
    check(&of(json!([version])), &["spec.validation.openAPIV3Schema: Invalid value: {"]);
}

#[test]
fn conversions_are_none_or_by_a_webhook() {
    let conversion = |conversion: Value| good().with(json!({"spec": {"conversion": conversion}}));
    check(
        &conversion(json!({"strategy": "Odd", "webhook": {"conversionReviewVersions": ["v1"]}})),
        &[
            "spec.conversion.strategy: Unsupported value: \"Odd\": supported values: \"None\", \"Webhook\"",
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook",
        ],
    );
    check(
        &conversion(json!({"strategy": "Webhook"})),
        &[
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ],
    );
    check(
        &conversion(json!({"strategy": "Webhook", "webhook": {
            "clientConfig": {"service": {"name": "x", "namespace": "y", "path": "/a"}},
            "conversionReviewVersions": ["v2", "v2"],
        }})),
        &[
            "spec.conversion.conversionReviewVersions[1]: Invalid value: \"v2\": duplicate version",
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include at least one of v1, v1beta1",
        ],
    );
    check(
        &conversion(json!({"strategy": "Webhook", "webhook": {
            "clientConfig": {"url": "http://x"}, "conversionReviewVersions": ["v1"],
        }})),
        &[
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme",
        ],
    );
}

fn in_community(annotation: Value) -> Case {
    good().with(json!({
        "metadata": {"name": "widgets.x.k8s.io", "annotations": {"api-approved.kubernetes.io": annotation}},
        "spec": {"group": "x.k8s.io"},
    }))
}

#[test]
fn groups_of_the_community_need_approval() {
    check(&in_community(json!("https://github.com/kubernetes/enhancements/pull/1111")), &[]);
    check(&in_community(json!("unapproved, testing")), &[]);
    check(
        &in_community(json!(null)),
        &[
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        ],
    );
    check(
        &in_community(json!("yes")),
        &[
            "metadata.annotations[api-approved.kubernetes.io]: Invalid value: \"yes\": protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason",
        ],
    );
}

#[test]
fn what_may_not_change() {
    let established =
        good().with(json!({"status": {"conditions": [{"type": "Established", "status": "True"}]}}));
    let renamed = good().with(json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.org", "scope": "Cluster", "names": {"plural": "others", "kind": "Other"}},
    }));
    check_update(
        &good(),
        &renamed,
        &[
            "spec.group: Invalid value: \"example.org\": field is immutable",
            "spec.names.plural: Invalid value: \"others\": field is immutable",
        ],
    );
    let old: CustomResourceDefinition = definition(&established);
    let mut new = definition(&renamed);
    Resource::apply_defaults(&mut new);
    let errors: Vec<_> =
        Resource::validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(errors[0], "spec.scope: Invalid value: \"Cluster\": field is immutable");
    assert_eq!(errors[1], "spec.names.kind: Invalid value: \"Other\": field is immutable");
}

#[test]
fn versions_that_were_stored_stay_until_they_are_not() {
    let second = of(
        json!([{"name": "v2", "served": true, "storage": true, "schema": schema(json!({"type": "object"}))}]),
    );
    check_update(
        &good(),
        &second,
        &[
            "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version",
        ],
    );
    let both = of(json!([
        {"name": "v1", "served": true, "storage": false, "schema": schema(json!({"type": "object"}))},
        {"name": "v2", "served": true, "storage": true, "schema": schema(json!({"type": "string"}))},
    ]));
    check_update(&good(), &both, &[]);
}

#[test]
fn an_update_may_leave_what_was_wrong() {
    let odd = with_spec(
        json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}),
    );
    let same = odd.with(json!({"metadata": {"labels": {"a": "b"}}}));
    check_update(&odd, &same, &[]);
    check_update(
        &good(),
        &odd,
        &[
            "spec.validation.openAPIV3Schema.properties[spec].items.x-kubernetes-map-type: Invalid value",
        ],
    );
}

fn definition(case: &Case) -> CustomResourceDefinition {
    serde_json::from_value(case.decode().to_value()).unwrap()
}

#[test]
fn unknown_formats_are_warned_of_where_they_are_new() {
    let odd = definition(&with_spec(json!({"type": "string", "format": "odd"})));
    assert_eq!(Resource::warnings(&odd, None), ["unrecognized format \"odd\""]);
    assert!(Resource::warnings(&odd, Some(&odd)).is_empty());
}

fn approved(case: &Case) -> Option<CustomResourceDefinitionCondition> {
    let it = definition(case);
    conditions::approved(&it.spec.group, it.metadata.annotations.as_ref())
}

#[test]
fn what_is_not_structural_or_not_approved_is_told() {
    assert_eq!(conditions::non_structural(&definition(&good())), None);
    let odd = conditions::non_structural(&definition(&with_spec(json!({})))).unwrap();
    assert_eq!(
        odd.message.as_deref(),
        Some(
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields"
        )
    );
    assert_eq!(approved(&good()), None);
    let good = approved(&in_community(json!("https://x/y"))).unwrap();
    assert_eq!((&*good.status, good.message.as_deref()), ("True", Some("approved in https://x/y")));
    let bypassed = approved(&in_community(json!("unapproved"))).unwrap();
    assert_eq!(bypassed.reason.as_deref(), Some("UnapprovedAnnotation"));
}

#[test]
fn definitions_stay_until_their_objects_are_gone() {
    let mut it = definition(&good());
    assert!(Resource::is_held(&it));
    Resource::begin_deletion(&mut it);
    assert_eq!(it.metadata.finalizers, Some(vec![super::CLEANUP_FINALIZER.to_owned()]));
    assert!(conditions::is_true(&it, conditions::TERMINATING));
    let (first, later) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
    let mut done = conditions::find(&it, conditions::TERMINATING).unwrap().clone();
    done.status = "False".to_owned();
    conditions::set(&mut it, done.clone(), first);
    // A status that stays has been so since before.
    conditions::set(&mut it, done, later);
    let since = conditions::find(&it, conditions::TERMINATING).unwrap();
    assert_eq!(since.last_transition_time.as_ref().unwrap().0, first);
    assert!(!Resource::is_held(&it));
}

fn at(time: &str) -> jiff::Timestamp {
    time.parse().unwrap()
}

/// Schemas are recursive, and their parts JSON: they are read and written as they are.
#[test]
fn schemas_survive_being_read_and_written() {
    let props = json!({
        "type": "object",
        "maximum": 5, "multipleOf": 0.5,
        "default": {"a": [1, null, 1.5]}, "enum": [1, "a", null],
        "items": {"type": "string", "x-kubernetes-preserve-unknown-fields": true},
        "additionalProperties": false,
        "not": {"required": ["a"]},
        "properties": {"b": {"additionalProperties": {"type": "integer", "minLength": 0}}},
        "x-kubernetes-validations": [{"rule": "true", "optionalOldSelf": true}],
    });
    let kind = KINDS.iter().find(|kind| kind.facts.plural == "customresourcedefinitions").unwrap();
    let mut value = with_spec(props.clone()).decode().to_value();
    let checked = kind.check(&mut value);
    assert!(checked.is_clean(), "{checked:?}");
    let stored = kind.decode(value).unwrap().encode();
    let text = std::str::from_utf8(&stored).unwrap();
    assert!(text.contains("\"maximum\":5,"), "whole numbers have no point: {text}");
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let read = &stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    assert_eq!(*read, props);
}
