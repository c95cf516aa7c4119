//! What a pod asks for and may use, from all its containers together, and its quality of service.
//!
//! The scheduler, the kubelet and the API server have to agree on these: upstream
//! component-helpers resource/helpers.go and pkg/apis/core/v1/helper/qos (v1.35).

use super::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use std::collections::BTreeMap;

/// Amounts by resource name: `cpu`, `memory`, `example.com/device`.
pub type Resources = BTreeMap<String, Quantity>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Reads a list of amounts. What is no quantity counts as nothing: the API server has refused it.
#[must_use]
pub fn read(list: Option<&BTreeMap<String, Text>>) -> Resources {
    let amounts = list.into_iter().flatten();
    amounts.filter_map(|(name, text)| Some((name.clone(), text.0.parse().ok()?))).collect()
}

/// What the scheduler sets aside for a pod.
#[must_use]
pub fn pod_requests(spec: &PodSpec) -> Resources {
    let mut total = of_containers(spec, |resources| read(resources.requests.as_ref()));
    total.extend(of_pod(spec, |resources| read(resources.requests.as_ref())));
    add(&mut total, &read(spec.overhead.as_ref()));
    total
}

/// What a pod may use at most, as far as its containers have limits.
#[must_use]
pub fn pod_limits(spec: &PodSpec) -> Resources {
    let mut total = of_containers(spec, |resources| read(resources.limits.as_ref()));
    total.extend(of_pod(spec, |resources| read(resources.limits.as_ref())));
    // Overhead is for those who have a limit: others have none to go over.
    for (name, amount) in read(spec.overhead.as_ref()) {
        total.entry(name).and_modify(|sum| *sum = *sum + amount);
    }
    total
}

/// The amounts that the pod itself names go before the sum of its containers.
fn of_pod(spec: &PodSpec, amounts: impl Fn(&ResourceRequirements) -> Resources) -> Resources {
    let mut own = spec.resources.as_ref().map(amounts).unwrap_or_default();
    own.retain(|name, _| {
        ["cpu", "memory"].contains(&name.as_str()) || name.starts_with("hugepages-")
    });
    own
}

/// App containers and sidecars run together; the other init containers run one at a time, beside
/// the sidecars before them.
fn of_containers(
    spec: &PodSpec,
    amounts: impl Fn(&ResourceRequirements) -> Resources,
) -> Resources {
    let of = |container: &Container| container.resources.as_ref().map(&amounts).unwrap_or_default();
    let mut together = Resources::new();
    for container in &spec.containers {
        add(&mut together, &of(container));
    }
    let mut sidecars = Resources::new();
    let mut largest = Resources::new();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut together, &own);
            add(&mut sidecars, &own);
            raise(&mut largest, &sidecars);
        } else {
            let mut beside = sidecars.clone();
            add(&mut beside, &own);
            raise(&mut largest, &beside);
        }
    }
    raise(&mut together, &largest);
    together
}

fn add(total: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        total.entry(name.clone()).and_modify(|sum| *sum = *sum + *amount).or_insert(*amount);
    }
}

fn raise(total: &mut Resources, least: &Resources) {
    for (name, amount) in least {
        total.entry(name.clone()).and_modify(|it| *it = (*it).max(*amount)).or_insert(*amount);
    }
}

