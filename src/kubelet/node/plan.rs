//! What the Node object of this node is to say: pure.
//!
//! Follows upstream's kubelet (pkg/kubelet/kubelet_node_status.go and nodestatus/setters.go, v1.35).

use super::facts::{Cloud, Facts, NodeSettings, PartState};
use crate::api::Quantity;
use crate::api::node::{NODE_KEY, WIREGUARD_KEY, key_of_node};
use crate::api::pod::{amounts, is_extended_resource};
use crate::client::key_of;
use crate::kubelet::eviction::plan::{Pressure, Room, Signal, Threshold};
use crate::runtime::RUNTIME_NAME;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeFeatures, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The version of Kubernetes that this kubelet behaves as.
pub(in crate::kubelet) const KUBELET_VERSION: &str =
    concat!("v1.35.0+kinglet", env!("CARGO_PKG_VERSION_MAJOR"));

/// A status without changes is written again after this long (upstream
/// `nodeStatusReportFrequency`).
pub(super) const REPORT_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// A node has at most this many images in its status, the largest first (upstream
/// `nodeStatusMaxImages`), with at most this many names each (`maxNamesPerImageInNodeStatus`).
const IMAGES_MAX: usize = 50;
const IMAGE_NAMES_MAX: usize = 5;

/// Keeps pods from a node until a cloud controller manager has seen to it, and what such a one is
/// told (upstream cloud-provider/api, v1.35).
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
const PROVIDED_ADDRESSES: &str = "alpha.kubernetes.io/provided-node-ip";

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Create(Box<Node>),
    /// Labels and addresses are this node's own business; what others have added stays.
    Patch(Value),
    PatchStatus(Value),
}

/// Whether the Node is another machine's, which has joined under the name since.
pub(super) fn is_anothers(settings: &NodeSettings, node: &Node) -> bool {
    let key = settings.key.as_deref();
    key.is_some() && key_of_node(node).is_some_and(|other| Some(other) != key)
}

/// What is to be written so that the Node object is true. Nothing, mostly; never anything to one that
/// is another machine's.
pub(super) fn plan(
    settings: &NodeSettings,
    facts: &Facts,
    existing: Option<&Node>,
    now: Timestamp,
) -> Vec<Write> {
    let Some(node) = existing else {
        return vec![Write::Create(Box::new(create(settings, facts, now)))];
    };
    let mut writes = Vec::new();
    if is_anothers(settings, node) {
        return writes;
    }
    writes.extend(correct_metadata(settings, facts, node).map(Write::Patch));
    writes.extend(report(settings, facts, node, now).map(Write::PatchStatus));
    writes
}

/// The node as it registers.
pub(super) fn create(settings: &NodeSettings, facts: &Facts, now: Timestamp) -> Node {
    let mut taints = settings.taints.clone();
    let mut provider = None;
    if let Cloud::External { provider_id } = &settings.cloud {
        provider.clone_from(provider_id);
        taints.push(Taint {
            key: UNINITIALIZED.to_owned(),
            value: Some("true".to_owned()),
            effect: "NoSchedule".to_owned(),
            time_added: None,
        });
    }
    let annotations =
        own_annotations(settings).into_iter().chain([(NODE_KEY, settings.key.clone())]);
    let annotations: BTreeMap<_, _> =
        annotations.filter_map(|(name, text)| Some((name.to_owned(), text?))).collect();
    Node {
        metadata: ObjectMeta {
            name: Some(settings.name.clone()),
            labels: Some(labels(settings, facts)),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: Some(taints).filter(|taints| !taints.is_empty()),
            provider_id: provider,
            ..NodeSpec::default()
        }),
        status: Some(status(settings, facts, None, now)),
    }
}

