//! Which tokens a pod needs, and when each is asked for, again and again. Pure.

use crate::kubelet::pod::BoundPod;
use crate::stdx::Backoff;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ServiceAccountTokenProjection;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A token is replaced when so much of its life has passed.
const REFRESH_AFTER_PERCENT: i32 = 80;

/// A token is replaced after this long, however long it lives (upstream `maxTTL`).
const REFRESH_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Tokens of pods that were made at once are replaced at times that differ by up to this much
/// (upstream `maxJitter`).
const JITTER_SECONDS: u64 = 10;

/// A token that was given later than this from now was given before the clock was set back: when it
/// ends is not known any more.
const GIVEN_AHEAD_MAX: SignedDuration = SignedDuration::from_mins(1);

/// The life of a token for which none is given; the API server sets it, too.
const EXPIRATION_SECONDS: i64 = 3_600;

/// What passes before a token that could not be had is asked for again.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// What is asked for. Two volumes that ask for the same share a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenAsk {
    /// `None`: the API server itself.
    pub audience: Option<String>,
    pub expiration_seconds: i64,
}

/// A token as it was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for Token {
    /// Without what must not be read by others.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Token({} to {})", self.issued_at, self.expires_at)
    }
}

impl Token {
    /// When it is to be replaced: upstream `requiresRefresh`.
    fn refresh_at(&self, jitter: SignedDuration) -> Timestamp {
        let life = self.expires_at.duration_since(self.issued_at);
        let used = life / 100 * REFRESH_AFTER_PERCENT;
        let after = used.min(REFRESH_AFTER).saturating_sub(jitter);
        self.issued_at.saturating_add(after).unwrap_or(self.expires_at)
    }

    /// The same by the clock of this machine, which may be hours off the one of whoever has made it:
    /// it was given `now`, and its life begins.
    fn given_at(self, now: Timestamp) -> Self {
        let life = self.expires_at.duration_since(self.issued_at);
        let expires_at = now.saturating_add(life).unwrap_or(Timestamp::MAX);
        Self { issued_at: now, expires_at, ..self }
    }

    fn is_ahead_of(&self, now: Timestamp) -> bool {
        self.issued_at.duration_since(now) > GIVEN_AHEAD_MAX
    }
}

/// What is known of a token that a pod needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownToken {
    Given(Arc<Token>),
    /// Why there is none.
    Refused(String),
    /// Not asked yet, or no answer yet.
    Unknown,
}

impl From<&ServiceAccountTokenProjection> for TokenAsk {
    fn from(source: &ServiceAccountTokenProjection) -> Self {
        Self {
            audience: source.audience.clone().filter(|audience| !audience.is_empty()),
            expiration_seconds: source.expiration_seconds.unwrap_or(EXPIRATION_SECONDS),
        }
    }
}

/// The tokens that a pod's volumes ask for, and where each is to be: the volume's name and then the
/// path in it.
#[must_use]
pub fn asks(pod: &BoundPod) -> BTreeMap<TokenAsk, PathBuf> {
    let mut asks = BTreeMap::new();
    for volume in pod.spec().volumes.iter().flatten() {
        let sources = volume.projected.iter().flat_map(|it| it.sources.iter().flatten());
        for source in sources.filter_map(|source| source.service_account_token.as_ref()) {
            asks.insert(TokenAsk::from(source), Path::new(&volume.name).join(&source.path));
        }
    }
    asks
}

/// The tokens of one pod.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    entries: BTreeMap<TokenAsk, Entry>,
    jitter: SignedDuration,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    token: Option<Arc<Token>>,
    is_asked: bool,
    failure: Option<Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    why: String,
    failures: u32,
    retry_at: Timestamp,
}

impl Entry {
    fn due_at(&self, jitter: SignedDuration) -> Timestamp {
        match (&self.failure, &self.token) {
            (Some(failure), _) => failure.retry_at,
            (None, Some(token)) => token.refresh_at(jitter),
            (None, None) => Timestamp::MIN,
        }
    }

    fn is_due(&self, jitter: SignedDuration, now: Timestamp) -> bool {
        let is_ahead = |token: &Arc<Token>| token.is_ahead_of(now);
        let is_lost = self.failure.is_none() && self.token.as_ref().is_some_and(is_ahead);
        is_lost || self.due_at(jitter) <= now
    }
}

impl Tokens {
    /// What the pod asks for, of which `found` is there already.
    #[must_use]
    pub fn new(pod: &BoundPod, mut found: BTreeMap<TokenAsk, Token>) -> Self {
        let entry = |ask: TokenAsk| {
            let token = found.remove(&ask).map(Arc::new);
            (ask, Entry { token, ..Entry::default() })
        };
        // By the pod, so that it is the same at every look.
        let sum = pod.uid().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        let jitter = SignedDuration::try_from(Duration::from_secs(sum % (JITTER_SECONDS + 1)));
        Self {
            entries: asks(pod).into_keys().map(entry).collect(),
            jitter: jitter.expect("a few seconds"),
        }
    }

    /// What is to be asked for now. It counts as asked until [`take`](Self::take).
    pub fn due(&mut self, now: Timestamp) -> Vec<TokenAsk> {
        let jitter = self.jitter;
        let due = self.entries.iter_mut().filter(|(_, it)| !it.is_asked && it.is_due(jitter, now));
        due.map(|(ask, entry)| {
            entry.is_asked = true;
            ask.clone()
        })
        .collect()
    }

