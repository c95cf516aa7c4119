//! SelfSubjectReviews: who am I?

use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, QUESTION, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use serde_json::Value;

impl Resource for SelfSubjectReview {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "selfsubjectreview",
        verbs: QUESTION,
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::SELF_SUBJECT_REVIEW;
    const COLUMNS: &'static [Column] = &[Column::NAME];

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata)]
    }
}
