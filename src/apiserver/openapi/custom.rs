//! The schemas of defined kinds, which are read from their definitions when they are asked for:
//! nobody else needs their descriptions.

use super::super::definitions;
use super::super::server::Server;
use super::operation::PATCH;
use super::paths::{self, Names};
use super::schemas::{Edition, find_kind};
use crate::api::Status;
use crate::registry::schema::structural::publish::{
    Document, Published, list_schema, object_schema,
};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{KindFacts, KindRef, Rows, Subresource};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What documents are made of.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) rows: Arc<Rows>,
    definitions: Vec<CustomResourceDefinition>,
}

impl Sources {
    /// Those of the server, as they are now.
    pub(super) async fn of(server: &Server, rows: Arc<Rows>) -> Result<Self, Status> {
        let has_custom = rows.iter().any(|kind| matches!(kind, KindRef::Custom(_)));
        if !has_custom {
            return Ok(Self { rows, definitions: Vec::new() });
        }
        let entries = definitions::entries(&*server.store).await?;
        // What cannot be read is not served either.
        let entries = entries.iter();
        let definitions = entries.filter_map(|entry| serde_json::from_slice(&entry.value).ok());
        Ok(Self { definitions: definitions.collect(), rows })
    }

    /// The schemas of these kinds and of all that they are made of, by their OpenAPI names.
    pub(super) fn schemas<'a>(
        &self,
        edition: Edition,
        kinds: impl Iterator<Item = &'a KindRef>,
    ) -> Map<String, Value> {
        // What every operation may bring along or answer.
        let mut roots = vec![types::DELETE_OPTIONS, types::STATUS, types::WATCH_EVENT];
        let mut custom = Map::new();
        for kind in kinds {
            roots.extend(kind.facts.subresources.iter().filter_map(|it| body_of(&kind.facts, it)));
            match kind {
                KindRef::BuiltIn(kind) => {
                    roots.extend(kind.built_in_schema());
                    roots.extend(list_of(&kind.facts).map(|(of, _)| of));
                }
                KindRef::Custom(_) => {
                    let lists = types::PARTIAL_OBJECT_METADATA_LIST;
                    roots.extend([types::PARTIAL_OBJECT_METADATA, lists]);
                    custom.extend(self.custom(edition, kind));
                }
            }
        }
        let mut schemas = edition.reachable(roots);
        schemas.insert(PATCH.to_owned(), json!({"type": "object"}));
        schemas.extend(custom);
        schemas
    }

    /// The paths of the kind, with what may be done at each.
    pub(super) fn paths(&self, kind: &KindRef, edition: Edition) -> Map<String, Value> {
        let names = self.names(kind);
        names.map(|names| paths::of(kind, &names, edition)).unwrap_or_default()
    }

    /// How the schemas of the kind are called.
    fn names(&self, kind: &KindRef) -> Option<Names> {
        let facts = &kind.facts;
        if let KindRef::Custom(_) = kind {
            let mut schemas = self.custom(Edition::Third, kind).into_iter();
            let (object, list) = (schemas.next()?.0, schemas.next()?.0);
            return Some(Names { object, list });
        }
        let (_, object) = find_kind(&facts.group, &facts.version, &facts.kind)?;
        let list = list_of(facts).map_or_else(|| object.clone(), |(_, name)| name);
        Some(Names { object, list })
    }

    fn custom(&self, edition: Edition, kind: &KindRef) -> Vec<(String, Value)> {
        let Some((definition, version)) = self.definition_of(kind) else { return Vec::new() };
        let names = definition.status.as_ref().and_then(|status| status.accepted_names.as_ref());
        let names = names.unwrap_or(&definition.spec.names);
        let fields = version.selectable_fields.iter().flatten();
        let selectable_fields: Vec<_> = fields.map(|field| field.json_path.clone()).collect();
        let published = Published {
            group: &definition.spec.group,
            version: &version.name,
            kind: &names.kind,
            list_kind: names.list_kind.as_deref().unwrap_or_default(),
            plural: &names.plural,
            selectable_fields: &selectable_fields,
        };
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let document = match edition {
            Edition::Second => Document::V2,
            Edition::Third => Document::V3,
        };
        vec![
            (published.name_of(published.kind), object_schema(&published, schema, document)),
            (published.name_of(published.list_kind), list_schema(&published, document)),
        ]
    }

    fn definition_of(
        &self,
        kind: &KindRef,
    ) -> Option<(&CustomResourceDefinition, &CustomResourceDefinitionVersion)> {
        let facts = &kind.facts;
        let definition = self.definitions.iter().find(|definition| {
            definition.spec.group == facts.group && definition.spec.names.plural == facts.plural
        })?;
        let mut versions = definition.spec.versions.iter();
        Some((definition, versions.find(|version| version.name == facts.version)?))
    }
}

fn list_of(facts: &KindFacts) -> Option<(TypeRef, String)> {
    find_kind(&facts.group, &facts.version, &format!("{}List", facts.kind))
}

/// The type of what is read and written at a subresource, where it is of the table.
fn body_of(facts: &KindFacts, subresource: &Subresource) -> Option<TypeRef> {
    let (group, version, kind) = subresource.speaks(facts);
    find_kind(group, version, kind).map(|(of, _)| of)
}
