//! What documents are made of: the rows that are served, and the definitions of those that are not
//! of the table. Definitions are read when somebody asks: nobody else needs their descriptions.
//!
//! Start at [`Sources::documents`], then [`Sources::parts`].

use super::super::definitions;
use super::super::errors;
use super::super::server::Server;
use super::document::Parts;
use super::operation::PATCH;
use super::paths::{self, Names};
use super::roots::{self, Root};
use super::schemas::{Catalog, Edition, find_kind};
use crate::api::{Revision, Status};
use crate::registry::schema::structural::Structural;
use crate::registry::schema::structural::publish::{
    Document, Published, list_schema, object_schema,
};
use crate::registry::schema::{BUILT_IN, TypeRef, types};
use crate::registry::{Kind, KindFacts, KindRef, Rows, Subresource};
use crate::storage::Entry;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use serde_json::Value;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What documents are made of, as of one moment.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) rows: Arc<Rows>,
    /// By name, `widgets.example.com`.
    definitions: BTreeMap<String, Stored>,
}

/// A definition, which is decoded when it is needed first.
#[derive(Debug)]
struct Stored {
    entry: Entry,
    decoded: OnceCell<Option<CustomResourceDefinition>>,
}

/// Of what one document is.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    kinds: Vec<KindRef>,
    roots: Vec<Root>,
}

/// What is said of a kind: its schemas' names, and the schemas of a defined one.
struct Described {
    names: Names,
    schemas: Vec<Value>,
}

impl Sources {
    /// Those of the server as they are now; with a name, those of this document of v3 alone.
    pub(super) async fn of(
        server: &Server,
        rows: Arc<Rows>,
        document: Option<&str>,
    ) -> Result<Self, Status> {
        let is_needed = |kind: &KindRef| {
            matches!(kind, KindRef::Custom(_)) && document.is_none_or(|of| path_of(kind) == of)
        };
        let mut names: Vec<_> = rows.iter().filter(is_needed).map(|kind| name_of(&kind)).collect();
        names.dedup();
        let mut definitions = BTreeMap::new();
        let mut add = |name: String, entry| {
            definitions.insert(name, Stored { entry, decoded: OnceCell::new() });
        };
        if document.is_some() {
            for name in names {
                let lookup = server.store.get(&definitions::key(&name)).await;
                let entry = lookup.map_err(|error| errors::of_read(&error))?.entry;
                entry.into_iter().for_each(|entry| add(name.clone(), entry));
            }
        } else if !names.is_empty() {
            for entry in definitions::entries(&*server.store).await? {
                add(definitions::name(&entry.key).to_owned(), entry);
            }
        }
        Ok(Self { rows, definitions })
    }

    /// The documents of v3, and of what each of them is.
    pub(super) fn documents(&self) -> BTreeMap<String, Subjects> {
        let mut documents: BTreeMap<String, Subjects> = BTreeMap::new();
        for kind in self.rows.iter() {
            documents.entry(path_of(&kind)).or_default().kinds.push(kind);
        }
        for root in roots::all() {
            documents.entry(root.document.clone()).or_default().roots.push(root);
        }
        documents
    }

    /// What all documents of v3 are of.
    pub(super) fn everything(&self) -> Subjects {
        Subjects { kinds: self.rows.iter().collect(), roots: roots::all() }
    }

    /// As of when the definitions of these are: while this is the same, so is what is said of them.
    pub(super) fn revisions(&self, of: &Subjects) -> Vec<Revision> {
        let stored = of.kinds.iter().filter_map(|kind| self.stored(kind));
        stored.map(|stored| stored.entry.revision).collect()
    }

    /// The paths and schemas of a document.
    pub(super) fn parts(&self, of: &Subjects, catalog: &mut Catalog) -> Parts {
        let (edition, form) = (catalog.edition(), catalog.form());
        let mut parts = Parts::default();
        let mut types: Vec<TypeRef> = of.roots.iter().filter_map(Root::answer).collect();
        for kind in &of.kinds {
            types.extend(types_of(kind));
            if kind.facts.verbs.contains(&"patch") {
                parts.schemas.insert(PATCH.to_owned(), catalog.patch());
            }
            let Some(described) = self.described(kind, edition) else { continue };
            for (path, item) in paths::of(kind, &described.names, edition) {
                parts.paths.insert(path, form.path(&item));
            }
            let names = [described.names.object, described.names.list];
            for (name, schema) in names.into_iter().zip(&described.schemas) {
                parts.schemas.insert(name, form.schema(schema));
            }
        }
        catalog.add_reachable(types, &mut parts.schemas);
        for root in &of.roots {
            let (path, item) = root.render(edition);
            parts.paths.insert(path, form.path(&item));
        }
        parts
    }

