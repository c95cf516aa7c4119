//! LimitRanges: how much one container, pod or claim of a namespace may ask for.
//!
//! Follows upstream `ValidateLimitRange` (pkg/apis/core/validation) and `SetDefaults_LimitRangeItem`
//! (pkg/apis/core/v1, v1.35).

use super::{podspec, resources};
use crate::api::{FieldError, FieldPath, Quantity, names};
use crate::registry::checks::{invalid, repeated};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

type Amounts = BTreeMap<String, resource::Quantity>;

const CONTAINER: &str = "Container";
const POD: &str = "Pod";
const CLAIM: &str = "PersistentVolumeClaim";

impl Resource for LimitRange {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "limitrange",
        short_names: &[Cow::Borrowed("limits")],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::LIMIT_RANGE;
    /// Upstream's for kinds without columns of their own (`rest.NewDefaultTableConvertor`).
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column {
            name: Cow::Borrowed("Created At"),
            kind: Cow::Borrowed("date"),
            format: Cow::Borrowed(""),
            description: Cow::Borrowed("When the object was created."),
            priority: 0,
        },
    ];

    fn apply_defaults(&mut self) {
        self.spec.get_or_insert_default().limits.iter_mut().for_each(default_item);
    }

    fn validate(&self) -> Vec<FieldError> {
        let limits = self.spec.as_ref().map(|spec| spec.limits.as_slice()).unwrap_or_default();
        let path = FieldPath::new("spec").child("limits");
        let mut errors = Vec::new();
        let is_repeated = repeated(limits.iter().map(|item| &item.type_));
        for (index, item) in limits.iter().enumerate() {
            let path = path.index(index);
            errors.extend(validate_type(&item.type_, &path.child("type")));
            if is_repeated[index] {
                errors.push(FieldError::duplicate(&path.child("type"), item.type_.as_str()));
            }
            errors.extend(validate_item(item, &path));
        }
        errors
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        let created = self.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        vec![cells::name(&self.metadata), created.unwrap_or_default().into()]
    }
}

/// Containers: what is not said of limits is their most, of requests their limit, or their least.
fn default_item(item: &mut LimitRangeItem) {
    for amounts in [
        &mut item.max,
        &mut item.min,
        &mut item.default,
        &mut item.default_request,
        &mut item.max_limit_request_ratio,
    ] {
        podspec::round_up(amounts.as_mut());
    }
    if item.type_ == CONTAINER {
        fill(&mut item.default, item.max.as_ref());
        fill(&mut item.default_request, item.default.as_ref());
        fill(&mut item.default_request, item.min.as_ref());
    }
}

fn fill(amounts: &mut Option<Amounts>, from: Option<&Amounts>) {
    for (name, amount) in from.into_iter().flatten() {
        let amounts = amounts.get_or_insert_default();
        amounts.entry(name.clone()).or_insert_with(|| amount.clone());
    }
}

fn validate_type(kind: &str, path: &FieldPath) -> Vec<FieldError> {
    let errors = invalid(path, kind, names::qualified_name(kind));
    if errors.is_empty() && !kind.contains('/') && ![POD, CONTAINER, CLAIM].contains(&kind) {
        let detail = "must be a standard limit type or fully qualified";
        return vec![FieldError::invalid(path, kind, detail)];
    }
    errors
}

