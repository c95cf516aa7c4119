//! What is true of one version of a defined kind, worked out once.

use super::columns::Columns;
use super::json_path::JsonPath;
use super::object::CustomObject;
use super::scale::ScalePaths;
use crate::registry::kind::{Column, KindFacts, Scope, Subresource, VERBS};
use crate::registry::object::Decoded;
use crate::registry::schema::structural::validations::Rules;
use crate::registry::schema::structural::{NotStructural, Structural, defaults, embedded, prune};
use crate::registry::schema::{Checked, Mistyped};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
    CustomResourceDefinitionVersion, CustomResourceSubresourceScale,
};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// A field that field selectors may name: `spec.color`.
#[derive(Clone, Debug)]
pub struct SelectableField {
    pub name: String,
    pub(super) path: JsonPath,
}

/// A version of a kind that a CustomResourceDefinition defines.
#[derive(Clone, Debug)]
pub struct CompiledVersion {
    pub group: String,
    pub version: String,
    /// The names that were accepted, or those wished for as long as none were.
    pub names: CustomResourceDefinitionNames,
    pub scope: Scope,
    pub schema: Arc<Structural>,
    /// Nothing is pruned (`spec.preserveUnknownFields`, of definitions from before v1).
    pub keeps_unknown: bool,
    pub has_status: bool,
    pub scale: Option<ScalePaths>,
    pub selectable: Vec<SelectableField>,
    /// What objects must be like beyond their schema.
    pub rules: Option<Arc<Rules>>,
    pub(super) columns: Columns,
    /// Whether there are resources within resources.
    pub(super) has_embedded: bool,
}

impl CompiledVersion {
    /// A version of a definition.
    ///
    /// # Errors
    /// If its schema is not structural.
    pub fn of(
        definition: &CustomResourceDefinition,
        version: &CustomResourceDefinitionVersion,
    ) -> Result<Self, NotStructural> {
        let spec = &definition.spec;
        let props = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let mut schema = props.map(Structural::new).transpose()?.unwrap_or_default();
        defaults::prune_defaults(&mut schema);
        let subresources = version.subresources.as_ref();
        Ok(Self {
            group: spec.group.clone(),
            version: version.name.clone(),
            names: names(definition),
            scope: if spec.scope == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
            has_embedded: embedded::is_within(&schema),
            rules: Rules::of(&schema, true).map(Arc::new),
            schema: Arc::new(schema),
            keeps_unknown: keeps_unknown(spec),
            has_status: subresources.is_some_and(|it| it.status.is_some()),
            scale: subresources.and_then(|it| it.scale.as_ref()).map(scale),
            selectable: selectable(version),
            columns: Columns::of(version.additional_printer_columns.as_deref().unwrap_or_default()),
        })
    }

    /// `example.com/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    #[must_use]
    pub fn list_kind(&self) -> &str {
        self.names.list_kind.as_deref().unwrap_or_default()
    }

