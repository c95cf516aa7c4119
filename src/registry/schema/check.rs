//! Checks a document against its type: takes out what the type does not have, and says what was
//! taken out and what has the wrong type.
//!
//! Reads values as Go does with apimachinery's JSON (`UnmarshalCaseSensitivePreserveInts`,
//! `sigs.k8s.io/json`, as in Kubernetes v1.35), and words problems alike: null is absence, an
//! integer has no point, quantities and times are parsed.

use super::ZERO_TIME;
use super::decode::Problems;
use super::formats;
use super::memory;
use super::path::Path;
use super::table::{BUILT_IN, Shape, Table, TypeRef};
use crate::api::{BadQuantity, Quantity};
use serde_json::Value;

/// So many values of a wrong type are told; clients hear of the first alone, as upstream's do.
const MISTYPED_MAX: usize = 8;

/// What a document had that its type does not allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// One text for each field that was taken out: `unknown field "spec.foo"`.
    pub unknown: Vec<String>,
    /// Values of a wrong type. While there are any, the document is not one of its type.
    pub mistyped: Vec<Mistyped>,
    /// How much memory the elements of lists and the values of maps take as what they stand for,
    /// about, and without their texts. More than
    /// [`OBJECT_BYTES_MAX`](super::OBJECT_BYTES_MAX) is too much.
    pub bytes: usize,
}

impl Checked {
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.unknown.is_empty() && self.mistyped.is_empty()
    }
}

/// A value of a wrong type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Mistyped {
    /// `spec.replicas`.
    pub path: String,
    /// As Go says it: `json: cannot unmarshal string into Go struct field
    /// DeploymentSpec.spec.replicas of type int32`.
    pub message: String,
}

/// Checks `value` against the built-in type `of` and prunes it.
///
/// Costs one walk, and memory only where something is wrong.
#[must_use]
pub fn check(of: TypeRef, value: &mut Value) -> Checked {
    check_in(&BUILT_IN, of, value)
}

/// As [`check`], against a type of any table.
#[must_use]
pub fn check_in(table: &Table, of: TypeRef, value: &mut Value) -> Checked {
    let mut walker = Walker { table, unknown: Problems::default(), mistyped: Vec::new(), bytes: 0 };
    walker.visit(Shape::Struct(of), value, &Path::Root);
    let Walker { unknown, mistyped, bytes, .. } = walker;
    Checked { unknown: unknown.into_texts(), mistyped, bytes }
}

struct Walker<'t> {
    table: &'t Table,
    unknown: Problems,
    mistyped: Vec<Mistyped>,
    bytes: usize,
}