/// What this node says and nobody else, or what is not to be said.
fn own_annotations(settings: &NodeSettings) -> [(&'static str, Option<String>); 2] {
    [
        (PROVIDED_ADDRESSES, provided_addresses(settings)),
        (WIREGUARD_KEY, settings.wireguard_key.clone()),
    ]
}

/// What a cloud controller manager is to know of the node's addresses.
fn provided_addresses(settings: &NodeSettings) -> Option<String> {
    let addresses = settings.addresses.iter().take(2).map(ToString::to_string);
    match settings.cloud {
        Cloud::External { .. } => Some(addresses.collect::<Vec<_>>().join(",")),
        Cloud::None => None,
    }
}

fn labels(settings: &NodeSettings, facts: &Facts) -> BTreeMap<String, String> {
    let architecture = &facts.host.architecture;
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", &settings.name),
        ("kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/arch", architecture),
        ("kubernetes.io/os", &"linux".to_owned()),
        ("beta.kubernetes.io/os", &"linux".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.clone()))
    .collect();
    labels.extend(settings.labels.clone());
    labels
}

/// Labels that are this node's own to say, and what it tells a cloud controller manager and other nodes.
fn correct_metadata(settings: &NodeSettings, facts: &Facts, node: &Node) -> Option<Value> {
    let there = node.metadata.labels.as_ref();
    let wrong: Map<String, Value> = labels(settings, facts)
        .into_iter()
        .filter(|(key, value)| there.and_then(|labels| labels.get(key)) != Some(value))
        .map(|(key, value)| (key, Value::String(value)))
        .collect();
    let mut metadata = Map::new();
    if !wrong.is_empty() {
        metadata.insert("labels".to_owned(), Value::Object(wrong));
    }
    let told = |key: &str| node.metadata.annotations.as_ref().and_then(|all| all.get(key));
    let mut annotations = Map::new();
    if let Some(key) = settings.key.as_ref().filter(|key| told(NODE_KEY) != Some(key)) {
        annotations.insert(NODE_KEY.to_owned(), json!(key));
    }
    for (name, text) in own_annotations(settings) {
        if told(name) != text.as_ref() {
            annotations.insert(name.to_owned(), json!(text));
        }
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    }
    if metadata.is_empty() {
        return None;
    }
    metadata.insert("uid".to_owned(), json!(node.metadata.uid.as_deref().unwrap_or_default()));
    Some(json!({"metadata": metadata}))
}

/// A patch of the status where it has changed, or has not been said for long.
fn report(settings: &NodeSettings, facts: &Facts, node: &Node, now: Timestamp) -> Option<Value> {
    let old = node.status.clone().unwrap_or_default();
    let new = status(settings, facts, Some(&old), now);
    let said = old.conditions.iter().flatten().filter_map(|it| it.last_heartbeat_time.as_ref());
    let is_stale = said.max().is_none_or(|said| now.duration_since(said.0) >= REPORT_INTERVAL);
    if !is_stale && without_heartbeats(&old, &new) {
        return None;
    }
    let uid = node.metadata.uid.as_deref().unwrap_or_default();
    let mut status = crate::stdx::json::to_value(&new);
    // Maps and lists with merge keys would keep what is not in the patch.
    for (field, known) in [("capacity", &old.capacity), ("allocatable", &old.allocatable)] {
        for name in known.iter().flat_map(BTreeMap::keys) {
            if status[field].get(name).is_none() {
                status[field][name] = Value::Null;
            }
        }
    }
    for (list, key) in [("addresses", "type"), ("conditions", "type")] {
        let order: Vec<Value> = status[list]
            .as_array()
            .map(|items| items.iter().map(|item| json!({key: item[key]})).collect())
            .unwrap_or_default();
        if list == "addresses" {
            // A cloud controller manager may have said others in this moment.
            match new.addresses == old.addresses {
                true => drop(status.as_object_mut().and_then(|status| status.remove("addresses"))),
                false => status["addresses"] = replace(&status["addresses"]),
            }
        } else {
            status[format!("$setElementOrder/{list}")] = Value::Array(order);
        }
    }
    Some(json!({"metadata": {"uid": uid}, "status": status}))
}

