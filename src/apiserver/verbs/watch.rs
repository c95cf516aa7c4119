//! Watch: what is there, or what has changed since a revision, and then every change, as one JSON
//! object a line or one protobuf frame each (upstream apiserver pkg/endpoints/handlers/watch.go and pkg/storage/cacher, v1.35).

use super::super::config::{BODY_PIECE_BYTES, BOOKMARK_INTERVAL, WATCH_TIMEOUT_MIN};
use super::super::encoding::{JSON, Language, PROTOBUF_WATCH};
use super::super::errors;
use super::super::freshness::NOTHING;
use super::super::query::Query;
use super::super::selection::{Place, Selection};
use super::super::server::Server;
use super::super::tally::WatchTally;
use super::super::watch_frame::FrameWriter;
use super::Call;
use super::selected::Selected;
use crate::api::status::Status;
use crate::api::{FieldError, FieldPath, Revision};
use crate::registry::KindRef;
use crate::stdx::http::{Response, streamed};
use crate::stdx::{Entropy, Wanted};
use crate::storage::{Entry, Event, Watch, WatchError, WatchItem, WatchRequest};
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::header::CONTENT_TYPE;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// With an `ADDED` for everything there is; then a bookmark that says so, where asked for.
    WithState { tell_end: bool },
    /// With the next change.
    Now,
    /// With the first change after this revision.
    After(Revision),
}

#[derive(Clone, Copy, Debug)]
struct WatchOptions {
    begin: Begin,
    /// The least revision that the state at the beginning must show.
    not_older_than: Revision,
    bookmarks: bool,
    /// Our own agents are told whenever the store has moved on.
    progress: bool,
    timeout: Duration,
}

/// How a watch begins.
enum Begun {
    From {
        state: Option<Selected>,
        after: Revision,
        source: Box<dyn Watch>,
    },
    /// The watch is over with this.
    Refused(Status),
}

/// A watch under way.
struct Watcher {
    server: Arc<Server>,
    kind: KindRef,
    selection: Selection,
    frames: FrameWriter,
    tally: Arc<WatchTally>,
    /// What is there, still to be shown: what is read of it, and the rest.
    state: std::vec::IntoIter<Entry>,
    rest: Option<Selected>,
    /// The revision of that state, when its end is to be told.
    state_end: Option<Revision>,
    source: Option<Box<dyn Watch>>,
    /// What the client knows that it has seen.
    told: Revision,
    /// What somebody in this process wants it to know, and what the store has been asked to tell.
    wanted: Arc<Wanted>,
    asked: Revision,
    bookmarks: bool,
    deadline: Instant,
    /// The next bookmark or the deadline, whichever is first.
    alarm: Pin<Box<Sleep>>,
    closing: CancellationToken,
}

pub(super) async fn watch(call: &Call<'_>) -> Result<Response, Status> {
    let selection = Selection::parse(call.kind, (call.namespace, call.name), call.query)?;
    let options = WatchOptions::parse(call)?;
    let mut frames =
        FrameWriter::new(call.kind.clone(), call.accepted, call.server.config.clock.clone());
    let begun = match call.server.reach(options.not_older_than).await {
        Ok(()) => begin(call, &selection, options).await?,
        Err(status) => Begun::Refused(status),
    };
    let (rest, after, source) = match begun {
        Begun::From { state, after, source } => (state, after, Some(source)),
        // Told in the stream, as upstream does, so that clients have one place to look.
        Begun::Refused(status) => {
            frames.error(&status);
            (None, Revision::default(), None)
        }
    };
    let tells_end = source.is_some() && options.begin == Begin::WithState { tell_end: true };
    let deadline = Instant::now() + options.timeout;
    let mut watcher = Watcher {
        server: Arc::clone(call.server),
        kind: call.kind.clone(),
        selection,
        frames,
        tally: call.server.tally.watch(call.kind),
        state: Vec::new().into_iter(),
        rest,
        state_end: tells_end.then_some(after),
        source,
        told: after,
        wanted: call.wanted.cloned().unwrap_or_default(),
        asked: after,
        bookmarks: options.bookmarks,
        deadline,
        alarm: Box::pin(tokio::time::sleep_until(deadline)),
        closing: call.server.closing.clone(),
    };
    watcher.set_alarm();
    let pieces = stream::unfold(watcher, |mut watcher| async move {
        watcher.next_piece().await.map(|piece| (Ok::<_, io::Error>(piece), watcher))
    });
    let mut response = Response::new(streamed(pieces));
    let media_type = match call.accepted.language {
        Language::Json | Language::Yaml => JSON,
        Language::Protobuf => PROTOBUF_WATCH,
    };
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(response)
}

