//! CSINodes: which drivers a node has.
//!
//! Follows upstream `ValidateCSINode` (pkg/apis/storage/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, not_negative, to_value};
use crate::registry::kinds::core::podspec::validate_driver_name;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a driver may call a node; longer is refused.
const NODE_ID_BYTES_MAX: usize = 256;

impl Resource for CSINode {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "csinode", ..BuiltIn::CLUSTER });
    const SCHEMA: TypeRef = types::CSI_NODE;
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::integer("Drivers", "How many drivers the node has."), Column::AGE];
    const UPDATES_UNCONDITIONALLY: bool = false;
    const RETURNS_DELETED: bool = true;

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("spec").child("drivers");
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, driver) in self.spec.drivers.iter().enumerate() {
            let path = path.index(index);
            errors.extend(validate_driver(driver, &path));
            if !seen.insert(&driver.name) {
                errors.push(FieldError::duplicate(&path.child("name"), driver.name.as_str()));
            }
            errors.extend(validate_keys(driver, &path));
        }
        errors
    }

    /// A driver may come, go, and tell how many volumes it takes; all else about it stays.
    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let path = FieldPath::new("spec").child("drivers");
        let mut errors = Vec::new();
        for old in &old.spec.drivers {
            for new in self.spec.drivers.iter().filter(|new| new.name == old.name) {
                let new = CSINodeDriver { allocatable: None, ..new.clone() };
                if new != (CSINodeDriver { allocatable: None, ..old.clone() }) {
                    let detail = "field is immutable";
                    errors.push(FieldError::invalid(&path, to_value(&new), detail));
                }
            }
        }
        errors
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let drivers = self.spec.drivers.len().into();
        vec![cells::name(&self.metadata), drivers, cells::age(&self.metadata, now)]
    }
}

fn validate_driver(driver: &CSINodeDriver, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_driver_name(&driver.name, &path.child("name"));
    let id_path = path.child("nodeID");
    if driver.node_id.is_empty() {
        errors.push(FieldError::required(&id_path, ""));
    }
    if driver.node_id.len() > NODE_ID_BYTES_MAX {
        let detail = format!("must be {NODE_ID_BYTES_MAX} characters or less");
        errors.push(FieldError::invalid(&id_path, driver.node_id.as_str(), detail));
    }
    let count = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
    errors.extend(not_negative(&path.child("allocatable").child("count"), count));
    errors
}

fn validate_keys(driver: &CSINodeDriver, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for key in driver.topology_keys.iter().flatten() {
        if key.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(path, key.as_str()));
        }
        errors.extend(invalid(path, key, names::qualified_name(key)));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn node(drivers: &[Value]) -> Case {
        Case::of("csinodes", json!({"metadata": {"name": "n"}, "spec": {"drivers": drivers}}))
    }

    #[test]
    fn drivers() {
        let driver = json!({"name": "d.io", "nodeID": "n", "topologyKeys": ["zone"]});
        check(&node(std::slice::from_ref(&driver)), &[]);
        check(
            &node(&[
                driver.clone(),
                json!({
                    "name": "d.io", "nodeID": "", "allocatable": {"count": -1},
                    "topologyKeys": ["a", "a", "-"],
                }),
            ]),
            &[
                "spec.drivers[1].nodeID: Required value",
                "spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
                "spec.drivers[1].name: Duplicate value: \"d.io\"",
                "spec.drivers[1]: Duplicate value: \"a\"",
                "spec.drivers[1]: Invalid value: \"-\": name part must consist of",
            ],
        );
        let counted = json!({"name": "d.io", "nodeID": "n", "topologyKeys": ["zone"], "allocatable": {"count": 9}});
        check_update(&node(std::slice::from_ref(&driver)), &node(&[counted]), &[]);
        check_update(&node(std::slice::from_ref(&driver)), &node(&[]), &[]);
        let renamed = json!({"name": "d.io", "nodeID": "m", "topologyKeys": ["zone"]});
        check_update(
            &node(&[driver]),
            &node(&[renamed]),
            &[
                "spec.drivers: Invalid value: {\"name\":\"d.io\",\"nodeID\":\"m\",\"topologyKeys\":[\"zone\"]}: field is immutable",
            ],
        );
    }
}
