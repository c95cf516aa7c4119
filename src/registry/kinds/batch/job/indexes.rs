//! Indexes of an Indexed Job, as text: `1,3-5,7`.
//!
//! Follows upstream `validateIndexesFormat` and its neighbours (pkg/apis/batch/validation, v1.35).

use std::cmp::max;

/// What is wrong with a list of indexes. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadIndexes {
    #[error(
        "the fragment {fragment:?} violates the requirement that an index interval can have at most two parts separated by '-'"
    )]
    Parts { fragment: String },
    #[error("cannot convert string to integer for index: {text:?}")]
    Number { text: String },
    #[error("too large index: {text:?}")]
    TooLarge { text: String },
    #[error("non-increasing order, previous: {previous}, current: {current}")]
    Order { previous: i64, current: i64 },
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    first: i64,
    last: i64,
}

/// How many indexes the text names. Each is below `completions`.
pub(super) fn count(text: &str, completions: i32) -> Result<i64, BadIndexes> {
    let mut total = 0;
    let mut previous: Option<i64> = None;
    for fragment in text.split(',').filter(|_| !text.is_empty()) {
        let interval = parse(fragment, completions)?;
        if let Some(previous) = previous.filter(|previous| *previous >= interval.first) {
            return Err(BadIndexes::Order { previous, current: interval.first });
        }
        total += interval.last - interval.first + 1;
        previous = Some(interval.last);
    }
    Ok(total)
}

/// The first index that both texts name, as upstream finds it: fragments that are none are passed
/// over.
pub(super) fn overlap(completed: &str, failed: &str, completions: i32) -> Option<i64> {
    let intervals = |text: &str| -> Vec<Interval> {
        text.split(',').filter_map(|fragment| parse(fragment, completions).ok()).collect()
    };
    let (completed, failed) = (intervals(completed), intervals(failed));
    let (mut completed, mut failed) = (completed.iter().peekable(), failed.iter().peekable());
    while let (Some(one), Some(other)) = (completed.peek(), failed.peek()) {
        if one.first <= other.last && other.first <= one.last {
            return Some(max(one.first, other.first));
        }
        if one.first <= other.first {
            completed.next();
        } else {
            failed.next();
        }
    }
    None
}

fn parse(fragment: &str, completions: i32) -> Result<Interval, BadIndexes> {
    let parts: Vec<_> = fragment.split('-').collect();
    let number = |text: &str| {
        let value: i64 = text.parse().map_err(|_| BadIndexes::Number { text: text.to_owned() })?;
        if value >= i64::from(completions) {
            return Err(BadIndexes::TooLarge { text: text.to_owned() });
        }
        Ok(value)
    };
    match parts[..] {
        [only] => number(only).map(|index| Interval { first: index, last: index }),
        [first, last] => {
            let (first, last) = (number(first)?, number(last)?);
            if first >= last {
                return Err(BadIndexes::Order { previous: first, current: last });
            }
            Ok(Interval { first, last })
        }
        _ => Err(BadIndexes::Parts { fragment: fragment.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<i64, &str>) {
        let counted = count(text, 10).map_err(|error| error.to_string());
        assert_eq!(counted, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn lists_grow() {
        check("", Ok(0));
        check("0", Ok(1));
        check("1,3-5,7", Ok(5));
        check("10", Err("too large index: \"10\""));
        check("1-10", Err("too large index: \"10\""));
        check("3,3", Err("non-increasing order, previous: 3, current: 3"));
        check("5-3", Err("non-increasing order, previous: 5, current: 3"));
        check("3-4,2", Err("non-increasing order, previous: 4, current: 2"));
        check("1,,2", Err("cannot convert string to integer for index: \"\""));
        check("a", Err("cannot convert string to integer for index: \"a\""));
        check(
            "1-2-3",
            Err(
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
        );
    }

    #[test]
    fn common_indexes_are_found() {
        for (completed, failed, expected) in [
            ("", "1", None),
            ("0-2", "3,5", None),
            ("0,4-6", "1,5", Some(5)),
            ("x,3", "3", Some(3)),
            ("7", "1-2,6-8", Some(7)),
        ] {
            assert_eq!(overlap(completed, failed, 10), expected, "{completed} {failed}");
        }
    }
}
