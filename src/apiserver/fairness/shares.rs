//! How many requests of each priority level may be executed at once. Pure.
//!
//! Follows upstream `finishQueueSetReconfigsLocked` (apiserver
//! pkg/util/flowcontrol/apf_controller.go, v1.35). Upstream reckons anew every ten seconds who has lent how
//! much to whom; here, seats are lent one by one when they are asked for (docs/decisions/0030).

/// What a priority level asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Its part of the server's concurrency, as others have theirs.
    pub(super) nominal: u64,
    /// How much of that others may use while it does not.
    pub(super) lendable_percent: u64,
    /// How much it may use of others', in relation to its own; everything, where nothing is said.
    pub(super) borrowing_percent: Option<u64>,
}

/// Seats: a request that is executed has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Its own.
    pub(super) nominal: usize,
    /// Those of its own that nobody else gets.
    pub(super) lower: usize,
    /// The most that it gets.
    pub(super) upper: usize,
}

impl Shares {
    /// The limits of a level where all shares together are `sum`, and all seats `total`.
    pub(super) fn limits(self, sum: u64, total: u64) -> Limits {
        let nominal = (total * self.nominal).checked_div(sum);
        let rest = (total * self.nominal).checked_rem(sum).unwrap_or_default();
        let nominal = nominal.unwrap_or_default() + u64::from(rest > 0);
        let lendable = percent(nominal, self.lendable_percent);
        let borrowing = self.borrowing_percent.map(|of_own| percent(nominal, of_own));
        Limits {
            nominal: seats(nominal),
            lower: seats(nominal.saturating_sub(lendable)),
            upper: seats(nominal + borrowing.unwrap_or(total)),
        }
    }
}

/// Rounded, half up.
fn percent(of: u64, percent: u64) -> u64 {
    (of * percent + 50) / 100
}

fn seats(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shares: (u64, u64, Option<u64>), expected: (usize, usize, usize)) {
        let (nominal, lendable_percent, borrowing_percent) = shares;
        let limits = Shares { nominal, lendable_percent, borrowing_percent }.limits(245, 600);
        assert_eq!((limits.nominal, limits.lower, limits.upper), expected, "{shares:?}");
    }

    #[test]
    fn shares_become_seats_as_upstream_reckons() {
        check((30, 33, None), (74, 50, 674));
        check((40, 25, None), (98, 73, 698));
        check((10, 0, None), (25, 25, 625));
        check((100, 90, None), (245, 24, 845));
        check((5, 0, Some(0)), (13, 13, 13));
        check((20, 50, Some(200)), (49, 24, 147));
        check((0, 0, Some(50)), (0, 0, 0));
    }

    #[test]
    fn nothing_is_shared_by_nobody() {
        let shares = Shares { nominal: 0, lendable_percent: 0, borrowing_percent: None };
        assert_eq!(shares.limits(0, 600), Limits { nominal: 0, lower: 0, upper: 600 });
    }
}
