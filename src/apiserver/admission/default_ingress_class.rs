//! An Ingress that names no class gets the default one (upstream `DefaultIngressClass`,
//! plugin/pkg/admission/network/defaultingressclass, v1.35).

use super::default_class::default_class;
use super::{Attributes, Facts, Mutation, Plugin, Want};
use crate::api::status::Status;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

pub(super) const PLUGIN: Plugin = Plugin {
    name: "DefaultIngressClass",
    mutation: Some(Mutation { wants, apply }),
    judgement: None,
};

const DEFAULT_ANNOTATIONS: &[&str] = &["ingressclass.kubernetes.io/is-default-class"];

/// By which Ingresses named their class before there were any.
const OLD_ANNOTATION: &str = "kubernetes.io/ingress.class";

fn wants(attributes: &Attributes<'_>) -> Vec<Want> {
    match attributes.creating::<Ingress>() {
        Some(ingress) if !has_class(ingress) => {
            vec![Want::all("networking.k8s.io", "ingressclasses")]
        }
        _ => Vec::new(),
    }
}

fn apply(attributes: &mut Attributes<'_>, facts: &Facts<'_>) -> Result<(), Status> {
    if let Some(ingress) = attributes.created::<Ingress>()
        && !has_class(ingress)
        && let Some(class) = default_class(facts.all::<IngressClass>(), DEFAULT_ANNOTATIONS)
    {
        ingress.spec.get_or_insert_default().ingress_class_name = Some(class.to_owned());
    }
    Ok(())
}

fn has_class(ingress: &Ingress) -> bool {
    let annotations = ingress.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(OLD_ANNOTATION))
        || ingress.spec.as_ref().is_some_and(|spec| spec.ingress_class_name.is_some())
}