/// A list that takes the place of the one that is there.
fn replace(list: &Value) -> Value {
    let mut items = list.as_array().cloned().unwrap_or_default();
    items.push(json!({"$patch": "replace"}));
    Value::Array(items)
}

/// Whether two statuses say the same but for when.
fn without_heartbeats(old: &NodeStatus, new: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        // What others say of the node is not this kubelet's to compare.
        status.conditions.iter_mut().for_each(|all| all.retain(|it| is_ours(&it.type_)));
        status
    };
    let (old, new) = (timeless(old), timeless(new));
    old.addresses == new.addresses
        && old.allocatable == new.allocatable
        && old.capacity == new.capacity
        && old.conditions == new.conditions
        && old.daemon_endpoints == new.daemon_endpoints
        && old.images == new.images
        && old.node_info == new.node_info
        && old.features == new.features
}

fn is_ours(condition: &str) -> bool {
    matches!(condition, "MemoryPressure" | "DiskPressure" | "PIDPressure" | "Ready")
}

fn status(
    settings: &NodeSettings,
    facts: &Facts,
    old: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let mut capacity = capacity(settings, facts);
    // Extended resources are put there by others, and are theirs to take away.
    let others = old.and_then(|old| old.capacity.as_ref()).into_iter().flatten();
    let extended = others.filter(|(name, _)| is_extended_resource(name));
    capacity.extend(extended.map(|(name, amount)| (name.clone(), amount.clone())));
    NodeStatus {
        addresses: Some(addresses(settings, old)),
        allocatable: Some(allocatable(settings, facts, &capacity)),
        capacity: Some(capacity),
        conditions: Some(conditions(facts, old, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: settings.kubelet_port.into() }),
        }),
        images: Some(images(facts)).filter(|images| !images.is_empty()),
        node_info: Some(node_info(facts)),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
        ..NodeStatus::default()
    }
}

fn capacity(settings: &NodeSettings, facts: &Facts) -> BTreeMap<String, Text> {
    let mut resources: BTreeMap<String, Text> = [
        ("cpu", facts.host.processors.to_string()),
        ("memory", format!("{}Ki", facts.host.memory_bytes >> 10)),
        ("ephemeral-storage", format!("{}Ki", facts.storage.total_bytes >> 10)),
        ("pods", settings.pods_max.to_string()),
    ]
    .into_iter()
    .map(|(name, amount)| (name.to_owned(), Text(amount)))
    .collect();
    for (size, bytes) in &facts.huge_pages {
        let amount = crate::api::Quantity::binary(i64::try_from(*bytes).unwrap_or(i64::MAX));
        resources.insert(format!("hugepages-{size}"), Text(amount.to_string()));
    }
    resources
}

/// What pods can have: what is there, without what is reserved and what is kept free, as upstream
/// `getNodeAllocatableInternal` (pkg/kubelet/cm/node_container_manager_linux.go, v1.35) has it. Memory
/// that is set aside for huge pages is nobody's for anything else: `MachineInfo`
/// (pkg/kubelet/nodestatus/setters.go).
fn allocatable(
    settings: &NodeSettings,
    facts: &Facts,
    capacity: &BTreeMap<String, Text>,
) -> BTreeMap<String, Text> {
    let set_aside: u64 = facts.huge_pages.iter().map(|(_, bytes)| *bytes).sum();
    let memory = facts.host.memory_bytes.saturating_sub(set_aside);
    let mut resources = capacity.clone();
    resources.insert("memory".to_owned(), Text(format!("{}Ki", memory >> 10)));
    let all = amounts(Some(&resources));
    for (name, text) in &mut resources {
        let kept_free = settings.kept_free.iter().filter_map(|threshold| {
            let (of, bytes) = kept_free(threshold, facts)?;
            (of == name).then(|| Quantity::binary(i64::try_from(bytes).unwrap_or(i64::MAX)))
        });
        let reserved = settings.reserved.get(name).copied();
        let taken: Quantity = reserved.into_iter().chain(kept_free.max()).sum();
        if !taken.is_zero() {
            let left = all.get(name).copied().unwrap_or_default() - taken;
            let left = if left.is_negative() { Quantity::default() } else { left };
            *text = left.to_field();
        }
    }
    resources
}

