//! Signs tokens, verifies signatures, and says by which key others can do so.

use crate::pki::{TokenAlgorithm, TokenKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto, errors};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

/// Both halves of the key that tokens are signed with.
pub(in super::super) struct Keys {
    id: String,
    algorithm: Algorithm,
    private: EncodingKey,
    public: DecodingKey,
    jwk: Value,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
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

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    pub(in super::super) fn new(key: &TokenKey) -> Result<Self, KeyError> {
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

    /// `RS256` or `ES256`.
    pub(super) fn algorithm(&self) -> &Value {
        &self.jwk["alg"]
    }

    /// The public half as OpenID Connect has it.
    pub(super) fn jwks(&self) -> Value {
        json!({"keys": [self.jwk]})
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, errors::Error> {
        let mut header = Header::new(self.algorithm);
        header.typ = None;
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.private)
    }

    /// What a token says, where it was signed with this key.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn verify(&self, token: &str) -> Result<Vec<u8>, String> {
        let malformed = || "the token is malformed".to_owned();
        let (message, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = message.split_once('.').ok_or_else(malformed)?;
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed())?;
        let header: ReadHeader = serde_json::from_slice(&header).map_err(|_| malformed())?;
        // A token does not choose how it is verified.
        if header.alg != self.algorithm || !(header.kid.is_empty() || header.kid == self.id) {
            return Err("invalid signature, no keys found".to_owned());
        }
        let is_good = crypto::verify(signature, message.as_bytes(), &self.public, self.algorithm);
        if !is_good.unwrap_or(false) {
            return Err("invalid signature".to_owned());
        }
        BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new(&TokenKey::ephemeral().unwrap()).unwrap()
    }

    #[test]
    fn only_what_was_signed_with_this_key_is_believed() {
        let (own, other) = (keys(), keys());
        let token = own.sign(&json!({"sub": "a"})).unwrap();
        assert_eq!(own.verify(&token).unwrap(), br#"{"sub":"a"}"#);
        let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let parts: Vec<_> = token.split('.').collect();
        let unsigned = format!("{}.{}.", encode(json!({"alg": "none"})), parts[1]);
        // The public key as the secret of a symmetric signature.
        let confused = format!(
            "{}.{}.{}",
            encode(json!({"alg": "HS256", "kid": own.id})),
            parts[1],
            crypto::sign(
                parts[1].as_bytes(),
                &EncodingKey::from_secret(own.jwk.to_string().as_bytes()),
                Algorithm::HS256,
            )
            .unwrap()
        );
        let changed = format!("{}.{}.{}", parts[0], encode(json!({"sub": "b"})), parts[2]);
        let cut = token[..token.len() - 1].to_owned();
        let foreign = other.sign(&json!({"sub": "a"})).unwrap();
        for forged in
            [unsigned, confused, changed, cut, foreign, String::new(), "a".into(), "a.b.c".into()]
        {
            assert!(own.verify(&forged).is_err(), "{forged}");
        }
    }

    #[test]
    fn the_public_half_is_enough_to_verify() {
        let keys = keys();
        let set = keys.jwks();
        let key = &set["keys"][0];
        assert_eq!(key["use"], "sig");
        assert_eq!(key["kid"], keys.id);
        assert_eq!(key["alg"], "ES256");
        assert!(key.get("d").is_none(), "{key}");
    }
}
