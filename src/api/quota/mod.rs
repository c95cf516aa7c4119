//! What objects use of the quotas of their namespace.
//!
//! Start at [`usage`]; whether an object may use it is [`charge()`]. The API server charges for each
//! object as it is created, and the quota controller counts anew what there is: both by these rules.
//! Follows upstream pkg/quota/v1/evaluator/core and apiserver pkg/quota/v1 (v1.35).

mod charge;
mod devices;
mod pods;
mod scopes;

pub use charge::{Charge, Refusal, charge, uncounted};
pub use pods::eligible_until;

use super::Quantity;
use super::pod::Amounts;
use super::volume::{claim_class, requested};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service, ServiceSpec};
use k8s_openapi::api::resource::v1::ResourceClaim;

const PODS: &str = "pods";
const SERVICES: &str = "services";
const NODE_PORTS: &str = "services.nodeports";
const LOAD_BALANCERS: &str = "services.loadbalancers";
const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";

/// Of claims to devices.
const DEVICE_CLAIMS: Counted<'_> = Counted { group: "resource.k8s.io", plural: "resourceclaims" };

/// Between the name of a storage class and what is used of it.
const CLASS_INFIX: &str = ".storageclass.storage.k8s.io/";

/// Kinds of the core group that were counted before every kind was.
const COUNTED_BY_PLURAL: &[&str] =
    &["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

/// A kind of objects, as quotas name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    pub group: &'a str,
    pub plural: &'a str,
}

/// An object, as far as it matters how much it uses.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    Pod(&'a Pod),
    Service(&'a Service),
    Claim(&'a PersistentVolumeClaim),
    Devices(&'a ResourceClaim),
    /// One whose number is all that counts.
    Other(Counted<'a>),
}

impl Counted<'_> {
    /// `count/deployments.apps` (upstream `ObjectCountQuotaResourceNameFor`).
    #[must_use]
    pub fn name(self) -> String {
        match self.group {
            "" => format!("count/{}", self.plural),
            group => format!("count/{}.{group}", self.plural),
        }
    }

    /// Whether an amount of this name is one of what such objects use (upstream
    /// `MatchingResources`).
    #[must_use]
    pub fn is_measured_by(self, name: &str) -> bool {
        if name.strip_prefix("count/").is_some() {
            return name == self.name();
        }
        if self == DEVICE_CLAIMS {
            return devices::is_measured_by(name);
        }
        if !self.group.is_empty() {
            return false;
        }
        match self.plural {
            PODS => pods::is_measured_by(name),
            SERVICES => matches!(name, SERVICES | NODE_PORTS | LOAD_BALANCERS),
            CLAIMS => {
                let own = name.rsplit_once(CLASS_INFIX).map_or(name, |(_, own)| own);
                matches!(own, CLAIMS | STORAGE)
            }
            plural => COUNTED_BY_PLURAL.contains(&plural) && name == plural,
        }
    }
}

impl<'a> Subject<'a> {
    #[must_use]
    pub fn counted(self) -> Counted<'a> {
        match self {
            Self::Pod(_) => Counted { group: "", plural: PODS },
            Self::Service(_) => Counted { group: "", plural: SERVICES },
            Self::Claim(_) => Counted { group: "", plural: CLAIMS },
            Self::Devices(_) => DEVICE_CLAIMS,
            Self::Other(counted) => counted,
        }
    }
}

/// What the object uses of anything that a quota could measure.
#[must_use]
pub fn usage(subject: Subject<'_>, now: Timestamp) -> Amounts {
    let counted = subject.counted();
    let mut used = Amounts::from([(counted.name(), Quantity::decimal(1))]);
    match subject {
        Subject::Pod(pod) => used.extend(pods::usage(pod, now)),
        Subject::Service(service) => used.extend(of_service(service)),
        Subject::Claim(claim) => used.extend(of_claim(claim)),
        Subject::Devices(claim) => used.extend(devices::usage(claim)),
        Subject::Other(Counted { group: "", plural }) if COUNTED_BY_PLURAL.contains(&plural) => {
            used.insert(plural.to_owned(), Quantity::decimal(1));
        }
        Subject::Other(_) => {}
    }
    used
}

/// Upstream `serviceEvaluator.Usage`. Node ports may not be given yet: what counts is the intent.
fn of_service(service: &Service) -> [(String, Quantity); 3] {
    let default = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&default);
    let ports = spec.ports.as_deref().unwrap_or_default();
    let asked = ports.iter().filter(|port| port.node_port.unwrap_or_default() != 0).count();
    let (node_ports, balancers) = match spec.type_.as_deref() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if spec.allocate_load_balancer_node_ports == Some(false) => (asked, 1),
        Some("LoadBalancer") => (ports.len(), 1),
        _ => (0, 0),
    };
    let node_ports = i64::try_from(node_ports).unwrap_or(i64::MAX);
    [(SERVICES, 1), (NODE_PORTS, node_ports), (LOAD_BALANCERS, balancers)]
        .map(|(name, amount)| (name.to_owned(), Quantity::decimal(amount)))
}

