//! What is asked of CEL expressions, and the conditions under which something is judged at all.
//!
//! Follows upstream `validateMatchConditions` and `validateCELCondition`
//! (pkg/apis/admissionregistration/validation, v1.35). Nothing is asked of what they cost: that is
//! limited where they are evaluated.

use crate::api::field::Problem;
use crate::api::{FieldError, FieldPath, names};
use crate::cel::{CompileError, Declared, Environment, ListKind, Object, RESERVED, Shape, Type};
use crate::registry::checks::invalid;
use k8s_openapi::api::admissionregistration::v1::MatchCondition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// More conditions are refused.
const MATCH_CONDITIONS_MAX: usize = 64;

/// What an expression may speak of, beyond the request, its objects and their namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vocabulary<'a> {
    /// `params`.
    pub(super) has_params: bool,
    /// `authorizer`.
    pub(super) has_authorizer: bool,
    /// `variables`: those that come before.
    pub(super) variables: Option<&'a Arc<Variables>>,
}

/// The variables of a policy, by their names. They are shared: there can be thousands, and thousands
/// of expressions that may speak of them.
pub(super) type Variables = BTreeMap<String, Arc<Declared>>;

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

impl Outcome {
    /// What is wrong with what an expression evaluates to.
    fn mismatch(self, found: &Type) -> Option<String> {
        let (fits, wanted) = match self {
            Self::Bool => (matches!(found, Type::Bool), "bool"),
            Self::String => (matches!(found, Type::String), "string"),
            Self::StringOrNull => {
                (matches!(found, Type::String | Type::Null), "one of [string null_type]")
            }
            Self::Any => (true, ""),
        };
        (!fits).then(|| format!("must evaluate to {wanted} but got {}", in_go(found)))
    }
}

/// A type as cel-go's `Type.String` has it, which is not how its checker shows it.
fn in_go(ty: &Type) -> String {
    match ty {
        Type::Null => "null_type".to_owned(),
        Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
        Type::Duration => "google.protobuf.Duration".to_owned(),
        other => other.to_string(),
    }
}

/// What is wrong with an expression that is there (upstream `validateCELCondition`).
pub(super) fn validate(
    expression: &str,
    vocabulary: Vocabulary<'_>,
    outcome: Outcome,
    path: &FieldPath,
) -> Vec<FieldError> {
    compile(expression, vocabulary, outcome, path).err().into_iter().collect()
}

/// The type of an expression, or what is wrong with it (upstream `CompileCELExpression`, apiserver
/// pkg/admission/plugin/cel/compile.go, v1.35).
pub(super) fn compile(
    expression: &str,
    vocabulary: Vocabulary<'_>,
    outcome: Outcome,
    path: &FieldPath,
) -> Result<Type, FieldError> {
    let program = match environment(vocabulary).compile(expression) {
        Ok(program) => program,
        Err(CompileError::Issues(issues)) => {
            let detail = format!("compilation failed: {issues}");
            return Err(FieldError::invalid(path, expression, detail));
        }
        Err(CompileError::Program(problem)) => {
            let detail = format!("program instantiation failed: {problem}");
            let (path, problem) = (path.clone(), Problem::Internal);
            return Err(FieldError { path, problem, value: None, detail });
        }
    };
    match outcome.mismatch(program.output()) {
        Some(detail) => Err(FieldError::invalid(path, expression, detail)),
        None => Ok(program.output().clone()),
    }
}

/// What a variable is to the expressions after it; one that is wrong may be anything (upstream
/// `convertCelTypeToDeclType`).
pub(super) fn declared(ty: Option<&Type>) -> Arc<Declared> {
    let shape = match ty {
        Some(
            ty @ (Type::Null
            | Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::String
            | Type::Bytes
            | Type::Timestamp
            | Type::Duration),
        ) => Shape::Native(ty.clone()),
        Some(ty @ (Type::List(_) | Type::Map(_))) => Shape::Native(plain(ty)),
        _ => Shape::Any,
    };
    Arc::new(Declared::of(shape))
}

/// A type without what has fields or belongs to a library.
fn plain(ty: &Type) -> Type {
    match ty {
        Type::List(items) => Type::list(plain(items)),
        Type::Map(pair) => Type::map(plain(&pair.0), plain(&pair.1)),
        _ => declared(Some(ty)).to_type(),
    }
}

fn environment(vocabulary: Vocabulary<'_>) -> Environment {
    let mut environment = BASE.clone();
    if vocabulary.has_params {
        environment = environment.with("params", Type::Dyn);
    }
    if vocabulary.has_authorizer {
        let authorizer = Type::Named("kubernetes.authorization.Authorizer");
        let check = Type::Named("kubernetes.authorization.ResourceCheck");
        environment = environment.with("authorizer", authorizer);
        environment = environment.with("authorizer.requestResource", check);
    }
    if let Some(variables) = vocabulary.variables {
        let variables = Object::new("kubernetes.variables", Arc::<Variables>::clone(variables));
        environment = environment.with("variables", Type::Object(variables));
    }
    environment
}

/// What every expression may speak of.
static BASE: LazyLock<Environment> = LazyLock::new(|| {
    Environment::default()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("request", request().to_type())
        .with("namespaceObject", namespace().to_type())
});