fn validate_item(item: &LimitRangeItem, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, amounts) in [
        ("max", &item.max),
        ("min", &item.min),
        ("default", &item.default),
        ("defaultRequest", &item.default_request),
        ("maxLimitRequestRatio", &item.max_limit_request_ratio),
    ] {
        let path = path.child(field);
        let is_default = matches!(field, "default" | "defaultRequest");
        let names: Vec<_> = amounts.iter().flatten().map(|(name, _)| name).collect();
        if item.type_ == POD && is_default && !names.is_empty() {
            let detail = "may not be specified when `type` is 'Pod'";
            errors.push(FieldError::forbidden(&path, detail));
            continue;
        }
        for name in names {
            let path = path.key(name);
            errors.extend(match item.type_.as_str() {
                POD | CONTAINER => resources::validate_container_resource(name, &path),
                _ => resources::validate_resource(name, &path),
            });
        }
    }
    let has_storage = [&item.min, &item.max]
        .into_iter()
        .any(|amounts| amounts.as_ref().is_some_and(|amounts| amounts.contains_key("storage")));
    if item.type_ == CLAIM && !has_storage {
        let detail =
            "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(&path.child("limits"), detail));
    }
    errors.extend(all_names(item).into_iter().flat_map(|name| {
        let bounds = Bounds::of(item, name);
        bounds.validate(name, path)
    }));
    errors
}

fn all_names(item: &LimitRangeItem) -> BTreeSet<&String> {
    let all = [&item.max, &item.min, &item.default, &item.default_request];
    all.into_iter()
        .chain([&item.max_limit_request_ratio])
        .flatten()
        .flat_map(BTreeMap::keys)
        .collect()
}

/// Everything that is said of one resource.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least: Option<Quantity>,
    most: Option<Quantity>,
    limit: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

impl Bounds {
    fn of(item: &LimitRangeItem, name: &str) -> Self {
        let of = |amounts: &Option<Amounts>| amounts.as_ref()?.get(name)?.0.parse().ok();
        let defaults = |amounts| if item.type_ == POD { None } else { of(amounts) };
        Self {
            least: of(&item.min),
            most: of(&item.max),
            limit: defaults(&item.default),
            request: defaults(&item.default_request),
            ratio: of(&item.max_limit_request_ratio),
        }
    }

    fn validate(&self, name: &str, path: &FieldPath) -> Vec<FieldError> {
        let Self { least, most, limit, request, .. } = *self;
        // The field that is told of, the value that is shown of it, and what may not be above what.
        let mut errors: Vec<_> = [
            ("min", least, ("min value", least), ("max value", most)),
            ("defaultRequest", request, ("min value", least), ("default request value", request)),
            ("defaultRequest", request, ("default request value", request), ("max value", most)),
            (
                "defaultRequest",
                request,
                ("default request value", request),
                ("default limit value", limit),
            ),
            ("default", least, ("min value", least), ("default value", limit)),
            ("default", most, ("default value", limit), ("max value", most)),
        ]
        .into_iter()
        .filter_map(|(field, shown, (lower, low), (upper, high))| {
            let (shown, low, high) = (shown?, low?, high?);
            let detail = format!("{lower} {low} is greater than {upper} {high}");
            let path = path.child(field).key(name);
            (low > high).then(|| FieldError::invalid(&path, shown.to_string(), detail))
        })
        .collect();
        errors.extend(self.validate_ratio(&path.child("maxLimitRequestRatio").key(name)));
        if let (Some(limit), Some(request)) = (limit, request)
            && limit != request
            && !resources::is_overcommittable(name)
        {
            let path = path.child("defaultRequest").key(name);
            let detail = format!(
                "default value {limit} must equal to defaultRequest value {request} in {name}"
            );
            errors.push(FieldError::invalid(&path, request.to_string(), detail));
        }
        errors
    }

    fn validate_ratio(&self, path: &FieldPath) -> Vec<FieldError> {
        let Some(ratio) = self.ratio else {
            return Vec::new();
        };
        let mut errors = Vec::new();
        if ratio < Quantity::decimal(1) {
            let detail = format!("ratio {ratio} is less than 1");
            errors.push(FieldError::invalid(path, ratio.to_string(), detail));
        }
        if let (Some(least), Some(most)) = (self.least, self.most) {
            let (least, most) = (least.milli_units(), most.milli_units());
            // The ratio is above most / least, without the division.
            let is_above =
                i128::from(ratio.milli_units()) * i128::from(least) > i128::from(most) * 1_000;
            if is_above && least != 0 {
                let shown = as_millionths(most, least);
                let detail = format!("ratio {ratio} is greater than max/min = {shown}");
                errors.push(FieldError::invalid(path, ratio.to_string(), detail));
            }
        }
        errors
    }
}