    fn described(&self, kind: &KindRef, edition: Edition) -> Option<Described> {
        let facts = &kind.facts;
        if let KindRef::Custom(_) = kind {
            return self.defined(kind, edition);
        }
        let (_, object) = find_kind(&facts.group, &facts.version, &facts.kind)?;
        let list = list_of(facts).map_or_else(|| object.clone(), |(_, name)| name);
        Some(Described { names: Names { object, list }, schemas: Vec::new() })
    }

    fn defined(&self, kind: &Kind, edition: Edition) -> Option<Described> {
        let (definition, version) = self.definition_of(kind)?;
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
            keeps_unknown: definition.spec.preserve_unknown_fields == Some(true),
        };
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        // Of what is not structural nothing is told (upstream `AllowNonStructural: false`).
        let schema = schema.filter(|schema| Structural::new(schema).is_ok());
        let document = match edition {
            Edition::Second => Document::V2,
            Edition::Third => Document::V3,
        };
        Some(Described {
            names: Names {
                object: published.name_of(published.kind),
                list: published.name_of(published.list_kind),
            },
            schemas: vec![
                object_schema(&published, schema, document),
                list_schema(&published, document),
            ],
        })
    }

    fn stored(&self, kind: &Kind) -> Option<&Stored> {
        self.definitions.get(&name_of(kind))
    }

    fn definition_of(
        &self,
        kind: &Kind,
    ) -> Option<(&CustomResourceDefinition, &CustomResourceDefinitionVersion)> {
        let stored = self.stored(kind)?;
        // What cannot be read is not served either.
        let decode = || serde_json::from_slice(&stored.entry.value).ok();
        let definition = stored.decoded.get_or_init(decode).as_ref()?;
        let mut versions = definition.spec.versions.iter();
        Some((definition, versions.find(|version| version.name == kind.facts.version)?))
    }
}

/// `api/v1`, `apis/apps/v1`.
pub(super) fn path_of(kind: &Kind) -> String {
    let facts = &kind.facts;
    if facts.group.is_empty() {
        format!("api/{}", facts.version)
    } else {
        format!("apis/{}/{}", facts.group, facts.version)
    }
}

/// The name of the kind's definition.
fn name_of(kind: &Kind) -> String {
    format!("{}.{}", kind.facts.plural, kind.facts.group)
}

/// The types of the table that the operations of a kind take and answer.
fn types_of(kind: &KindRef) -> Vec<TypeRef> {
    let facts = &kind.facts;
    let can = |verb| facts.verbs.contains(&verb);
    let mut found: Vec<_> = facts.subresources.iter().filter_map(|it| body_of(facts, it)).collect();
    if can("delete") || can("deletecollection") {
        found.extend([types::DELETE_OPTIONS, types::STATUS]);
    }
    if can("watch") {
        found.push(types::WATCH_EVENT);
    }
    match kind {
        KindRef::BuiltIn(kind) => {
            found.extend(kind.built_in_schema());
            if can("list") {
                found.extend(list_of(facts).map(|(of, _)| of));
            }
        }
        KindRef::Custom(_) => {
            let metadata = ["ObjectMeta", "ListMeta"];
            found.extend(metadata.iter().filter_map(|name| BUILT_IN.find("", "v1", name)));
        }
    }
    found
}

fn list_of(facts: &KindFacts) -> Option<(TypeRef, String)> {
    find_kind(&facts.group, &facts.version, &format!("{}List", facts.kind))
}

/// The type of what is read and written at a subresource, where it is of the table.
fn body_of(facts: &KindFacts, subresource: &Subresource) -> Option<TypeRef> {
    let (group, version, kind) = subresource.speaks(facts);
    find_kind(group, version, kind).map(|(of, _)| of)
}