fn object(name: &str, fields: &[(&str, Shape)]) -> Declared {
    let field =
        |(name, shape): &(&str, Shape)| ((*name).to_owned(), Arc::new(Declared::of(shape.clone())));
    let fields: BTreeMap<String, Arc<Declared>> = fields.iter().map(field).collect();
    Declared::of(Shape::Object(Object::new(name, Arc::new(fields))))
}

fn list(items: Shape) -> Shape {
    Shape::List(Arc::new(Declared::of(items)), ListKind::Atomic)
}

fn map(values: Shape) -> Shape {
    Shape::Map(Arc::new(Declared::of(values)))
}

fn texts<const N: usize>(names: [&'static str; N]) -> [(&'static str, Shape); N] {
    names.map(|name| (name, Shape::String))
}

/// Upstream `BuildRequestType`.
fn request() -> Declared {
    let kind = object("kubernetes.GroupVersionKind", &texts(["group", "version", "kind"])).shape;
    let resource =
        object("kubernetes.GroupVersionResource", &texts(["group", "version", "resource"])).shape;
    let user = [
        ("username", Shape::String),
        ("uid", Shape::String),
        ("groups", list(Shape::String)),
        ("extra", map(list(Shape::String))),
    ];
    let fields = [
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("subResource", Shape::String),
        ("requestKind", kind),
        ("requestResource", resource),
        ("requestSubResource", Shape::String),
        ("name", Shape::String),
        ("namespace", Shape::String),
        ("operation", Shape::String),
        ("userInfo", object("kubernetes.UserInfo", &user).shape),
        ("dryRun", Shape::Bool),
        ("options", Shape::Any),
    ];
    object("kubernetes.AdmissionRequest", &fields)
}

/// Upstream `BuildNamespaceType`.
fn namespace() -> Declared {
    let condition = [
        ("status", Shape::String),
        ("type", Shape::String),
        ("lastTransitionTime", Shape::Timestamp),
        ("message", Shape::String),
        ("reason", Shape::String),
    ];
    let condition = object("kubernetes.NamespaceCondition", &condition).shape;
    let metadata = [
        ("name", Shape::String),
        ("generateName", Shape::String),
        ("namespace", Shape::String),
        ("labels", map(Shape::String)),
        ("annotations", map(Shape::String)),
        ("UID", Shape::String),
        ("creationTimestamp", Shape::Timestamp),
        ("deletionGracePeriodSeconds", Shape::Int),
        ("deletionTimestamp", Shape::Timestamp),
        ("generation", Shape::Int),
        ("resourceVersion", Shape::String),
        ("finalizers", list(Shape::String)),
    ];
    let status = [("conditions", list(condition)), ("phase", Shape::String)];
    let spec = [("finalizers", list(Shape::String))];
    let fields = [
        ("metadata", object("kubernetes.NamespaceMetadata", &metadata).shape),
        ("spec", object("kubernetes.NamespaceSpec", &spec).shape),
        ("status", object("kubernetes.NamespaceStatus", &status).shape),
    ];
    object("kubernetes.Namespace", &fields)
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
    let vocabulary = Vocabulary { has_params, has_authorizer: true, variables: None };
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
            condition("a.io/b", "1 == 1"),
            condition("-", "has(object.x)"),
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

    #[track_caller]
    fn check(expression: &str, outcome: Outcome, expected: &[&str]) {
        let count = declared(Some(&Type::Int));
        let variables = Arc::new(Variables::from([("count".to_owned(), count)]));
        let vocabulary =
            Vocabulary { has_params: true, has_authorizer: true, variables: Some(&variables) };
        compare(validate(expression, vocabulary, outcome, &FieldPath::new("e")), expected);
    }

    #[test]
    fn expressions_speak_of_the_request_and_its_objects() {
        for expression in [
            "object.spec.replicas > 1 && oldObject == null",
            "request.userInfo.groups.exists(g, g == 'x') && request.operation == 'CREATE'",
            "namespaceObject.metadata.labels['a'] == 'b'",
            "params.max > variables.count",
            "authorizer.group('').resource('pods').check('get').allowed()",
            "authorizer.requestResource.check('get').allowed()",
        ] {
            check(expression, Outcome::Bool, &[]);
        }
        check("1", Outcome::Bool, &["e: Invalid value: \"1\": must evaluate to bool but got int"]);
        check(
            "1",
            Outcome::StringOrNull,
            &["e: Invalid value: \"1\": must evaluate to one of [string null_type] but got int"],
        );
        check("null", Outcome::StringOrNull, &[]);
        check("[1, 2]", Outcome::Any, &[]);
        check(
            "variables.other",
            Outcome::Any,
            &[
                "e: Invalid value: \"variables.other\": compilation failed: ERROR: <input>:1:10: undefined field 'other'",
            ],
        );
        check(
            "variables.count == 'a'",
            Outcome::Bool,
            &[
                "e: Invalid value: \"variables.count == 'a'\": compilation failed: ERROR: <input>:1:17: found no matching overload for '_==_' applied to '(int, string)'",
            ],
        );
        let bare = Vocabulary { has_params: false, has_authorizer: false, variables: None };
        for name in ["params", "authorizer", "variables"] {
            let errors = validate(name, bare, Outcome::Any, &FieldPath::new("e"));
            let expected = format!(
                "e: Invalid value: \"{name}\": compilation failed: ERROR: <input>:1:1: undeclared reference to '{name}'"
            );
            compare(errors, &[&expected]);
        }
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
