//! What expressions cost, estimated and counted.

use super::{document, environment, run};

/// The most that is estimated, and what is counted.
fn check(cases: &[(&str, u64, u64)]) {
    for (text, estimated, counted) in cases {
        let program = environment().compile(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let document = document();
        let output = run(&program, &document);
        assert_eq!((program.estimated_cost().max, output.cost), (*estimated, *counted), "{text}");
    }
}

#[test]
fn names_and_selections_cost_one_each() {
    check(&[
        ("1", 0, 0),
        ("self.text", 2, 2),
        ("self.inner.name", 3, 3),
        ("has(self.text)", 1, 1),
        ("has(self.inner.name)", 2, 2),
        ("self.list[0]", 3, 3),
        ("self.map['k']", 3, 3),
        ("self.?text.orValue('')", 3, 2),
    ]);
}

#[test]
fn constants_are_made_once() {
    check(&[("[1, 2]", 10, 0), ("{'a': 1}", 30, 0), ("int('1')", 1, 0), ("[self.count]", 12, 12)]);
    check(&[("self.count in [1, 2, 3]", 15, 2), ("self.text in self.list", 14, 7)]);
}

#[test]
fn a_branch_that_is_not_taken_costs_nothing() {
    check(&[
        ("true ? self.text : self.name", 2, 1),
        ("false && self.flag", 2, 0),
        ("self.flag || self.inner.name == ''", 5, 2),
    ]);
}

#[test]
fn texts_cost_by_their_length() {
    check(&[
        // 400 code points at most, of which a tenth is charged.
        ("self.text == self.name", 14, 5),
        ("self.text.startsWith('ab')", 3, 3),
        ("self.text + self.name == 'x'", 25, 6),
        ("self.text.contains('b')", 12, 3),
        ("self.text.matches('^a+$')", 13, 3),
        ("self.text.lowerAscii()", 12, 3),
        ("self.text.split(',')", 22, 3),
        ("self.list.join(',')", 103, 3),
        ("self.list.indexOf('a')", 112, 2),
        ("quantity('1Gi') == quantity('1Gi')", 3, 3),
    ]);
}

#[test]
fn loops_cost_what_each_turn_costs() {
    check(&[
        // Condition and step: four for each of at most ten, and the list and the result.
        ("self.list.all(x, true)", 33, 12),
        ("self.ints.all(x, x > 0)", 53, 18),
        ("self.ints.exists(x, x == 3)", 53, 12),
        ("self.ints.map(x, x)", 143, 42),
        ("self.ints.filter(x, x > 1)", 163, 35),
        ("self.items.exists_one(i, i.n == 1)", 44, 12),
        ("sets.contains(self.list, ['a'])", 23, 6),
        ("self.ints.sort()", 213, 31),
    ]);
}
