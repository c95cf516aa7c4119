//! Paths of fields in a schema: `.spec.replicas`, `.status['my.key']` (upstream `ValidFieldPath`,
//! apiextensions pkg/apiserver/schema/cel/validation.go, v1.35).

use super::node::Structural;
use crate::api::FieldPath;

/// What a path leads to.
#[derive(Clone, Debug)]
pub struct FoundField<'s> {
    pub path: FieldPath,
    /// The first name on the way.
    pub root: String,
    /// `None`: beyond what the schema says.
    pub schema: Option<&'s Structural>,
}

/// The field at `path`. Keys in brackets are read where `has_brackets`.
///
/// # Errors
/// What is wrong with the path, in upstream's words.
pub fn find_field<'s>(
    path: &str,
    schema: &'s Structural,
    has_brackets: bool,
) -> Result<FoundField<'s>, String> {
    let mut found =
        FoundField { path: FieldPath::default(), root: String::new(), schema: Some(schema) };
    let mut tokens = Tokens { rest: path };
    while let Some(token) = tokens.next() {
        match token {
            "." => {
                let name = tokens.next().ok_or("unexpected end of JSON path")?;
                found.step(name)?;
            }
            "[" if !has_brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = tokens.next().ok_or("unexpected end of JSON path")?;
                found.step(&unquote(quoted)?)?;
                match tokens.next().ok_or("unexpected end of JSON path")? {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

impl FoundField<'_> {
    fn step(&mut self, name: &str) -> Result<(), String> {
        let nowhere = || "does not refer to a valid field".to_owned();
        let schema = self.schema.ok_or_else(nowhere)?;
        let has_properties = schema.properties().len() > 0;
        if has_properties {
            self.path = self.path.child(name);
            self.schema = Some(schema.property(name).ok_or_else(nowhere)?);
        } else if *schema.additional() != super::Additional::Unsaid {
            self.path = self.path.key(name);
            self.schema = schema.additional_schema();
        } else {
            return Err(nowhere());
        }
        if self.root.is_empty() {
            name.clone_into(&mut self.root);
        }
        Ok(())
    }
}

/// A text in single quotes; `\'` and `\\` stand for what is behind them.
fn unquote(quoted: &str) -> Result<String, String> {
    let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let Some(inner) = inner else {
        return Err(format!("expected single quoted string but got {quoted}"));
    };
    let mut plain = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(escaped @ ('\'' | '\\')) => plain.push(escaped),
                _ => return Err("invalid string literal: invalid syntax".to_owned()),
            },
            other => plain.push(other),
        }
    }
    Ok(plain)
}

/// `.`, `[`, `]`, texts in quotes, and what is between.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let first = self.rest.chars().next()?;
        let length = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let mut is_escaped = false;
                let end = self.rest[1..].find(|letter| {
                    let ends = letter == '\'' && !is_escaped;
                    is_escaped = letter == '\\' && !is_escaped;
                    ends
                });
                end.map_or(self.rest.len(), |end| end + 2)
            }
            _ => self.rest.find(['.', '[', ']']).unwrap_or(self.rest.len()),
        };
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, expected: Result<(&str, &str), &str>) {
        let schema = json!({"properties": {
            "spec": {"properties": {
                "replicas": {"type": "integer"},
                "labels": {"additionalProperties": {"type": "string"}},
                "any": {"additionalProperties": true},
                "list": {"type": "array", "items": {}},
            }},
        }});
        let schema = Structural::new(&serde_json::from_value(schema).unwrap()).unwrap();
        let found = find_field(path, &schema, true);
        let shown = found.as_ref().map(|found| {
            (found.path.to_string(), found.schema.map_or("", |schema| schema.type_name()))
        });
        let expected = expected.map(|(path, kind)| (path.to_owned(), kind)).map_err(str::to_owned);
        assert_eq!(shown.map_err(Clone::clone), expected);
    }

    #[test]
    fn paths_lead_to_schemas() {
        check(".spec.replicas", Ok(("spec.replicas", "integer")));
        check(".spec['replicas']", Ok(("spec.replicas", "integer")));
        check(".spec.labels['a.b']", Ok(("spec.labels[a.b]", "string")));
        check(r".spec.labels['a\'b']", Ok(("spec.labels[a'b]", "string")));
        check(".spec.any.x", Ok(("spec.any[x]", "")));
        check(".spec.other", Err("does not refer to a valid field"));
        check(".spec.any.x.y", Err("does not refer to a valid field"));
        check(".spec.list[0]", Err("expected single quoted string but got 0"));
        check("spec", Err("expected [ or . but got: spec"));
        check(".", Err("unexpected end of JSON path"));
        check(".spec[", Err("unexpected end of JSON path"));
        check(".spec['replicas'x", Err("expected ] but got x"));
    }

    #[test]
    fn brackets_may_be_refused() {
        let schema = Structural::default();
        assert_eq!(
            find_field("['a']", &schema, false).unwrap_err(),
            "array notation is not allowed"
        );
    }
}
