//! TokenReviews: whose token is this?

use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, QUESTION, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenReview;
use serde_json::Value;

impl Resource for TokenReview {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "tokenreview",
        verbs: QUESTION,
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::TOKEN_REVIEW;
    const COLUMNS: &'static [Column] = &[Column::NAME];

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata)]
    }
}