impl Walker<'_> {
    fn visit(&mut self, shape: Shape, value: &mut Value, path: &Path<'_>) {
        let fits = match (shape, &mut *value) {
            (Shape::Any | Shape::Object, _)
            | (Shape::String, Value::String(_))
            | (Shape::Bool, Value::Bool(_))
            | (Shape::Double, Value::Number(_)) => true,
            (Shape::Int32, Value::Number(number)) => {
                number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
            }
            (Shape::Int64, Value::Number(number)) => number.is_i64(),
            (Shape::Struct(of), _) => return self.visit_struct(of, value, path),
            (Shape::List(of), Value::Array(list)) => {
                let element = self.table.element(of);
                self.bytes += list.len() * memory::bytes(element);
                for (index, value) in list.iter_mut().enumerate() {
                    self.visit_element(element, value, &path.index(index));
                }
                true
            }
            (Shape::Map(of), Value::Object(map)) => {
                let element = self.table.element(of);
                self.bytes += map.len() * memory::bytes(element);
                for (key, value) in map.iter_mut() {
                    self.visit_element(element, value, &path.key(key));
                }
                true
            }
            _ => return self.visit_format(shape, value, path),
        };
        if !fits {
            self.mistyped(shape, value, path);
        }
    }

    fn visit_struct(&mut self, of: TypeRef, value: &mut Value, path: &Path<'_>) {
        let view = self.table.get(of);
        if view.is_any() {
            return;
        }
        let Value::Object(map) = value else {
            return self.mistyped(Shape::Struct(of), value, path);
        };
        map.retain(|name, value| {
            let path = path.field(of, name);
            match view.field(name) {
                None => {
                    self.unknown.report(|| format!("unknown field {:?}", path.to_string()));
                    false
                }
                Some(_) if value.is_null() => false,
                Some(field) if field.is_left_out(value) => false,
                Some(field) => {
                    self.visit(field.shape(), value, &path);
                    true
                }
            }
        });
        for field in view.fields() {
            if field.shape() == Shape::Time
                && field.is_required()
                && !map.contains_key(field.name())
            {
                map.insert(field.name().to_owned(), Value::from(ZERO_TIME));
            }
        }
    }

    /// An element of a list or a value of a map: null is the zero value there.
    fn visit_element(&mut self, shape: Shape, value: &mut Value, path: &Path<'_>) {
        if value.is_null() {
            // Free-form JSON may be null.
            if !matches!(shape, Shape::Struct(of) if self.table.get(of).is_any()) {
                *value = zero(shape);
            }
        } else {
            self.visit(shape, value, path);
        }
    }

    /// Values that upstream's types decode themselves.
    fn visit_format(&mut self, shape: Shape, value: &mut Value, path: &Path<'_>) {
        let problem = match (shape, &mut *value) {
            (Shape::Quantity, Value::String(text)) => match text.parse::<Quantity>() {
                Ok(_) => return,
                Err(error) => error.to_string(),
            },
            (Shape::Quantity, Value::Number(number)) => {
                *value = Value::String(number.to_string());
                return self.visit_format(shape, value, path);
            }
            (Shape::Quantity, _) => BadQuantity::Format.to_string(),
            (Shape::IntOrString, Value::String(_)) => return,
            (Shape::IntOrString, Value::Number(number)) => {
                if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) {
                    return;
                }
                format!("json: cannot unmarshal number {number} into Go value of type int32")
            }
            (Shape::IntOrString, other) => {
                format!("json: cannot unmarshal {} into Go value of type int32", kind(other))
            }
            (Shape::Time, Value::String(text)) => match formats::check_time(text) {
                Ok(()) => return,
                Err(problem) => problem,
            },
            (Shape::MicroTime, Value::String(text)) => match formats::check_micro_time(text) {
                Ok(()) => return,
                Err(problem) => problem,
            },
            (Shape::Time | Shape::MicroTime, other) => {
                format!("json: cannot unmarshal {} into Go value of type string", kind(other))
            }
            (Shape::Bytes, Value::String(text)) => match formats::check_base64(text) {
                Ok(()) => return text.retain(|letter| !matches!(letter, '\r' | '\n')),
                Err(problem) => problem,
            },
            _ => return self.mistyped(shape, value, path),
        };
        self.report(path, problem);
    }

    fn mistyped(&mut self, shape: Shape, value: &Value, path: &Path<'_>) {
        if self.mistyped.len() >= MISTYPED_MAX {
            return;
        }
        let wanted = self.go_type(shape);
        let found = match (shape, value) {
            (Shape::Int32 | Shape::Int64, Value::Number(number)) => format!("number {number}"),
            (_, other) => kind(other).to_owned(),
        };
        let message = match path.innermost_field() {
            None => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
            Some(owner) => format!(
                "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
                self.table.get(owner).name(),
                path.field_names()
            ),
        };
        self.report(path, message);
    }

    fn report(&mut self, path: &Path<'_>, message: String) {
        if self.mistyped.len() < MISTYPED_MAX {
            self.mistyped.push(Mistyped { path: path.to_string(), message });
        }
    }

    /// What Go calls the type, but for named strings, which count as strings here.
    fn go_type(&self, shape: Shape) -> String {
        match shape {
            Shape::String => "string".to_owned(),
            Shape::Bool => "bool".to_owned(),
            Shape::Int32 => "int32".to_owned(),
            Shape::Int64 => "int64".to_owned(),
            Shape::Double => "float64".to_owned(),
            Shape::Bytes => "[]uint8".to_owned(),
            Shape::Quantity => "resource.Quantity".to_owned(),
            Shape::IntOrString => "intstr.IntOrString".to_owned(),
            Shape::Time => "v1.Time".to_owned(),
            Shape::MicroTime => "v1.MicroTime".to_owned(),
            Shape::Object | Shape::Any => "interface {}".to_owned(),
            Shape::Struct(of) => {
                let view = self.table.get(of);
                format!("{}.{}", view.version(), view.name())
            }
            Shape::List(of) => format!("[]{}", self.go_type(self.table.element(of))),
            Shape::Map(of) => format!("map[string]{}", self.go_type(self.table.element(of))),
        }
    }
}

