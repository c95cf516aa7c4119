//! Containers, pods and claims keep to the LimitRanges of their namespace, and containers get from
//! them what they do not say (upstream `LimitRanger`, plugin/pkg/admission/limitranger, v1.35).
//!
//! Amounts are compared as they are; upstream rounds them to thousandths. Where several are wrong,
//! they are told in the order of their names.

use super::super::verbs::Part;
use super::{Attributes, Facts, Judgement, Mutation, Operation, Plugin, Want, Warnings};
use crate::api::Quantity;
use crate::api::pod::{Amounts, amounts, limits, requests};
use crate::api::status::{Status, aggregate};
use k8s_openapi::api::core::v1::{
    Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, PodSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource;
use std::collections::BTreeMap;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "LimitRanger",
    mutation: Some(Mutation { wants: ranges_for_pod, apply }),
    judgement: Some(Judgement { wants: ranges, judge }),
};

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

const CONTAINER: &str = "Container";
const POD: &str = "Pod";
const CLAIM: &str = "PersistentVolumeClaim";

type Fields = BTreeMap<String, resource::Quantity>;

fn ranges_for_pod(attributes: &Attributes<'_>) -> Vec<Want> {
    match attributes.sized_pod() {
        Some(_) => ranges_of(attributes),
        None => Vec::new(),
    }
}

fn ranges(attributes: &Attributes<'_>) -> Vec<Want> {
    match (attributes.sized_pod(), submitted_claim(attributes)) {
        (None, None) => Vec::new(),
        _ => ranges_of(attributes),
    }
}

fn ranges_of(attributes: &Attributes<'_>) -> Vec<Want> {
    let namespace = attributes.namespace;
    namespace.map(|namespace| Want::all_in("", "limitranges", namespace)).into_iter().collect()
}

/// A claim that is on its way out may become what it likes.
fn submitted_claim<'a>(attributes: &'a Attributes<'_>) -> Option<&'a PersistentVolumeClaim> {
    match &attributes.operation {
        Operation::Create(object) => object.as_any().downcast_ref(),
        Operation::Update { object, old, part: Part::Object }
            if old.metadata().deletion_timestamp.is_none() =>
        {
            object.as_any().downcast_ref()
        }
        _ => None,
    }
}

fn apply(attributes: &mut Attributes<'_>, facts: &Facts<'_>) -> Result<(), Status> {
    if let Some(pod) = attributes.sized_pod_mut() {
        facts.all().for_each(|range| complete(pod, range));
    }
    Ok(())
}

fn judge(
    attributes: &Attributes<'_>,
    facts: &Facts<'_>,
    _warnings: &mut Warnings,
) -> Result<(), Status> {
    let pod = attributes.sized_pod().and_then(|pod| pod.spec.as_ref());
    let claim = submitted_claim(attributes);
    for range in facts.all::<LimitRange>() {
        let mut problems = Vec::new();
        for item in items(range) {
            if let Some(spec) = pod {
                problems.extend(check_pod(item, spec));
            }
            if let Some(claim) = claim {
                problems.extend(check_claim(item, claim));
            }
        }
        if !problems.is_empty() {
            return Err(attributes.forbidden(&aggregate(&problems)));
        }
    }
    Ok(())
}

fn items(range: &LimitRange) -> &[LimitRangeItem] {
    range.spec.as_ref().map(|spec| spec.limits.as_slice()).unwrap_or_default()
}

/// Gives the pod's containers what they do not say.
fn complete(pod: &mut Pod, range: &LimitRange) {
    let Some(spec) = &mut pod.spec else { return };
    let (mut default_requests, mut default_limits) = (Fields::new(), Fields::new());
    for item in items(range).iter().filter(|item| item.type_ == CONTAINER) {
        default_requests.extend(item.default_request.clone().unwrap_or_default());
        default_limits.extend(item.default.clone().unwrap_or_default());
    }
    let mut told = Vec::new();
    let containers = spec.containers.iter_mut().map(|container| ("container", container));
    let init_containers = spec.init_containers.iter_mut().flatten();
    let init_containers = init_containers.map(|container| ("init container", container));
    for (role, container) in containers.chain(init_containers) {
        let resources = container.resources.get_or_insert_default();
        for (what, own, defaults) in [
            ("request", &mut resources.requests, &default_requests),
            ("limit", &mut resources.limits, &default_limits),
        ] {
            let set = fill(own, defaults);
            if !set.is_empty() {
                told.push(format!("{} {what} for {role} {}", set.join(", "), container.name));
            }
        }
    }
    if !told.is_empty() {
        let text = format!("LimitRanger plugin set: {}", told.join("; "));
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION.to_owned(), text);
    }
}

