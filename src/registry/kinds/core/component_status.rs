//! ComponentStatuses: whether the parts of the control plane are well. None is stored: they are
//! worked out when they are read (upstream pkg/registry/core/componentstatus, v1.35).

use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, READ_ONLY, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ComponentStatus;
use serde_json::Value;
use std::borrow::Cow;

impl Resource for ComponentStatus {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "componentstatus",
        short_names: &[Cow::Borrowed("cs")],
        verbs: READ_ONLY,
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::COMPONENT_STATUS;
    const DEPRECATION: Option<&'static str> = Some("v1 ComponentStatus is deprecated in v1.19+");
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Status", "Whether the component is well."),
        Column::text("Message", "What the component says."),
        Column::text("Error", "What is wrong with the component."),
    ];

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        let healthy = self.conditions.iter().flatten().find(|it| it.type_ == "Healthy");
        let status = match healthy.map(|condition| condition.status.as_str()) {
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
            None => "Unknown",
        };
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        vec![
            cells::name(&self.metadata),
            status.into(),
            text(healthy.and_then(|condition| condition.message.as_ref())).into(),
            text(healthy.and_then(|condition| condition.error.as_ref())).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::Case;
    use serde_json::{Value, json};

    #[test]
    fn cells() {
        let check = |conditions: Value, expected: Value| {
            let object = json!({"metadata": {"name": "etcd-0"}, "conditions": conditions});
            let case = Case::of("componentstatuses", object);
            let now = "2026-01-01T00:00:00Z".parse().unwrap();
            assert_eq!(json!(case.decode().row(now)), expected);
        };
        let well = json!([{"type": "Healthy", "status": "True", "message": "ok"}]);
        check(well, json!(["etcd-0", "Healthy", "ok", ""]));
        let ill = json!([{"type": "Healthy", "status": "False", "error": "it has ended"}]);
        check(ill, json!(["etcd-0", "Unhealthy", "", "it has ended"]));
        check(json!([]), json!(["etcd-0", "Unknown", "", ""]));
    }
}