/// What is there, and the watch for what comes after it.
async fn begin(
    call: &Call<'_>,
    selection: &Selection,
    options: WatchOptions,
) -> Result<Begun, Status> {
    let store = &call.server.store;
    let state = match options.begin {
        Begin::WithState { .. } => Some(Selected::open(call, selection).await?),
        Begin::Now | Begin::After(_) => None,
    };
    let after = match options.begin {
        Begin::After(revision) => revision,
        _ => state.as_ref().map_or_else(|| store.revision(), Selected::revision),
    };
    let prefix = match &selection.place {
        Place::Prefix(prefix) => prefix.clone(),
        Place::Key(key) => key.as_str().to_owned(),
        // Nothing can ever be selected; the client still hears how far the store has got.
        Place::Nowhere => NOTHING.to_owned(),
    };
    // Who waits in this process says when; others cannot.
    let progress = options.progress && call.wanted.is_none();
    let request = WatchRequest { prefix, after, progress };
    match store.watch(request).await {
        Ok(source) => Ok(Begun::From { state, after, source }),
        Err(error @ WatchError::Compacted { .. }) => Ok(Begun::Refused(errors::of_watch(&error))),
        Err(error) => Err(errors::of_watch(&error)),
    }
}

impl Watcher {
    /// The next bytes to send; `None` when the watch is over.
    async fn next_piece(&mut self) -> Option<Bytes> {
        loop {
            let closing = self.closing.clone();
            if closing.run_until_cancelled(self.write_state()).await.is_none() {
                self.source = None;
            }
            if !self.frames.is_empty() {
                return Some(self.frames.take());
            }
            let source = self.source.as_mut()?;
            tokio::select! {
                biased;
                () = self.closing.cancelled() => self.source = None,
                item = source.next() => {
                    // What is written may have to be asked for first.
                    let closing = self.closing.clone();
                    if closing.run_until_cancelled(self.write_available(item)).await.is_none() {
                        self.source = None;
                    }
                    self.tell_wanted();
                }
                () = self.wanted.more_than(self.told.max(self.asked).0) => self.tell_wanted(),
                () = &mut self.alarm => self.ring(),
            }
        }
    }

    /// Shows what was there at the beginning, a piece of it at a time.
    async fn write_state(&mut self) {
        while self.frames.len() < BODY_PIECE_BYTES {
            if let Some(entry) = self.state.next() {
                self.write_change("ADDED", &entry.value, entry.revision);
                continue;
            }
            let Some(rest) = self.rest.as_mut().filter(|rest| !rest.is_over()) else {
                self.rest = None;
                if let Some(revision) = self.state_end.take() {
                    self.frames.state_end(revision);
                }
                return;
            };
            match rest.next().await {
                Ok(entries) => self.state = entries.into_iter(),
                Err(status) => {
                    self.frames.error(&status);
                    (self.rest, self.state_end, self.source) = (None, None, None);
                    return;
                }
            }
        }
    }

    /// Writes an item and everything else that is there without waiting.
    async fn write_available(&mut self, first: Result<WatchItem, WatchError>) {
        let mut item = Some(first);
        while let Some(result) = item.take() {
            match result {
                Ok(WatchItem::Event(event)) => self.write_event(&event).await,
                Ok(WatchItem::Progress(revision)) => self.write_bookmark(revision),
                Err(error) => {
                    self.frames.error(&errors::of_watch(&error));
                    self.source = None;
                    return;
                }
            }
            if self.frames.len() < BODY_PIECE_BYTES {
                item = self.source.as_mut().and_then(|source| source.next().now_or_never());
            }
        }
    }

    async fn write_event(&mut self, event: &Event) {
        if !self.selection.covers(&event.key) {
            return;
        }
        let everything = self.selection.is_everything();
        let shown = self.server.show_event(&self.kind, event, !everything).await;
        let (previous, value) = match shown {
            Ok(shown) => shown,
            // Upstream ends a watch as well that it cannot decode an object of
            // (`transformErrorToEvent`).
            Err(status) => {
                self.frames.error(&Status::internal(status.message));
                self.source = None;
                return;
            }
        };
        let shows = |stored: &Option<Bytes>| {
            stored
                .as_ref()
                .is_some_and(|stored| everything || self.selection.matches(&event.key, stored))
        };
        // An object that comes to be selected appears, and one that no longer is disappears.
        let (kind, stored) = match (shows(&previous), shows(&value)) {
            (false, false) => return,
            (false, true) => ("ADDED", value),
            (true, true) => ("MODIFIED", value),
            (true, false) => ("DELETED", previous),
        };
        if let Some(stored) = stored {
            self.write_change(kind, &stored, event.revision);
            self.told = event.revision;
        }
    }

