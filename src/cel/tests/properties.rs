//! Whatever the text, nothing panics, and everything ends.

use super::{document, environment, run};
use crate::cel::{Budget, CALL_COST_MAX, evaluate};
use proptest::prelude::*;

/// Compiles and evaluates; the result does not matter.
fn survive(text: &str) {
    if let Ok(program) = environment().compile(text) {
        let document = document();
        let output = run(&program, &document);
        assert!(output.result.is_err() || output.cost <= CALL_COST_MAX, "{text}");
        let small = Budget { cost_max: 10, ..Budget::CALL };
        let output = evaluate(&program, &[], small);
        assert!(output.result.is_err() || output.cost <= 10, "{text}");
    }
}

const LEAVES: &[&str] = &[
    "1",
    "-9223372036854775808",
    "2u",
    "1.5",
    "'a'",
    "'é%s'",
    "b'\\xff'",
    "null",
    "true",
    "[]",
    "{}",
    "[1, 2]",
    "{'a': 1}",
    "self",
    "self.list",
    "self.map",
    "self.items",
    "self.text",
    "self.at",
    "self.span",
    "self.any",
    "x",
    "optional.none()",
    "dyn(1)",
    "dyn('a')",
    "dyn([1])",
    "dyn({'a': 1})",
    "ip('::1')",
    "quantity('1')",
    "int",
];
const OPERATORS: &[&str] = &["+", "-", "*", "/", "%", "<", "<=", "==", "!=", "in", "&&", "||"];
const METHODS: &[&str] = &[
    "size",
    "all",
    "exists",
    "map",
    "filter",
    "contains",
    "matches",
    "replace",
    "split",
    "substring",
    "join",
    "format",
    "indexOf",
    "lastIndexOf",
    "sum",
    "max",
    "isSorted",
    "flatten",
    "slice",
    "sort",
    "sortBy",
    "distinct",
    "optMap",
    "orValue",
    "getHours",
    "findAll",
    "charAt",
    "transformMap",
    "transformList",
    "exists_one",
    "value",
];
const FUNCTIONS: &[&str] = &[
    "size",
    "int",
    "string",
    "type",
    "dyn",
    "has",
    "duration",
    "timestamp",
    "bytes",
    "quantity",
    "ip",
    "cidr",
    "url",
    "semver",
    "sets.contains",
    "lists.range",
];

fn expression() -> impl Strategy<Value = String> {
    use prop::sample::select;
    select(LEAVES).prop_map(str::to_owned).prop_recursive(6, 64, 4, |inner| {
        let args = || prop::collection::vec(inner.clone(), 0..4);
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            (inner.clone(), select(OPERATORS), inner.clone())
                .prop_map(|(a, o, b)| format!("({a} {o} {b})")),
            (inner.clone(), select(METHODS), args())
                .prop_map(|(a, m, args)| format!("{a}.{m}({})", args.join(", "))),
            two().prop_map(|(a, b)| format!("{a}.map(x, {b})")),
            (select(FUNCTIONS), args()).prop_map(|(f, args)| format!("{f}({})", args.join(", "))),
            (two(), inner.clone()).prop_map(|((a, b), c)| format!("({a} ? {b} : {c})")),
            two().prop_map(|(a, b)| format!("{a}[{b}]")),
            two().prop_map(|(a, b)| format!("{a}[?{b}]")),
            args().prop_map(|args| format!("[{}]", args.join(", "))),
            two().prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            inner.clone().prop_map(|a| format!("{a}.?name")),
            inner.clone().prop_map(|a| format!("-{a}")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        survive(&text);
    }

    #[test]
    fn any_tokens_are_read_or_refused(
        text in "([a-z.(){}\\[\\]?:,'\"`\\\\!+-]|self|1|0x|&&|\\|\\|| in |r'|b\"|//|\n){0,40}",
    ) {
        survive(&text);
    }

    #[test]
    fn any_expression_ends_within_its_budget(text in expression()) {
        survive(&text);
    }
}

#[test]
fn loops_within_loops_end_when_they_cost_too_much() {
    let text = "lists.range(1000).all(a, lists.range(1000).all(b, a + b >= 0))";
    let program = environment().compile(text).unwrap();
    let output = evaluate(&program, &[], Budget::CALL);
    assert_eq!(
        output.result.unwrap_err().to_string(),
        "operation cancelled: actual cost limit exceeded"
    );
}

#[test]
fn an_interrupted_loop_ends() {
    let program = environment().compile("lists.range(1000).map(a, a)").unwrap();
    let budget = Budget { is_interrupted: &|| true, ..Budget::CALL };
    let output = evaluate(&program, &[], budget);
    assert_eq!(output.result.unwrap_err().to_string(), "operation interrupted");
}

#[test]
fn long_lists_are_gathered_without_copying() {
    let program = environment().compile("lists.range(60000).map(a, a).size()").unwrap();
    let budget = Budget { cost_max: 10_000_000, ..Budget::CALL };
    let output = evaluate(&program, &[], budget);
    assert_eq!(output.result.unwrap().type_name(), "int");
}

#[test]
fn the_deepest_expressions_need_little_stack() {
    let text = format!("{}1{}", "[".repeat(240), "]".repeat(240));
    let nested = format!("{}true{}", "[1].all(x, ".repeat(45), ")".repeat(45));
    let sum = format!("1{}", " + 1".repeat(240));
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let thread = thread.spawn(move || {
        for text in [text, nested, sum] {
            assert!(environment().compile(&text).is_ok());
            survive(&text);
        }
    });
    thread.unwrap().join().unwrap();
}
