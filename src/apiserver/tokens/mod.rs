//! Tokens by which service accounts and machines that join are known.
//!
//! Start at [`Tokens::authenticate`]. [`issue`] makes tokens; [`claims`] is what they say,
//! [`bootstrap`] those that live in Secrets of `kube-system`. Architecture invariant: a token is
//! believed only as long as what it speaks of is there; see [`cache`].
//!
//! Follows upstream pkg/serviceaccount (v1.35).

mod bootstrap;
mod cache;
mod claims;
mod issue;
mod issuer;
mod keys;
mod legacy;
mod plan;

use self::bootstrap::BootstrapToken;
use self::cache::{Cache, Hash, Verified};
use self::claims::{Claims, LEGACY_ISSUER, LegacyClaims, Reference};
use self::keys::Keys;
use super::guarded::Memory;
use super::identity::{CREDENTIAL_ID, Extra, Identity};
use super::keys as storage_keys;
use crate::api::ObjectKey;
use crate::pki::TokenKey;
use crate::registry;
use crate::stdx::{Clock, chain};
use crate::storage::{Key, Store};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use std::sync::Arc;
use tokio::sync::watch;

pub(super) use self::issue::{Bound, Request};
pub use self::keys::KeyError;

/// For whom tokens are good, and from whom.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// The URL by which tokens name their issuer.
    pub issuer: String,
    /// The audiences that mean this API server. Never empty; tokens that ask for none have these.
    pub audiences: Vec<String>,
    /// Whom clients of this server trust, as PEM: `ca.crt` of Secrets with tokens.
    pub root_ca: Arc<str>,
}

impl TokenSettings {
    /// As a cluster with this domain has them.
    #[must_use]
    pub fn of_cluster(domain: &str) -> Self {
        let issuer = format!("https://kubernetes.default.svc.{domain}");
        let audiences = vec![issuer.clone(), "kinglet".to_owned()];
        Self { issuer, audiences, root_ca: Arc::from("") }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tokens {
    settings: TokenSettings,
    /// Made while the server starts; whoever needs them waits.
    keys: watch::Sender<Option<Arc<Keys>>>,
    store: Arc<dyn Store>,
    clock: Clock,
    cache: Arc<Cache>,
}

/// Whose token it is, and for whom it is good of those that were asked for.
#[derive(Debug)]
pub(super) struct Authenticated {
    pub(super) identity: Arc<Identity>,
    pub(super) audiences: Vec<String>,
}

/// Why a token is not believed. `None`: it is of no form that is known here.
pub(super) type Disbelief = Option<String>;

/// As much of an object as tells whether it is the one that a token means.
#[derive(Deserialize)]
struct Sketch {
    metadata: SketchMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SketchMeta {
    uid: String,
    deletion_timestamp: Option<Timestamp>,
}

impl Tokens {
    pub(super) fn new(settings: TokenSettings, store: Arc<dyn Store>, clock: Clock) -> Self {
        let cache = Arc::new(Cache::default());
        Self { settings, keys: watch::Sender::new(None), store, clock, cache }
    }

    /// What must be told of every write.
    pub(super) fn memory(&self) -> Arc<dyn Memory> {
        Arc::clone(&self.cache) as Arc<dyn Memory>
    }

    /// The keys by which tokens are believed from now on. They are signed with the first.
    ///
    /// # Errors
    /// Where tokens cannot be signed with one of them.
    pub(super) fn use_keys(&self, keys: &[TokenKey]) -> Result<(), KeyError> {
        self.keys.send_replace(Some(Arc::new(Keys::new(keys)?)));
        // They may have been signed with a key that is no more.
        self.cache.forget_all();
        Ok(())
    }

    async fn keys(&self) -> Arc<Keys> {
        let mut receiver = self.keys.subscribe();
        let keys = receiver.wait_for(Option::is_some).await.expect("the sender is this one's own");
        keys.clone().expect("that was waited for")
    }

    pub(super) fn audiences(&self) -> &[String] {
        &self.settings.audiences
    }

    /// Whose token this is. `audiences` are those that it must be good for one of.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) async fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Authenticated, Disbelief> {
        let now = self.clock.now();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let hash = Hash::try_from(hash.as_ref()).expect("a SHA-256 has 32 bytes");
        let verified = match self.cache.get(&hash, now) {
            Some(verified) => verified,
            None => match BootstrapToken::parse(token) {
                Some(parsed) => self.verify_bootstrap(parsed, now).await?,
                None => self.verify_account(token, hash, now).await?,
            },
        };
        let wanted = |audience: &&String| audiences.contains(audience);
        let common: Vec<_> = verified.audiences.iter().filter(wanted).cloned().collect();
        if common.is_empty() {
            return Err(Some(format!(
                "token audiences {} is invalid for the target audiences {}",
                quoted(&verified.audiences),
                quoted(audiences)
            )));
        }
        Ok(Authenticated { identity: Arc::clone(&verified.identity), audiences: common })
    }

    /// Not remembered: they are shown once in the life of a machine.
    async fn verify_bootstrap(
        &self,
        token: BootstrapToken<'_>,
        now: Timestamp,
    ) -> Result<Arc<Verified>, Disbelief> {
        let key = key_of("secrets", Some("kube-system"), &token.secret_name());
        let secret = self.read::<Secret>(&key).await?.ok_or(None)?;
        let identity = Arc::new(token.identity(&secret, now).ok_or(None)?);
        let audiences = self.settings.audiences.clone();
        Ok(Arc::new(Verified { identity, audiences, from: now, until: now }))
    }

    async fn verify_account(
        &self,
        token: &str,
        hash: Hash,
        now: Timestamp,
    ) -> Result<Arc<Verified>, Disbelief> {
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(None);
        };
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| None)?;
        let issuer = claims::issuer(&payload).ok_or(None)?;
        let is_legacy = issuer == LEGACY_ISSUER;
        if !is_legacy && issuer != self.settings.issuer {
            return Err(None);
        }
        let payload = self.keys().await.verify(token).map_err(Some)?;
        let unreadable = |error: serde_json::Error| Some(error.to_string());
        if is_legacy {
            let claims: LegacyClaims = serde_json::from_slice(&payload).map_err(unreadable)?;
            self.verify_legacy(token, &claims, now).await
        } else {
            let claims: Claims = serde_json::from_slice(&payload).map_err(unreadable)?;
            self.verify_claims(hash, claims, now).await
        }
    }

