//! Tokens with which a machine joins the cluster: `id.secret`, kept in Secrets of `kube-system`.
//!
//! Follows upstream plugin/pkg/auth/authenticator/token/bootstrap and cluster-bootstrap (v1.35).

use super::super::identity::Identity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

/// The group of everybody who shows such a token.
const BOOTSTRAPPERS: &str = "system:bootstrappers";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// A token taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BootstrapToken<'a> {
    id: &'a str,
    secret: &'a str,
}

impl<'a> BootstrapToken<'a> {
    /// Six letters or digits, a dot, and sixteen more.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let is_plain = |part: &str, length: usize| {
            part.len() == length
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        (is_plain(id, 6) && is_plain(secret, 16)).then_some(Self { id, secret })
    }

    /// The Secret in `kube-system` that tells whether the token is good.
    pub(super) fn secret_name(self) -> String {
        format!("bootstrap-token-{}", self.id)
    }

    /// Who shows this token, as its Secret has it.
    pub(super) fn identity(self, stored: &Secret, now: Timestamp) -> Option<Identity> {
        let data = |key: &str| {
            let value = stored.data.as_ref().and_then(|data| data.get(key));
            value.and_then(|value| std::str::from_utf8(&value.0).ok()).unwrap_or_default()
        };
        let is_own = stored.metadata.deletion_timestamp.is_none()
            && stored.type_.as_deref() == Some(TYPE)
            && is_same(data("token-secret"), self.secret)
            && data("token-id") == self.id
            && data("usage-bootstrap-authentication") == "true";
        if !is_own || has_expired(data("expiration"), now) {
            return None;
        }
        let extra = groups(data("auth-extra-groups"))?;
        let mut all = vec![BOOTSTRAPPERS];
        all.extend(extra);
        Some(Identity::new(&format!("system:bootstrap:{}", self.id), &all))
    }
}

/// Takes equally long however much of a wrong secret is right.
fn is_same(left: &str, right: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left.as_bytes(), right.as_bytes()).is_ok()
}

/// What cannot be read has expired.
fn has_expired(expiration: &str, now: Timestamp) -> bool {
    !expiration.is_empty() && expiration.parse::<Timestamp>().map_or(true, |end| end <= now)
}

/// The groups beyond the common one, or `None` where one of them is not below it.
fn groups(list: &str) -> Option<Vec<&str>> {
    let names: Vec<_> = list.split(',').filter(|name| !name.is_empty()).collect();
    names.iter().all(|name| is_group(name)).then_some(names)
}

/// Upstream `ValidateBootstrapGroupName`: `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`.
fn is_group(name: &str) -> bool {
    let Some(own) = name.strip_prefix("system:bootstrappers:") else { return false };
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    own.len() <= 256
        && own.bytes().all(|byte| is_plain(byte) || byte == b':' || byte == b'-')
        && own.bytes().last().is_some_and(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TOKEN: &str = "abcdef.0123456789abcdef";

    #[track_caller]
    fn check(token: &str, changes: Value, expected: &str) {
        let mut secret = json!({
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
            "type": TYPE,
        });
        let mut data = json!({
            "token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
        });
        for (key, value) in changes.as_object().unwrap() {
            match key.as_str() {
                "type" | "metadata" => secret[key] = value.clone(),
                _ => data[key] = value.clone(),
            }
        }
        let mut secret: Secret = serde_json::from_value(secret).unwrap();
        let bytes = |value: &Value| {
            k8s_openapi::ByteString(value.as_str().unwrap_or_default().as_bytes().to_vec())
        };
        let data = data.as_object().unwrap().iter();
        secret.data = Some(data.map(|(key, value)| (key.clone(), bytes(value))).collect());
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let identity = BootstrapToken::parse(token).and_then(|token| token.identity(&secret, now));
        let shown =
            identity.map(|identity| format!("{} {}", identity.user(), identity.groups().join(",")));
        assert_eq!(shown.unwrap_or_default(), expected, "{token} {changes}");
    }

    #[test]
    fn a_token_is_as_good_as_its_secret() {
        let user = "system:bootstrap:abcdef system:bootstrappers";
        check(TOKEN, json!({}), &format!("{user},system:authenticated"));
        let groups = "system:bootstrappers:kubeadm:default,system:bootstrappers:a";
        check(
            TOKEN,
            json!({"auth-extra-groups": groups}),
            &format!("{user},{groups},system:authenticated"),
        );
        check(TOKEN, json!({"auth-extra-groups": "system:masters"}), "");
        check("abcdef.0123456789abcdeg", json!({}), "");
        check("abcdeg.0123456789abcdef", json!({}), "");
        check(TOKEN, json!({"type": "Opaque"}), "");
        check(TOKEN, json!({"usage-bootstrap-authentication": "no"}), "");
        check(TOKEN, json!({"token-secret": ""}), "");
        let gone = json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}});
        check(TOKEN, gone, "");
        for (expiration, is_good) in
            [("2027-01-15T08:00:01Z", true), ("2027-01-15T08:00:00Z", false), ("soon", false)]
        {
            let expected = if is_good { format!("{user},system:authenticated") } else { "".into() };
            check(TOKEN, json!({"expiration": expiration}), &expected);
        }
    }

    #[test]
    fn other_texts_are_no_such_tokens() {
        for text in ["", "abcdef", "abcdef.", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef0"]
        {
            assert_eq!(BootstrapToken::parse(text), None, "{text}");
        }
    }
}
