//! What is said of expressions that are wrong.

use super::environment;

fn check(text: &str, expected: &[&str]) {
    let found =
        environment().compile(text).map(|_| String::new()).unwrap_or_else(|e| e.to_string());
    let found: Vec<&str> = found.lines().filter(|line| line.starts_with("ERROR")).collect();
    let expected: Vec<String> =
        expected.iter().map(|line| format!("ERROR: <input>:{line}")).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn an_error_shows_its_place_in_the_source() {
    let problem = environment().compile("1 +\n  self.wrong").unwrap_err().to_string();
    assert_eq!(problem, "ERROR: <input>:2:7: undefined field 'wrong'\n |   self.wrong\n | ......^");
}

#[test]
fn types_that_do_not_fit_are_named() {
    check("x", &["1:1: undeclared reference to 'x' (in container '')"]);
    check(
        "self.count + 'a'",
        &["1:12: found no matching overload for '_+_' applied to '(int, string)'"],
    );
    check(
        "self.text.size(1)",
        &["1:15: found no matching overload for 'size' applied to 'string.(int)'"],
    );
    check("nothing(1)", &["1:8: undeclared reference to 'nothing' (in container '')"]);
    check("self.count.x", &["1:11: type 'int' does not support field selection"]);
    check(
        "1.all(x, true)",
        &[
            "1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ],
    );
    check("[1, 'a']", &["1:5: expected type 'int' but found 'string'"]);
    check("{'a': 1, 'b': 'c'}", &["1:15: expected type 'int' but found 'string'"]);
    check("1 && true", &["1:1: expected type 'bool' but found 'int'"]);
    check("self.list.all(x, x)", &["1:18: expected type 'bool' but found 'string'"]);
    check("Foo{}", &["1:4: undeclared reference to 'Foo' (in container '')"]);
    check(
        "self.items == self.list",
        &[
            "1:12: found no matching overload for '_==_' applied to '(list(self.items.@idx), list(string))'",
        ],
    );
    check(
        "true ? 1 : 'a'",
        &["1:6: found no matching overload for '_?_:_' applied to '(bool, int, string)'"],
    );
    check(
        "a + b",
        &[
            "1:1: undeclared reference to 'a' (in container '')",
            "1:5: undeclared reference to 'b' (in container '')",
        ],
    );
}

#[test]
fn what_cannot_be_read_is_said_as_antlr_says_it() {
    const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, \
                           NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
    check("1 +", &[&format!("1:4: Syntax error: mismatched input '<EOF>' expecting {OPERAND}")]);
    check("", &[&format!("1:1: Syntax error: mismatched input '<EOF>' expecting {OPERAND}")]);
    check("* 5", &[&format!("1:1: Syntax error: extraneous input '*' expecting {OPERAND}")]);
    check("a b", &["1:3: Syntax error: extraneous input 'b' expecting <EOF>"]);
    check("(1", &["1:3: Syntax error: missing ')' at '<EOF>'"]);
    check("{1}", &["1:3: Syntax error: mismatched input '}' expecting ':'"]);
    check("a.true", &["1:3: Syntax error: mismatched input 'true' expecting IDENTIFIER"]);
    check(
        "a $ b",
        &[
            "1:3: Syntax error: token recognition error at: '$'",
            "1:5: Syntax error: extraneous input 'b' expecting <EOF>",
        ],
    );
    check("for", &["1:1: reserved identifier: for"]);
    check("99999999999999999999", &["1:1: invalid int literal"]);
    check("self.list.all(1, true)", &["1:15: argument must be a simple name"]);
    check("self.list.map(@x, true)", &["1:15: Syntax error: token recognition error at: '@'"]);
    check("has(self)", &["1:5: invalid argument to has() macro"]);
    check("self.list.all(i, i, true)", &["1:18: duplicate variable name: i"]);
}

#[test]
fn literals_are_checked_although_their_types_are_right() {
    check("duration('x')", &["1:10: invalid duration argument"]);
    check("timestamp('2024')", &["1:11: invalid timestamp argument"]);
    check("self.text.matches('(')", &["1:19: invalid matches argument"]);
    check("[1, dyn(2)]", &["1:8: expected type 'int' but found 'dyn'"]);
    check(
        "'%d'.format(['a'])",
        &[
            "1:14: error during formatting: decimal clause can only be used on integers, was given string",
        ],
    );
    check("'%s %s'.format([1])", &["1:15: index 1 out of range"]);
    check(
        "'%s'.format([1, 2])",
        &["1:12: too many arguments supplied to string.format (expected 1, got 2)"],
    );
    check("'%s %s'.format([1, 'a'])", &[]);
}

#[test]
fn what_is_too_large_is_refused() {
    let deep = format!("{}1{}", "(".repeat(300), ")".repeat(300));
    check(&deep, &["-1:0: expression recursion limit exceeded: 250"]);
    let long = format!("1{}", " + 1".repeat(300));
    check(&long, &["-1:0: expression recursion limit exceeded: 250"]);
    let wide = format!("true{}", " && true".repeat(3_000));
    check(&wide, &[]);
    let text = format!("'{}'", "x".repeat(100_000));
    check(&text, &["-1:0: expression code point size exceeds limit: size: 100002, limit 100000"]);
    let copies = format!("optional.of(1){}", ".optMap(x, x)".repeat(40));
    check(&copies, &["-1:0: expression node count exceeds limit: 100000"]);
}

#[test]
fn types_larger_than_any_expression_needs_are_refused() {
    let mut text = "1 == 1".to_owned();
    for depth in (0..45).rev() {
        let inner =
            if depth == 0 { "1".to_owned() } else { format!("{{x{}: x{}}}", depth - 1, depth - 1) };
        text = format!("[{inner}].all(x{depth}, {text})");
    }
    let found = environment().compile(&text).map(|_| ()).unwrap_err().to_string();
    assert!(found.contains("types of this expression are too large"), "{found}");
}
