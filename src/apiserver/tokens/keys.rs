//! Signs tokens, verifies signatures, and says by which keys others can do so.
//!
//! Start at [`Keys`]: the newest key signs, and whatever was signed with one of the others is still
//! believed (upstream `JWTTokenAuthenticator` with several `--service-account-key-file`s and
//! pkg/serviceaccount/openidmetadata.go, v1.35).

use crate::pki::{TokenAlgorithm, TokenKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto, errors};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

/// The keys of a server, the newest first; at least one.
#[derive(Debug)]
pub(in super::super) struct Keys(Vec<Pair>);

/// Both halves of a key that tokens are signed with.
struct Pair {
    id: String,
    algorithm: Algorithm,
    private: EncodingKey,
    public: DecodingKey,
    jwk: Value,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("there is no key to sign tokens with")]
    None,
    #[error("tokens cannot be signed with the key {id}")]
    Unusable {
        id: String,
        #[source]
        source: errors::Error,
    },
}

/// What tokens begin with, as far as it matters here.
#[derive(Deserialize)]
struct ReadHeader {
    alg: Algorithm,
    #[serde(default)]
    kid: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pair").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    /// # Errors
    /// Where there is none, or one cannot be used.
    pub(in super::super) fn new(keys: &[TokenKey]) -> Result<Self, KeyError> {
        if keys.is_empty() {
            return Err(KeyError::None);
        }
        Ok(Self(keys.iter().map(Pair::new).collect::<Result<_, _>>()?))
    }

    /// `RS256` and `ES256`, as far as something may be signed so.
    pub(super) fn algorithms(&self) -> Vec<&Value> {
        let mut algorithms: Vec<_> = self.0.iter().map(|pair| &pair.jwk["alg"]).collect();
        algorithms.sort_by_key(|algorithm| algorithm.as_str());
        algorithms.dedup();
        algorithms
    }

    /// The public halves as OpenID Connect has them.
    pub(super) fn jwks(&self) -> Value {
        let keys: Vec<_> = self.0.iter().map(|pair| &pair.jwk).collect();
        json!({"keys": keys})
    }

    /// With the newest key.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, errors::Error> {
        let newest = self.0.first().expect("there is at least one key");
        let mut header = Header::new(newest.algorithm);
        header.typ = None;
        header.kid = Some(newest.id.clone());
        jsonwebtoken::encode(&header, claims, &newest.private)
    }

    /// What a token says, where it was signed with one of these keys.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn verify(&self, token: &str) -> Result<Vec<u8>, String> {
        let malformed = || "the token is malformed".to_owned();
        let (message, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = message.split_once('.').ok_or_else(malformed)?;
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed())?;
        let header: ReadHeader = serde_json::from_slice(&header).map_err(|_| malformed())?;
        let mut candidates = self.0.iter().filter(|pair| pair.may_have_signed(&header)).peekable();
        if candidates.peek().is_none() {
            return Err("invalid signature, no keys found".to_owned());
        }
        let message = message.as_bytes();
        if !candidates.any(|pair| pair.has_signed(message, signature)) {
            return Err("invalid signature".to_owned());
        }
        BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed())
    }
}

impl Pair {
    fn new(key: &TokenKey) -> Result<Self, KeyError> {
        let unusable = |source| KeyError::Unusable { id: key.id().to_owned(), source };
        let pem = key.pem().as_bytes();
        let (algorithm, private) = match key.algorithm() {
            TokenAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
            TokenAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
        };
        let private = private.map_err(unusable)?;
        let mut jwk = Jwk::from_encoding_key(&private, algorithm).map_err(unusable)?;
        let public = DecodingKey::from_jwk(&jwk).map_err(unusable)?;
        jwk.common.key_id = Some(key.id().to_owned());
        let mut jwk = serde_json::to_value(&jwk).map_err(|error| unusable(error.into()))?;
        jwk["use"] = json!("sig");
        Ok(Self { id: key.id().to_owned(), algorithm, private, public, jwk })
    }

    /// A token does not choose how it is verified.
    fn may_have_signed(&self, header: &ReadHeader) -> bool {
        header.alg == self.algorithm && (header.kid.is_empty() || header.kid == self.id)
    }

    fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        crypto::verify(signature, message, &self.public, self.algorithm).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TokenKey {
        TokenKey::ephemeral().unwrap()
    }

    fn keys() -> Keys {
        Keys::new(&[key()]).unwrap()
    }

    fn newest(keys: &Keys) -> &Pair {
        &keys.0[0]
    }

    #[test]
    fn only_what_was_signed_with_these_keys_is_believed() {
        let (own, other) = (Keys::new(&[key(), key()]).unwrap(), keys());
        let token = own.sign(&json!({"sub": "a"})).unwrap();
        assert_eq!(own.verify(&token).unwrap(), br#"{"sub":"a"}"#);
        let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let parts: Vec<_> = token.split('.').collect();
        let unsigned = format!("{}.{}.", encode(json!({"alg": "none"})), parts[1]);
        // The public key as the secret of a symmetric signature.
        let confused = format!(
            "{}.{}.{}",
            encode(json!({"alg": "HS256", "kid": newest(&own).id})),
            parts[1],
            crypto::sign(
                parts[1].as_bytes(),
                &EncodingKey::from_secret(newest(&own).jwk.to_string().as_bytes()),
                Algorithm::HS256,
            )
            .unwrap()
        );
        let changed = format!("{}.{}.{}", parts[0], encode(json!({"sub": "b"})), parts[2]);
        // Signed with one key, and said to be signed with another.
        let renamed = encode(json!({"alg": "ES256", "kid": own.0[1].id}));
        let renamed = format!("{renamed}.{}.{}", parts[1], parts[2]);
        let cut = token[..token.len() - 1].to_owned();
        let foreign = other.sign(&json!({"sub": "a"})).unwrap();
        let mut forgeries = vec![unsigned, confused, changed, renamed, cut, foreign];
        forgeries.extend(["", "a", "a.b.c"].map(str::to_owned));
        for forged in forgeries {
            assert!(own.verify(&forged).is_err(), "{forged}");
        }
    }

    #[test]
    fn what_older_keys_have_signed_stays_good_until_they_go() {
        let (old, new) = (key(), key());
        let before = Keys::new(std::slice::from_ref(&old)).unwrap();
        let token = before.sign(&json!({"sub": "a"})).unwrap();
        let both = Keys::new(&[new.clone(), old.clone()]).unwrap();
        both.verify(&token).unwrap();
        let signed_now = both.sign(&json!({"sub": "a"})).unwrap();
        Keys::new(std::slice::from_ref(&new)).unwrap().verify(&signed_now).unwrap();
        before.verify(&signed_now).unwrap_err();
        Keys::new(std::slice::from_ref(&new)).unwrap().verify(&token).unwrap_err();
        let set = both.jwks();
        let listed: Vec<_> =
            set["keys"].as_array().unwrap().iter().map(|key| &key["kid"]).collect();
        assert_eq!(listed, [new.id(), old.id()]);
        assert_eq!(both.algorithms(), ["ES256"]);
        assert!(Keys::new(&[]).is_err());
    }

    #[test]
    fn the_public_half_is_enough_to_verify() {
        let keys = keys();
        let set = keys.jwks();
        let key = &set["keys"][0];
        assert_eq!(key["use"], "sig");
        assert_eq!(key["kid"], newest(&keys).id);
        assert_eq!(key["alg"], "ES256");
        assert!(key.get("d").is_none(), "{key}");
    }
}
