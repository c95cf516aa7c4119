//! A definition with all its versions, and the rows it adds to those that are served.

use super::version::CompiledVersion;
use crate::api::Maturity;
use crate::registry::kind::Kind;
use crate::registry::kinds::apiextensions::conditions;
use crate::registry::schema::structural::NotStructural;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
    WebhookConversion,
};
use std::cmp::Reverse;
use std::sync::Arc;

/// The verbs of custom resources, in upstream's order.
const VERBS: &[&str] =
    &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
/// Those that are left while the definition goes.
const VERBS_WHILE_TERMINATING: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];

/// All that is kept of a definition.
#[derive(Debug)]
pub struct Definition {
    group: String,
    plural: String,
    pub(super) versions: Vec<Version>,
    /// The version that objects are stored in, in `versions`.
    pub(super) storage: usize,
    pub(super) conversion: Conversion,
    is_terminating: bool,
}

/// One version of a definition.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) api_version: String,
    pub(super) compiled: Arc<CompiledVersion>,
    is_served: bool,
    /// What clients of the version are warned of.
    deprecation: Option<String>,
}

/// How objects of one version become those of another.
#[derive(Clone, Debug, PartialEq)]
pub enum Conversion {
    /// They differ in what they call themselves alone.
    None,
    /// Somebody else is asked.
    Webhook(Box<WebhookConversion>),
}

/// Why a definition cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    #[error("the schema of version {version} is not structural")]
    Schema {
        version: String,
        #[source]
        source: NotStructural,
    },
    #[error("no version is stored")]
    NoStorage,
}

impl Definition {
    /// Compiles a definition that is established.
    ///
    /// # Errors
    /// Where it could not have been accepted as it is.
    pub fn compile(of: &CustomResourceDefinition) -> Result<Arc<Self>, NotServed> {
        let spec = &of.spec;
        let versions: Result<Vec<_>, _> =
            spec.versions.iter().map(|version| Version::compile(of, version)).collect();
        let storage = spec.versions.iter().position(|version| version.storage);
        let webhook =
            spec.conversion.as_ref().filter(|conversion| conversion.strategy == "Webhook");
        let webhook = webhook.and_then(|conversion| conversion.webhook.clone());
        let webhook = webhook.map(|webhook| Conversion::Webhook(Box::new(webhook)));
        Ok(Arc::new(Self {
            group: spec.group.clone(),
            plural: spec.names.plural.clone(),
            versions: versions?,
            storage: storage.ok_or(NotServed::NoStorage)?,
            conversion: webhook.unwrap_or(Conversion::None),
            is_terminating: conditions::is_true(of, conditions::TERMINATING),
        }))
    }

    /// Group and plural.
    #[must_use]
    pub fn resource(&self) -> (&str, &str) {
        (&self.group, &self.plural)
    }

    /// The rows of the served versions, the preferred one first.
    #[must_use]
    pub fn rows(self: &Arc<Self>) -> Vec<Arc<Kind>> {
        let mut served: Vec<_> =
            (0..self.versions.len()).filter(|at| self.versions[*at].is_served).collect();
        served.sort_by_key(|at| Reverse(Maturity::of(&self.versions[*at].compiled.version)));
        let rows = served.into_iter().map(|at| {
            let version = CustomVersion { definition: Arc::clone(self), at };
            let mut facts = version.compiled().facts();
            facts.verbs = if self.is_terminating { VERBS_WHILE_TERMINATING } else { VERBS };
            let columns = version.compiled().columns().to_vec();
            Arc::new(Kind::custom(facts, columns, Arc::new(version)))
        });
        rows.collect()
    }
}

impl Version {
    fn compile(
        definition: &CustomResourceDefinition,
        of: &CustomResourceDefinitionVersion,
    ) -> Result<Self, NotServed> {
        let spec = &definition.spec;
        let compiled = CompiledVersion::of(definition, of)
            .map_err(|source| NotServed::Schema { version: of.name.clone(), source })?;
        Ok(Self {
            api_version: compiled.api_version(),
            compiled: Arc::new(compiled),
            is_served: of.served,
            deprecation: of.deprecated.unwrap_or_default().then(|| deprecation(spec, of)),
        })
    }
}

/// What clients of a deprecated version are warned of (upstream `defaultDeprecationWarning`,
/// apiextensions pkg/apiserver/customresource_handler.go, v1.35).
fn deprecation(
    spec: &CustomResourceDefinitionSpec,
    of: &CustomResourceDefinitionVersion,
) -> String {
    if let Some(own) = &of.deprecation_warning {
        return own.clone();
    }
    let (group, kind) = (&spec.group, &spec.names.kind);
    let better = spec.versions.iter().filter(|version| {
        version.served
            && !version.deprecated.unwrap_or_default()
            && Maturity::of(&version.name) > Maturity::of(&of.name)
    });
    let better = better.max_by_key(|version| Maturity::of(&version.name));
    let better = better.map(|version| format!("; use {group}/{} {kind}", version.name));
    format!("{group}/{} {kind} is deprecated{}", of.name, better.unwrap_or_default())
}

/// One served version of a definition, with all the others.
#[derive(Clone, Debug)]
pub struct CustomVersion {
    pub(super) definition: Arc<Definition>,
    at: usize,
}

impl CustomVersion {
    pub(super) fn version(&self) -> &Version {
        &self.definition.versions[self.at]
    }

    #[must_use]
    pub fn compiled(&self) -> &Arc<CompiledVersion> {
        &self.version().compiled
    }

    pub(in crate::registry) fn takes(&self, verb: &str) -> bool {
        VERBS.contains(&verb) && !(self.definition.is_terminating && verb == "create")
    }

    /// What clients of this version are warned of.
    #[must_use]
    pub fn deprecation(&self) -> Option<&str> {
        self.version().deprecation.as_deref()
    }

    /// `example.com/v1`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        &self.version().api_version
    }

    /// How objects become those of another version.
    #[must_use]
    pub fn conversion(&self) -> &Conversion {
        &self.definition.conversion
    }

    /// The version that objects are stored in.
    #[must_use]
    pub fn storage(&self) -> Self {
        Self { definition: Arc::clone(&self.definition), at: self.definition.storage }
    }
}
