//! How endpoints are spread over slices: with as few writes as will do, and no slice too large.
//!
//! Follows upstream `reconcileByPortMapping` and `finalize` (staging/src/k8s.io/endpointslice/
//! reconciler.go, v1.35).

use super::super::endpoint_slices::{Identity, says_the_same};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A slice is given no more endpoints than this (upstream `--max-endpoints-per-slice`); others go to
/// another slice.
pub(super) const ENDPOINTS_PER_SLICE_MAX: usize = 100;

/// The endpoints that are to be in slices of the same ports.
pub(super) type Wanted = BTreeMap<Identity, Endpoint>;

/// What becomes of slices.
#[derive(Clone, Debug, Default)]
pub(super) struct Slices {
    pub(super) created: Vec<EndpointSlice>,
    pub(super) updated: Vec<EndpointSlice>,
    pub(super) unchanged: Vec<Arc<EndpointSlice>>,
    pub(super) deleted: Vec<Arc<EndpointSlice>>,
}

impl Slices {
    pub(super) fn extend(&mut self, other: Self) {
        self.created.extend(other.created);
        self.updated.extend(other.updated);
        self.unchanged.extend(other.unchanged);
        self.deleted.extend(other.deleted);
    }

    /// All slices that will be there.
    pub(super) fn kept(&self) -> impl Iterator<Item = &EndpointSlice> {
        let unchanged = self.unchanged.iter().map(|slice| &**slice);
        self.created.iter().chain(&self.updated).chain(unchanged)
    }

    /// Those that are written.
    pub(super) fn written(&mut self) -> impl Iterator<Item = &mut EndpointSlice> {
        self.created.iter_mut().chain(&mut self.updated)
    }

    /// Has those written, too, of which `is_wrong` is true.
    pub(super) fn touch(&mut self, mut is_wrong: impl FnMut(&EndpointSlice) -> bool) {
        let (wrong, unchanged): (Vec<_>, Vec<_>) =
            self.unchanged.drain(..).partition(|slice| is_wrong(slice));
        self.unchanged = unchanged;
        self.updated.extend(wrong.iter().map(|slice| EndpointSlice::clone(slice)));
    }

    /// A slice that is to go becomes one that is to come, where both are the same owner's.
    pub(super) fn recycle(&mut self, is_own: impl Fn(&EndpointSlice) -> bool) {
        let (mut own, foreign): (Vec<_>, Vec<_>) =
            self.deleted.drain(..).partition(|slice| is_own(slice));
        self.deleted = foreign;
        while !own.is_empty()
            && let Some(mut slice) = self.created.pop()
        {
            let old = own.remove(0);
            slice.metadata.generate_name = None;
            slice.metadata.name.clone_from(&old.metadata.name);
            slice.metadata.uid.clone_from(&old.metadata.uid);
            slice.metadata.resource_version.clone_from(&old.metadata.resource_version);
            slice.metadata.annotations.clone_from(&old.metadata.annotations);
            self.updated.push(slice);
        }
        self.deleted.extend(own);
    }

    /// Takes out what would be written as it is there already.
    pub(super) fn drop_idle_writes(&mut self, existing: &[Arc<EndpointSlice>]) {
        let (idle, updated): (Vec<_>, Vec<_>) = self.updated.drain(..).partition(|slice| {
            existing.iter().any(|old| old.metadata.name == slice.metadata.name && **old == *slice)
        });
        self.updated = updated;
        self.unchanged.extend(idle.into_iter().map(Arc::new));
    }
}

/// Spreads `wanted` over the slices that there are, and over new ones made from `template`, which
/// says what all of them are labelled with.
pub(super) fn spread(
    existing: &[Arc<EndpointSlice>],
    mut wanted: Wanted,
    template: &EndpointSlice,
) -> Slices {
    let mut slices = keep_wanted(existing, &mut wanted, template);
    // The fullest first.
    slices.updated.sort_by_key(|slice| std::cmp::Reverse(slice.endpoints.len()));
    for slice in &mut slices.updated {
        fill(slice, &mut wanted);
    }
    while !wanted.is_empty() {
        match best_fit(&slices.unchanged, wanted.len()) {
            Some(index) => {
                let mut slice = EndpointSlice::clone(&slices.unchanged.remove(index));
                fill(&mut slice, &mut wanted);
                slices.updated.push(slice);
            }
            None => {
                let mut slice = template.clone();
                fill(&mut slice, &mut wanted);
                slices.created.push(slice);
            }
        }
    }
    slices
}

/// Takes out of the slices what is wanted no more, brings up to date what is, and takes that out of
/// `wanted`.
fn keep_wanted(
    existing: &[Arc<EndpointSlice>],
    wanted: &mut Wanted,
    template: &EndpointSlice,
) -> Slices {
    let mut slices = Slices::default();
    for old in existing {
        let mut is_changed = false;
        let mut kept = Vec::with_capacity(old.endpoints.len());
        for endpoint in &old.endpoints {
            if let Some(new) = wanted.remove(&Identity::of(endpoint)) {
                is_changed |= !says_the_same(&new, endpoint);
                kept.push(new);
            }
        }
        is_changed |= kept.len() != old.endpoints.len();
        if is_changed && kept.is_empty() {
            slices.deleted.push(Arc::clone(old));
        } else if is_changed || old.metadata.labels != template.metadata.labels {
            let mut slice = EndpointSlice::clone(old);
            slice.metadata.labels.clone_from(&template.metadata.labels);
            if is_changed {
                slice.endpoints = kept;
            }
            slices.updated.push(slice);
        } else {
            slices.unchanged.push(Arc::clone(old));
        }
    }
    slices
}

