//! Objects that own each other, deleted in all three ways.

use super::super::audit::{list, name, uid};
use super::super::rules::{Collection, owners};
use super::super::{Cluster, play};
use kinglet::client::Propagation;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const OBJECTS: usize = 24;

/// `m7` owns objects of higher numbers alone.
fn name_of(number: usize) -> String {
    format!("m{number:02}")
}

impl Cluster {
    /// Some own nothing, some several others.
    async fn make_family(&mut self) {
        for number in 0..OBJECTS {
            let objects = self.objects();
            let mut owners = Vec::new();
            for _ in 0..self.random.below(3).min(number) {
                let owner = name_of(self.random.below(number));
                let of = &objects[&format!("/core/configmaps/default/{owner}")];
                let blocks = !self.random.one_in(3);
                owners.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner,
                    "uid": uid(of), "blockOwnerDeletion": blocks}));
            }
            owners.dedup_by_key(|owner| owner["name"].clone());
            let metadata = json!({"name": name_of(number), "ownerReferences": owners});
            self.create(MAPS, json!({"metadata": metadata})).await;
        }
    }

    fn family(&self) -> BTreeMap<String, Value> {
        let objects = self.objects();
        let maps = list(&objects, "core/configmaps").filter(|map| name(map).starts_with('m'));
        maps.map(|map| (name(map).to_owned(), map.clone())).collect()
    }
}

/// Who is left when one is deleted after the other: whoever has no owner that was there, or one that
/// is left, or was orphaned.
fn expected(
    family: &BTreeMap<String, Value>,
    deleted: &[(String, Propagation)],
) -> BTreeSet<String> {
    let mut owned_by: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, object) in family {
        owned_by.insert(name, owners(object).map(|it| it["name"].as_str().unwrap()).collect());
    }
    for (gone, how) in deleted {
        let mut going = vec![gone.as_str()];
        while let Some(gone) = going.pop() {
            if owned_by.remove(gone).is_none() {
                continue;
            }
            for (name, owners) in &mut owned_by {
                if !owners.remove(gone) {
                    continue;
                }
                let is_orphaned = *how == Propagation::Orphan;
                if owners.is_empty() && !is_orphaned {
                    going.push(name);
                }
            }
        }
    }
    owned_by.into_keys().map(str::to_owned).collect()
}

#[test]
fn what_is_deleted_takes_along_what_it_owns_and_nothing_else() {
    play(async |cluster: &mut Cluster| {
        cluster.make_family().await;
        let mut collection = Collection::default();
        cluster.store.audit(|audit| {
            audit.rule(move |objects, change| {
                if change.key.starts_with("/core/configmaps/default/m") {
                    return collection.check(objects, change);
                }
                Ok(())
            });
        });
        cluster.rest().await;
        for _ in 0..4 {
            let before = cluster.family();
            let mut deleted = Vec::new();
            cluster.network.set_faults(true);
            for _ in 0..2 {
                let names: Vec<&String> = before.keys().collect();
                if names.is_empty() {
                    break;
                }
                let name = (*cluster.random.pick(&names)).clone();
                let ways = [Propagation::Orphan, Propagation::Background, Propagation::Foreground];
                let how = *cluster.random.pick(&ways);
                let path = format!("{MAPS}/{name}");
                cluster
                    .patch(&path, json!({"metadata": {"annotations": {"user": "deletes"}}}))
                    .await;
                cluster.delete(&path, how).await;
                deleted.push((name, how));
                for _ in 0..cluster.random.below(30) {
                    cluster.tick().await;
                }
                if cluster.random.one_in(3) {
                    cluster.restart_loops();
                }
                // The next depends on what this one has done.
                cluster.rest().await;
                cluster.network.set_faults(true);
            }
            cluster.rest().await;
            let left: BTreeSet<String> = cluster.family().into_keys().collect();
            assert_eq!(left, expected(&before, &deleted), "{deleted:?}");
        }
    });
}

#[test]
fn workloads_go_with_all_they_have_or_leave_it_behind() {
    for how in [Propagation::Orphan, Propagation::Background, Propagation::Foreground] {
        play(async |cluster: &mut Cluster| {
            cluster.add_machines(&["m0"]).await;
            cluster.run("Deployment", "web", 3, json!({})).await;
            cluster.rest().await;
            cluster.network.set_faults(true);
            cluster.delete("/apis/apps/v1/namespaces/default/deployments/web", how).await;
            for _ in 0..40 {
                cluster.tick().await;
                if cluster.random.one_in(20) {
                    cluster.restart_loops();
                }
            }
            cluster.rest().await;
            let objects = cluster.objects();
            let left = |kind: &str| list(&objects, kind).count();
            let left = [left("apps/deployments"), left("apps/replicasets"), left("core/pods")];
            let expected = if how == Propagation::Orphan { [0, 1, 3] } else { [0, 0, 0] };
            assert_eq!(left, expected);
        });
    }
}
