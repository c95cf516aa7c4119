//! One watch: reads the past out of the log, goes over to what is announced, and back to the log
//! when it falls behind.
//!
//! The handover has no gap and no duplicate: the lane of the watch takes events *before* the log is
//! read, so the lane has everything after the revision that the log was read through; what the log
//! has shown already is skipped in the lane.

use crate::api::Revision;
use crate::storage::hub::{Announced, Subscription, Taken};
use crate::storage::seq::Seq;
use crate::storage::sqlite::Shared;
use crate::storage::sqlite::history::{Chunk, HistoryRequest};
use crate::storage::sqlite::readers::Readers;
use crate::storage::{Watch, WatchError, WatchItem, WatchRequest};
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

type Reading = BoxFuture<'static, Result<Chunk, WatchError>>;

pub(super) struct SqliteWatch {
    readers: Arc<Readers>,
    subscription: Subscription,
    prefix: String,
    /// Whether progress is always told.
    progress: bool,
    /// Through which revision it is asked for besides.
    asked: Option<Revision>,
    /// Everything through here has been delivered, or is in `past`.
    position: Seq,
    /// Read out of the log and not delivered yet.
    past: VecDeque<Announced>,
    /// To be said when `past` has been delivered.
    past_progress: Option<Revision>,
    phase: Phase,
}

enum Phase {
    Past(Past),
    Live,
    Over,
}

/// Reading the log.
struct Past {
    /// See [`HistoryRequest::known`].
    known: Revision,
    fell_behind: bool,
    reading: Option<Reading>,
}

impl SqliteWatch {
    /// Starts a watch.
    pub(super) fn start(
        shared: &Shared,
        readers: &Arc<Readers>,
        request: WatchRequest,
    ) -> Result<Self, WatchError> {
        let requested = request.after;
        if let Some(oldest) = shared.view.lock().refuses(requested) {
            return Err(WatchError::Compacted { requested, oldest });
        }
        let (subscription, live) = shared.hub.subscribe(&request);
        let past = Past { known: requested, fell_behind: false, reading: None };
        Ok(Self {
            readers: Arc::clone(readers),
            subscription,
            prefix: request.prefix,
            progress: request.progress,
            asked: None,
            position: Seq::end_of(requested),
            past: VecDeque::new(),
            past_progress: None,
            phase: if live { Phase::Live } else { Phase::Past(past) },
        })
    }

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchItem, WatchError>> {
        loop {
            if let Some(announced) = self.past.pop_front() {
                return Poll::Ready(Ok(WatchItem::Event(announced.event)));
            }
            if let Some(revision) = self.past_progress.take() {
                self.told_progress(revision);
                return Poll::Ready(Ok(WatchItem::Progress(revision)));
            }
            let result = match &self.phase {
                Phase::Past(_) => ready!(self.poll_past(context)),
                Phase::Live => ready!(self.poll_live(context)),
                Phase::Over => Err(WatchError::Closed),
            };
            match result {
                Ok(Some(item)) => return Poll::Ready(Ok(item)),
                Ok(None) => {}
                Err(error) => {
                    self.phase = Phase::Over;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// Takes the next item that was announced. `None`: the phase has changed.
    fn poll_live(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<WatchItem>, WatchError>> {
        let item = match ready!(self.subscription.poll(self.position, context)) {
            Taken::Event(announced) => {
                self.position = announced.seq;
                WatchItem::Event(announced.event)
            }
            Taken::Progress(revision) => {
                self.position = Seq::end_of(revision);
                self.told_progress(revision);
                WatchItem::Progress(revision)
            }
            Taken::Full => {
                // Of this revision some may have been seen.
                let known = self.position.revision();
                self.phase = Phase::Past(Past { known, fell_behind: true, reading: None });
                return Poll::Ready(Ok(None));
            }
            Taken::Closed => return Poll::Ready(Err(WatchError::Closed)),
        };
        Poll::Ready(Ok(Some(item)))
    }

    /// Reads the next chunk of the log into `past`.
    fn poll_past(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<WatchItem>, WatchError>> {
        if self.subscription.is_closed() {
            return Poll::Ready(Err(WatchError::Closed));
        }
        let Phase::Past(past) = &mut self.phase else {
            return Poll::Ready(Ok(None));
        };
        let reading = past.reading.get_or_insert_with(|| {
            self.subscription.start();
            let request = HistoryRequest {
                prefix: self.prefix.clone(),
                after: self.position,
                known: past.known,
                fell_behind: past.fell_behind,
            };
            let readers = Arc::clone(&self.readers);
            Box::pin(async move { readers.history(request).await })
        });
        let chunk = ready!(reading.as_mut().poll(context))?;
        past.reading = None;
        self.apply(chunk);
        Poll::Ready(Ok(None))
    }

    fn wants_progress(&self) -> bool {
        self.progress || self.asked.is_some()
    }

    fn told_progress(&mut self, revision: Revision) {
        if self.asked.take_if(|asked| *asked <= revision).is_some() && !self.progress {
            self.subscription.spare_progress();
        }
    }

    fn apply(&mut self, chunk: Chunk) {
        if let Some(last) = chunk.events.last() {
            self.position = last.seq;
        }
        self.past = chunk.events.into();
        match chunk.complete {
            // If the lane has become full meanwhile, that shows when it is emptied.
            Some(revision) => {
                let moved = revision > self.position.complete_through();
                self.past_progress = (self.wants_progress() && moved).then_some(revision);
                self.position = self.position.max(Seq::end_of(revision));
                self.phase = Phase::Live;
            }
            None => self.subscription.stop(),
        }
    }
}

impl Watch for SqliteWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem, WatchError>> {
        Box::pin(std::future::poll_fn(|context| self.poll_item(context)))
    }

    fn delivered(&self) -> Revision {
        match (self.past.front(), &self.phase) {
            (Some(next), _) => Revision(next.seq.revision().0 - 1),
            (None, Phase::Live) => self.subscription.delivered(self.position),
            (None, _) => self.position.complete_through(),
        }
    }

    fn ask_progress(&mut self, through: Revision) {
        self.asked = self.asked.max(Some(through));
        self.subscription.tell_progress();
    }
}

impl fmt::Debug for SqliteWatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Past(_) => "past",
            Phase::Live => "live",
            Phase::Over => "over",
        };
        formatter
            .debug_struct("SqliteWatch")
            .field("prefix", &self.prefix)
            .field("position", &self.position)
            .field("phase", &phase)
            .finish_non_exhaustive()
    }
}
