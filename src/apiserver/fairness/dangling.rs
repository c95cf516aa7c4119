//! What FlowSchemas are told about themselves: whether the priority level that they name is there. Pure.
//!
//! Follows upstream `presyncFlowSchemaStatus` (apiserver pkg/util/flowcontrol/apf_controller.go, v1.35).

use super::config::{Levels, Schemas};
use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use serde_json::{Value, json};

const DANGLING: &str = "Dangling";

/// What is to be applied to the status of a flow schema.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Telling {
    pub(super) name: String,
    pub(super) applied: Value,
}

/// The flow schemas whose status does not say what is so.
pub(super) fn plan(schemas: &Schemas, levels: &Levels, now: Timestamp) -> Vec<Telling> {
    let tellings = schemas.iter().filter_map(|(name, schema)| {
        let level = &schema.spec.as_ref()?.priority_level_configuration.name;
        let (status, reason, message) = condition(level, levels.contains_key(level));
        if says(schema, status, reason, &message) {
            return None;
        }
        let applied = json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "FlowSchema",
            "metadata": {"name": name},
            "status": {"conditions": [{
                "type": DANGLING,
                "status": status,
                "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "reason": reason,
                "message": message,
            }]},
        });
        Some(Telling { name: name.clone(), applied })
    });
    tellings.collect()
}

fn condition(level: &str, is_there: bool) -> (&'static str, &'static str, String) {
    let names = "This FlowSchema references the PriorityLevelConfiguration object named";
    if is_there {
        ("False", "Found", format!("{names} {level:?} and it exists"))
    } else {
        ("True", "NotFound", format!("{names} {level:?} but there is no such object"))
    }
}

fn says(schema: &FlowSchema, status: &str, reason: &str, message: &str) -> bool {
    let mut conditions = schema.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let dangling = conditions.find(|condition| condition.type_.as_deref() == Some(DANGLING));
    dangling.is_some_and(|condition| {
        condition.status.as_deref() == Some(status)
            && condition.reason.as_deref() == Some(reason)
            && condition.message.as_deref() == Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(level: &str, schema: &mut FlowSchema) -> Option<String> {
        let spec = json!({"type": "Limited", "limited": {}});
        let there = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let levels = Levels::from([(level.to_owned(), there)]);
        let schemas = Schemas::from([("a".to_owned(), schema.clone())]);
        let telling = plan(&schemas, &levels, Timestamp::UNIX_EPOCH).pop()?;
        let condition = &telling.applied["status"]["conditions"][0];
        let told = ["status", "reason", "message", "lastTransitionTime"]
            .map(|field| condition[field].as_str().unwrap().to_owned());
        schema.status = serde_json::from_value(telling.applied["status"].clone()).unwrap();
        Some(told.join("|"))
    }

    #[test]
    fn a_schema_is_told_once_whether_its_level_is_there() {
        let spec = json!({"priorityLevelConfiguration": {"name": "x"}});
        let mut schema = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let about = "This FlowSchema references the PriorityLevelConfiguration object named \"x\"";
        let epoch = "1970-01-01T00:00:00Z";
        let missing = format!("True|NotFound|{about} but there is no such object|{epoch}");
        assert_eq!(told("y", &mut schema), Some(missing));
        assert_eq!(told("y", &mut schema), None);
        let found = format!("False|Found|{about} and it exists|{epoch}");
        assert_eq!(told("x", &mut schema), Some(found));
        assert_eq!(told("x", &mut schema), None);
    }
}
