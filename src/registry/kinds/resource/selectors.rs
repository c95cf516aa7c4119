//! Which devices will do: expressions in CEL, and taints that are tolerated.
//!
//! Follows upstream `validateSelectorSlice` and `validateDeviceToleration`
//! (pkg/apis/resource/validation, v1.35).

use super::validate_each;
use crate::api::field::Problem;
use crate::api::{FieldError, FieldPath, names};
use crate::cel::{CompileError, Declared, Environment, Object, Shape, Type};
use crate::registry::checks::{invalid, one_of};
use k8s_openapi::api::resource::v1::{DeviceSelector, DeviceToleration};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

const SELECTORS_MAX: usize = 32;
/// A longer expression is refused.
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
/// One that may cost more is refused.
const EXPRESSION_COST_MAX: u64 = 1_000_000;
const DRIVER_BYTES_MAX: u64 = 63;
/// Of attributes and capacities of a device together.
const ATTRIBUTES_MAX: u64 = 32;
const ATTRIBUTE_BYTES_MAX: u64 = 64;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule"];

pub(super) fn validate_selectors(
    selectors: Option<&[DeviceSelector]>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let selectors = selectors.unwrap_or_default();
    validate_each(selectors, SELECTORS_MAX, path, |selector, path| match &selector.cel {
        None => vec![FieldError::required(&path.child("cel"), "")],
        Some(cel) => {
            let path = path.child("cel").child("expression");
            if cel.expression.len() > EXPRESSION_BYTES_MAX {
                return vec![FieldError::too_long(&path, EXPRESSION_BYTES_MAX)];
            }
            validate_expression(&cel.expression, &path)
        }
    })
}

/// What is wrong with an expression about a device (upstream `validateCELSelector` and
/// `CompileCELExpression`, dynamic-resource-allocation cel/compile.go, v1.35). Whether there
/// was one like it before makes no difference: libraries have not changed since.
fn validate_expression(expression: &str, path: &FieldPath) -> Vec<FieldError> {
    let program = match DEVICES.compile(expression) {
        Ok(program) => program,
        Err(CompileError::Issues(issues)) => {
            let detail = format!("compilation failed: {issues}");
            return vec![FieldError::invalid(path, expression, detail)];
        }
        Err(CompileError::Program(problem)) => {
            let detail = format!("program instantiation failed: {problem}");
            let (path, problem) = (path.clone(), Problem::Internal);
            return vec![FieldError { path, problem, value: None, detail }];
        }
    };
    // Attributes are of any type.
    if !matches!(program.output(), Type::Bool | Type::Dyn) {
        let found = program.output();
        let detail = format!("must evaluate to bool or the unknown type, not {found}");
        return vec![FieldError::invalid(path, expression, detail)];
    }
    let is_complex = program.estimated_cost().max > EXPRESSION_COST_MAX;
    let detail = "too complex, exceeds cost limit";
    is_complex.then(|| FieldError::forbidden(path, detail)).into_iter().collect()
}

/// What expressions about devices may speak of.
static DEVICES: LazyLock<Environment> = LazyLock::new(|| {
    let sized = |shape: Shape, max_elements: u64| {
        Arc::new(Declared { max_elements, ..Declared::of(shape) })
    };
    // By domain, and within it by name.
    let named = |values: Arc<Declared>| {
        let inner = sized(Shape::Map(values), ATTRIBUTES_MAX);
        sized(Shape::Map(inner), ATTRIBUTES_MAX)
    };
    let fields: BTreeMap<String, Arc<Declared>> = BTreeMap::from([
        ("driver".to_owned(), sized(Shape::String, DRIVER_BYTES_MAX)),
        ("allowMultipleAllocations".to_owned(), sized(Shape::Bool, 1)),
        ("attributes".to_owned(), named(sized(Shape::Any, ATTRIBUTE_BYTES_MAX))),
        ("capacity".to_owned(), named(Arc::new(Declared::of(Shape::Quantity)))),
    ]);
    let device = Object::new("kubernetes.DRADevice", Arc::new(fields));
    let device = Arc::new(Declared::of(Shape::Object(device)));
    Environment::default().with("device", device.to_type()).sized(device).binding()
});

pub(super) fn validate_tolerations(
    tolerations: Option<&[DeviceToleration]>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let each = tolerations.unwrap_or_default().iter().enumerate();
    each.flat_map(|(index, toleration)| validate_toleration(toleration, &path.index(index)))
        .collect()
}

fn validate_toleration(toleration: &DeviceToleration, path: &FieldPath) -> Vec<FieldError> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, value, effect) =
        (text(&toleration.key), text(&toleration.value), text(&toleration.effect));
    let mut errors = Vec::new();
    if !key.is_empty() {
        errors.extend(invalid(&path.child("key"), &key, names::qualified_name(&key)));
    }
    let value_path = path.child("value");
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" if !value.is_empty() => {
            let detail = "must be empty for operator `Exists`";
            errors.push(FieldError::invalid(&value_path, value, detail));
        }
        "Exists" => {}
        "Equal" => errors.extend(invalid(&value_path, &value, names::label_value(&value))),
        "" => errors.push(FieldError::required(&path.child("operator"), "")),
        other => {
            let operators = &["Equal", "Exists"];
            errors.push(FieldError::not_supported(&path.child("operator"), other, operators));
        }
    }
    if !effect.is_empty() {
        errors.extend(one_of(&path.child("effect"), &effect, EFFECTS));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;

    #[track_caller]
    fn check(expression: &str, expected: &[&str]) {
        compare(validate_expression(expression, &FieldPath::new("e")), expected);
    }

    #[test]
    fn expressions_are_about_a_device() {
        for expression in [
            "device.driver == 'gpu.example.com'",
            "device.attributes['gpu.example.com'].model == 'a100'",
            "device.attributes['gpu.example.com'].shared",
            "device.capacity['gpu.example.com'].memory.compareTo(quantity('10Gi')) >= 0",
            "cel.bind(gpu, device.attributes['gpu.example.com'], gpu.count > 1 && gpu.shared)",
            "device.attributes['a'].version.isGreaterThan(semver('1.0.0'))",
            "device.allowMultipleAllocations",
        ] {
            check(expression, &[]);
        }
        check(
            "device.attributes",
            &[
                "e: Invalid value: \"device.attributes\": must evaluate to bool or the unknown type, not map(string, map(string, ",
            ],
        );
        check(
            "device.name == 'x'",
            &[
                "e: Invalid value: \"device.name == 'x'\": compilation failed: ERROR: <input>:1:7: undefined field 'name'",
            ],
        );
        check(
            "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a + b + c == d))))",
            &["e: Forbidden: too complex, exceeds cost limit"],
        );
        check(
            "cel.bind('a', 1, true)",
            &[
                "e: Invalid value: \"cel.bind('a', 1, true)\": compilation failed: ERROR: <input>:1:10: cel.bind() variable names must be simple identifiers",
            ],
        );
    }
}
