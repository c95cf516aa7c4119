//! `$(NAME)` in commands, arguments and variables.
//!
//! Upstream third_party/forked/golang/expansion (v1.35): `$$` is a dollar, a name that means nothing
//! stays as it is written.

/// Puts what `value_of` says in the place of each `$(NAME)`.
#[must_use]
pub fn expand<'a>(text: &str, value_of: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        rest = if let Some(escaped) = after.strip_prefix('$') {
            expanded.push('$');
            escaped
        } else if let Some((name, beyond)) = reference(after) {
            match value_of(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(&rest[dollar..rest.len() - beyond.len()]),
            }
            beyond
        } else {
            expanded.push('$');
            after
        };
    }
    expanded.push_str(rest);
    expanded
}

/// The name in `(NAME)` and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('(')?.split_once(')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_the_rest_stays() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)-$(B)y", "x1-two$y"),
            ("$(MISSING)", "$(MISSING)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$A", "$A"),
            ("$", "$"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("$(A)$(A)", "11"),
            ("$(B)", "two$"),
            ("$($(A))", "$($(A))"),
            ("ü$(A)ü", "ü1ü"),
        ] {
            let value_of = |name: &str| match name {
                "A" => Some("1"),
                "B" => Some("two$"),
                _ => None,
            };
            assert_eq!(expand(text, value_of), expected, "{text:?}");
        }
    }
}
