//! Work that several want and one does.

use super::progress::Progress;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

/// Work under way, by what it makes. It goes on for as long as anybody waits for it, and ends
/// where it is when nobody does.
pub(super) struct Flights<K, T: Clone>(Mutex<HashMap<K, Flight<T>>>);

struct Flight<T: Clone> {
    work: WeakShared<BoxFuture<'static, T>>,
    listeners: Arc<Listeners>,
}

/// Everybody who wants to know how far it is.
#[derive(Default)]
struct Listeners(Mutex<Vec<Progress>>);

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, T: Clone> fmt::Debug for Flights<K, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Flights")
    }
}

impl<K: Hash + Eq + Clone, T: Clone + Send + Sync + 'static> Flights<K, T> {
    /// The result of the work under way for `key`, which `start` begins where there is none.
    pub(super) async fn join(
        &self,
        key: K,
        progress: &Progress,
        start: impl FnOnce(Progress) -> BoxFuture<'static, T>,
    ) -> T {
        self.board(key, progress, start).await
    }

    fn board(
        &self,
        key: K,
        progress: &Progress,
        start: impl FnOnce(Progress) -> BoxFuture<'static, T>,
    ) -> Shared<BoxFuture<'static, T>> {
        let mut flights = self.0.lock().expect("no panics under this lock");
        // A flight that ended or that everybody left is not joined: its result is of the past.
        flights.retain(|_, flight| flight.work.upgrade().is_some_and(|work| work.peek().is_none()));
        if let Some((work, listeners)) =
            flights.get(&key).and_then(|flight| Some((flight.work.upgrade()?, &flight.listeners)))
        {
            listeners.add(progress);
            return work;
        }
        let listeners = Arc::new(Listeners::default());
        listeners.add(progress);
        let to_all = Arc::clone(&listeners);
        let work = start(Progress::to(move |event| to_all.report(event))).shared();
        let weak = work.downgrade().expect("a future that was not polled is not finished");
        flights.insert(key, Flight { work: weak, listeners });
        work
    }
}

impl Listeners {
    fn add(&self, progress: &Progress) {
        self.0.lock().expect("no panics under this lock").push(progress.clone());
    }

    fn report(&self, event: &super::progress::LayerProgress) {
        let listeners = self.0.lock().expect("no panics under this lock").clone();
        listeners.iter().for_each(|listener| listener.report(event));
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::Digest;
    use super::super::progress::{LayerProgress, Phase};
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn those_who_want_the_same_share_the_work_and_the_news() {
        let flights = Flights::<&str, u32>::default();
        let (starts, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let heard = Arc::new(AtomicU32::new(0));
        let join = |key: &'static str| {
            let (starts, go, heard) = (Arc::clone(&starts), Arc::clone(&go), Arc::clone(&heard));
            let listener = Progress::to(move |event| {
                assert_eq!(event.phase, Phase::Done);
                heard.fetch_add(1, Ordering::Relaxed);
            });
            let flights = &flights;
            async move {
                let work = move |progress: Progress| {
                    async move {
                        let number = starts.fetch_add(1, Ordering::Relaxed);
                        go.notified().await;
                        progress.report(&LayerProgress {
                            layer: Digest::of(b""),
                            bytes: 0,
                            total_bytes: 0,
                            phase: Phase::Done,
                        });
                        number
                    }
                    .boxed()
                };
                flights.join(key, &listener, work).await
            }
        };
        let both = async { tokio::join!(join("a"), join("a")) };
        let notify = async {
            tokio::task::yield_now().await;
            go.notify_one();
        };
        assert_eq!(tokio::join!(both, notify).0, (0, 0));
        assert_eq!(heard.load(Ordering::Relaxed), 2);
        go.notify_one();
        assert_eq!(join("a").await, 1, "what is over is not shared");

        let abandoned = join("b");
        assert!(abandoned.now_or_never().is_none());
        go.notify_one();
        assert_eq!(join("b").await, 3, "what everybody left begins anew");
    }
}
