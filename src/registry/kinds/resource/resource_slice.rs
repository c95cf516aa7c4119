//! ResourceSlices: the devices that a driver has, here or there.
//!
//! Start at [`validate`]. Follows upstream `validateResourceSliceSpec`
//! (pkg/apis/resource/validation, v1.35).

use super::{devices, validate_distinct, validate_each, validate_pool};
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{immutable, invalid, to_value};
use crate::registry::kinds::core::podspec;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{Device, ResourcePool, ResourceSlice, ResourceSliceSpec};
use serde_json::Value;

const DEVICES_MAX: usize = 128;

impl Resource for ResourceSlice {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "resourceslice", ..BuiltIn::CLUSTER });
    const SCHEMA: TypeRef = types::RESOURCE_SLICE;
    const RETURNS_DELETED: bool = true;
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Node", "The node that has the devices, where it is one."),
        Column::text("Driver", "Whose devices they are."),
        Column::text("Pool", "The pool that they are part of."),
        Column::AGE,
    ];

    fn prepare_create(&mut self) {
        devices::drop_disabled(&mut self.spec);
    }

    fn prepare_update(&mut self, _old: &Self) {
        devices::drop_disabled(&mut self.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        validate(&self.spec, &FieldPath::new("spec"))
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let path = FieldPath::new("spec");
        let fixed = |slice: &Self| {
            let ResourceSliceSpec { driver, node_name, pool, .. } = &slice.spec;
            [to_value(&pool.name), to_value(driver), to_value(node_name)]
        };
        let paths =
            [path.child("pool").child("name"), path.child("driver"), path.child("nodeName")];
        let changes = fixed(self).into_iter().zip(fixed(old));
        let each = paths.iter().zip(changes);
        each.filter_map(|(path, (new, old))| immutable(path, new, &old)).collect()
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let driver = &self.spec.driver;
        let is_mixed = *driver != driver.to_lowercase();
        let warning = || {
            format!(
                "spec.driver: driver names should be lowercase; {driver:?} contains uppercase \
                 characters"
            )
        };
        is_mixed.then(warning).into_iter().collect()
    }

    fn is_new_generation(&self, old: &Self) -> bool {
        self.spec != old.spec
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("spec.driver", self.spec.driver.clone()),
            ("spec.nodeName", self.spec.node_name.clone().unwrap_or_default()),
        ]
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            cells::name(&self.metadata),
            self.spec.node_name.clone().unwrap_or_default().into(),
            self.spec.driver.clone().into(),
            self.spec.pool.name.clone().into(),
            cells::age(&self.metadata, now),
        ]
    }
}

fn validate(spec: &ResourceSliceSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = podspec::validate_driver_name(&spec.driver, &path.child("driver"));
    errors.extend(validate_resource_pool(&spec.pool, &path.child("pool")));
    errors.extend(validate_place(spec, path));
    let (all, path) = (spec.devices.as_deref().unwrap_or_default(), path.child("devices"));
    errors.extend(validate_each(all, DEVICES_MAX, &path, devices::validate));
    let name = |device: &Device| device.name.clone();
    errors.extend(validate_distinct(all, ("name", &path), name));
    errors
}

/// Upstream `validateResourcePool`.
fn validate_resource_pool(pool: &ResourcePool, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_pool(&pool.name, &path.child("name"));
    if pool.resource_slice_count <= 0 {
        let detail = "must be greater than zero";
        let path = path.child("resourceSliceCount");
        errors.push(FieldError::invalid(&path, pool.resource_slice_count, detail));
    }
    if pool.generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("generation"), pool.generation, detail));
    }
    errors
}

