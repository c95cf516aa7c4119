//! SubjectAccessReviews: may somebody do this?

use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, QUESTION, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use serde_json::Value;

impl Resource for SubjectAccessReview {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "subjectaccessreview",
        verbs: QUESTION,
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::SUBJECT_ACCESS_REVIEW;
    const COLUMNS: &'static [Column] = &[Column::NAME];

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata)]
    }
}
