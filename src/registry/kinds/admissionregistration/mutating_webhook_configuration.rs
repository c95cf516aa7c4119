//! MutatingWebhookConfigurations: who may change what is about to be written.
//!
//! Follows upstream pkg/registry/admissionregistration/mutatingwebhookconfiguration (v1.35).

use super::EXTENSIONS;
use super::webhooks::{self, Blanks, Webhook};
use crate::api::FieldError;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde_json::Value;

impl Resource for MutatingWebhookConfiguration {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "mutatingwebhookconfiguration",
        categories: EXTENSIONS,
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::MUTATING_WEBHOOK_CONFIGURATION;
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::integer("Webhooks", "How many webhooks there are."), Column::AGE];
    const UPDATES_UNCONDITIONALLY: bool = false;

    fn apply_defaults(&mut self) {
        for hook in self.webhooks.iter_mut().flatten() {
            let blanks = Blanks {
                client: &mut hook.client_config,
                failure_policy: &mut hook.failure_policy,
                match_policy: &mut hook.match_policy,
                timeout_seconds: &mut hook.timeout_seconds,
                namespaces: &mut hook.namespace_selector,
                objects: &mut hook.object_selector,
                rules: &mut hook.rules,
            };
            blanks.fill();
            hook.reinvocation_policy.get_or_insert_with(|| "Never".to_owned());
        }
    }

    fn validate_create(&self) -> Vec<FieldError> {
        webhooks::validate(&all(self), None)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        webhooks::validate(&all(self), Some(&all(old)))
    }

    fn is_new_generation(&self, old: &Self) -> bool {
        self.webhooks != old.webhooks
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            cells::name(&self.metadata),
            self.webhooks.as_ref().map_or(0, Vec::len).into(),
            cells::age(&self.metadata, now),
        ]
    }
}

fn all(configuration: &MutatingWebhookConfiguration) -> Vec<Webhook<'_>> {
    configuration.webhooks.iter().flatten().map(Webhook::from).collect()
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn hook(changes: Value) -> Value {
        let mut hook = json!({
            "name": "a.b.c", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"namespace": "ns", "name": "web"}},
        });
        json_patch::merge(&mut hook, &changes);
        hook
    }

    fn of(hooks: &[Value]) -> Case {
        let object = json!({"metadata": {"name": "x"}, "webhooks": hooks});
        Case::of("mutatingwebhookconfigurations", object)
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let object = of(&[hook(json!({"rules": [{}]}))]).created().to_value();
        let hook = &object["webhooks"][0];
        assert_eq!(hook["failurePolicy"], "Fail");
        assert_eq!(hook["matchPolicy"], "Equivalent");
        assert_eq!(hook["reinvocationPolicy"], "Never");
        assert_eq!(hook["timeoutSeconds"], 10);
        assert_eq!(hook["namespaceSelector"], json!({}));
        assert_eq!(hook["objectSelector"], json!({}));
        assert_eq!(hook["rules"][0]["scope"], "*");
        assert_eq!(hook["clientConfig"]["service"]["port"], 443);
    }

    #[test]
    fn a_webhook_is_whole() {
        check(&of(&[]), &[]);
        check(&of(&[hook(json!({})), hook(json!({"name": "d.b.c"}))]), &[]);
        check(
            &of(&[hook(json!({
                "name": "a.b", "failurePolicy": "Maybe", "matchPolicy": "Rough",
                "reinvocationPolicy": "Always", "sideEffects": "Some", "timeoutSeconds": 31,
                "namespaceSelector": {"matchLabels": {"a": "-"}},
                "objectSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]},
                "clientConfig": {"url": "https://a"}, "rules": [{}],
                "matchConditions": [{"name": "c", "expression": " "}],
                "admissionReviewVersions": ["v2", "v2", "3"],
            }))]),
            &[
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
                "webhooks[0].rules[0].operations: Required value",
                "webhooks[0].rules[0].apiGroups: Required value",
                "webhooks[0].rules[0].apiVersions: Required value",
                "webhooks[0].rules[0].resources: Required value",
                "webhooks[0].failurePolicy: Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"",
                "webhooks[0].matchPolicy: Unsupported value: \"Rough\": supported values: \"Equivalent\", \"Exact\"",
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                "webhooks[0].namespaceSelector.matchLabels: Invalid value: \"-\"",
                "webhooks[0].objectSelector.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator",
                "webhooks[0].reinvocationPolicy: Unsupported value: \"Always\": supported values: \"IfNeeded\", \"Never\"",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                "webhooks[0].matchConditions[0].expression: Required value",
                "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version",
                "webhooks[0].admissionReviewVersions[2]: Invalid value: \"3\": a DNS-1035 label must",
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\",\"v2\",\"3\"]: must include at least one of v1, v1beta1",
            ],
        );
        check(
            &of(&[hook(json!({
                "name": "A", "sideEffects": null, "admissionReviewVersions": [],
                "clientConfig": {"service": null, "url": "http://a"},
            }))]),
            &[
                "webhooks[0].name: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme",
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ],
        );
        let twice = of(&[hook(json!({})), hook(json!({}))]);
        check(&twice, &["webhooks[1].name: Duplicate value: \"a.b.c\""]);
        check_update(&of(&[]), &twice, &["webhooks[1].name: Duplicate value: \"a.b.c\""]);
    }

    #[test]
    fn webhooks_count_as_generations() {
        let (old, new) = (of(&[]).created(), of(&[hook(json!({}))]).created());
        assert!(new.is_new_generation(&*old));
        assert!(!old.is_new_generation(&*old));
        assert_eq!(old.first_generation(), Some(1));
    }
}
