//! A definition as upstream validates it: what is the same in all versions is said once.
//!
//! Upstream converts each definition to an internal version first, where schemas, subresources,
//! columns and selectable fields that are the same in all versions are hoisted from these
//! (`Convert_v1_CustomResourceDefinitionSpec_To_apiextensions_...`, v1.35). Clients see that in the
//! paths of errors: `spec.validation.openAPIV3Schema` of a definition with one version.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionSpec,
    CustomResourceDefinitionVersion, CustomResourceSubresources, CustomResourceValidation,
    JSONSchemaProps, SelectableField,
};

/// What a version says, or all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) schema: Option<&'a CustomResourceValidation>,
    pub(super) subresources: Option<&'a CustomResourceSubresources>,
    pub(super) columns: &'a [CustomResourceColumnDefinition],
    pub(super) selectable: &'a [SelectableField],
}

impl<'a> Said<'a> {
    pub(super) fn props(&self) -> Option<&'a JSONSchemaProps> {
        self.schema.and_then(|schema| schema.open_api_v3_schema.as_ref())
    }

    pub(super) fn has_status(&self) -> bool {
        self.subresources.is_some_and(|subresources| subresources.status.is_some())
    }

    fn of(version: &'a CustomResourceDefinitionVersion) -> Self {
        Self {
            schema: version.schema.as_ref(),
            subresources: version.subresources.as_ref(),
            columns: version.additional_printer_columns.as_deref().unwrap_or_default(),
            selectable: version.selectable_fields.as_deref().unwrap_or_default(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Spec<'a> {
    pub(super) spec: &'a CustomResourceDefinitionSpec,
    /// What all versions say.
    pub(super) all: Said<'a>,
    /// What each says apart from that.
    pub(super) versions: Vec<(&'a CustomResourceDefinitionVersion, Said<'a>)>,
}

impl<'a> Spec<'a> {
    pub(super) fn of(definition: &'a CustomResourceDefinition) -> Self {
        let spec = &definition.spec;
        let mut versions: Vec<_> =
            spec.versions.iter().map(|version| (version, Said::of(version))).collect();
        let Some((_, first)) = versions.first().copied() else {
            return Self { spec, all: Said::default(), versions };
        };
        let mut all = Said::default();
        let is_same = |same: fn(&Said<'_>, &Said<'_>) -> bool| {
            versions.iter().all(|(_, said)| same(said, &first))
        };
        let schema = is_same(|one, other| one.schema == other.schema);
        let subresources = is_same(|one, other| one.subresources == other.subresources);
        let columns = is_same(|one, other| one.columns == other.columns);
        let selectable = is_same(|one, other| one.selectable == other.selectable);
        for (_, said) in &mut versions {
            if schema {
                all.schema = said.schema.take();
            }
            if subresources {
                all.subresources = said.subresources.take();
            }
            if columns {
                all.columns = std::mem::take(&mut said.columns);
            }
            if selectable {
                all.selectable = std::mem::take(&mut said.selectable);
            }
        }
        Self { spec, all, versions }
    }

    /// Every schema there is, once.
    pub(super) fn schemas(&self) -> impl Iterator<Item = &'a JSONSchemaProps> {
        let of_versions = self.versions.iter().filter_map(|(_, said)| said.props());
        self.all.props().into_iter().chain(of_versions)
    }

    pub(super) fn keeps_unknown(&self) -> bool {
        self.spec.preserve_unknown_fields.unwrap_or_default()
    }
}
