//! How many pods are created at a time.

/// A look creates or deletes at most this many pods; the next looks do the rest. Upstream's
/// `BurstReplicas` (pkg/controller/replicaset, v1.35).
pub(super) const BURST_PODS_MAX: usize = 500;

/// The first batch has this many pods.
const FIRST_BATCH_PODS: usize = 1;

/// Pods are created in batches, each twice as large as the one before: a template that is refused
/// is refused once, not five hundred times. Upstream's `slowStartBatch`.
pub(super) fn slow_start(count: usize) -> impl Iterator<Item = usize> {
    let mut left = count;
    let sizes = std::iter::successors(Some(FIRST_BATCH_PODS), |size| size.checked_mul(2));
    sizes.map_while(move |size| {
        let batch = size.min(left);
        left -= batch;
        (batch > 0).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_double_until_all_are_made() {
        for (count, expected) in
            [(0, vec![]), (1, vec![1]), (2, vec![1, 1]), (7, vec![1, 2, 4]), (9, vec![1, 2, 4, 2])]
        {
            assert_eq!(slow_start(count).collect::<Vec<_>>(), expected, "{count}");
        }
        assert_eq!(slow_start(usize::MAX).fold(0, usize::wrapping_add), usize::MAX);
    }
}
