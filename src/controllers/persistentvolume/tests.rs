//! Claims and volumes in a small world of their own: what a few looks lead to.

use super::claim::{self, ClaimView, default_class};
use super::volume::{self, Sight, VolumeView};
use crate::api::volume::{claim_class, claim_of, volume_name};
use crate::control::{Plan, Write};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// No case needs more looks than this to come to rest.
const LOOKS_MAX: usize = 12;

#[derive(Clone, Default)]
struct World {
    claims: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
    classes: Vec<Value>,
    waiting_pods: Vec<String>,
    revision: u64,
    events: Vec<String>,
}

fn merged(mut base: Value, more: Value) -> Value {
    json_patch::merge(&mut base, &more);
    base
}

fn typed<K: serde::de::DeserializeOwned>(value: &Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value.clone()).unwrap())
}

impl World {
    fn claim(mut self, name: &str, more: Value) -> Self {
        let claim = json!({
            "metadata": { "name": name, "namespace": "default", "uid": format!("u-{name}"),
                "resourceVersion": "1" },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "resources": { "requests": { "storage": "5Gi" } } },
            "status": { "phase": "Pending" },
        });
        self.claims.insert(name.to_owned(), merged(claim, more));
        self
    }

    fn volume(mut self, name: &str, size: &str, more: Value) -> Self {
        let volume = json!({
            "metadata": { "name": name, "resourceVersion": "1" },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "capacity": { "storage": size }, "persistentVolumeReclaimPolicy": "Retain" },
            "status": { "phase": "Pending" },
        });
        self.volumes.insert(name.to_owned(), merged(volume, more));
        self
    }

    fn class(mut self, name: &str, more: Value) -> Self {
        let class = json!({
            "metadata": { "name": name }, "provisioner": "example.com/disks",
            "volumeBindingMode": "Immediate",
        });
        self.classes.push(merged(class, more));
        self
    }

    fn see_claim(&self, name: &str) -> ClaimView {
        let claim: Arc<PersistentVolumeClaim> = typed(&self.claims[name]);
        let classes: Vec<Arc<StorageClass>> = self.classes.iter().map(typed).collect();
        let wanted = claim_class(&claim).to_owned();
        let volumes = match volume_name(&claim) {
            Some(name) => self.volumes.get(name).map(typed).into_iter().collect(),
            None => self.volumes.values().map(typed).collect(),
        };
        ClaimView {
            class: classes.iter().find(|it| it.metadata.name.as_ref() == Some(&wanted)).cloned(),
            default_class: default_class(&classes),
            volumes,
            waiting_pods: self.waiting_pods.clone(),
            is_unsure: false,
            claim,
        }
    }

    fn see_volume(&self, name: &str) -> VolumeView {
        let volume: Arc<PersistentVolume> = typed(&self.volumes[name]);
        let claim = claim_of(&volume).and_then(|reference| {
            let claim = self.claims.get(reference.name.as_deref()?)?;
            (claim["metadata"]["uid"].as_str() == reference.uid.as_deref()).then(|| typed(claim))
        });
        VolumeView { volume, claim: claim.map_or(Sight::Gone, Sight::Found) }
    }

    /// Whether anything was written. What has changed meanwhile is left alone.
    fn carry_out(&mut self, plan: &Plan) -> bool {
        let mut wrote = false;
        for planned in plan.steps.iter().flatten() {
            let Write::Update { resource, key, subresource, .. } = &planned.write else {
                panic!("{:?}", planned.write);
            };
            let objects = match &*resource.kind {
                "PersistentVolume" => &mut self.volumes,
                _ => &mut self.claims,
            };
            let Some(known) = objects.get_mut(&key.name) else { continue };
            let mut new = planned.write.body();
            if known["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"] {
                continue;
            }
            if subresource.is_some() {
                let status = new["status"].take();
                new = known.clone();
                new["status"] = status;
            } else {
                new["status"] = known["status"].clone();
            }
            self.revision += 1;
            new["metadata"]["resourceVersion"] = json!(format!("w{}", self.revision));
            *known = new;
            wrote = true;
            self.events.extend(planned.succeeded.iter().map(|it| it.reason.to_owned()));
        }
        self.events.extend(plan.reports.iter().map(|it| it.reason.to_owned()));
        wrote
    }

    fn come_to_rest(&mut self) {
        for _ in 0..LOOKS_MAX {
            let mut wrote = false;
            for name in self.volumes.keys().cloned().collect::<Vec<_>>() {
                let plan = volume::plan(&self.see_volume(&name));
                wrote |= self.carry_out(&plan);
            }
            for name in self.claims.keys().cloned().collect::<Vec<_>>() {
                let plan = claim::plan(&self.see_claim(&name));
                wrote |= self.carry_out(&plan);
            }
            if !wrote {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn render(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let claims = self.claims.iter().map(|(name, claim)| {
            let volume = text(&claim["spec"]["volumeName"]);
            format!("{name}={volume}:{}", text(&claim["status"]["phase"]))
        });
        let volumes = self.volumes.iter().map(|(name, volume)| {
            let claim = text(&volume["spec"]["claimRef"]["name"]);
            format!("{name}={claim}:{}", text(&volume["status"]["phase"]))
        });
        let mut words: Vec<_> = claims.chain(volumes).collect();
        let mut events = self.events.clone();
        events.dedup();
        words.extend(events);
        words.join(" ")
    }
}

#[track_caller]
fn check(mut world: World, expected: &str) {
    world.come_to_rest();
    assert_eq!(world.render(), expected);
}

fn named(volume: &str) -> Value {
    json!({ "spec": { "volumeName": volume } })
}

fn promised(claim: &str, uid: Option<&str>) -> Value {
    let reference = json!({ "name": claim, "namespace": "default", "uid": uid });
    json!({ "spec": { "claimRef": reference } })
}

/// A claim that had its volume.
fn complete(volume: Option<&str>) -> Value {
    json!({
        "metadata": { "annotations": { "pv.kubernetes.io/bind-completed": "yes" } },
        "spec": { "volumeName": volume }, "status": { "phase": "Bound" },
    })
}

#[test]
fn claims_get_the_smallest_volume_that_suits() {
    let none = || json!({});
    check(
        World::default().claim("a", none()).volume("l", "9Gi", none()).volume("s", "6Gi", none()),
        "a=s:Bound l=-:Available s=a:Bound",
    );
    check(
        World::default().claim("a", none()).claim("b", none()).volume("s", "6Gi", none()),
        "a=s:Bound b=-:Pending s=a:Bound ProvisioningFailed",
    );
    let many = json!({ "spec": { "accessModes": ["ReadWriteOnce", "ReadWriteMany"] } });
    check(
        World::default().claim("a", none()).volume("m", "5Gi", many).volume("o", "9Gi", none()),
        "a=o:Bound m=-:Available o=a:Bound",
    );
    check(
        World::default().claim("a", none()).volume("o", "5Gi", none()).volume(
            "p",
            "9Gi",
            promised("a", None),
        ),
        "a=p:Bound o=-:Available p=a:Bound",
    );
}

#[test]
fn a_volume_that_the_user_names_has_to_suit() {
    let world = || World::default().claim("a", named("v"));
    check(world(), "a=v:Pending");
    check(world().volume("v", "5Gi", json!({})), "a=v:Bound v=a:Bound");
    check(world().volume("v", "1Gi", json!({})), "a=v:Pending v=-:Available VolumeMismatch");
    check(
        world().volume("v", "5Gi", promised("b", Some("u-b"))),
        "a=v:Pending v=b:Released FailedBinding",
    );
    let block = json!({ "spec": { "volumeMode": "Block" } });
    check(world().volume("v", "5Gi", block), "a=v:Pending v=-:Available VolumeMismatch");
    let own = merged(promised("a", Some("u-a")), json!({ "spec": { "storageClassName": "x" } }));
    check(world().volume("v", "5Gi", own), "a=v:Bound v=a:Bound");
}

#[test]
fn volumes_are_made_by_those_who_know_how() {
    let world = || World::default().claim("a", json!({}));
    check(world().class("fast", json!({})), "a=-:Pending ExternalProvisioning");
    check(world(), "a=-:Pending ProvisioningFailed");
    let nobody = json!({ "provisioner": "kubernetes.io/no-provisioner" });
    check(world().class("fast", nobody), "a=-:Pending ProvisioningFailed");
    let mut provisioned = world().class("fast", json!({}));
    provisioned.come_to_rest();
    let annotations = &provisioned.claims["a"]["metadata"]["annotations"];
    for annotation in [claim::STORAGE_PROVISIONER, claim::BETA_STORAGE_PROVISIONER] {
        assert_eq!(annotations[annotation], "example.com/disks");
    }
}

#[test]
fn claims_wait_for_their_first_pod() {
    let delayed = json!({ "volumeBindingMode": "WaitForFirstConsumer" });
    let world = || {
        World::default().claim("a", json!({})).class("fast", delayed.clone()).volume(
            "v",
            "5Gi",
            json!({}),
        )
    };
    check(world(), "a=-:Pending v=-:Available WaitForFirstConsumer");
    let mut used = world();
    used.waiting_pods = vec!["p".to_owned()];
    check(used, "a=-:Pending v=-:Available WaitForPodScheduled");
    let selected = json!({ "metadata": { "annotations": {
        "volume.kubernetes.io/selected-node": "n1" } } });
    check(
        World::default().claim("a", selected).class("fast", delayed.clone()),
        "a=-:Pending ExternalProvisioning",
    );
    // The scheduler has promised the volume.
    check(
        World::default().claim("a", json!({})).class("fast", delayed.clone()).volume(
            "v",
            "5Gi",
            promised("a", Some("u-a")),
        ),
        "a=v:Bound v=a:Bound",
    );
}

#[test]
fn claims_without_a_class_get_the_default_one_late() {
    let default = |created: &str| {
        json!({ "metadata": {
            "creationTimestamp": created,
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
        } })
    };
    let none = json!({ "spec": { "storageClassName": null } });
    let world = World::default()
        .claim("a", none.clone())
        .class("fast", default("2026-01-01T00:00:00Z"))
        .class("new", default("2026-01-02T00:00:00Z"))
        .class("plain", json!({}));
    let mut given = world.clone();
    given.come_to_rest();
    assert_eq!(given.claims["a"]["spec"]["storageClassName"], "new");
    check(World::default().claim("a", none), "a=-:Pending FailedBinding");
    let empty = json!({ "spec": { "storageClassName": "" } });
    check(
        World::default().claim("a", empty).class("fast", default("2026-01-01T00:00:00Z")),
        "a=-:Pending FailedBinding",
    );
}

#[test]
fn lost_volumes_are_told() {
    let world = |volume| World::default().claim("a", complete(volume));
    check(world(None), "a=-:Lost ClaimLost");
    check(world(Some("v")), "a=v:Lost ClaimLost");
    check(
        world(Some("v")).claim("b", json!({})).volume("v", "5Gi", promised("b", Some("u-b"))),
        "a=v:Lost b=v:Bound v=b:Bound ClaimMisbound",
    );
    check(world(Some("v")).volume("v", "5Gi", json!({})), "a=v:Bound v=a:Bound");
}

#[test]
fn volumes_without_their_claim_go_by_their_policy() {
    let released = |policy: &str, more: Value| {
        let policy = json!({ "spec": { "persistentVolumeReclaimPolicy": policy } });
        let volume = merged(merged(promised("a", Some("u-a")), policy), more);
        World::default().volume("v", "5Gi", volume)
    };
    let by = |name: &str| json!({ "metadata": { "annotations": { "pv.kubernetes.io/provisioned-by": name } } });
    check(released("Retain", json!({})), "v=a:Released");
    check(released("Delete", by("example.com/disks")), "v=a:Released");
    check(released("Delete", json!({})), "v=a:Failed VolumeFailedDelete");
    check(released("Recycle", json!({})), "v=a:Failed VolumeFailedRecycle");
    let another = json!({ "metadata": { "uid": "u-a2" } });
    check(
        released("Retain", json!({})).claim("a", another),
        "a=-:Pending v=a:Released ProvisioningFailed",
    );
}

#[test]
fn a_promise_that_is_not_wanted_is_taken_back() {
    let by_controller = json!({ "metadata": { "annotations": {
        "pv.kubernetes.io/bound-by-controller": "yes" } } });
    let world = |promise: Value| {
        World::default().claim("a", complete(Some("w"))).volume("v", "5Gi", promise).volume(
            "w",
            "5Gi",
            promised("a", Some("u-a")),
        )
    };
    let promise = promised("a", Some("u-a"));
    check(world(promise.clone()), "a=w:Bound v=a:Available w=a:Bound");
    check(world(merged(promise, by_controller)), "a=w:Bound v=-:Available w=a:Bound");
}

/// Looks at old views, in any order: no volume ever has two claims, and no claim two volumes that
/// both count.
#[test]
fn no_volume_is_bound_twice() {
    for seed in 0..200_u64 {
        let mut random = seed;
        let mut next = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            usize::try_from(random >> 33).unwrap() % bound
        };
        let mut world = World::default();
        for name in ["a", "b", "c", "d"] {
            world = world.claim(name, json!({}));
        }
        for (name, size) in [("v", "5Gi"), ("w", "6Gi"), ("x", "5Gi")] {
            world = world.volume(name, size, json!({ "status": { "phase": "Available" } }));
        }
        let mut old = world.clone();
        for _ in 0..60 {
            let seen = if next(3) == 0 { &old } else { &world };
            let plan = match next(2) {
                0 => claim::plan(&seen.see_claim(["a", "b", "c", "d"][next(4)])),
                _ => volume::plan(&seen.see_volume(["v", "w", "x"][next(3)])),
            };
            if next(4) == 0 {
                old = world.clone();
            }
            world.carry_out(&plan);
            let bound: Vec<_> = world.claims.values().map(|it| &it["spec"]["volumeName"]).collect();
            for volume in world.volumes.keys() {
                let count = bound.iter().filter(|name| name.as_str() == Some(volume)).count();
                assert!(count <= 1, "seed {seed}: {}", world.render());
            }
        }
        world.come_to_rest();
        let mut phases: Vec<_> =
            world.claims.values().map(|claim| claim["status"]["phase"].as_str().unwrap()).collect();
        phases.sort_unstable();
        assert_eq!(phases, ["Bound", "Bound", "Bound", "Pending"], "seed {seed}");
    }
}
