//! How the pods of an old template are replaced: upstream `rollingUpdate`
//! (pkg/controller/daemon/update.go, v1.35).

use super::nodes::{Moves, Nodes, stays};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;

/// The pods of one node that count.
#[derive(Clone, Copy, Debug)]
struct Pair<'a> {
    new: Option<&'a Pod>,
    old: Option<&'a Pod>,
}

/// Begun only where every node has what it is to have: see [`Nodes::manage`].
pub(super) fn roll<'a>(nodes: &Nodes<'a>) -> Moves<'a> {
    let wanted = i32::try_from(nodes.wanted().count()).unwrap_or(i32::MAX);
    let (surge, unavailable) = (nodes.surge(wanted), nodes.unavailable(wanted));
    if surge == 0 {
        // Both being nothing, nothing would ever move.
        return replace(nodes, unavailable.max(1));
    }
    surge_over(nodes, surge)
}

/// `None` where there are several of a kind: they are thinned out first.
fn pair<'a>(nodes: &Nodes<'a>, node: &str) -> Option<Pair<'a>> {
    let here = nodes.pods_on(node).iter().copied().filter(|pod| stays(pod));
    let (new, old): (Vec<&Pod>, Vec<&Pod>) = here.partition(|pod| nodes.is_updated(pod));
    let is_clear = new.len() <= 1 && old.len() <= 1;
    is_clear.then(|| Pair { new: new.first().copied(), old: old.first().copied() })
}

/// All nodes with pods or that are to have one.
fn all_nodes<'a>(nodes: &Nodes<'a>) -> BTreeSet<&'a str> {
    nodes.wanted().chain(nodes.pods.keys().copied()).collect()
}

/// Old pods go, and leave their nodes to new ones. Of those that are available, so many go that no
/// more than `unavailable_max` nodes have none.
fn replace<'a>(nodes: &Nodes<'a>, unavailable_max: usize) -> Moves<'a> {
    let (mut unavailable, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
    for node in all_nodes(nodes) {
        match pair(nodes, node) {
            Some(Pair { new: Some(new), old: None }) if nodes.is_available(new) => {}
            Some(Pair { new: None, old: Some(old) }) if nodes.is_available(old) => {
                candidates.push(old);
            }
            Some(Pair { new: None, old: Some(old) }) => {
                broken.push(old);
                unavailable += 1;
            }
            Some(_) | None => unavailable += 1,
        }
    }
    let spared = candidates.into_iter().take(unavailable_max.saturating_sub(unavailable));
    Moves { deletes: broken.into_iter().chain(spared).collect(), ..Moves::default() }
}

/// New pods come beside old ones, on at most `surge_max` nodes at a time beside one that is
/// available, and the old ones go when the new ones are available.
fn surge_over<'a>(nodes: &Nodes<'a>, surge_max: usize) -> Moves<'a> {
    let mut moves = Moves::default();
    let (mut surging, mut available) = (0, 0);
    let (mut candidates, mut strays) = (Vec::new(), Vec::new());
    for node in all_nodes(nodes) {
        let Some(pair) = pair(nodes, node) else {
            surging += 1;
            continue;
        };
        let counted = pair.old.or(pair.new);
        available += usize::from(counted.is_some_and(|pod| nodes.is_available(pod)));
        let should_run = nodes.fit(node).should_run;
        match pair {
            Pair { old: None, .. } => {}
            Pair { old: Some(old), new: Some(new) } => {
                if nodes.is_available(new) {
                    moves.deletes.push(old);
                } else {
                    surging += 1;
                }
            }
            Pair { old: Some(old), new: None } => match (nodes.is_available(old), should_run) {
                (true, true) => candidates.push(node),
                (true, false) => strays.push(old),
                (false, true) => moves.creates.push(node),
                (false, false) => moves.deletes.push(old),
            },
        }
    }
    moves.creates.extend(candidates.into_iter().take(surge_max.saturating_sub(surging)));
    // Those who surge want as many pods as before, wherever these are to be.
    let spare = available.saturating_sub(nodes.wanted().count());
    moves.deletes.extend(strays.into_iter().take(spare));
    moves
}