    async fn verify_claims(
        &self,
        hash: Hash,
        claims: Claims,
        now: Timestamp,
    ) -> Result<Arc<Verified>, Disbelief> {
        claims.check_time(now).map_err(Some)?;
        let private = &claims.private;
        let (namespace, account) = (private.namespace.as_str(), &private.serviceaccount);
        let own = key_of("serviceaccounts", Some(namespace), &account.name);
        let bound = match (&private.secret, &private.pod, &private.node) {
            (Some(secret), ..) => Some(("secret", "secrets", Some(namespace), secret)),
            (_, Some(pod), _) => Some(("pod", "pods", Some(namespace), pod)),
            (_, _, Some(node)) => Some(("node", "nodes", None, node)),
            _ => None,
        };
        let bound = bound.map(|(what, plural, place, object)| {
            (what, key_of(plural, place, &object.name), object)
        });
        let keys = std::iter::once(own.clone()).chain(bound.iter().map(|(_, key, _)| key.clone()));
        let ticket = self.cache.begin(keys.collect());
        let mut until = end_of(&claims);
        until = until.min(self.check_account(&own, account, now).await?);
        if let Some((what, key, object)) = bound {
            until = until.min(self.check_bound(what, &key, object, now).await?);
        }
        let verified = Arc::new(Verified {
            identity: Arc::new(identity(&claims)),
            audiences: match claims.aud.is_empty() {
                true => self.settings.audiences.clone(),
                false => claims.aud,
            },
            from: now,
            until,
        });
        ticket.finish(hash, Arc::clone(&verified));
        Ok(verified)
    }

    /// Until when the account counts as being there.
    async fn check_account(
        &self,
        key: &Key,
        claimed: &Reference,
        now: Timestamp,
    ) -> Result<Timestamp, Disbelief> {
        let name = &claimed.name;
        let Some(found) = self.read::<Sketch>(key).await? else {
            return Err(Some(format!("serviceaccounts {name:?} not found")));
        };
        let uid = &found.metadata.uid;
        if *uid != claimed.uid {
            let claimed = &claimed.uid;
            let why = format!("service account UID ({uid}) does not match claim ({claimed})");
            return Err(Some(why));
        }
        let until = gone_after(&found.metadata);
        if until <= now {
            let (_, name) = key.as_str().split_at("/core/serviceaccounts/".len());
            return Err(Some(format!("service account {name} has been deleted")));
        }
        Ok(until)
    }

