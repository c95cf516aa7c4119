//! What a watch does next: list, watch on from where it was, and how long it rests before.

use crate::api::Revision;
use crate::stdx::Backoff;
use std::time::Duration;

/// The rests after failures in a row. Upstream's longest is 30 seconds (client-go
/// tools/cache/reflector.go); who has been cut off is to be back within ten.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(8) };

/// Where a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// What there is is not known, or no longer: a list comes first.
    Unknown,
    /// Everything through this revision has been shown.
    Through(Revision),
}

/// A watch between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) position: Position,
    /// Requests in a row that came to nothing.
    pub(super) failures: u32,
}

/// What came of the last request, or of a line of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Listed(Revision),
    /// The watch has shown everything through this revision.
    Shown(Revision),
    /// The watch ended as watches do from time to time.
    Ended,
    /// The server does not keep the history after the revision any more.
    Expired,
    /// The list or watch failed.
    Failed,
}

impl Standing {
    pub(super) const START: Self = Self { position: Position::Unknown, failures: 0 };

    pub(super) fn step(self, event: Event) -> Self {
        match event {
            Event::Listed(revision) => {
                Self { position: Position::Through(revision), failures: self.failures }
            }
            // Something came through: the way is free. A list alone proves less, since the watch
            // after it may be what fails.
            Event::Shown(revision) => {
                Self { position: self.position.at_least(revision), failures: 0 }
            }
            // Counted as a failure so that a server which ends every watch at once is not asked in
            // a tight loop; the first shown revision clears the count.
            Event::Ended | Event::Failed => {
                Self { position: self.position, failures: self.failures.saturating_add(1) }
            }
            Event::Expired => {
                Self { position: Position::Unknown, failures: self.failures.saturating_add(1) }
            }
        }
    }

    /// How long to wait before the next request.
    pub(super) fn rest(self) -> Duration {
        BACKOFF.delay(self.failures)
    }
}

impl Position {
    fn at_least(self, revision: Revision) -> Self {
        match self {
            Self::Unknown => Self::Through(revision),
            Self::Through(before) => Self::Through(before.max(revision)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The position and the rest in milliseconds after each event.
    #[track_caller]
    fn check(events: &[Event], expected: &str) {
        let mut standing = Standing::START;
        let mut shown = Vec::new();
        for event in events {
            standing = standing.step(*event);
            let rest = standing.rest().as_millis();
            shown.push(match standing.position {
                Position::Unknown => format!("list/{rest}"),
                Position::Through(revision) => format!("{revision}/{rest}"),
            });
        }
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn a_watch_goes_on_from_where_it_was() {
        use Event::{Ended, Expired, Failed, Listed, Shown};
        check(&[Listed(Revision(5)), Shown(Revision(7)), Ended], "5/0 7/0 7/100");
        check(&[Listed(Revision(5)), Ended, Ended, Shown(Revision(6))], "5/0 5/100 5/200 6/0");
        check(&[Listed(Revision(5)), Shown(Revision(4))], "5/0 5/0");
        check(&[Failed, Failed, Failed], "list/100 list/200 list/400");
        check(&[Listed(Revision(5)), Expired, Listed(Revision(9))], "5/0 list/100 9/100");
        // A list that works and a watch that does not must not become a tight loop of lists.
        check(
            &[
                Listed(Revision(5)),
                Expired,
                Listed(Revision(5)),
                Expired,
                Listed(Revision(5)),
                Shown(Revision(6)),
            ],
            "5/0 list/100 5/100 list/200 5/200 6/0",
        );
    }
}
