//! Prefers nodes that have large images of the pod already. Follows upstream plugins/imagelocality
//! (v1.35).

use super::{Normalize, SCORE_MAX, Score};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::node::NodeFacts;

const MIB: i64 = 1 << 20;
/// Smaller images do not matter.
const BYTES_MIN: i64 = 23 * MIB;
/// Per container, larger images do not matter more.
const CONTAINER_BYTES_MAX: i64 = 1_000 * MIB;

pub(super) const SCORE: Score = Score {
    weight: 1,
    concerns: |cycle| {
        cycle.pod.ask.images.iter().any(|image| cycle.snapshot.image(image).is_some())
    },
    raw: score,
    normalize: Normalize::Never,
    follows_room: false,
};

/// An image that many nodes have counts for more, so that one node with it does not draw all pods.
fn score(cycle: &Cycle<'_>, node: &NodeFacts) -> i64 {
    let nodes = i64::try_from(cycle.snapshot.nodes_count()).unwrap_or(i64::MAX);
    let images = cycle.pod.ask.images.iter().filter_map(|image| cycle.snapshot.image(image));
    let bytes = images.filter_map(|on| {
        let spread = i64::try_from(on.len()).unwrap_or(i64::MAX);
        on.get(&node.slot).map(|size| size.saturating_mul(spread) / nodes.max(1))
    });
    let containers = i64::try_from(cycle.pod.ask.containers).unwrap_or(i64::MAX).max(1);
    let most = CONTAINER_BYTES_MAX.saturating_mul(containers);
    let bytes = bytes.sum::<i64>().clamp(BYTES_MIN, most);
    SCORE_MAX.saturating_mul(bytes - BYTES_MIN) / (most - BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores};
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_with_the_image_are_better() {
        let with = |name: &str, images: &[(&str, i64)]| {
            let image = |(image, mebibytes): &(&str, i64)| json!({"names": [image], "sizeBytes": mebibytes * MIB});
            let images: Vec<_> = images.iter().map(image).collect();
            node(name, json!({"status": {"images": images}}))
        };
        let nodes = [
            with("a", &[("web:1", 1_000)]),
            with("b", &[("web:1", 1_000)]),
            with("c", &[("db:latest", 100)]),
            with("d", &[]),
        ];
        let of = |image: &str| pod("p", json!({"containers": [{"name": "c", "image": image}]}));
        assert_eq!(scores(&SCORE, &of("web:1"), &nodes), [48, 48, 0, 0]);
        assert_eq!(scores(&SCORE, &of("db"), &nodes), [0, 0, 0, 0]);
    }
}
