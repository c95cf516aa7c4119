//! Machines that are cut off, switched off, come back or are given up.

use super::super::{Cluster, play};
use kinglet::client::Propagation;
use serde_json::json;

const MACHINES: [&str; 3] = ["m0", "m1", "m2"];

impl Cluster {
    /// Something happens to a machine.
    async fn meddle(&mut self) {
        let name = *self.random.pick(&MACHINES);
        let is_there = self.objects().contains_key(&format!("/core/nodes/{name}"));
        match self.random.below(7) {
            0 => {
                self.note(&format!("{name} is cut off"));
                self.machine(name).is_cut = true;
            }
            1 => {
                self.note(&format!("{name} is switched off"));
                self.machine(name).turn_off();
            }
            // Whoever deletes a node says that it does not run any more.
            2 if is_there => {
                self.machine(name).turn_off();
                self.delete(&format!("/api/v1/nodes/{name}"), Propagation::Background).await;
            }
            3 => {
                let ordinal = self.random.below(3);
                self.force_delete("default", &format!("db-{ordinal}")).await;
            }
            _ => self.bring_back(name).await,
        }
    }

    async fn bring_back(&mut self, name: &str) {
        self.note(&format!("{name} comes back"));
        if !self.objects().contains_key(&format!("/core/nodes/{name}")) {
            self.add_machine(name).await;
        }
        let machine = self.machine(name);
        (machine.is_on, machine.is_cut) = (true, false);
    }
}

#[test]
fn pods_leave_nodes_that_are_away_and_no_ordinal_runs_twice() {
    play(async |cluster: &mut Cluster| {
        cluster.add_machines(&MACHINES).await;
        cluster.run("StatefulSet", "db", 3, json!({"serviceName": "db"})).await;
        cluster.run("Deployment", "web", 4, json!({})).await;
        cluster.network.set_faults(true);
        for _ in 0..160 {
            cluster.tick().await;
            if cluster.random.one_in(12) {
                cluster.meddle().await;
            }
        }
        for name in MACHINES {
            cluster.bring_back(name).await;
        }
        cluster.rest().await;
        cluster.has_ready("db", 3);
        cluster.has_ready("web", 4);
        let nodes = cluster.objects();
        for name in MACHINES {
            let taints = &nodes[&format!("/core/nodes/{name}")]["spec"]["taints"];
            assert!(taints.as_array().is_none_or(Vec::is_empty), "{name}: {taints}");
        }
    });
}

#[test]
fn pods_of_nodes_that_stay_away_wait_until_users_decide() {
    play(async |cluster: &mut Cluster| {
        cluster.add_machines(&MACHINES).await;
        cluster.run("StatefulSet", "db", 3, json!({"serviceName": "db"})).await;
        cluster.run("Deployment", "web", 4, json!({})).await;
        cluster.rest().await;
        cluster.network.set_faults(true);
        cluster.machine("m1").is_cut = true;
        for _ in 0..60 {
            cluster.tick().await;
        }
        cluster.rest().await;
        // Of the Deployment there are others; those of the set, nobody knows to have ended.
        let there = cluster.objects();
        let going = super::pods_of(&there, "db");
        let cut = going.iter().filter(|pod| pod["spec"]["nodeName"] == "m1");
        assert!(cut.into_iter().all(super::is_going));
        cluster.machine("m1").turn_off();
        cluster.delete("/api/v1/nodes/m1", Propagation::Background).await;
        cluster.rest().await;
        cluster.has_ready("db", 3);
        cluster.has_ready("web", 4);
    });
}
