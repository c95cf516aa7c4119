//! What is asked of CEL expressions, and the conditions under which something is judged at all.
//!
//! Follows upstream `validateMatchConditions` (pkg/apis/admissionregistration/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::cel::RESERVED;
use crate::registry::checks::invalid;
use k8s_openapi::api::admissionregistration::v1::MatchCondition;
use std::collections::BTreeSet;

/// More conditions are refused.
const MATCH_CONDITIONS_MAX: usize = 64;

/// What an expression may speak of, beyond the request, its objects and their namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vocabulary {
    /// `params`.
    pub(super) has_params: bool,
    /// `authorizer`.
    pub(super) has_authorizer: bool,
    /// `variables`, and which of them: those that come before.
    pub(super) variables: usize,
}

/// What becomes of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Whether something holds.
    Bool,
    /// A text.
    String,
    /// A text, or nothing.
    StringOrNull,
    /// Whatever a variable is.
    Any,
}

/// What is wrong with an expression that is there.
///
/// This is the one place where expressions of this group are judged beyond being there: until
/// they are compiled here, any text passes, and fails where it is evaluated.
pub(super) fn validate(
    _expression: &str,
    _vocabulary: Vocabulary,
    _outcome: Outcome,
    _path: &FieldPath,
) -> Vec<FieldError> {
    Vec::new()
}

/// Upstream `isCELIdentifier`.
pub(super) fn is_identifier(name: &str) -> bool {
    names::c_identifier(name).is_empty() && !RESERVED.contains(&name)
}

/// What is wrong with the conditions of a webhook or policy.
pub(super) fn validate_match_conditions(
    conditions: &[MatchCondition],
    has_params: bool,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if conditions.len() > MATCH_CONDITIONS_MAX {
        errors.push(FieldError::too_many(path, conditions.len(), MATCH_CONDITIONS_MAX));
    }
    let vocabulary = Vocabulary { has_params, has_authorizer: true, variables: 0 };
    let mut seen = BTreeSet::new();
    for (index, MatchCondition { expression, name }) in conditions.iter().enumerate() {
        let path = path.index(index);
        let (expression_path, name_path) = (path.child("expression"), path.child("name"));
        match expression.trim() {
            "" => errors.push(FieldError::required(&expression_path, "")),
            text => errors.extend(validate(text, vocabulary, Outcome::Bool, &expression_path)),
        }
        if name.is_empty() {
            errors.push(FieldError::required(&name_path, ""));
            continue;
        }
        errors.extend(invalid(&name_path, name, names::qualified_name(name)));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&name_path, name.as_str()));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;

    fn condition(name: &str, expression: &str) -> MatchCondition {
        MatchCondition { name: name.to_owned(), expression: expression.to_owned() }
    }

    #[test]
    fn conditions_have_names_of_their_own() {
        let path = FieldPath::new("c");
        let conditions = [
            condition("a.io/b", "true"),
            condition("", " \n"),
            condition("a.io/b", "1"),
            condition("-", "x"),
        ];
        compare(
            validate_match_conditions(&conditions, false, &path),
            &[
                "c[1].expression: Required value",
                "c[1].name: Required value",
                "c[2].name: Duplicate value: \"a.io/b\"",
                "c[3].name: Invalid value: \"-\": name part must consist of",
            ],
        );
        let many: Vec<_> = (0..65).map(|number| condition(&format!("n{number}"), "true")).collect();
        compare(
            validate_match_conditions(&many, false, &path),
            &["c: Too many: 65: must have at most 64 items"],
        );
    }

    #[test]
    fn identifiers_are_what_cel_takes_for_names() {
        for (name, expected) in [
            ("a", true),
            ("_A9", true),
            ("9a", false),
            ("a-b", false),
            ("in", false),
            ("ins", true),
        ] {
            assert_eq!(is_identifier(name), expected, "{name}");
        }
    }
}
