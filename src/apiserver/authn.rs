//! Who asks: what the connection and the request say about it, and whether that is believed.

use super::identity::Identity;
use super::tokens::Tokens;
use crate::api::status::{Reason, Status};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::sync::Arc;
use tracing::info;

/// Who is at the other end of a connection, as far as its certificate says.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// There is no certificate.
    Unknown,
    Certified(Arc<Identity>),
    /// The certificate is of no use, for this reason.
    Refused(String),
}

/// The identity behind a request.
///
/// A good certificate is enough, as upstream's union of authenticators has it (apiserver
/// pkg/authentication/request/union, v1.35). Whoever shows a credential that cannot be verified is
/// told so, instead of being served as somebody unknown; why is for the log alone.
///
/// # Errors
/// Unauthorized, where something is claimed that is not believed.
pub(super) async fn authenticate(
    tokens: &Tokens,
    peer: &Peer,
    headers: &HeaderMap,
) -> Result<Arc<Identity>, Status> {
    match (peer, headers.get(AUTHORIZATION)) {
        (Peer::Certified(identity), _) => Ok(Arc::clone(identity)),
        (Peer::Refused(why), None) => {
            info!(why, "a client certificate is refused");
            Err(unauthorized())
        }
        (_, Some(credential)) => {
            let credential = credential.to_str().unwrap_or_default();
            let Some(token) = bearer(credential) else {
                info!(why = "it is no bearer token", "a credential is refused");
                return Err(unauthorized());
            };
            match tokens.authenticate(token, tokens.audiences()).await {
                Ok(authenticated) => Ok(authenticated.identity),
                Err(why) => {
                    info!(why = why.as_deref().unwrap_or("unknown form"), "a token is refused");
                    Err(unauthorized())
                }
            }
        }
        (Peer::Unknown, None) => Ok(Arc::new(Identity::anonymous())),
    }
}

fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

/// The token in `Bearer token` (upstream apiserver pkg/authentication/request/bearertoken).
fn bearer(credential: &str) -> Option<&str> {
    let (scheme, rest) = credential.trim().split_once(' ')?;
    let token = rest.split(' ').next().unwrap_or_default();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_shows_a_token() {
        for (credential, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            (" Bearer abc ", Some("abc")),
            ("Bearer abc def", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer  abc", None),
            ("Basic YTpi", None),
            ("abc", None),
        ] {
            assert_eq!(bearer(credential), expected, "{credential}");
        }
    }
}
