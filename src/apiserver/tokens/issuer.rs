//! What others need to verify tokens by themselves: OpenID Connect discovery.
//!
//! Follows upstream pkg/routes/openidmetadata.go (v1.35).

use super::super::config::Config;
use super::Tokens;
use crate::stdx::http::{Response, full};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::json;
use std::net::SocketAddr;

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEY_SET: &str = "/openid/v1/jwks";

impl Tokens {
    /// Answers if `path` is one of those documents.
    pub(in super::super) async fn document(&self, config: &Config, path: &str) -> Option<Response> {
        let (media_type, document) = match path {
            CONFIGURATION => {
                let keys = self.keys().await;
                let address = SocketAddr::new(config.advertise_address, config.https_port);
                let document = json!({
                    "issuer": self.settings.issuer,
                    "jwks_uri": format!("https://{address}{KEY_SET}"),
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": keys.algorithms(),
                });
                ("application/json", document)
            }
            KEY_SET => ("application/jwk-set+json", self.keys().await.jwks()),
            _ => return None,
        };
        let mut response = Response::new(full(document.to_string()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        Some(response)
    }
}
