//! A seed plays the same every time.

use super::super::{Cluster, play_one};
use serde_json::json;
use std::cell::RefCell;

#[test]
fn a_seed_plays_the_same_twice() {
    let stories = RefCell::new(Vec::new());
    for _ in 0..2 {
        play_one(3, &async |cluster: &mut Cluster| {
            cluster.add_machines(&["m0", "m1"]).await;
            cluster.run("Deployment", "web", 4, json!({})).await;
            cluster.run("StatefulSet", "db", 2, json!({"serviceName": "db"})).await;
            cluster.network.set_faults(true);
            for _ in 0..60 {
                cluster.tick().await;
            }
            cluster.rest().await;
            stories.borrow_mut().push(cluster.network.story());
        });
    }
    let stories = stories.borrow();
    for (first, second) in stories[0].lines().zip(stories[1].lines()) {
        assert_eq!(first, second);
    }
    assert_eq!(stories[0], stories[1]);
}