    /// When something will be due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let waiting = self.entries.values().filter(|entry| !entry.is_asked);
        waiting.map(|entry| entry.due_at(self.jitter)).min()
    }

    /// Takes what came of asking.
    pub fn take(&mut self, ask: &TokenAsk, answer: Result<Token, String>, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(ask) else { return };
        entry.is_asked = false;
        match answer {
            Ok(token) => {
                entry.token = Some(Arc::new(token.given_at(now)));
                entry.failure = None;
            }
            Err(why) => {
                let before = entry.failure.as_ref().map_or(0, |failure| failure.failures);
                let failures = before.saturating_add(1);
                let delay = SignedDuration::try_from(RETRY.delay(failures));
                let delay = delay.unwrap_or(SignedDuration::MAX);
                let retry_at = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
                entry.failure = Some(Failure { why, failures, retry_at });
            }
        }
    }

    /// What has failed is asked for again at once.
    pub fn retry(&mut self) {
        for failure in self.entries.values_mut().filter_map(|entry| entry.failure.as_mut()) {
            failure.retry_at = Timestamp::MIN;
        }
    }

    /// Nobody is asked any more: whoever was has come to nothing.
    pub fn give_up_asking(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.is_asked = false);
    }

    /// What the volumes can be made of. A token that is due does until it has expired.
    #[must_use]
    pub fn known(&self, now: Timestamp) -> BTreeMap<TokenAsk, KnownToken> {
        let known = |entry: &Entry| match (&entry.token, &entry.failure) {
            (Some(token), _) if now < token.expires_at => KnownToken::Given(Arc::clone(token)),
            (_, Some(failure)) => KnownToken::Refused(failure.why.clone()),
            (_, None) => KnownToken::Unknown,
        };
        self.entries.iter().map(|(ask, entry)| (ask.clone(), known(entry))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> BoundPod {
        let object = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "\n" },
            "spec": { "containers": [], "volumes": [
                { "name": "v", "projected": { "sources": [
                    { "serviceAccountToken": { "path": "token" } },
                    { "serviceAccountToken": {
                        "path": "x/vault", "audience": "vault", "expirationSeconds": 600 } },
                ] } },
                { "name": "w", "projected": { "sources": [
                    { "serviceAccountToken": { "path": "other", "expirationSeconds": 3600 } },
                ] } },
            ] },
        });
        BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn token(issued: i64, life: i64) -> Token {
        Token { text: "t".to_owned(), issued_at: at(issued), expires_at: at(issued + life) }
    }

    #[test]
    fn the_same_is_asked_for_once() {
        let rendered: Vec<_> = asks(&pod())
            .into_iter()
            .map(|(ask, path)| {
                format!("{:?} {} {}", ask.audience, ask.expiration_seconds, path.display())
            })
            .collect();
        assert_eq!(rendered, ["None 3600 w/other", "Some(\"vault\") 600 v/x/vault"]);
    }

    #[test]
    fn tokens_are_replaced_before_they_end() {
        for (life, jitter, expected) in
            [(3_600, 0, 2_880), (600, 0, 480), (600, 10, 470), (172_800, 0, 86_400)]
        {
            let refresh_at = token(0, life).refresh_at(SignedDuration::from_secs(jitter));
            assert_eq!(refresh_at, at(expected), "{life}");
        }
    }

    #[test]
    fn what_is_due_is_asked_for_and_then_waited_for() {
        let mut tokens = Tokens::new(&pod(), BTreeMap::new());
        let both = tokens.due(at(0));
        assert_eq!((both.len(), tokens.due(at(0)).len(), tokens.next_due()), (2, 0, None));
        assert!(tokens.known(at(0)).values().all(|known| *known == KnownToken::Unknown));
        tokens.take(&both[0], Ok(token(0, 3_600)), at(0));
        tokens.take(&both[1], Err("no".to_owned()), at(0));
        assert_eq!(tokens.known(at(0))[&both[1]], KnownToken::Refused("no".to_owned()));
        assert_eq!(tokens.next_due(), Some(at(1)));
        assert_eq!(tokens.due(at(1)), both[1..]);
        tokens.take(&both[1], Ok(token(1, 600)), at(1));
        assert_eq!(tokens.next_due(), Some(at(1 + 480 - 10)));
        assert_eq!(tokens.due(at(2_870)).len(), 2);
    }

    /// Its own clock is an hour off that of the server, either way, and then put right.
    #[test]
    fn clocks_that_differ_take_nothing_from_a_token() {
        let ask = asks(&pod()).into_keys().nth(1).unwrap();
        for ours in [-3_600, 3_600] {
            let left = Tokens::new(&pod(), [(ask.clone(), token(10_000, 600))].into());
            for mut tokens in [left, Tokens::new(&pod(), BTreeMap::new())] {
                let now = at(10_100 + ours);
                assert_eq!(tokens.due(now).len(), 2, "when it ends is not known: {ours}");
                tokens.take(&ask, Ok(token(10_100, 600)), now);
                assert!(matches!(tokens.known(now)[&ask], KnownToken::Given(_)), "{ours}");
                assert_eq!(tokens.next_due(), Some(at(10_100 + ours + 480 - 10)));
                assert_eq!(tokens.due(at(10_101)).len(), 1, "the clock is right: {ours}");
            }
        }
    }

    #[test]
    fn an_old_token_does_until_it_has_expired() {
        let ask = asks(&pod()).into_keys().nth(1).unwrap();
        let mut tokens = Tokens::new(&pod(), [(ask.clone(), token(0, 600))].into());
        assert_eq!(tokens.due(at(0)).len(), 1, "the other one");
        assert_eq!(tokens.due(at(500)), std::slice::from_ref(&ask));
        tokens.take(&ask, Err("away".to_owned()), at(500));
        assert_eq!(tokens.known(at(599))[&ask], KnownToken::Given(token(0, 600).into()));
        assert_eq!(tokens.known(at(600))[&ask], KnownToken::Refused("away".to_owned()));
    }
}
