//! The tokens of its service account that a pod is given as files, each kept fresh for as long as the
//! pod runs.
//!
//! Start at [`Tokens`], which says what to ask for and when; [`ask`] asks. Upstream
//! pkg/kubelet/token/token_manager.go (v1.35). Architecture invariant: a token is good for this one
//! pod only. One that an earlier process has put into the pod's volume is taken from there, so that
//! a restart asks for nothing.

mod adopt;
mod plan;

pub(super) use adopt::adopt;
pub use plan::{KnownToken, Token, TokenAsk, Tokens, asks};

use super::pod::BoundPod;
use crate::api::ObjectKey;
use crate::client::{Client, ClientError, ResourceType};
use jiff::SignedDuration;
use k8s_openapi::api::authentication::v1::{
    BoundObjectReference, TokenRequest, TokenRequestSpec, TokenRequestStatus,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use serde::de::Error as _;
use serde_json::Error;

/// Asks the API server for a token of the pod's account that is bound to the pod.
pub(super) async fn ask(
    client: Client,
    pod: BoundPod,
    ask: TokenAsk,
) -> Result<Token, ClientError> {
    let spec = pod.spec();
    let named = spec.service_account_name.as_deref().filter(|name| !name.is_empty());
    let account = ObjectKey::namespaced(pod.namespace(), named.unwrap_or("default"));
    let path = ResourceType::of::<ServiceAccount>().object_path(&account, Some("token"));
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: ask.audience.into_iter().collect(),
            expiration_seconds: Some(ask.expiration_seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name().to_owned()),
                uid: Some(pod.uid().to_owned()),
            }),
        },
        ..TokenRequest::default()
    };
    let answer: TokenRequest = client.post(&path, &request).await?;
    // The server may have given another life than was asked for.
    let given = answer.spec.expiration_seconds.unwrap_or(ask.expiration_seconds);
    let status = answer.status.filter(|status| !status.token.is_empty());
    let status = status.ok_or_else(|| ClientError::Malformed(Error::missing_field("status.token")));
    let TokenRequestStatus { token, expiration_timestamp } = status?;
    let expires_at = expiration_timestamp.0;
    let life = SignedDuration::from_secs(given);
    let issued_at = expires_at.saturating_sub(life).unwrap_or(expires_at);
    Ok(Token { text: token, issued_at, expires_at })
}
