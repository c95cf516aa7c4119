//! ServiceCIDRs: where Services get their addresses from.
//!
//! Follows upstream `ValidateServiceCIDR` (pkg/apis/networking/validation, v1.35).

use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{canonical_cidr, parse_cidr, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves, metadata,
};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::Value;

const IMMUTABLE: &str = "field is immutable";

/// One range of each family.
const CIDRS_MAX: usize = 2;

impl Resource for ServiceCIDR {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "servicecidr",
        subresources: &[Subresource::STATUS],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::SERVICE_CIDR;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("CIDRs", "Ranges of addresses, one of each family."),
        Column::AGE,
    ];

    fn prepare_status_update(&mut self, old: &Self) {
        metadata::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self) -> Vec<FieldError> {
        validate_cidrs(cidrs(self), &path())
    }

    /// A range of the other family may be added. Nothing else changes.
    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let (new, old) = (cidrs(self), cidrs(old));
        let changed = |(index, (new, _)): (usize, (&String, &String))| {
            FieldError::invalid(&path().index(index), new.as_str(), IMMUTABLE)
        };
        let pairs = new.iter().zip(old).enumerate().filter(|(_, (new, old))| new != old);
        let mut errors: Vec<_> = pairs.map(changed).collect();
        match (old.len(), new.len()) {
            (before, after) if before == after => {}
            (1, CIDRS_MAX) => errors.extend(validate_cidrs(new, &path())),
            _ => errors = vec![FieldError::invalid(&path(), to_value(&new), IMMUTABLE)],
        }
        errors
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            cells::name(&self.metadata),
            cidrs(self).join(",").into(),
            cells::age(&self.metadata, now),
        ]
    }
}

fn path() -> FieldPath {
    FieldPath::new("spec").child("cidrs")
}

fn cidrs(object: &ServiceCIDR) -> &[String] {
    object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default()
}

/// Upstream `validateServiceCIDRSpec`.
fn validate_cidrs(cidrs: &[String], path: &FieldPath) -> Vec<FieldError> {
    if cidrs.is_empty() {
        return vec![FieldError::required(path, "at least one CIDR required")];
    }
    if cidrs.len() > CIDRS_MAX {
        return vec![FieldError::invalid(path, to_value(&cidrs), "may only hold up to 2 values")];
    }
    let each = cidrs.iter().enumerate();
    let mut errors: Vec<_> =
        each.filter_map(|(index, cidr)| canonical_cidr(&path.index(index), cidr)).collect();
    let is_ipv4 = |cidr: &String| parse_cidr(cidr).map(|(address, _)| address.is_ipv4());
    if let [first, second] = cidrs
        && is_ipv4(first).is_some()
        && is_ipv4(first) == is_ipv4(second)
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and \
                      2001:db8::/64";
        errors.push(FieldError::invalid(path, to_value(&cidrs), detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    fn range(cidrs: &[&str]) -> Case {
        Case::of("servicecidrs", json!({"metadata": {"name": "more"}, "spec": {"cidrs": cidrs}}))
    }

    #[test]
    fn who_writes_the_status_writes_no_labels() {
        let old = range(&["10.96.0.0/16"]).decode();
        let mut new = old.clone_box();
        new.metadata_mut().labels = Some([("a".to_owned(), "b".to_owned())].into());
        new.prepare_status_update(old.as_ref());
        assert_eq!(new.metadata().labels, None);
    }

    #[test]
    fn one_range_of_each_family() {
        check(&range(&["10.96.0.0/16"]), &[]);
        check(&range(&["fd00:96::/112", "10.96.0.0/16"]), &[]);
        check(&range(&[]), &["spec.cidrs: Required value: at least one CIDR required"]);
        check(
            &range(&["10.96.0.0/16", "10.97.0.0/16"]),
            &[
                "spec.cidrs: Invalid value: [\"10.96.0.0/16\",\"10.97.0.0/16\"]: may specify no more",
            ],
        );
        check(
            &range(&["10.96.0.1/16", "x"]),
            &[
                "spec.cidrs[0]: Invalid value: \"10.96.0.1/16\": must not have bits set beyond the prefix length",
                "spec.cidrs[1]: Invalid value: \"x\": must be a valid CIDR value",
            ],
        );
    }

    #[test]
    fn a_second_range_may_be_added() {
        let one = range(&["10.96.0.0/16"]);
        let two = range(&["10.96.0.0/16", "fd00:96::/112"]);
        check_update(&one, &two, &[]);
        check_update(
            &two,
            &one,
            &["spec.cidrs: Invalid value: [\"10.96.0.0/16\"]: field is immutable"],
        );
        check_update(
            &one,
            &range(&["10.97.0.0/16"]),
            &["spec.cidrs[0]: Invalid value: \"10.97.0.0/16\": field is immutable"],
        );
    }
}