fn fill(slice: &mut EndpointSlice, wanted: &mut Wanted) {
    while slice.endpoints.len() < ENDPOINTS_PER_SLICE_MAX
        && let Some((_, endpoint)) = wanted.pop_first()
    {
        slice.endpoints.push(endpoint);
    }
}

/// The slice that is fullest with `count` more endpoints (upstream `getSliceToFill`).
fn best_fit(slices: &[Arc<EndpointSlice>], count: usize) -> Option<usize> {
    let room = |slice: &Arc<EndpointSlice>| {
        ENDPOINTS_PER_SLICE_MAX.checked_sub(slice.endpoints.len() + count)
    };
    let fits = slices.iter().enumerate().filter_map(|(index, slice)| Some((room(slice)?, index)));
    fits.min().map(|(_, index)| index).filter(|_| count < ENDPOINTS_PER_SLICE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoint(number: usize) -> Endpoint {
        let address = format!("10.{}.{}.{}", number / 65_536, number / 256 % 256, number % 256);
        serde_json::from_value(json!({"addresses": [address], "conditions": {"ready": true}}))
            .unwrap()
    }

    fn slice(name: &str, numbers: std::ops::Range<usize>) -> Arc<EndpointSlice> {
        let mut slice = template();
        slice.metadata.name = Some(name.to_owned());
        slice.endpoints = numbers.map(endpoint).collect();
        Arc::new(slice)
    }

    fn template() -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"labels": {"a": "b"}, "generateName": "web-"},
            "addressType": "IPv4", "endpoints": [], "ports": [],
        }))
        .unwrap()
    }

    fn wanted(numbers: impl IntoIterator<Item = usize>) -> Wanted {
        let endpoints = numbers.into_iter().map(endpoint);
        endpoints.map(|endpoint| (Identity::of(&endpoint), endpoint)).collect()
    }

    fn show(slices: &Slices) -> String {
        let name = |slice: &EndpointSlice| slice.metadata.name.clone().unwrap_or_default();
        let created = slices.created.iter().map(|slice| format!("+{}", slice.endpoints.len()));
        let updated =
            slices.updated.iter().map(|slice| format!("{}={}", name(slice), slice.endpoints.len()));
        let deleted = slices.deleted.iter().map(|slice| format!("-{}", name(slice)));
        created.chain(updated).chain(deleted).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(
        existing: &[Arc<EndpointSlice>],
        numbers: impl IntoIterator<Item = usize>,
        expected: &str,
    ) {
        let slices = spread(existing, wanted(numbers), &template());
        assert_eq!(show(&slices), expected);
        assert!(slices.kept().all(|slice| slice.endpoints.len() <= ENDPOINTS_PER_SLICE_MAX));
    }

    #[test]
    fn new_endpoints_fill_new_slices() {
        check(&[], 0..0, "");
        check(&[], 0..3, "+3");
        check(&[], 0..250, "+100 +100 +50");
    }

    #[test]
    fn what_is_there_stays_where_it_is() {
        check(&[slice("a", 0..3)], 0..3, "");
        check(&[slice("a", 0..3)], 0..2, "a=2");
        check(&[slice("a", 0..3), slice("b", 3..6)], 0..3, "-b");
        check(&[slice("a", 0..3)], 5..6, "+1 -a");
    }

    #[test]
    fn a_slice_that_changes_is_filled_first() {
        let existing = [slice("a", 0..50), slice("b", 100..190), slice("c", 200..240)];
        check(&existing, (1..50).chain(100..190).chain(201..240).chain(300..330), "a=79 c=39");
    }

    #[test]
    fn otherwise_the_slice_that_fits_best() {
        let existing = [slice("a", 0..50), slice("b", 100..190), slice("c", 200..298)];
        let all = || (0..50).chain(100..190).chain(200..298);
        check(&existing, all().chain(300..302), "c=100");
        check(&existing, all().chain(300..305), "b=95");
        check(&existing, all().chain(300..350), "a=100");
        check(&existing, all().chain(300..360), "+60");
        check(&existing, all().chain(300..410), "+100 b=100");
    }

    #[test]
    fn labels_are_put_right() {
        let mut old = EndpointSlice::clone(&slice("a", 0..2));
        old.metadata.labels = None;
        check(&[Arc::new(old)], 0..2, "a=2");
    }

    #[test]
    fn one_that_goes_becomes_one_that_comes() {
        let mut slices = spread(&[slice("a", 0..3)], wanted(5..6), &template());
        slices.recycle(|_| true);
        assert_eq!(show(&slices), "a=1");
        let mut slices = spread(&[slice("a", 0..3)], wanted(5..6), &template());
        slices.recycle(|_| false);
        assert_eq!(show(&slices), "+1 -a");
    }
}