    /// Until when the object that a token is bound to counts as being there.
    async fn check_bound(
        &self,
        what: &str,
        key: &Key,
        claimed: &Reference,
        now: Timestamp,
    ) -> Result<Timestamp, Disbelief> {
        let invalid = || Some("service account token has been invalidated".to_owned());
        let found = self.read::<Sketch>(key).await?.ok_or_else(invalid)?;
        let (uid, claimed) = (&found.metadata.uid, &claimed.uid);
        if uid != claimed {
            return Err(Some(format!(
                "{what} UID ({uid}) does not match service account {what} ref claim ({claimed})"
            )));
        }
        let until = gone_after(&found.metadata);
        if until <= now { Err(invalid()) } else { Ok(until) }
    }

    /// Not remembered: who uses such a token may as well ask for one that ends.
    async fn verify_legacy(
        &self,
        token: &str,
        claims: &LegacyClaims,
        now: Timestamp,
    ) -> Result<Arc<Verified>, Disbelief> {
        claims.check().map_err(Some)?;
        let LegacyClaims { namespace, secret: secret_name, account, .. } = claims;
        let key = key_of("secrets", Some(namespace), secret_name);
        let secret = self.read::<Secret>(&key).await?;
        let secret = secret.filter(|secret| secret.metadata.deletion_timestamp.is_none());
        let secret = secret.ok_or_else(|| Some("Token has been invalidated".to_owned()))?;
        let kept = secret.data.as_ref().and_then(|data| data.get("token"));
        let is_kept = kept.is_some_and(|kept| {
            let (kept, shown) = (kept.0.as_slice(), token.as_bytes());
            aws_lc_rs::constant_time::verify_slices_are_equal(kept, shown).is_ok()
        });
        if !is_kept {
            return Err(Some("Token does not match server's copy".to_owned()));
        }
        let own = key_of("serviceaccounts", Some(namespace), account);
        let uid = claims.account_uid.clone();
        let reference = Reference { name: account.clone(), uid };
        self.check_account(&own, &reference, now).await?;
        let labels = secret.metadata.labels.unwrap_or_default();
        if labels.get(INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
            return Err(Some(format!(
                "the token in secret {namespace}/{secret_name} for service account \
                 {namespace}/{account} has been marked invalid. Use tokens from the TokenRequest \
                 API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label \
                 from the secret to temporarily allow use of this token"
            )));
        }
        let identity = Identity::service_account(namespace, account).with_uid(reference.uid);
        let audiences = self.settings.audiences.clone();
        Ok(Arc::new(Verified { identity: Arc::new(identity), audiences, from: now, until: now }))
    }

    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        key: &Key,
    ) -> Result<Option<T>, Disbelief> {
        let lookup = self.store.get(key).await.map_err(|error| Some(chain(&error)))?;
        let decode = |value: Bytes| {
            serde_json::from_slice(&value)
                .map_err(|error: serde_json::Error| Some(error.to_string()))
        };
        lookup.entry.map(|entry| decode(entry.value)).transpose()
    }
}

/// Whoever cleans up marks tokens with this that nobody has used for a year.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

fn key_of(plural: &str, namespace: Option<&str>, name: &str) -> Key {
    let kind = registry::find("", "v1", plural).expect("a built-in kind");
    let key = ObjectKey { namespace: namespace.map(str::to_owned), name: name.to_owned() };
    storage_keys::of(kind, &key)
}

/// When a token that speaks of this is not believed any more, because its deletion was asked for.
fn gone_after(metadata: &SketchMeta) -> Timestamp {
    let leeway = SignedDuration::from_secs(claims::LEEWAY_SECONDS);
    let deleted = metadata.deletion_timestamp.and_then(|at| at.checked_add(leeway).ok());
    deleted.unwrap_or(Timestamp::MAX)
}

/// When the token itself is not believed any more.
fn end_of(claims: &Claims) -> Timestamp {
    let end = claims.exp.map(|end| end.saturating_add(claims::LEEWAY_SECONDS));
    end.and_then(|end| Timestamp::from_second(end).ok()).unwrap_or(Timestamp::MAX)
}

/// Upstream `ServiceAccountInfo.UserInfo` (apiserver pkg/authentication/serviceaccount, v1.35).
fn identity(claims: &Claims) -> Identity {
    let private = &claims.private;
    let account = &private.serviceaccount;
    let mut extra = Extra::new();
    let mut note = |name: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{name}"), vec![value.to_owned()]);
        }
    };
    if let Some(pod) = &private.pod {
        note("pod-name", &pod.name);
        note("pod-uid", &pod.uid);
    }
    if let Some(node) = &private.node {
        note("node-name", &node.name);
        note("node-uid", &node.uid);
    }
    if !claims.jti.is_empty() {
        extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", claims.jti)]);
    }
    Identity::service_account(&private.namespace, &account.name)
        .with_uid(account.uid.clone())
        .with_extra(extra)
}

/// As Go prints a list of texts.
fn quoted(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}