/// Upstream `hardEvictionReservation` (pkg/kubelet/cm/helpers.go).
fn kept_free(threshold: &Threshold, facts: &Facts) -> Option<(&'static str, u64)> {
    let (name, all) = match threshold.signal {
        Signal::MemoryAvailable => ("memory", facts.host.memory_bytes),
        Signal::NodefsAvailable => ("ephemeral-storage", facts.storage.total_bytes),
        _ => return None,
    };
    Some((name, threshold.least.of(Room { available: all, capacity: all })))
}

/// Upstream `NodeAddress` (pkg/kubelet/nodestatus/setters.go, v1.35): what a cloud controller manager
/// has said counts more than what the node knows.
fn addresses(settings: &NodeSettings, old: Option<&NodeStatus>) -> Vec<NodeAddress> {
    let said = old.and_then(|old| old.addresses.as_ref()).filter(|said| !said.is_empty());
    if let (Cloud::External { .. }, Some(said)) = (&settings.cloud, said) {
        return said.clone();
    }
    let of_type = |kind: &'static str, addresses: &[IpAddr]| -> Vec<NodeAddress> {
        let address =
            |address: &IpAddr| NodeAddress { type_: kind.to_owned(), address: address.to_string() };
        addresses.iter().map(address).collect()
    };
    let mut addresses = of_type("InternalIP", &settings.addresses);
    addresses.extend(of_type("ExternalIP", &settings.external_addresses));
    let name = NodeAddress { type_: "Hostname".to_owned(), address: settings.name.clone() };
    addresses.push(name);
    addresses
}

fn images(facts: &Facts) -> Vec<ContainerImage> {
    let mut images: Vec<ContainerImage> = facts
        .images
        .iter()
        .map(|image| {
            let names = image.digests.iter().chain(&image.tags).take(IMAGE_NAMES_MAX);
            ContainerImage {
                names: Some(names.cloned().collect()),
                size_bytes: Some(i64::try_from(image.size_bytes).unwrap_or(i64::MAX)),
            }
        })
        .collect();
    images.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    images.truncate(IMAGES_MAX);
    images
}

