//! Ranges of addresses with others taken out of them: pure.

use ipnet::IpNet;

/// What is in `range` and in none of `excepts`, as ranges that do not overlap.
pub(super) fn minus(range: IpNet, excepts: &[IpNet]) -> Vec<IpNet> {
    let range = range.trunc();
    let inside: Vec<_> = excepts
        .iter()
        .map(IpNet::trunc)
        .filter(|except| range.contains(except) || except.contains(&range))
        .collect();
    if inside.is_empty() {
        return vec![range];
    }
    if inside.iter().any(|except| except.contains(&range)) {
        return Vec::new();
    }
    // Some of it goes and some stays, so that it has two halves.
    let halves = range.subnets(range.prefix_len() + 1).into_iter().flatten();
    halves.flat_map(|half| minus(half, &inside)).collect()
}

/// The same addresses in as few ranges as there can be, none in two of them.
pub(super) fn joined(ranges: &[IpNet]) -> Vec<IpNet> {
    let mut joined = IpNet::aggregate(&ranges.to_vec());
    joined.sort();
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(range: &str, excepts: &[&str], expected: &[&str]) {
        let excepts: Vec<_> = excepts.iter().map(|except| except.parse().unwrap()).collect();
        let left = joined(&minus(range.parse().unwrap(), &excepts));
        assert_eq!(left.iter().map(IpNet::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_excepted_is_taken_out() {
        check("10.0.0.0/8", &[], &["10.0.0.0/8"]);
        check("10.1.2.3/8", &[], &["10.0.0.0/8"]);
        check("10.0.0.0/24", &["10.0.0.128/25"], &["10.0.0.0/25"]);
        check("10.0.0.0/30", &["10.0.0.1/32"], &["10.0.0.0/32", "10.0.0.2/31"]);
        check("10.0.0.0/30", &["10.0.0.1/32", "10.0.0.2/32"], &["10.0.0.0/32", "10.0.0.3/32"]);
        check("10.0.0.0/24", &["10.0.0.0/24"], &[]);
        check("10.0.0.0/24", &["10.0.0.0/8"], &[]);
        check("10.0.0.0/24", &["10.0.1.0/24"], &["10.0.0.0/24"]);
        check("0.0.0.0/0", &["128.0.0.0/1"], &["0.0.0.0/1"]);
        check("fd00::/126", &["fd00::1/128"], &["fd00::/128", "fd00::2/127"]);
        check("fd00::/64", &["10.0.0.0/8"], &["fd00::/64"]);
    }
}
