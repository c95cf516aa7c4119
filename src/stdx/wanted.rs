//! How far somebody wants to have seen, for whoever can show it.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// A mark that those who wait raise, and that one who shows things looks at. It never falls.
#[derive(Debug, Default)]
pub struct Wanted {
    mark: AtomicU64,
    raised: Notify,
}

impl Wanted {
    pub fn raise(&self, mark: u64) {
        if self.mark.fetch_max(mark, Ordering::AcqRel) < mark {
            self.raised.notify_one();
        }
    }

    #[must_use]
    pub fn mark(&self) -> u64 {
        self.mark.load(Ordering::Acquire)
    }

    /// Waits until more than `mark` is wanted. One may wait at a time; dropping the future loses
    /// nothing.
    pub async fn more_than(&self, mark: u64) {
        loop {
            // From here on a raise is kept for the wait below.
            let raised = self.raised.notified();
            if self.mark() > mark {
                return;
            }
            raised.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn who_waits_hears_of_what_is_more() {
        let wanted = Wanted::default();
        assert!(wanted.more_than(0).now_or_never().is_none());
        wanted.raise(7);
        wanted.raise(5);
        assert_eq!(wanted.mark(), 7);
        assert!(wanted.more_than(6).now_or_never().is_some());
        assert!(wanted.more_than(7).now_or_never().is_none());
        let mut waiting = std::pin::pin!(wanted.more_than(7));
        assert!(waiting.as_mut().now_or_never().is_none());
        wanted.raise(8);
        assert!(waiting.now_or_never().is_some());
    }
}
