//! Fills in the defaults that the table knows: constants such as `protocol: TCP`.
//!
//! Defaults that depend on other fields are code of the kinds; for custom resources these are all
//! there are. As upstream does it for declared defaults, only objects that are there get them:
//! an absent struct stays absent.

use super::table::{BUILT_IN, Shape, Table, TypeRef};
use serde_json::Value;

/// Sets each absent field of the built-in type `of` that has a constant default.
///
/// The document has been checked and pruned before.
pub fn apply_defaults(of: TypeRef, value: &mut Value) {
    apply_defaults_in(&BUILT_IN, of, value);
}

/// As [`apply_defaults`], for a type of any table.
pub fn apply_defaults_in(table: &Table, of: TypeRef, value: &mut Value) {
    visit(table, Shape::Struct(of), value);
}

fn visit(table: &Table, shape: Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(of), Value::Object(object)) => {
            for field in table.get(of).fields() {
                if let Some(value) = object.get_mut(field.name()) {
                    visit(table, field.shape(), value);
                } else if let Some(json) = field.default_json() {
                    let default = serde_json::from_str(json).expect("the table holds JSON");
                    object.insert(field.name().to_owned(), default);
                }
            }
        }
        (Shape::List(of), Value::Array(list)) => {
            list.iter_mut().for_each(|value| visit(table, table.element(of), value));
        }
        (Shape::Map(of), Value::Object(object)) => {
            object.values_mut().for_each(|value| visit(table, table.element(of), value));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::types;
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_fields_get_their_defaults_and_others_keep_theirs() {
        let mut pod = json!({"spec": {
            "containers": [{"ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]}],
            "volumes": [{"iscsi": {}}, {"emptyDir": {}}],
        }});
        apply_defaults(types::POD, &mut pod);
        let ports = &pod["spec"]["containers"][0]["ports"];
        assert_eq!(ports[0]["protocol"], "TCP");
        assert_eq!(ports[1]["protocol"], "UDP");
        assert_eq!(pod["spec"]["volumes"][0]["iscsi"]["iscsiInterface"], "default");
        assert_eq!(pod["spec"]["volumes"][1], json!({"emptyDir": {}}));
        assert!(pod.get("status").is_none(), "absent structs stay absent");
    }

    #[test]
    fn every_default_is_json() {
        for (_, view) in BUILT_IN.types() {
            for json in view.fields().filter_map(|field| field.default_json()) {
                serde_json::from_str::<Value>(json).unwrap();
            }
        }
    }
}