fn node_info(facts: &Facts) -> NodeSystemInfo {
    let host = &facts.host;
    NodeSystemInfo {
        architecture: host.architecture.clone(),
        boot_id: host.boot_id.clone(),
        container_runtime_version: format!("{RUNTIME_NAME}://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: host.kernel_release.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: host.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: host.os_image.clone(),
        system_uuid: host.machine_id.clone(),
        swap: None,
    }
}

/// What a condition says, before when.
struct Saying {
    kind: &'static str,
    is_true: bool,
    reason: &'static str,
    message: String,
}

fn conditions(facts: &Facts, old: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let said: Vec<NodeCondition> =
        old.and_then(|status| status.conditions.clone()).unwrap_or_default();
    let foreign = said.iter().filter(|condition| !is_ours(&condition.type_)).cloned();
    let own = sayings(facts).into_iter().map(|saying| {
        let status = if saying.is_true { "True" } else { "False" };
        let before = said.iter().find(|condition| condition.type_ == saying.kind);
        let unchanged = before.filter(|before| before.status == status);
        let since = unchanged.and_then(|before| before.last_transition_time.clone());
        NodeCondition {
            type_: saying.kind.to_owned(),
            status: status.to_owned(),
            reason: Some(saying.reason.to_owned()),
            message: Some(saying.message),
            last_heartbeat_time: Some(Time(seconds(now))),
            last_transition_time: Some(since.unwrap_or(Time(seconds(now)))),
        }
    });
    foreign.chain(own).collect()
}

/// Times of the API have no parts of seconds.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn sayings(facts: &Facts) -> Vec<Saying> {
    let is = |kind| facts.pressure.contains(&kind);
    vec![
        pressure(
            "MemoryPressure",
            is(Pressure::Memory),
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            is(Pressure::Disk),
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            is(Pressure::Pid),
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready(facts),
    ]
}

fn pressure(
    kind: &'static str,
    is_true: bool,
    bad: (&'static str, &str),
    good: (&'static str, &str),
) -> Saying {
    let (reason, message) = if is_true { bad } else { good };
    Saying { kind, is_true, reason, message: message.to_owned() }
}

fn ready(facts: &Facts) -> Saying {
    let mut problems: Vec<String> = [("runtime", &facts.runtime), ("network", &facts.network)]
        .into_iter()
        .filter_map(|(part, state)| match state {
            PartState::Ready => None,
            PartState::NotReady(why) => Some(format!("container {part} is not ready: {why}")),
        })
        .collect();
    if facts.is_going_down {
        problems.push("node is shutting down".to_owned());
    }
    let is_true = problems.is_empty();
    let (reason, message) = match is_true {
        true => ("KubeletReady", "kubelet is posting ready status".to_owned()),
        false => ("KubeletNotReady", problems.join("; ")),
    };
    Saying { kind: "Ready", is_true, reason, message }
}

/// The lease by which this node says that it lives.
pub(super) fn lease(node: &Node, duration_seconds: i32, now: Timestamp) -> Value {
    let key = key_of(&node.metadata);
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": key.name,
            "namespace": "kube-node-lease",
            "ownerReferences": [{
                "apiVersion": "v1",
                "kind": "Node",
                "name": key.name,
                "uid": node.metadata.uid,
            }],
        },
        "spec": {
            "holderIdentity": key.name,
            "leaseDurationSeconds": duration_seconds,
            "renewTime": micro(now),
        },
    })
}

