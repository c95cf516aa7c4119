//! Objects of one version of a definition become those of another by asking the webhook that the
//! definition names.
//!
//! Start at [`Server::convert`]. What is asked and what is believed of the answer is in [`review`]. Only
//! objects of another version than the wanted one come here. Follows upstream's
//! apiextensions-apiserver pkg/apiserver/conversion/webhook_converter.go (v1.35).

mod review;

use super::server::Server;
use super::webhook::Hook;
use crate::api::Status;
use crate::api::status::Reason;
use crate::registry::custom::{Conversion, CustomVersion};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::WebhookConversion;
use review::Review;
use serde_json::Value;
use std::time::Duration;

/// A webhook that has not answered after this long has failed (upstream's default for webhooks).
const PATIENCE: Duration = Duration::from_secs(30);

/// So many objects are converted by one request at most, and so many bytes of stored objects: what is
/// more is asked for after that.
pub(super) const OBJECTS_PER_REVIEW_MAX: usize = 500;
pub(super) const BYTES_PER_REVIEW_MAX: usize = 4 << 20;

impl Server {
    /// The objects as `to` has them, in their order.
    ///
    /// # Errors
    /// Where the webhook cannot be asked, or its answer cannot be believed.
    pub(super) async fn convert(
        &self,
        to: &CustomVersion,
        objects: Vec<Value>,
    ) -> Result<Vec<Value>, Status> {
        let Conversion::Webhook(webhook) = to.conversion() else { return Ok(objects) };
        let uid = self.config.entropy.uuid().to_string();
        let review = Review::of(to.api_version(), &webhook.conversion_review_versions, &uid);
        let review = review.map_err(failed)?;
        let gvk = review.subject(&objects);
        let body = review.request(&objects);
        let answer = self.ask(webhook, body).await;
        let answer =
            answer.map_err(|why| failed(format!("conversion webhook for {gvk} failed: {why}")))?;
        review.settle(&objects, &answer).map_err(failed)
    }

    async fn ask(&self, webhook: &WebhookConversion, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let config = webhook.client_config.clone().unwrap_or_default();
        let hook = Hook::of_conversion(&config).map_err(|error| error.to_string())?;
        let answer = self.hooks.post(&hook, body, PATIENCE).await;
        answer.map(|answer| answer.to_vec()).map_err(|error| error.to_string())
    }
}

/// An error that has no reason of its own, as upstream's has none.
fn failed(why: String) -> Status {
    Status::new(Reason::Unknown, why)
}