    /// Routing, discovery and storage keys.
    #[must_use]
    pub fn facts(&self) -> KindFacts {
        let texts = |texts: &Option<Vec<String>>| -> Cow<'static, [Cow<'static, str>]> {
            texts.iter().flatten().cloned().map(Cow::Owned).collect()
        };
        let mut subresources = Vec::new();
        if self.scale.is_some() {
            subresources.push(Subresource::SCALE);
        }
        if self.has_status {
            subresources.push(Subresource::STATUS);
        }
        KindFacts {
            group: self.group.clone().into(),
            version: self.version.clone().into(),
            kind: self.names.kind.clone().into(),
            plural: self.names.plural.clone().into(),
            singular: self.names.singular.clone().unwrap_or_default().into(),
            short_names: texts(&self.names.short_names),
            categories: texts(&self.names.categories),
            scope: self.scope,
            verbs: VERBS,
            subresources: subresources.into(),
        }
    }

    /// The columns of its tables.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        self.columns.headers()
    }

    /// Checks a document against the schema as far as reading it goes, and prunes it (upstream
    /// `unstructuredSchemaCoercer`, pkg/apiserver/customresource_handler.go).
    #[must_use]
    pub fn check(&self, value: &mut Value) -> Checked {
        let mut checked = Checked::default();
        let mut unknown = self.check_metadata(value, &mut checked);
        if !self.keeps_unknown {
            unknown.extend(prune(value, &self.schema));
            defaults::prune_nulls(value, &self.schema);
        }
        if self.has_embedded {
            match embedded::coerce(value, &self.schema) {
                Ok(paths) => unknown.extend(paths),
                Err(error) => {
                    let (path, message) = (error.path.to_string(), error.to_string());
                    checked.mistyped.push(Mistyped { path, message });
                }
            }
        }
        checked.unknown = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
        checked
    }

    fn check_metadata(&self, value: &mut Value, checked: &mut Checked) -> Vec<String> {
        let Some(metadata) = value.get_mut("metadata") else { return Vec::new() };
        let coerced = embedded::coerce_metadata(metadata.take());
        *metadata = coerced.value;
        if let Some(message) = coerced.problem {
            checked.mistyped.push(Mistyped { path: "metadata".to_owned(), message });
        }
        coerced.unknown.iter().map(|name| format!("metadata.{name}")).collect()
    }

    /// Reads an object that has been [checked](Self::check).
    ///
    /// # Errors
    /// Where it is none.
    pub fn decode(self: &Arc<Self>, value: Value) -> Decoded {
        Ok(Box::new(CustomObject::read(Arc::clone(self), value)?))
    }

    /// As [`decode`](Self::decode), from the store. What was defined since then is filled in.
    ///
    /// # Errors
    /// Where it is none.
    pub fn decode_stored(self: &Arc<Self>, stored: &[u8]) -> Decoded {
        let mut value: Value = serde_json::from_slice(stored)?;
        self.fill_in(&mut value);
        self.decode(value)
    }

    /// Fills in the defaults of what was read from the store. Metadata is not touched.
    pub fn fill_in(&self, value: &mut Value) {
        let metadata = value.get_mut("metadata").map(Value::take);
        defaults::prune_nulls(value, &self.schema);
        defaults::apply(value, &self.schema);
        if let (Some(metadata), Value::Object(fields)) = (metadata, value) {
            fields.insert("metadata".to_owned(), metadata);
        }
    }

    pub(super) fn fill_in_fields(&self, fields: &mut Map<String, Value>) {
        let mut value = Value::Object(std::mem::take(fields));
        self.fill_in(&mut value);
        if let Value::Object(filled) = value {
            *fields = filled;
        }
    }
}

fn names(definition: &CustomResourceDefinition) -> CustomResourceDefinitionNames {
    let accepted = definition.status.as_ref().and_then(|status| status.accepted_names.as_ref());
    let accepted = accepted.filter(|names| !names.plural.is_empty());
    accepted.unwrap_or(&definition.spec.names).clone()
}

fn keeps_unknown(spec: &CustomResourceDefinitionSpec) -> bool {
    spec.preserve_unknown_fields.unwrap_or_default()
}

fn scale(scale: &CustomResourceSubresourceScale) -> ScalePaths {
    ScalePaths {
        spec_replicas: scale.spec_replicas_path.clone(),
        status_replicas: scale.status_replicas_path.clone(),
        label_selector: scale.label_selector_path.clone(),
    }
}

fn selectable(version: &CustomResourceDefinitionVersion) -> Vec<SelectableField> {
    let fields = version.selectable_fields.iter().flatten();
    fields
        .filter_map(|field| {
            // Validation has found all of them to be paths.
            let path = JsonPath::parse(&field.json_path).ok()?;
            let name = field.json_path.strip_prefix('.').unwrap_or(&field.json_path).to_owned();
            Some(SelectableField { name, path })
        })
        .collect()
}