/// A `MicroTime`: six digits, always.
pub(super) fn micro(now: Timestamp) -> String {
    format!("{now:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::node::facts::Storage;
    use crate::registry::schema::patch::strategic_merge_patch;
    use crate::registry::schema::types;
    use crate::runtime::{ImageId, ImageStatus};
    use crate::sys::host::HostFacts;

    fn settings() -> NodeSettings {
        NodeSettings {
            name: "one".to_owned(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            external_addresses: Vec::new(),
            cloud: Cloud::None,
            key: None,
            wireguard_key: None,
            labels: BTreeMap::from([("tier".to_owned(), "edge".to_owned())]),
            taints: Vec::new(),
            pods_max: 110,
            reserved: [].into(),
            kept_free: Vec::new(),
            kubelet_port: 10250,
        }
    }

    fn facts() -> Facts {
        Facts {
            host: HostFacts {
                hostname: "one".to_owned(),
                kernel_release: "6.1.0".to_owned(),
                architecture: "arm64".to_owned(),
                os_image: "Debian".to_owned(),
                boot_id: "b".to_owned(),
                machine_id: "m".to_owned(),
                memory_bytes: 1 << 30,
                processors: 4,
            },
            pressure: [].into(),
            storage: Storage { total_bytes: 100 << 30 },
            huge_pages: vec![("2Mi".to_owned(), 4 << 20)],
            images: Vec::new(),
            runtime: PartState::Ready,
            network: PartState::Ready,
            is_going_down: false,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn registered(facts: &Facts) -> Node {
        let writes = plan(&settings(), facts, None, at(0));
        let [Write::Create(node)] = &writes[..] else { panic!("{writes:?}") };
        (**node).clone()
    }

    fn brief(writes: &[Write]) -> Vec<&'static str> {
        let kind = |write: &Write| match write {
            Write::Create(_) => "create",
            Write::Patch(_) => "patch",
            Write::PatchStatus(_) => "status",
        };
        writes.iter().map(kind).collect()
    }

    fn ready_condition(status: &Value) -> &Value {
        let conditions = status["status"]["conditions"].as_array().unwrap();
        conditions.iter().find(|condition| condition["type"] == "Ready").unwrap()
    }

    #[test]
    fn a_node_registers_with_what_it_has() {
        let node = registered(&facts());
        let status = node.status.unwrap();
        let capacity = status.capacity.unwrap();
        let amounts: Vec<_> =
            capacity.iter().map(|(name, amount)| format!("{name}={}", amount.0)).collect();
        assert_eq!(
            amounts.join(" "),
            "cpu=4 ephemeral-storage=104857600Ki hugepages-2Mi=4Mi memory=1048576Ki pods=110"
        );
        let labels = node.metadata.labels.unwrap();
        assert_eq!(labels["kubernetes.io/arch"], "arm64");
        assert_eq!(labels["tier"], "edge");
    }

    #[test]
    fn a_true_node_is_left_alone_until_it_is_stale() {
        let node = registered(&facts());
        for (second, expected) in [(1, &[][..]), (299, &[]), (300, &["status"])] {
            let writes = plan(&settings(), &facts(), Some(&node), at(second));
            assert_eq!(brief(&writes), expected, "after {second} s");
        }
    }

    #[test]
    fn what_changes_is_told_and_transitions_are_dated() {
        let node = registered(&facts());
        let mut down = facts();
        down.network = PartState::NotReady("no podCIDR".to_owned());
        let writes = plan(&settings(), &down, Some(&node), at(10));
        let [Write::PatchStatus(patch)] = &writes[..] else { panic!("{writes:?}") };
        let ready = ready_condition(patch);
        assert_eq!(ready["status"], "False");
        assert_eq!(ready["message"], "container network is not ready: no podCIDR");
        assert_eq!(ready["lastTransitionTime"], "2027-01-15T08:00:10Z");
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions[0]["lastTransitionTime"], "2027-01-15T08:00:00Z");
    }

    #[test]
    fn resources_of_others_stay_and_can_be_used() {
        let mut node = registered(&facts());
        let memory = |status: &NodeStatus| status.allocatable.as_ref().unwrap()["memory"].clone();
        let status = node.status.as_mut().unwrap();
        assert_eq!(memory(status).0, format!("{}Ki", (1 << 20) - (4 << 10)));
        let capacity = status.capacity.as_mut().unwrap();
        capacity.insert("example.com/dongle".to_owned(), Text("3".to_owned()));
        capacity.insert("hugepages-1Gi".to_owned(), Text("0".to_owned()));
        let writes = plan(&settings(), &facts(), Some(&node), at(1));
        let [Write::PatchStatus(patch)] = &writes[..] else { panic!("{writes:?}") };
        assert_eq!(patch["status"]["capacity"]["hugepages-1Gi"], Value::Null);
        let mut document = serde_json::to_value(&node).unwrap();
        document["metadata"]["uid"] = json!("");
        let patched = strategic_merge_patch(types::NODE, document, patch.clone()).unwrap();
        let node: Node = serde_json::from_value(patched).unwrap();
        let status = node.status.as_ref().unwrap();
        for resources in [&status.capacity, &status.allocatable] {
            let resources = resources.as_ref().unwrap();
            assert_eq!(resources["example.com/dongle"].0, "3");
            assert!(!resources.contains_key("hugepages-1Gi"));
        }
        assert_eq!(brief(&plan(&settings(), &facts(), Some(&node), at(2))), [""; 0]);
    }

    #[test]
    fn labels_are_corrected_and_those_of_others_kept() {
        let mut node = registered(&facts());
        let labels = node.metadata.labels.as_mut().unwrap();
        labels.insert("tier".to_owned(), "cloud".to_owned());
        labels.insert("theirs".to_owned(), "x".to_owned());
        let writes = plan(&settings(), &facts(), Some(&node), at(1));
        let [Write::Patch(patch)] = &writes[..] else { panic!("{writes:?}") };
        assert_eq!(patch["metadata"]["labels"], json!({"tier": "edge"}));
    }

    #[test]
    fn the_largest_images_are_told_with_few_names() {
        let image = |index: u64| ImageStatus {
            id: ImageId(index.to_string()),
            tags: (0..10).map(|tag| format!("i{index}:{tag}")).collect(),
            digests: Vec::new(),
            size_bytes: index,
            user: String::new(),
            pinned: false,
        };
        let mut many = facts();
        many.images = (0..60).map(image).collect();
        let images = images(&many);
        assert_eq!(images.len(), IMAGES_MAX);
        assert_eq!(images[0].size_bytes, Some(59));
        assert_eq!(images[0].names.as_ref().unwrap().len(), IMAGE_NAMES_MAX);
    }

    #[test]
    fn little_room_is_pressure() {
        let mut full = facts();
        full.pressure = [Pressure::Memory, Pressure::Disk].into();
        let bad: Vec<_> = sayings(&full).iter().filter(|it| it.is_true).map(|it| it.kind).collect();
        assert_eq!(bad, ["MemoryPressure", "DiskPressure", "Ready"]);
    }

    #[test]
    fn what_is_reserved_is_not_for_pods() {
        let mut settings = settings();
        let amounts = [("cpu", "300m"), ("memory", "100Mi"), ("ephemeral-storage", "1Gi")];
        settings.reserved =
            amounts.map(|(name, amount)| (name.to_owned(), amount.parse().unwrap())).into();
        settings.kept_free = ["memory.available<24Mi", "nodefs.available<10%", "pid.available<5%"]
            .map(|text| text.parse().unwrap())
            .into();
        let Write::Create(node) = plan(&settings, &facts(), None, at(0)).remove(0) else {
            panic!("not registered")
        };
        let status = node.status.unwrap();
        let allocatable = status.allocatable.unwrap();
        let text: Vec<_> =
            allocatable.iter().map(|(name, it)| format!("{name}={}", it.0)).collect();
        // 1 GiB without 4 MiB of huge pages, 100 MiB and 24 MiB; 100 GiB without 1 and 10.
        assert_eq!(
            text.join(" "),
            "cpu=3700m ephemeral-storage=89Gi hugepages-2Mi=4Mi memory=896Mi pods=110"
        );
        assert_eq!(status.capacity.unwrap()["cpu"].0, "4");
        settings.reserved.insert("cpu".to_owned(), "5".parse().unwrap());
        let all = capacity(&settings, &facts());
        assert_eq!(allocatable_cpu(&settings, &all), "0");
    }

    fn allocatable_cpu(settings: &NodeSettings, capacity: &BTreeMap<String, Text>) -> String {
        allocatable(settings, &facts(), capacity)["cpu"].0.clone()
    }

    #[test]
    fn a_node_that_goes_down_is_not_ready() {
        let mut last = facts();
        last.is_going_down = true;
        let said = ready(&last);
        assert_eq!((said.is_true, &*said.message), (false, "node is shutting down"));
    }

    #[test]
    fn addresses_are_those_of_either_side_and_the_name() {
        let mut settings = settings();
        settings.external_addresses = vec!["198.51.100.1".parse().unwrap()];
        let said: Vec<_> = addresses(&settings, None)
            .into_iter()
            .map(|it| format!("{} {}", it.type_, it.address))
            .collect();
        assert_eq!(said, ["InternalIP 192.0.2.1", "ExternalIP 198.51.100.1", "Hostname one"]);
    }

    #[test]
    fn a_cloud_controller_manager_has_its_say() {
        let mut settings = settings();
        let provider_id = Some("cloud://1".to_owned());
        settings.cloud = Cloud::External { provider_id: provider_id.clone() };
        settings.addresses.push("fd00::1".parse().unwrap());
        let Write::Create(mut node) = plan(&settings, &facts(), None, at(0)).remove(0) else {
            panic!("not registered")
        };
        let spec = node.spec.clone().unwrap();
        assert_eq!(spec.provider_id, provider_id);
        let taint = &spec.taints.unwrap()[0];
        assert_eq!((&*taint.key, &*taint.effect), (UNINITIALIZED, "NoSchedule"));
        let told = node.metadata.annotations.clone().unwrap();
        assert_eq!(told[PROVIDED_ADDRESSES], "192.0.2.1,fd00::1");
        let cloudy = NodeAddress { type_: "InternalIP".to_owned(), address: "10.0.0.9".to_owned() };
        node.status.as_mut().unwrap().addresses = Some(vec![cloudy]);
        assert_eq!(brief(&plan(&settings, &facts(), Some(&node), at(1))), [""; 0]);
        // What else there is to say is said without a word about them.
        let writes = plan(&settings, &facts(), Some(&node), at(600));
        let [Write::PatchStatus(status)] = &writes[..] else { panic!("{writes:?}") };
        assert_eq!(status["status"]["addresses"], Value::Null);
        // Without it the node speaks for itself again.
        settings.cloud = Cloud::None;
        let writes = plan(&settings, &facts(), Some(&node), at(2));
        let [Write::Patch(metadata), Write::PatchStatus(status)] = &writes[..] else {
            panic!("{writes:?}")
        };
        assert_eq!(metadata["metadata"]["annotations"], json!({PROVIDED_ADDRESSES: null}));
        assert_eq!(status["status"]["addresses"][0]["address"], "192.0.2.1");
    }

    #[test]
    fn other_nodes_are_told_the_key_of_the_tunnel() {
        let with_key = |key: Option<&str>| NodeSettings {
            wireguard_key: key.map(str::to_owned),
            ..settings()
        };
        let Write::Create(node) = plan(&with_key(Some("a")), &facts(), None, at(0)).remove(0)
        else {
            panic!("not registered")
        };
        assert_eq!(node.metadata.annotations.clone().unwrap()[WIREGUARD_KEY], "a");
        for (key, said) in
            [(Some("a"), None), (Some("b"), Some(json!("b"))), (None, Some(json!(null)))]
        {
            let patches: Vec<_> = plan(&with_key(key), &facts(), Some(&node), at(1))
                .into_iter()
                .filter_map(|write| match write {
                    Write::Patch(patch) => Some(patch["metadata"]["annotations"].clone()),
                    _ => None,
                })
                .collect();
            let expected = said.map(|said| json!({WIREGUARD_KEY: said}));
            assert_eq!(patches, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_node_that_is_another_machines_is_left_alone() {
        let with_key = |key: &str| NodeSettings { key: Some(key.to_owned()), ..settings() };
        let mut down = facts();
        down.runtime = PartState::NotReady("containerd is gone".to_owned());
        let writes = plan(&with_key("mine"), &facts(), None, at(0));
        let [Write::Create(own)] = &*writes else { panic!("{writes:?}") };
        assert_eq!(key_of_node(own), Some("mine"));
        assert_eq!(brief(&plan(&with_key("mine"), &down, Some(own), at(1))), ["status"]);
        assert_eq!(brief(&plan(&with_key("theirs"), &down, Some(own), at(1))), [""; 0]);
        // Somebody has made the object, or an earlier version has.
        let unguarded = registered(&facts());
        let writes = plan(&with_key("mine"), &facts(), Some(&unguarded), at(1));
        let [Write::Patch(patch)] = &*writes else { panic!("{writes:?}") };
        assert_eq!(patch["metadata"]["annotations"], json!({NODE_KEY: "mine"}));
    }

    #[test]
    fn lease_times_have_microseconds() {
        assert_eq!(micro(at(0)), "2027-01-15T08:00:00.000000Z");
    }
}