    fn write_change(&mut self, kind: &str, stored: &[u8], revision: Revision) {
        let before = self.frames.len();
        self.frames.event(kind, stored, revision);
        self.tally.note(self.frames.len() - before);
    }

    fn write_bookmark(&mut self, revision: Revision) {
        if revision > self.told {
            self.told = revision;
            self.frames.bookmark(revision);
        }
    }

    /// Says what somebody waits for, now or when the store has got there.
    fn tell_wanted(&mut self) {
        let wanted = Revision(self.wanted.mark());
        let Some(source) = self.source.as_mut().filter(|_| wanted > self.told) else { return };
        let delivered = source.delivered();
        if delivered >= wanted {
            self.write_bookmark(delivered);
        } else if wanted > self.asked {
            self.asked = wanted;
            source.ask_progress(wanted);
        }
    }

    /// A bookmark is due, or the time is over.
    fn ring(&mut self) {
        if self.bookmarks
            && let Some(source) = &self.source
        {
            let delivered = source.delivered();
            self.write_bookmark(delivered);
        }
        if Instant::now() >= self.deadline {
            self.source = None;
        } else {
            self.set_alarm();
        }
    }

    fn set_alarm(&mut self) {
        let due = if self.bookmarks {
            self.deadline.min(Instant::now() + BOOKMARK_INTERVAL)
        } else {
            self.deadline
        };
        self.alarm.as_mut().reset(due);
    }
}

impl WatchOptions {
    fn parse(call: &Call<'_>) -> Result<Self, Status> {
        let (query, facts) = (call.query, &call.kind.facts);
        check(query)?;
        let seconds = query.number("timeoutSeconds")?;
        let revision = query
            .revision()
            .map_err(|error| Status::invalid(&facts.group, &facts.plural, "", &[error]))?;
        let revision = revision.filter(|revision| revision.0 > 0);
        let bookmarks = query.flag("allowWatchBookmarks");
        let initial = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
        let begin = match (initial, revision) {
            (Some(true), _) => Begin::WithState { tell_end: bookmarks },
            (Some(false) | None, Some(revision)) => Begin::After(revision),
            (Some(false), None) => Begin::Now,
            // Upstream asks for initial events then (`SetListOptionsDefaults`).
            (None, None) => Begin::WithState { tell_end: bookmarks },
        };
        let timeout = match seconds.filter(|seconds| *seconds != 0) {
            // One that is over before it begins is less than nothing.
            Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
            None => WATCH_TIMEOUT_MIN + by_lot(WATCH_TIMEOUT_MIN, &call.server.config.entropy),
        };
        let timeout = timeout.min(WATCH_TIMEOUT_LONGEST);
        let progress = query.flag("progress");
        // A watch without a state waits for what is to come, however far off (upstream
        // `waitUntilWatchCacheFreshAndForceAllEvents`).
        let not_older_than = match begin {
            Begin::WithState { .. } => revision.unwrap_or_default(),
            Begin::Now | Begin::After(_) => Revision::default(),
        };
        Ok(Self { begin, not_older_than, bookmarks, progress, timeout })
    }
}

/// A longer `timeoutSeconds` is as good as this: a year, which every clock can add.
const WATCH_TIMEOUT_LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A duration between zero and `longest`.
fn by_lot(longest: Duration, entropy: &Entropy) -> Duration {
    let lot = u8::try_from(entropy.draw() >> 120).expect("eight bits are left");
    longest * u32::from(lot) / 256
}

/// Upstream `validateWatchOptions` (apimachinery pkg/apis/meta/internalversion/validation).
fn check(query: &Query) -> Result<(), Status> {
    let mut errors = Vec::new();
    let path = FieldPath::new("resourceVersionMatch");
    let wanted = query.text("resourceVersionMatch");
    let has_initial = query.get("sendInitialEvents").is_some();
    if has_initial && wanted != Some("NotOlderThan") {
        let text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(&path, text));
    }
    if let Some(wanted) = wanted {
        if !has_initial {
            let text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is \
                        provided";
            errors.push(FieldError::forbidden(&path, text));
        }
        if wanted != "NotOlderThan" {
            errors.push(FieldError::not_supported(&path, wanted, &["NotOlderThan"]));
        }
    }
    // Upstream has made a match of it where a watch begins with the state, and now minds it.
    let is_from_state = matches!(query.text("resourceVersion"), None | Some("0"));
    if query.text("continue").is_some() && (wanted.is_some() || !has_initial && is_from_state) {
        let text = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(FieldError::forbidden(&path, text));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors))
}
