//! Tokens that live in Secrets of the type `kubernetes.io/service-account-token`: made where such a
//! Secret is written, and gone with it.
//!
//! Upstream's token controller (pkg/controller/serviceaccount/tokens_controller.go, v1.35) fills them a
//! moment later; here they are whole at once. A Secret of an account that is not there stays
//! without a token. The garbage collector removes it with its account, whom it names as its owner.

use super::claims::{LEGACY_ISSUER, LegacyClaims};
use super::{Tokens, key_of};
use crate::api::status::Status;
use crate::registry::Object;
use crate::stdx::chain;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

impl Tokens {
    /// Gives a Secret that is to hold a token one, where it has none. Other objects are let be.
    pub(in super::super) async fn fill(&self, object: &mut dyn Object) -> Result<(), Status> {
        let Some(secret) = object.as_any_mut().downcast_mut::<Secret>() else { return Ok(()) };
        let has_token = |secret: &Secret| {
            let token = secret.data.as_ref().and_then(|data| data.get("token"));
            token.is_some_and(|token| !token.0.is_empty())
        };
        if secret.type_.as_deref() != Some(TYPE) || has_token(secret) {
            return Ok(());
        }
        let namespace = secret.metadata.namespace.clone().unwrap_or_default();
        let annotations = secret.metadata.annotations.clone().unwrap_or_default();
        let Some(name) = annotations.get(ACCOUNT) else { return Ok(()) };
        let key = key_of("serviceaccounts", Some(&namespace), name);
        let found = self.read::<ServiceAccount>(&key).await;
        let found = found.map_err(|why| Status::internal(why.unwrap_or_default()))?;
        let Some(uid) = found.and_then(|account| account.metadata.uid) else { return Ok(()) };
        if annotations.get(ACCOUNT_UID).is_some_and(|claimed| *claimed != uid) {
            return Ok(());
        }
        let claims = LegacyClaims {
            iss: LEGACY_ISSUER.to_owned(),
            secret: secret.metadata.name.clone().unwrap_or_default(),
            account: name.clone(),
            account_uid: uid.clone(),
            sub: format!("system:serviceaccount:{namespace}:{name}"),
            namespace,
        };
        let token = self.keys().await.sign(&claims).map_err(|error| {
            Status::internal(format!("failed to generate token: {}", chain(&error)))
        })?;
        complete(secret, &claims, token, &self.settings.root_ca);
        Ok(())
    }
}

fn complete(secret: &mut Secret, claims: &LegacyClaims, token: String, root_ca: &str) {
    let data = secret.data.get_or_insert_default();
    data.insert("token".to_owned(), ByteString(token.into_bytes()));
    data.insert("namespace".to_owned(), ByteString(claims.namespace.clone().into_bytes()));
    if !root_ca.is_empty() {
        data.insert("ca.crt".to_owned(), ByteString(root_ca.as_bytes().to_vec()));
    }
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_UID.to_owned(), claims.account_uid.clone());
    let owners = secret.metadata.owner_references.get_or_insert_default();
    if !owners.iter().any(|owner| owner.uid == claims.account_uid) {
        owners.push(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ServiceAccount".to_owned(),
            name: claims.account.clone(),
            uid: claims.account_uid.clone(),
            ..OwnerReference::default()
        });
    }
}
