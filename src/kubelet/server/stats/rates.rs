//! How fast processor time passes, by two looks at it. Pure.

use crate::runtime::ContainerId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Two looks that are closer say nothing.
pub(super) const WINDOW_MIN: Duration = Duration::from_secs(1);

/// A look that is older is not compared with: what was used then is not what is used now.
const WINDOW_MAX: Duration = Duration::from_secs(120);

/// A look is kept to be compared with for so long, so that who asks often gets a steady answer.
const KEPT: Duration = Duration::from_secs(15);

/// How fast processors are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Rate {
    /// Billionths of one processor.
    pub(in super::super) nanocores: u64,
    pub(in super::super) window: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    when: Instant,
    nanoseconds: u64,
}

/// The looks to compare with.
#[derive(Debug, Default)]
pub(super) struct Rates {
    earlier: BTreeMap<ContainerId, Look>,
}

impl Rates {
    /// Whether a look at `now` can be compared with an earlier one.
    pub(super) fn knows(&self, id: ContainerId, now: Instant) -> bool {
        self.earlier.get(&id).is_some_and(|look| {
            let window = now.saturating_duration_since(look.when);
            (WINDOW_MIN..=WINDOW_MAX).contains(&window)
        })
    }

    /// Takes note of a look at everything there is, and forgets what there is not any more.
    pub(super) fn note(
        &mut self,
        now: Instant,
        times: impl Iterator<Item = (ContainerId, u64)>,
    ) -> BTreeMap<ContainerId, Rate> {
        let mut rates = BTreeMap::new();
        let mut kept = BTreeMap::new();
        for (id, nanoseconds) in times {
            let look = Look { when: now, nanoseconds };
            let next = match self.earlier.get(&id) {
                None => look,
                Some(earlier) => {
                    let window = now.saturating_duration_since(earlier.when);
                    if (WINDOW_MIN..=WINDOW_MAX).contains(&window) {
                        rates.insert(id.clone(), rate(*earlier, look, window));
                    }
                    // What goes back was begun anew.
                    let is_anew = nanoseconds < earlier.nanoseconds;
                    if window >= KEPT || is_anew { look } else { *earlier }
                }
            };
            kept.insert(id, next);
        }
        self.earlier = kept;
        rates
    }
}

fn rate(earlier: Look, later: Look, window: Duration) -> Rate {
    let used = u128::from(later.nanoseconds.saturating_sub(earlier.nanoseconds));
    let nanocores = used * 1_000_000_000 / window.as_nanos().max(1);
    Rate { nanocores: u64::try_from(nanocores).unwrap_or(u64::MAX), window }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::monotonic;

    /// Nanocores, and the seconds they were used in.
    type Expected = (u64, u64);

    /// Looks at one container: seconds and nanoseconds used, and the rate that follows.
    fn check(looks: &[(u64, u64, Option<Expected>)]) {
        let mut rates = Rates::default();
        let (began, id) = (monotonic(), ContainerId("a".to_owned()));
        for (second, nanoseconds, expected) in looks {
            let now = began + Duration::from_secs(*second);
            let noted = rates.note(now, [(id.clone(), *nanoseconds)].into_iter());
            let rate = noted.get(&id).map(|rate| (rate.nanocores, rate.window.as_secs()));
            assert_eq!(rate, *expected, "{second}");
        }
    }

    #[test]
    fn a_rate_takes_two_looks_at_a_good_distance() {
        check(&[(0, 100, None), (0, 200, None), (1, 1_100, Some((1_000, 1)))]);
        check(&[(0, 0, None), (10, 1_000, Some((100, 10))), (14, 1_400, Some((100, 14)))]);
        check(&[(0, 0, None), (15, 1_500, Some((100, 15))), (16, 1_700, Some((200, 1)))]);
        check(&[(0, 0, None), (121, 9_999, None), (131, 10_999, Some((100, 10)))]);
        check(&[(0, 5_000, None), (10, 1_000, Some((0, 10))), (20, 2_000, Some((100, 10)))]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut rates = Rates::default();
        let (now, id) = (monotonic(), ContainerId("a".to_owned()));
        let later = now + Duration::from_secs(2);
        rates.note(now, [(id.clone(), 1)].into_iter());
        assert!(rates.knows(id.clone(), later) && !rates.knows(id.clone(), now));
        rates.note(now, std::iter::empty());
        assert!(!rates.knows(id, later));
    }
}
