//! ValidatingWebhookConfigurations: who may refuse what is about to be written.
//!
//! Follows upstream pkg/registry/admissionregistration/validatingwebhookconfiguration (v1.35).

use super::EXTENSIONS;
use super::webhooks::{self, Blanks, Webhook};
use crate::api::FieldError;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use serde_json::Value;

impl Resource for ValidatingWebhookConfiguration {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "validatingwebhookconfiguration",
        categories: EXTENSIONS,
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::VALIDATING_WEBHOOK_CONFIGURATION;
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

fn all(configuration: &ValidatingWebhookConfiguration) -> Vec<Webhook<'_>> {
    configuration.webhooks.iter().flatten().map(Webhook::from).collect()
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::json;

    #[test]
    fn a_webhook_is_whole() {
        let case = Case::of(
            "validatingwebhookconfigurations",
            json!({"metadata": {"name": "x"}, "webhooks": [{
                "name": "a.b.c", "admissionReviewVersions": ["v1beta1"],
                "sideEffects": "NoneOnDryRun", "clientConfig": {"url": "https://a/b"},
            }]}),
        );
        check(&case, &[]);
        let object = case.created().to_value();
        assert_eq!(object["webhooks"][0]["timeoutSeconds"], 10);
        assert_eq!(object["webhooks"][0].get("reinvocationPolicy"), None);
        check(
            &case.with(json!({"webhooks": [{"clientConfig": {"service": {"port": 0}}}]})),
            &[
                "webhooks[0].name: Required value",
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                "webhooks[0].clientConfig.service.name: Required value",
                "webhooks[0].clientConfig.service.namespace: Required value",
                "webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "webhooks[0].admissionReviewVersions: Required value",
            ],
        );
    }
}
