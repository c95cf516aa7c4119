//! The decision about a request for a token: how long it lasts.

use crate::api::{FieldError, FieldPath};

/// What a token lasts whose maker does not say (upstream `SetDefaults_TokenRequestSpec`).
pub(super) const SECONDS_DEFAULT: i64 = 60 * 60;
const SECONDS_MIN: i64 = 10 * 60;
const SECONDS_MAX: i64 = 1 << 32;

/// What the kubelet asks for where a pod has the token that every pod has. Programs from before
/// tokens ended do not look for a new one, so these last longer than they say (upstream
/// `WarnOnlyBoundTokenExpirationSeconds`).
const PATIENT_SECONDS: i64 = 60 * 60 + 7;
/// How much longer (upstream `ExpirationExtensionSeconds`).
const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;

/// How long a token lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) seconds: i64,
    /// After this long, whoever still shows it has missed to get a new one.
    pub(super) warn_after_seconds: Option<i64>,
}

/// What is wrong with the time that was asked for (upstream `ValidateTokenRequest`, v1.35).
pub(super) fn validate(seconds: i64) -> Option<FieldError> {
    let path = FieldPath::new("spec").child("expirationSeconds");
    let why = match seconds {
        ..SECONDS_MIN => "may not specify a duration less than 10 minutes",
        SECONDS_MIN..=SECONDS_MAX => return None,
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    Some(FieldError::invalid(&path, seconds, why))
}

/// `is_of_pod`: the token is bound to a pod. `is_for_server`: it is good for this API server and
/// nobody else (upstream `TokenREST.Create`, pkg/registry/core/serviceaccount/storage, v1.35).
pub(super) fn lifetime(seconds: i64, is_of_pod: bool, is_for_server: bool) -> Lifetime {
    if seconds == PATIENT_SECONDS && is_of_pod && is_for_server {
        return Lifetime { seconds: EXTENDED_SECONDS, warn_after_seconds: Some(seconds) };
    }
    Lifetime { seconds, warn_after_seconds: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lasts_ten_minutes_at_least() {
        for (seconds, is_good) in
            [(-1, false), (599, false), (600, true), (1 << 32, true), ((1 << 32) + 1, false)]
        {
            assert_eq!(validate(seconds).is_none(), is_good, "{seconds}");
        }
    }

    #[test]
    fn only_the_token_that_every_pod_has_is_extended() {
        for (seconds, is_of_pod, is_for_server, expected) in [
            (3_607, true, true, (31_536_000, Some(3_607))),
            (3_607, false, true, (3_607, None)),
            (3_607, true, false, (3_607, None)),
            (3_600, true, true, (3_600, None)),
        ] {
            let lifetime = lifetime(seconds, is_of_pod, is_for_server);
            assert_eq!((lifetime.seconds, lifetime.warn_after_seconds), expected);
        }
    }
}