/// A quotient with six decimals, rounded, as Go prints a float.
fn as_millionths(most: i64, least: i64) -> String {
    const MILLION: i128 = 1_000_000;
    let (most, least) = (i128::from(most), i128::from(least));
    let millionths = (most * MILLION * 2 + least) / (least * 2);
    format!("{}.{:06}", millionths / MILLION, millionths % MILLION)
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::{Value, json};

    fn limits(items: Value) -> Case {
        let metadata = json!({"name": "all", "namespace": "default"});
        Case::of("limitranges", json!({"metadata": metadata, "spec": {"limits": items}}))
    }

    #[test]
    fn defaults_follow_from_bounds() {
        let case = limits(json!([{
            "type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "0.1", "memory": "1Mi"},
        }]));
        let item = case.created().to_value()["spec"]["limits"][0].clone();
        assert_eq!(item["default"], json!({"cpu": "2"}));
        assert_eq!(item["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
        check(&case, &[]);
        let pods = limits(json!([{"type": "Pod", "max": {"cpu": "2"}}]));
        assert_eq!(pods.created().to_value()["spec"]["limits"][0]["default"], Value::Null);
    }

    #[test]
    fn types_and_names() {
        check(
            &limits(json!([
                {"type": "Pod", "default": {"cpu": "1"}, "max": {"pods": "1"}},
                {"type": "Pod"},
                {"type": "Node"},
                {"type": "PersistentVolumeClaim", "max": {"cpu": "1"}},
            ])),
            &[
                "spec.limits[0].max[pods]: Invalid value: \"pods\": must be a standard resource for containers",
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                "spec.limits[1].type: Duplicate value: \"Pod\"",
                "spec.limits[2].type: Invalid value: \"Node\": must be a standard limit type or fully qualified",
                "spec.limits[3].limits: Required value: either minimum or maximum storage value is required",
            ],
        );
    }

    #[test]
    fn bounds_are_in_order() {
        check(
            &limits(json!([{
                "type": "Container", "min": {"cpu": "3"}, "max": {"cpu": "1"},
                "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2500m"},
            }])),
            &[
                "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 1",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2500m\": min value 3 is greater than default request value 2500m",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2500m\": default request value 2500m is greater than max value 1",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2500m\": default request value 2500m is greater than default limit value 2",
                "spec.limits[0].default[cpu]: Invalid value: \"3\": min value 3 is greater than default value 2",
                "spec.limits[0].default[cpu]: Invalid value: \"1\": default value 2 is greater than max value 1",
            ],
        );
    }

    #[test]
    fn ratios_fit_the_bounds() {
        let with = |ratio: &str| {
            limits(json!([{
                "type": "Pod", "min": {"cpu": "3"}, "max": {"cpu": "10"},
                "maxLimitRequestRatio": {"cpu": ratio},
            }]))
        };
        let path = "spec.limits[0].maxLimitRequestRatio[cpu]";
        check(&with("3"), &[]);
        check(
            &with("4"),
            &[&format!("{path}: Invalid value: \"4\": ratio 4 is greater than max/min = 3.333333")],
        );
        check(
            &with("0.5"),
            &[&format!("{path}: Invalid value: \"500m\": ratio 500m is less than 1")],
        );
    }

    #[test]
    fn what_cannot_be_shared_is_requested_whole() {
        check(
            &limits(json!([{
                "type": "Container", "default": {"example.com/gpu": "2"},
                "defaultRequest": {"example.com/gpu": "1"},
            }])),
            &[
                "spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: \"1\": default value 2 must equal to defaultRequest value 1 in example.com/gpu",
            ],
        );
    }
}
