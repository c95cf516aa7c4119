//! Finds the tokens that an earlier process has put into a pod's volumes.

use super::plan::{Token, TokenAsk};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The tokens that are in the directory of a pod's volumes and were made for this very pod. What
/// cannot be read is as good as not there: it is asked for again.
pub(in crate::kubelet) fn adopt(
    directory: &Path,
    uid: &str,
    asks: &BTreeMap<TokenAsk, PathBuf>,
) -> BTreeMap<TokenAsk, Token> {
    let found = asks.iter().filter_map(|(ask, path)| {
        let text = fs::read_to_string(directory.join(path)).ok()?;
        Some((ask.clone(), read(text, uid)?))
    });
    found.collect()
}

/// What is read of a token; who made it needs no proof, as only root can have put it there.
#[derive(Deserialize)]
struct Claims {
    exp: i64,
    iat: i64,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
}

#[derive(Deserialize)]
struct Bound {
    pod: PodRef,
    /// Upstream's API server gives some tokens a much longer life than it says, and warns of those
    /// that are used after this: `WarnOnlyBoundTokenExpirationSeconds`.
    warnafter: Option<i64>,
}

#[derive(Deserialize)]
struct PodRef {
    uid: String,
}

fn read(text: String, uid: &str) -> Option<Token> {
    let claims = URL_SAFE_NO_PAD.decode(text.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let expires = claims.bound.warnafter.unwrap_or(claims.exp).min(claims.exp);
    let issued_at = Timestamp::from_second(claims.iat).ok()?;
    let expires_at = Timestamp::from_second(expires).ok()?;
    (claims.bound.pod.uid == uid).then_some(Token { text, issued_at, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(claims: Value, expected: Option<(i64, i64)>) {
        let text = format!("head.{}.signature", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let read = read(text, "u1");
        let times = read.map(|it| (it.issued_at.as_second(), it.expires_at.as_second()));
        assert_eq!(times, expected, "{claims}");
    }

    #[test]
    fn tokens_of_this_pod_are_known_again() {
        let pod = |uid: &str| json!({ "pod": { "name": "web", "uid": uid } });
        check(json!({ "iat": 1, "exp": 601, "kubernetes.io": pod("u1") }), Some((1, 601)));
        check(json!({ "iat": 1, "exp": 601, "kubernetes.io": pod("u2") }), None);
        check(json!({ "iat": 1, "exp": 601 }), None);
        let mut bound = pod("u1");
        bound["warnafter"] = json!(3_608);
        check(json!({ "iat": 1, "exp": 31_536_001, "kubernetes.io": bound }), Some((1, 3_608)));
        assert_eq!(super::read("no token".to_owned(), "u1"), None);
        assert_eq!(super::read("a.b.c".to_owned(), "u1"), None);
    }
}
