//! SelfSubjectRulesReviews: what may I do in a namespace?

use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, QUESTION, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;
use serde_json::Value;

impl Resource for SelfSubjectRulesReview {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "selfsubjectrulesreview",
        verbs: QUESTION,
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::SELF_SUBJECT_RULES_REVIEW;
    const COLUMNS: &'static [Column] = &[Column::NAME];

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata)]
    }
}