/// Where the devices are: in one way and no other.
fn validate_place(spec: &ResourceSliceSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut said = Vec::new();
    if let Some(name) = &spec.node_name {
        let path = path.child("nodeName");
        if name.is_empty() {
            let detail = "must be either unset or set to a non-empty string";
            errors.push(FieldError::invalid(&path, "", detail));
        } else {
            said.push("`nodeName`");
            errors.extend(invalid(&path, name, names::dns1123_subdomain(name)));
        }
    }
    if let Some(selector) = &spec.node_selector {
        said.push("`nodeSelector`");
        let path = path.child("nodeSelector");
        errors.extend(podspec::validate_node_selector(selector, &path));
        let terms = &selector.node_selector_terms;
        if terms.len() != 1 {
            let detail = "must have exactly one node selector term";
            let path = path.child("nodeSelectorTerms");
            errors.push(FieldError::invalid(&path, to_value(terms), detail));
        }
    }
    if let Some(is_everywhere) = spec.all_nodes {
        if is_everywhere {
            said.push("`allNodes`");
        } else {
            let detail = "must be either unset or set to true";
            errors.push(FieldError::invalid(&path.child("allNodes"), false, detail));
        }
    }
    let detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` \
                  is required";
    match said[..] {
        [] => errors.push(FieldError::required(path, detail)),
        [_] => {}
        _ => {
            let detail = format!("{detail}, but multiple fields are set");
            errors.push(FieldError::invalid(path, format!("{{{}}}", said.join(", ")), detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn slice(spec: Value) -> Case {
        let object = json!({"metadata": {"name": "x"}, "spec": {
            "driver": "d.io", "nodeName": "n",
            "pool": {"name": "n", "generation": 0, "resourceSliceCount": 1},
        }});
        Case::of("resourceslices", object).with(json!({"spec": spec}))
    }

    #[test]
    fn a_slice_is_of_a_driver_and_a_pool() {
        check(&slice(json!({})), &[]);
        check(
            &slice(json!({"driver": "-", "pool": {"name": "", "generation": -1,
                "resourceSliceCount": 0}, "devices": [{"name": "A"}, {"name": "A"}]})),
            &[
                "spec.driver: Invalid value: \"-\": a lowercase RFC 1123 subdomain",
                "spec.pool.name: Required value",
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
                "spec.devices[0].name: Invalid value: \"A\": a lowercase RFC 1123 label",
                "spec.devices[1].name: Invalid value: \"A\": a lowercase RFC 1123 label",
                "spec.devices[1].name: Duplicate value: \"A\"",
            ],
        );
        let many: Vec<_> = (0..129).map(|n| json!({"name": format!("d{n}")})).collect();
        check(
            &slice(json!({"devices": many})),
            &["spec.devices: Too many: 129: must have at most 128 items"],
        );
        assert_eq!(slice(json!({})).decode().warnings(None), Vec::<String>::new());
        assert_eq!(slice(json!({"driver": "D.io"})).decode().warnings(None).len(), 1);
    }

    #[test]
    fn devices_are_somewhere_in_one_way() {
        let must =
            "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection`";
        check(&slice(json!({"nodeName": null, "allNodes": true})), &[]);
        let term = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
        let selector = json!({"nodeSelectorTerms": [term]});
        check(&slice(json!({"nodeName": null, "nodeSelector": selector})), &[]);
        check(
            &slice(json!({"nodeName": ""})),
            &[
                "spec.nodeName: Invalid value: \"\": must be either unset or set to a non-empty string",
                &format!("spec: Required value: {must} is required"),
            ],
        );
        check(
            &slice(json!({"nodeName": "N", "nodeSelector": {"nodeSelectorTerms": [term, term]},
                "allNodes": false})),
            &[
                "spec.nodeName: Invalid value: \"N\": a lowercase RFC 1123 subdomain",
                "spec.nodeSelector.nodeSelectorTerms: Invalid value: [{",
                "spec.allNodes: Invalid value: false: must be either unset or set to true",
                &format!(
                    "spec: Invalid value: \"{{`nodeName`, `nodeSelector`}}\": {must} is required, but multiple fields are set"
                ),
            ],
        );
    }

    #[test]
    fn a_slice_stays_where_and_whose_it_is() {
        let old = slice(json!({}));
        check_update(&old, &slice(json!({"pool": {"generation": 2}})), &[]);
        check_update(
            &old,
            &slice(json!({"nodeName": "m", "driver": "e.io", "pool": {"name": "m"}})),
            &[
                "spec.pool.name: Invalid value: \"m\": field is immutable",
                "spec.driver: Invalid value: \"e.io\": field is immutable",
                "spec.nodeName: Invalid value: \"m\": field is immutable",
            ],
        );
    }
}
