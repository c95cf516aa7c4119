//! LocalSubjectAccessReviews: may somebody do this in this namespace?

use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, QUESTION, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::LocalSubjectAccessReview;
use serde_json::Value;

impl Resource for LocalSubjectAccessReview {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "localsubjectaccessreview",
        verbs: QUESTION,
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::LOCAL_SUBJECT_ACCESS_REVIEW;
    const COLUMNS: &'static [Column] = &[Column::NAME];

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata)]
    }
}