/// Upstream `pvcEvaluator.Usage`. Storage is counted in whole bytes; what is allocated already
/// counts where it is more than what is asked for.
fn of_claim(claim: &PersistentVolumeClaim) -> Amounts {
    let status = claim.status.as_ref();
    let allocated = status.and_then(|it| it.allocated_resources.as_ref()?.get("storage"));
    let storage = requested(claim).map(|asked| match allocated.map(Quantity::of) {
        Some(allocated) => asked.max(allocated),
        None => asked,
    });
    let mut used = Amounts::from([(CLAIMS.to_owned(), Quantity::decimal(1))]);
    if let Some(storage) = storage {
        used.insert(STORAGE.to_owned(), storage.rounded_to_units());
    }
    let class = claim_class(claim);
    if !class.is_empty() {
        let of_class: Vec<_> =
            used.iter().map(|(name, it)| (format!("{class}{CLASS_INFIX}{name}"), *it)).collect();
        used.extend(of_class);
    }
    used
}

/// Whether the quota is about this object: by what it measures, and by all of its scopes.
#[must_use]
pub fn matches(quota: &ResourceQuota, subject: Subject<'_>) -> bool {
    let hard = quota.status.as_ref().and_then(|status| status.hard.as_ref());
    hard.into_iter().flatten().any(|(name, _)| subject.counted().is_measured_by(name))
        && is_in_scope(quota, subject)
}

/// Whether the object is in all scopes of the quota.
#[must_use]
pub fn is_in_scope(quota: &ResourceQuota, subject: Subject<'_>) -> bool {
    scopes::of(quota).all(|scope| scope.has(subject))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn object<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[track_caller]
    fn check(subject: Subject<'_>, expected: &str) {
        let used = usage(subject, Timestamp::UNIX_EPOCH);
        let listed: Vec<_> = used.iter().map(|(name, it)| format!("{name}={it}")).collect();
        assert_eq!(listed.join(" "), expected);
        let counted = subject.counted();
        assert!(used.keys().all(|name| counted.is_measured_by(name)), "{used:?}");
    }

    #[test]
    fn objects_are_counted() {
        let other = |group, plural| Subject::Other(Counted { group, plural });
        check(other("apps", "deployments"), "count/deployments.apps=1");
        check(other("", "secrets"), "count/secrets=1 secrets=1");
        check(other("", "endpoints"), "count/endpoints=1");
        assert!(!Counted { group: "example.com", plural: "pods" }.is_measured_by("pods"));
    }

    #[test]
    fn services_use_ports_and_balancers() {
        let check = |spec: Value, expected: &str| {
            check(Subject::Service(&object(json!({"spec": spec}))), expected);
        };
        check(
            json!({"ports": [{"port": 1}]}),
            "count/services=1 services=1 services.loadbalancers=0 services.nodeports=0",
        );
        check(
            json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}),
            "count/services=1 services=1 services.loadbalancers=0 services.nodeports=2",
        );
        check(
            json!({"type": "LoadBalancer", "ports": [{"port": 1}]}),
            "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1",
        );
        check(
            json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
                "ports": [{"port": 1}, {"port": 2, "nodePort": 30000}]}),
            "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1",
        );
    }

    #[test]
    fn claims_to_devices_use_them_by_class() {
        let exactly =
            json!({"deviceClassName": "gold", "allocationMode": "ExactCount", "count": 1});
        let claim = object(json!({"metadata": {}, "spec":
            {"devices": {"requests": [{"name": "a", "exactly": exactly}]}}}));
        check(
            Subject::Devices(&claim),
            "count/resourceclaims.resource.k8s.io=1 gold.deviceclass.resource.k8s.io/devices=1",
        );
        assert!(!DEVICE_CLAIMS.is_measured_by("gold.storageclass.storage.k8s.io/requests.storage"));
    }

    #[test]
    fn claims_use_storage_by_class() {
        let claim = object(json!({"metadata": {}, "spec": {"storageClassName": "gold",
            "resources": {"requests": {"storage": "1Gi"}}}}));
        check(
            Subject::Claim(&claim),
            "count/persistentvolumeclaims=1 \
             gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
             gold.storageclass.storage.k8s.io/requests.storage=1Gi \
             persistentvolumeclaims=1 requests.storage=1Gi",
        );
        let shrunk =
            object(json!({"metadata": {}, "status": {"allocatedResources": {"storage": "3Gi"}},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}}}));
        check(
            Subject::Claim(&shrunk),
            "count/persistentvolumeclaims=1 persistentvolumeclaims=1 requests.storage=3Gi",
        );
    }
}
