//! What tokens of service accounts say.
//!
//! Follows upstream pkg/serviceaccount/claims.go and legacy.go (v1.35). The fields are in the order
//! in which upstream's tokens have them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Clocks differ by this much at most (go-jose's `DefaultLeeway`, which upstream relies on).
pub(super) const LEEWAY_SECONDS: i64 = 60;

/// Who has signed tokens that live in Secrets.
pub(super) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Claims of a token that was made on request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub(super) aud: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) iat: Option<i64>,
    #[serde(default)]
    pub(super) iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) jti: String,
    #[serde(rename = "kubernetes.io", default)]
    pub(super) private: Private,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<i64>,
    #[serde(default)]
    pub(super) sub: String,
}

/// What only Kubernetes understands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Private {
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Reference>,
    #[serde(default)]
    pub(super) serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
}

/// Claims of a token that lives in a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LegacyClaims {
    pub(super) iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", default)]
    pub(super) namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", default)]
    pub(super) secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", default)]
    pub(super) account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", default)]
    pub(super) account_uid: String,
    #[serde(default)]
    pub(super) sub: String,
}

/// A token's audience is a text or a list of texts (RFC 7519, 4.1.3).
fn one_or_many<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(reader)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}

/// The issuer that a token names, read before anything is verified.
pub(super) fn issuer(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    serde_json::from_slice::<Issuer>(payload).ok().map(|claims| claims.iss)
}

impl Claims {
    /// Whether the token is good at `now`, with upstream's words where it is not.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<(), String> {
        let now = now.as_second();
        if self.nbf.is_some_and(|begin| now + LEEWAY_SECONDS < begin) {
            return Err("service account token is not valid yet".to_owned());
        }
        if self.exp.is_some_and(|end| now - LEEWAY_SECONDS > end) {
            return Err("service account token has expired".to_owned());
        }
        if self.iat.is_some_and(|made| now + LEEWAY_SECONDS < made) {
            return Err("service account token is issued in the future".to_owned());
        }
        Ok(())
    }
}

impl LegacyClaims {
    /// Whether they are whole and speak of one account.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self) -> Result<(), String> {
        let missing = [
            ("sub", &self.sub),
            ("namespace", &self.namespace),
            ("secretName", &self.secret),
            ("serviceAccountName", &self.account),
            ("serviceAccountUID", &self.account_uid),
        ]
        .into_iter()
        .find(|(_, value)| value.is_empty());
        if let Some((name, _)) = missing {
            return Err(format!("{name} claim is missing"));
        }
        if self.sub != format!("system:serviceaccount:{}:{}", self.namespace, self.account) {
            return Err("sub claim is invalid".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(claims: serde_json::Value, now: i64, expected: &str) {
        let claims: Claims = serde_json::from_value(claims).unwrap();
        let answer = claims.check_time(Timestamp::from_second(now).unwrap());
        assert_eq!(answer.err().unwrap_or_default(), expected, "{now}");
    }

    #[test]
    fn a_token_has_its_time() {
        let claims = json!({"nbf": 1_000, "iat": 1_000, "exp": 2_000});
        check(claims.clone(), 939, "service account token is not valid yet");
        check(claims.clone(), 940, "");
        check(claims.clone(), 2_060, "");
        check(claims, 2_061, "service account token has expired");
        check(json!({"iat": 1_000}), 939, "service account token is issued in the future");
        check(json!({}), 5, "");
    }

    #[test]
    fn an_audience_may_be_one_or_many() {
        let audience = |aud: serde_json::Value| {
            serde_json::from_value::<Claims>(json!({"aud": aud})).unwrap().aud.join(",")
        };
        assert_eq!(audience(json!("a")), "a");
        assert_eq!(audience(json!(["a", "b"])), "a,b");
    }

    #[test]
    fn tokens_of_secrets_speak_of_one_account() {
        let whole = LegacyClaims {
            iss: LEGACY_ISSUER.to_owned(),
            namespace: "a".to_owned(),
            secret: "s".to_owned(),
            account: "b".to_owned(),
            account_uid: "1".to_owned(),
            sub: "system:serviceaccount:a:b".to_owned(),
        };
        assert_eq!(whole.check(), Ok(()));
        let other = LegacyClaims { sub: "system:serviceaccount:a:c".to_owned(), ..whole.clone() };
        assert_eq!(other.check().unwrap_err(), "sub claim is invalid");
        let half = LegacyClaims { secret: String::new(), ..whole };
        assert_eq!(half.check().unwrap_err(), "secretName claim is missing");
    }
}