/// Upstream `ComputePodQOS`: only processor time and memory count.
#[must_use]
pub fn qos_class(spec: &PodSpec) -> QosClass {
    let own = spec.resources.as_ref();
    let own = own.filter(|own| own.requests.is_some() || own.limits.is_some());
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let parts: Vec<&ResourceRequirements> = match own {
        Some(own) => vec![own],
        None => containers().filter_map(|container| container.resources.as_ref()).collect(),
    };
    let mut requests = Resources::new();
    let mut limits = Resources::new();
    let mut all_limited = own.is_some() || parts.len() == containers().count();
    for part in parts {
        add(&mut requests, &counted(part.requests.as_ref()));
        let limited = counted(part.limits.as_ref());
        all_limited &= limited.len() == 2;
        add(&mut limits, &limited);
    }
    if requests.is_empty() && limits.is_empty() {
        QosClass::BestEffort
    } else if all_limited && requests == limits {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

fn counted(list: Option<&BTreeMap<String, Text>>) -> Resources {
    let mut amounts = read(list);
    amounts.retain(|name, amount| {
        ["cpu", "memory"].contains(&name.as_str()) && *amount > Quantity::ZERO
    });
    amounts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> BTreeMap<String, Text> {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, amount)| (name.to_owned(), Text(amount.to_owned()))).collect()
    }

    /// `requests / limits`, each `cpu=1 memory=1Gi`.
    fn container(text: &str) -> Container {
        let (requests, limits) = text.split_once('/').unwrap();
        Container {
            resources: Some(ResourceRequirements {
                requests: Some(list(requests)),
                limits: Some(list(limits)),
                claims: None,
            }),
            ..Container::default()
        }
    }

    fn sidecar(text: &str) -> Container {
        Container { restart_policy: Some("Always".to_owned()), ..container(text) }
    }

    fn spec(init: Vec<Container>, containers: Vec<Container>) -> PodSpec {
        PodSpec { init_containers: Some(init), containers, ..PodSpec::default() }
    }

    fn render(resources: &Resources) -> String {
        let pairs: Vec<_> = resources.iter().map(|(name, it)| format!("{name}={it}")).collect();
        pairs.join(" ")
    }

    #[test]
    fn quality_follows_requests_and_limits() {
        for (containers, expected) in [
            (vec!["/"], QosClass::BestEffort),
            (vec!["cpu=0/"], QosClass::BestEffort),
            (vec!["cpu=1/"], QosClass::Burstable),
            (vec!["example.com/gpu=1/example.com/gpu=1"], QosClass::BestEffort),
            (vec!["cpu=1 memory=1Gi/cpu=1 memory=1Gi"], QosClass::Guaranteed),
            (vec!["cpu=1 memory=1Gi/cpu=1000m memory=1024Mi"], QosClass::Guaranteed),
            (vec!["cpu=1 memory=1Gi/cpu=1 memory=1Gi", "/"], QosClass::Burstable),
            (vec!["cpu=1 memory=1Gi/cpu=2 memory=1Gi"], QosClass::Burstable),
            (vec!["cpu=1/cpu=1"], QosClass::Burstable),
        ] {
            let spec = spec(vec![], containers.iter().map(|text| container(text)).collect());
            assert_eq!(qos_class(&spec), expected, "{containers:?}");
        }
    }

    #[test]
    fn a_container_without_resources_is_not_guaranteed() {
        let plain = Container::default();
        let spec = spec(vec![], vec![container("cpu=1 memory=1/cpu=1 memory=1"), plain]);
        assert_eq!(qos_class(&spec), QosClass::Burstable);
    }

    #[test]
    fn init_containers_count_one_at_a_time() {
        let app = || vec![container("cpu=1 memory=1Gi/"), container("cpu=500m/")];
        for (init, expected) in [
            (vec![], "cpu=1500m memory=1Gi"),
            (vec![container("cpu=1/"), container("cpu=1/")], "cpu=1500m memory=1Gi"),
            (vec![container("cpu=3/")], "cpu=3 memory=1Gi"),
            (vec![sidecar("cpu=1/")], "cpu=2500m memory=1Gi"),
            (vec![sidecar("cpu=1/"), container("cpu=2/")], "cpu=3 memory=1Gi"),
        ] {
            assert_eq!(render(&pod_requests(&spec(init, app()))), expected);
        }
    }

    #[test]
    fn overhead_is_added_to_what_is_limited() {
        let mut spec = spec(vec![], vec![container("cpu=1/cpu=1")]);
        spec.overhead = Some(list("cpu=250m memory=64Mi"));
        assert_eq!(render(&pod_requests(&spec)), "cpu=1250m memory=64Mi");
        assert_eq!(render(&pod_limits(&spec)), "cpu=1250m");
    }
}