/// Says which were missing.
fn fill<'a>(own: &mut Option<Fields>, defaults: &'a Fields) -> Vec<&'a str> {
    let mut set = Vec::new();
    for (name, amount) in defaults {
        let own = own.get_or_insert_default();
        if !own.contains_key(name) {
            own.insert(name.clone(), amount.clone());
            set.push(name.as_str());
        }
    }
    set
}

fn check_pod(item: &LimitRangeItem, spec: &PodSpec) -> Vec<String> {
    match item.type_.as_str() {
        CONTAINER => {
            let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            all.flat_map(|container| Asked::by(container).check(item)).collect()
        }
        POD => {
            // What the runtime class adds is not the user's.
            let own = PodSpec { overhead: None, ..spec.clone() };
            Asked { requests: requests(&own), limits: limits(&own) }.check(item)
        }
        _ => Vec::new(),
    }
}

/// Upstream `PersistentVolumeClaimValidateLimitFunc`: a claim has no limits.
fn check_claim(item: &LimitRangeItem, claim: &PersistentVolumeClaim) -> Vec<String> {
    if item.type_ != CLAIM {
        return Vec::new();
    }
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = amounts(resources.and_then(|resources| resources.requests.as_ref()));
    let asked = Asked { requests, limits: Amounts::new() };
    let min = amounts(item.min.as_ref()).into_iter();
    let max = amounts(item.max.as_ref()).into_iter();
    min.filter_map(|(name, least)| asked.below(CLAIM, &name, least))
        .chain(max.filter_map(|(name, most)| asked.request_above(CLAIM, &name, most)))
        .collect()
}

/// What a container, pod or claim asks for.
struct Asked {
    requests: Amounts,
    limits: Amounts,
}

impl Asked {
    fn by(container: &Container) -> Self {
        let resources = container.resources.as_ref();
        Self {
            requests: amounts(resources.and_then(|resources| resources.requests.as_ref())),
            limits: amounts(resources.and_then(|resources| resources.limits.as_ref())),
        }
    }

    fn check(&self, item: &LimitRangeItem) -> Vec<String> {
        let of = &item.type_;
        let each = |field: &Option<Fields>| amounts(field.as_ref()).into_iter();
        let below = each(&item.min).filter_map(|(name, least)| self.below(of, &name, least));
        let above = each(&item.max).filter_map(|(name, most)| self.above(of, &name, most));
        let ratios = each(&item.max_limit_request_ratio);
        let steep = ratios.filter_map(|(name, most)| self.too_steep(of, &name, most));
        below.chain(above).chain(steep).collect()
    }

