//! Who asks: what the connection and the request say about it, and whether that is believed.

use super::identity::Identity;
use crate::api::status::{Reason, Status};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::sync::Arc;

/// Who is at the other end of a connection, as far as its certificate says.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// There is no certificate.
    Unknown,
    Certified(Arc<Identity>),
    /// The certificate is good but names nobody.
    Nameless,
}

/// The identity behind a request.
///
/// A good certificate is enough, as upstream's union of authenticators has it (apiserver
/// pkg/authentication/request/union, v1.35). Whoever shows a credential that cannot be verified is
/// told so, instead of being served as somebody unknown.
///
/// # Errors
/// Unauthorized, where something is claimed that is not believed.
pub(super) fn authenticate(peer: &Peer, headers: &HeaderMap) -> Result<Arc<Identity>, Status> {
    match peer {
        Peer::Certified(identity) => Ok(Arc::clone(identity)),
        // Tokens are not issued, so there is none to believe.
        Peer::Unknown if !headers.contains_key(AUTHORIZATION) => {
            Ok(Arc::new(Identity::anonymous()))
        }
        Peer::Unknown | Peer::Nameless => Err(Status::new(Reason::Unauthorized, "Unauthorized")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &Peer, authorization: Option<&'static str>, expected: &str) {
        let mut headers = HeaderMap::new();
        if let Some(credential) = authorization {
            headers.insert(AUTHORIZATION, credential.parse().unwrap());
        }
        let answer = match authenticate(peer, &headers) {
            Ok(identity) => identity.user().to_owned(),
            Err(status) => status.code.to_string(),
        };
        assert_eq!(answer, expected, "{peer:?} {authorization:?}");
    }

    #[test]
    fn a_credential_that_cannot_be_verified_is_refused() {
        let alice = Peer::Certified(Arc::new(Identity::new("alice", &[])));
        for credential in ["Bearer abc", "bearer abc", "Basic YTpi", "Bearer"] {
            check(&Peer::Unknown, Some(credential), "401");
            check(&alice, Some(credential), "alice");
        }
        check(&Peer::Unknown, None, "system:anonymous");
        check(&alice, None, "alice");
        check(&Peer::Nameless, None, "401");
    }
}
