//! SelfSubjectAccessReviews: may I do this?

use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, QUESTION, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use serde_json::Value;

impl Resource for SelfSubjectAccessReview {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "selfsubjectaccessreview",
        verbs: QUESTION,
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::SELF_SUBJECT_ACCESS_REVIEW;
    const COLUMNS: &'static [Column] = &[Column::NAME];

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata)]
    }
}