    fn below(&self, of: &str, name: &str, least: Quantity) -> Option<String> {
        let rule = format!("minimum {name} usage per {of} is {least}");
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{rule}.  No request is specified")),
            (Some(request), _) if *request < least => {
                Some(format!("{rule}, but request is {request}"))
            }
            (_, Some(limit)) if *limit < least => Some(format!("{rule}, but limit is {limit}")),
            _ => None,
        }
    }

    fn above(&self, of: &str, name: &str, most: Quantity) -> Option<String> {
        let rule = format!("maximum {name} usage per {of} is {most}");
        match (self.limits.get(name), self.requests.get(name)) {
            (None, _) => Some(format!("{rule}.  No limit is specified")),
            (Some(limit), _) if *limit > most => Some(format!("{rule}, but limit is {limit}")),
            (_, Some(request)) if *request > most => {
                Some(format!("{rule}, but request is {request}"))
            }
            _ => None,
        }
    }

    fn request_above(&self, of: &str, name: &str, most: Quantity) -> Option<String> {
        let rule = format!("maximum {name} usage per {of} is {most}");
        match self.requests.get(name) {
            None => Some(format!("{rule}.  No request is specified")),
            Some(request) if *request > most => Some(format!("{rule}, but request is {request}")),
            Some(_) => None,
        }
    }

    /// Where the limit is more than so many times the request.
    fn too_steep(&self, of: &str, name: &str, most: Quantity) -> Option<String> {
        let rule = format!("{name} max limit to request ratio per {of} is {most}");
        let given = |amounts: &Amounts| amounts.get(name).copied().filter(|it| !it.is_zero());
        let Some(request) = given(&self.requests) else {
            return Some(format!("{rule}, but no request is specified or request is 0"));
        };
        let Some(limit) = given(&self.limits) else {
            return Some(format!("{rule}, but no limit is specified or limit is 0"));
        };
        // As floating-point numbers, because a quotient is told with all its digits.
        let ratio = limit.milli_units() as f64 / request.milli_units() as f64;
        let is_steep = ratio * 1_000.0 > most.milli_units() as f64;
        is_steep.then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(resources: &[Value]) -> Pod {
        let container = |(index, resources): (usize, &Value)| json!({"name": format!("c{index}"), "resources": resources});
        let containers: Vec<_> = resources.iter().enumerate().map(container).collect();
        serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
    }

    fn item(item: Value) -> LimitRangeItem {
        serde_json::from_value(item).unwrap()
    }

    fn check(limits: Value, resources: &[Value], expected: &[&str]) {
        assert_eq!(check_pod(&item(limits), pod(resources).spec.as_ref().unwrap()), expected);
    }

    fn check_defaults(limits: Value, resources: Value, expected: (Value, Option<&str>)) {
        let range = json!({"metadata": {}, "spec": {"limits": [limits]}});
        let mut pod = pod(&[resources]);
        complete(&mut pod, &serde_json::from_value(range).unwrap());
        let spec =
            serde_json::to_value(&pod).unwrap()["spec"]["containers"][0]["resources"].clone();
        let annotations = pod.metadata.annotations.unwrap_or_default();
        assert_eq!((spec, annotations.get(ANNOTATION).map(String::as_str)), expected);
    }

    #[test]
    fn containers_are_given_what_they_do_not_say() {
        let limits = json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"},
            "defaultRequest": {"cpu": "500m"}});
        check_defaults(
            limits.clone(),
            json!({}),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
                Some(
                    "LimitRanger plugin set: cpu request for container c0; cpu, memory limit for container c0",
                ),
            ),
        );
        check_defaults(
            limits,
            json!({"limits": {"cpu": "2", "memory": "3"}, "requests": {"cpu": "2"}}),
            (json!({"limits": {"cpu": "2", "memory": "3"}, "requests": {"cpu": "2"}}), None),
        );
        check_defaults(
            json!({"type": "Pod", "default": {"cpu": "1"}}),
            json!({}),
            (json!({}), None),
        );
    }

    #[test]
    fn bounds_of_containers() {
        let min = json!({"type": "Container", "min": {"cpu": "100m"}});
        let none = "minimum cpu usage per Container is 100m.  No request is specified";
        check(min.clone(), &[json!({})], &[none]);
        check(
            min.clone(),
            &[json!({"requests": {"cpu": "50m"}})],
            &["minimum cpu usage per Container is 100m, but request is 50m"],
        );
        check(
            min,
            &[json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "10m"}})],
            &["minimum cpu usage per Container is 100m, but limit is 10m"],
        );
        let max = json!({"type": "Container", "max": {"memory": "1Gi"}});
        check(max.clone(), &[json!({"limits": {"memory": "1Gi"}})], &[]);
        let over = "maximum memory usage per Container is 1Gi, but limit is 2Gi";
        check(max.clone(), &[json!({"limits": {"memory": "2Gi"}})], &[over]);
        let none = "maximum memory usage per Container is 1Gi.  No limit is specified";
        check(max, &[json!({}), json!({"limits": {"memory": "1"}})], &[none]);
    }

    #[test]
    fn ratios() {
        let ratio = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}});
        let given = |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        check(ratio.clone(), &[given("1", "2")], &[]);
        let text = "cpu max limit to request ratio per Container is 2";
        let steep = format!("{text}, but provided ratio is 2.500000");
        check(ratio.clone(), &[given("400m", "1")], &[&steep]);
        let missing = format!("{text}, but no request is specified or request is 0");
        check(ratio, &[given("0", "1")], &[&missing]);
    }

    #[test]
    fn bounds_of_pods_are_of_all_containers_together() {
        let max = json!({"type": "Pod", "max": {"cpu": "2"}});
        let one = json!({"limits": {"cpu": "1"}});
        check(max.clone(), &[one.clone(), one.clone()], &[]);
        let over = "maximum cpu usage per Pod is 2, but limit is 3";
        check(max, &[one.clone(), one.clone(), one], &[over]);
    }

    #[test]
    fn bounds_of_claims_are_of_requests() {
        let item = item(
            json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}),
        );
        for (request, expected) in [
            ("1Gi", None),
            (
                "512Mi",
                Some(
                    "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi",
                ),
            ),
            (
                "3Gi",
                Some("maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
            ),
        ] {
            let claim =
                json!({"metadata": {}, "spec": {"resources": {"requests": {"storage": request}}}});
            let problems = check_claim(&item, &serde_json::from_value(claim).unwrap());
            assert_eq!(problems.first().map(String::as_str), expected, "{request}");
        }
    }
}