/// What Go calls the kind of a JSON value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn zero(shape: Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Value::from(0),
        Shape::Quantity => Value::String("0".to_owned()),
        Shape::Struct(_) | Shape::Map(_) => Value::Object(serde_json::Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Time | Shape::MicroTime | Shape::Object | Shape::Any => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::PROBLEMS_MAX;
    use super::super::types;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Checks a pod of this spec; the result is what is left of the spec, then the problems.
    fn check_spec(mut spec: Value, left: &Value, problems: &[&str]) {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec.take()});
        let found = check(types::POD, &mut pod);
        let mut texts = found.unknown;
        texts.extend(found.mistyped.into_iter().map(|problem| problem.message));
        assert_eq!(texts, problems);
        assert_eq!(pod["spec"], *left);
    }

    fn clean(spec: Value) {
        let left = spec.clone();
        check_spec(spec, &left, &[]);
    }

    fn mistyped(spec: Value, problem: &str) {
        let left = spec.clone();
        check_spec(spec, &left, &[problem]);
    }

    #[test]
    fn zeros_that_say_nothing_are_left_out() {
        let mut pod = json!({"spec": {
            "hostNetwork": false, "nodeName": "", "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "", "tty": false, "ports": [{"containerPort": 0, "hostPort": 0}],
                "env": [{"name": "A", "value": ""}],
            }],
            "tolerations": [{"key": "", "tolerationSeconds": 0}],
        }});
        assert!(check(types::POD, &mut pod).is_clean());
        let left = json!({"spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "", "ports": [{"containerPort": 0}], "env": [{"name": "A"}],
            }],
            "tolerations": [{"tolerationSeconds": 0}],
        }});
        assert_eq!(pod, left);
        let mut mistyped = json!({"spec": {"hostNetwork": "", "priority": "", "nodeName": 0}});
        assert_eq!(check(types::POD, &mut mistyped).mistyped.len(), 3);
    }

    #[test]
    fn a_right_document_stays_as_it_is() {
        clean(json!({
            "containers": [{
                "name": "web", "image": "nginx", "args": ["-g", "daemon off;"],
                "env": [{"name": "A", "value": "b"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
                "readinessProbe": {"tcpSocket": {"port": 80}},
            }],
            "nodeSelector": {"disk": "ssd"},
            "terminationGracePeriodSeconds": 30,
            "volumes": [{"name": "data", "hostPath": {"path": "/data"}}],
        }));
    }

    #[test]
    fn unknown_fields_are_taken_out_and_named() {
        check_spec(
            json!({
                "containers": [{"name": "a", "imagepullpolicy": "x"}, {"name": "b", "port": 1}],
                "nodeSelector": {"any": "label"},
                "zzz": {"deep": [1]},
            }),
            &json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeSelector": {"any": "label"}}),
            &[
                "unknown field \"spec.containers[0].imagepullpolicy\"",
                "unknown field \"spec.containers[1].port\"",
                "unknown field \"spec.zzz\"",
            ],
        );
    }

    #[test]
    fn null_is_absence_in_structs_and_zero_in_lists_and_maps() {
        check_spec(
            json!({
                "containers": [{"name": "a", "args": ["x", null], "env": null, "resources": null}],
                "nodeSelector": {"disk": null},
                "tolerations": [null],
                "hostNetwork": null,
            }),
            &json!({
                "containers": [{"name": "a", "args": ["x", ""]}],
                "nodeSelector": {"disk": ""},
                "tolerations": [{}],
            }),
            &[],
        );
    }

    #[test]
    fn a_required_time_is_gos_zero_time_where_it_is_not_said() {
        let condition = json!({"type": "A", "status": "True", "reason": "", "message": ""});
        let times = [None, Some(Value::Null), Some(json!("2026-11-21T00:00:00Z"))];
        let conditions: Vec<Value> = times
            .into_iter()
            .map(|time| {
                let mut condition = condition.clone();
                if let Some(time) = time {
                    condition["lastTransitionTime"] = time;
                }
                condition
            })
            .collect();
        let mut service = json!({"status": {"conditions": conditions}});
        assert!(check(types::SERVICE, &mut service).is_clean());
        let of =
            |index: usize| service["status"]["conditions"][index]["lastTransitionTime"].as_str();
        assert_eq!([0, 1, 2].map(of), [ZERO_TIME, ZERO_TIME, "2026-11-21T00:00:00Z"].map(Some));
        serde_json::from_value::<k8s_openapi::api::core::v1::Service>(service).unwrap();
        // Who asks whether there is one, as of an event's time, is not told the zero time.
        let mut event = json!({"eventTime": null});
        assert!(check(types::EVENT_EVENTS_V1, &mut event).is_clean());
        assert_eq!(event, json!({}));
    }

    #[test]
    fn wrong_types_are_named_as_go_names_them() {
        let says = "json: cannot unmarshal";
        mistyped(
            json!({"containers": [{"env": [{"name": "A", "value": 1}]}]}),
            &format!(
                "{says} number into Go struct field EnvVar.spec.containers.env.value of type string"
            ),
        );
        mistyped(
            json!({"terminationGracePeriodSeconds": "30"}),
            &format!(
                "{says} string into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64"
            ),
        );
        mistyped(
            json!({"containers": [{"ports": [{"containerPort": 80.5}]}]}),
            &format!(
                "{says} number 80.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"
            ),
        );
        mistyped(
            json!({"containers": [{"ports": [{"containerPort": 4_294_967_296_i64}]}]}),
            &format!(
                "{says} number 4294967296 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"
            ),
        );
        mistyped(
            json!({"containers": {}}),
            &format!(
                "{says} object into Go struct field PodSpec.spec.containers of type []v1.Container"
            ),
        );
        mistyped(
            json!({"nodeSelector": ["a"]}),
            &format!(
                "{says} array into Go struct field PodSpec.spec.nodeSelector of type map[string]string"
            ),
        );
        mistyped(
            json!({"nodeSelector": {"a": true}}),
            &format!("{says} bool into Go struct field PodSpec.spec.nodeSelector of type string"),
        );
        mistyped(
            json!({"hostNetwork": "true"}),
            &format!("{says} string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        );
        mistyped(
            json!([]),
            &format!("{says} array into Go struct field Pod.spec of type v1.PodSpec"),
        );
    }

    #[test]
    fn a_document_that_is_no_object_is_named() {
        let found = check(types::POD, &mut json!("pod"));
        assert_eq!(
            found.mistyped[0].to_string(),
            "json: cannot unmarshal string into Go value of type v1.Pod"
        );
    }

    #[test]
    fn quantities_are_strings_or_numbers() {
        check_spec(
            json!({"overhead": {"cpu": 2, "memory": "1Gi"}}),
            &json!({"overhead": {"cpu": "2", "memory": "1Gi"}}),
            &[],
        );
        let says = "quantities must match the regular expression \
            '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
        for wrong in [json!("much"), json!(true), json!("")] {
            mistyped(json!({"overhead": {"cpu": wrong}}), says);
        }
        mistyped(json!({"overhead": {"cpu": "1Mm"}}), "unable to parse quantity's suffix");
    }

    #[test]
    fn ports_may_be_names_but_not_booleans() {
        let probe =
            |port: Value| json!({"containers": [{"livenessProbe": {"tcpSocket": {"port": port}}}]});
        clean(probe(json!(80)));
        clean(probe(json!("http")));
        mistyped(probe(json!(true)), "json: cannot unmarshal bool into Go value of type int32");
        mistyped(
            probe(json!(1.5)),
            "json: cannot unmarshal number 1.5 into Go value of type int32",
        );
    }

    #[test]
    fn secrets_hold_base64() {
        let mut secret = json!({"data": {"good": "aGk=", "broken": "aG\nk=\n"}});
        assert!(check(types::SECRET, &mut secret).is_clean());
        assert_eq!(secret["data"]["broken"], "aGk=");
        let found = check(types::SECRET, &mut json!({"data": {"bad": "hi!"}}));
        assert_eq!(found.mistyped[0].path, "data.bad");
        assert_eq!(found.mistyped[0].message, "illegal base64 data at input byte 2");
    }

    #[test]
    fn free_form_json_is_left_alone() {
        let data = json!({"any": [null, {"thing": 1.5}]});
        let mut revision = json!({"revision": 1, "data": data});
        assert!(check(types::CONTROLLER_REVISION, &mut revision).is_clean());
        assert_eq!(revision["data"], data);
    }

    #[test]
    fn times_are_parsed() {
        let at = |time: &str| json!({"metadata": {"creationTimestamp": time}});
        assert!(check(types::POD, &mut at("2026-01-02T03:04:05Z")).is_clean());
        assert!(!check(types::POD, &mut at("2026-01-02")).is_clean());
        let found = check(types::POD, &mut json!({"metadata": {"creationTimestamp": 5}}));
        assert_eq!(
            found.mistyped[0].message,
            "json: cannot unmarshal number into Go value of type string"
        );
    }

    #[test]
    fn endless_problems_are_cut_off() {
        let mut pod = json!({"spec": {"containers": []}});
        for number in 0..1000 {
            pod["spec"][format!("f{number}")] = json!(1);
        }
        assert_eq!(check(types::POD, &mut pod).unknown.len(), PROBLEMS_MAX);
        assert_eq!(pod, json!({"spec": {"containers": []}}));
    }

    proptest! {
        #[test]
        fn what_is_left_is_right(mut value in any_document()) {
            let first = check(types::POD, &mut value);
            let left = value.clone();
            let second = check(types::POD, &mut value);
            prop_assert_eq!(&value, &left, "checking again takes nothing more out");
            prop_assert!(second.unknown.is_empty());
            prop_assert_eq!(second.mistyped, first.mistyped);
        }
    }

    /// Documents of names that a pod has, mostly in places where it does not have them.
    fn any_document() -> impl Strategy<Value = Value> {
        let names = proptest::sample::select(vec![
            "metadata",
            "labels",
            "managedFields",
            "spec",
            "containers",
            "name",
            "ports",
            "env",
            "containerPort",
            "resources",
            "limits",
            "cpu",
            "volumes",
            "nodeSelector",
            "unknown",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<f32>().prop_map(Value::from),
            "[ -~]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 60, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(names.clone(), inner, 0..5).prop_map(|map| {
                    map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                }),
            ]
        })
    }
}
