//! The thread that writes. Whatever is queued goes into one transaction and one sync.
//!
//! Start at [`Writer::run`]. A group of commits is carried out by [`group`], then shown to readers,
//! announced to watches, and acknowledged, in this order. Between groups old rows are removed, one
//! step at a time.

use crate::api::Revision;
use crate::stdx::{Backoff, chain, monotonic};
use crate::storage::seq::Seq;
use crate::storage::sqlite::Shared;
use crate::storage::sqlite::fault::Stop;
use crate::storage::sqlite::group::{self, Done, Effect};
use crate::storage::sqlite::inbox::{Inbox, Received};
use crate::storage::sqlite::retention::{Mark, Past, Replaced};
use crate::storage::sqlite::sweep;
use crate::storage::{Commit, CommitError, Op};
use bytes::Bytes;
use rusqlite::Connection;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How many requests may wait for the writer. More wait in their callers.
pub(super) const REQUESTS_QUEUED_MAX: usize = 1_024;

/// A group is closed when it has this many operations, or this many bytes; the rest waits for the
/// next one. Bounds the memory and the time of a transaction.
const GROUP_OPS_MAX: usize = 1_024;
const GROUP_BYTES_MAX: usize = 4 * 1_048_576;

/// The write-ahead log is emptied by force when it is larger than this, in bytes: then readers that
/// overlap without end have kept it from starting over.
const WAL_BYTES_MAX: u64 = 64 * 1_048_576;

/// When removing old rows has failed, for example on a full disk.
const SWEEP_BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(300) };

#[derive(Debug)]
pub(super) enum Request {
    Commit { commit: Commit, reply: oneshot::Sender<Result<Revision, CommitError>> },
    Compact { through: Revision, reply: oneshot::Sender<Result<(), CommitError>> },
}

impl Request {
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Commit { commit, .. } => {
                let bytes = |op: &Op| op.key().as_str().len() + op.value().map_or(0, Bytes::len);
                (commit.ops.len(), commit.ops.iter().map(bytes).sum())
            }
            Self::Compact { .. } => (0, 0),
        }
    }
}

type CommitReply = oneshot::Sender<Result<Revision, CommitError>>;

/// A request to forget the past, and who waits for it.
#[derive(Debug)]
struct Compaction {
    through: Revision,
    reply: oneshot::Sender<Result<(), CommitError>>,
}

#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    inbox: Arc<Inbox<Request>>,
    /// No revision after this may be given out before it is reserved on disk.
    reserved: Revision,
    past: Past,
    /// Everything replaced, ever since the store was opened, and what waited then.
    replaced: Replaced,
    /// Through which change replaced rows have been removed.
    swept: Seq,
    /// What the present sweep goes through.
    sweeping: Option<Mark>,
    compactions: Vec<Compaction>,
    sweep_failures: u32,
    sweep_not_before: Option<Instant>,
    /// The write-ahead log is emptied by force when it is longer than this.
    wal_bytes_max: u64,
}

/// Where the writer begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub reserved: Revision,
    pub swept: Seq,
    pub replaced: Replaced,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        shared: Arc<Shared>,
        inbox: Arc<Inbox<Request>>,
        past: Past,
        start: Start,
    ) -> Self {
        Self {
            connection,
            shared,
            inbox,
            reserved: start.reserved,
            past,
            replaced: start.replaced,
            swept: start.swept,
            sweeping: None,
            compactions: Vec::new(),
            sweep_failures: 0,
            sweep_not_before: None,
            wal_bytes_max: WAL_BYTES_MAX,
        }
    }

    /// Works until the inbox is closed; then writes what is pending and closes the file.
    pub(super) fn run(mut self) -> Result<(), CommitError> {
        let inbox = Arc::clone(&self.inbox);
        let _attendance = inbox.attend();
        let _ended = self.shared.ended.clone().drop_guard();
        loop {
            let deadline = self.next_sweep();
            let mut ops = 0;
            let mut bytes = 0;
            let received = inbox.receive(deadline, |request| {
                let (more_ops, more_bytes) = request.size();
                ops += more_ops;
                bytes += more_bytes;
                ops <= GROUP_OPS_MAX && bytes <= GROUP_BYTES_MAX
            });
            match received {
                Received::Items(requests) => self.serve(requests),
                Received::Deadline => {}
                Received::Closed => return self.finish(),
            }
            self.sweep();
        }
    }

    fn serve(&mut self, requests: Vec<Request>) {
        let mut commits = Vec::new();
        let mut replies = Vec::new();
        for request in requests {
            match request {
                Request::Commit { commit, reply } => {
                    commits.push(commit);
                    replies.push(reply);
                }
                Request::Compact { through, reply } => self.compact(through, reply),
            }
        }
        if !commits.is_empty() {
            self.commit(&commits, replies);
        }
    }

    fn commit(&mut self, commits: &[Commit], replies: Vec<CommitReply>) {
        let outcomes =
            match group::carry_out(&self.connection, &self.shared, self.reserved, commits) {
                Ok(done) => self.publish(done),
                Err(stop) => {
                    let error = stop.into_commit_error(&self.shared.path);
                    tracing::warn!(
                        error = chain(&error),
                        "a group of commits could not be written"
                    );
                    vec![Err(error); commits.len()]
                }
            };
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // Whoever has gone does not want to know.
            reply.send(outcome).ok();
        }
        self.limit_wal();
    }

    /// Shows a group to readers and watches.
    fn publish(&mut self, done: Done) -> Vec<Result<Revision, CommitError>> {
        let Done { outcomes, events, revision, replaced, effect } = done;
        self.replaced.add(replaced);
        let now = monotonic();
        self.past.record(Mark { at: now, revision, replaced: self.replaced });
        let floor = self.past.floor(now, self.replaced).revision;
        if let Effect::Written { reserved, .. } = &effect {
            self.reserved = *reserved;
        }
        self.shared.view.update(|view| {
            view.revision = revision;
            view.floor = view.floor.max(floor);
            match effect {
                Effect::Written { newest, .. } => {
                    view.base = newest;
                    view.pending.clear();
                    view.pending_bytes = 0;
                }
                Effect::Pending(pending) => view.add_pending(pending),
            }
            events.iter().for_each(|announced| view.recent.changed(&announced.event));
        });
        if !events.is_empty() {
            self.shared.hub.publish(&events, revision);
        }
        outcomes
    }

    fn compact(&mut self, through: Revision, reply: oneshot::Sender<Result<(), CommitError>>) {
        let through = through.min(self.shared.view.revision());
        self.shared.view.update(|view| view.floor = view.floor.max(through));
        let replaced = self.past.replaced_through(through);
        self.sweep_through(Mark { at: monotonic(), revision: through, replaced });
        self.compactions.push(Compaction { through, reply });
    }

    fn sweep_through(&mut self, mark: Mark) {
        let further = self.sweeping.is_none_or(|sweeping| sweeping.revision < mark.revision);
        if further {
            self.sweeping = Some(mark);
        }
    }

    /// When there will be something to remove, if nothing else happens.
    fn next_sweep(&self) -> Option<Instant> {
        let due = match self.sweeping {
            Some(mark) => Some(mark.at),
            None => self.past.next_sweep(),
        };
        due.max(due.and(self.sweep_not_before))
    }

    /// Does one step of a sweep, if one is due.
    fn sweep(&mut self) {
        let now = monotonic();
        if self.sweep_not_before.is_some_and(|not_before| now < not_before) {
            return;
        }
        if self.sweeping.is_none() {
            let floor = self.past.floor(now, self.replaced);
            if !self.past.is_sweep_due(&floor) {
                return;
            }
            self.shared.view.update(|view| view.floor = view.floor.max(floor.revision));
            self.sweeping = Some(floor);
        }
        match self.sweep_step() {
            Ok(()) => {
                self.sweep_failures = 0;
                self.sweep_not_before = None;
            }
            Err(error) => self.sweep_failed(Stop::from(error), now),
        }
    }

    fn sweep_step(&mut self) -> rusqlite::Result<()> {
        let Some(target) = self.sweeping else {
            return Ok(());
        };
        let transaction = self.connection.unchecked_transaction()?;
        if let Some(swept) = sweep::step(&transaction, self.swept, target.revision)? {
            transaction.commit()?;
            self.swept = swept;
            return Ok(());
        }
        sweep::record_floor(&transaction, target.revision)?;
        transaction.commit()?;
        if sweep::shrink(&self.connection)? {
            return Ok(());
        }
        self.sweeping = None;
        self.past.swept(target.replaced);
        for compaction in self.compactions.extract_if(.., |it| it.through <= target.revision) {
            // Whoever has gone does not want to know.
            compaction.reply.send(Ok(())).ok();
        }
        Ok(())
    }

    fn sweep_failed(&mut self, stop: Stop, now: Instant) {
        self.sweep_failures = self.sweep_failures.saturating_add(1);
        self.sweep_not_before = Some(now + SWEEP_BACKOFF.delay(self.sweep_failures));
        let error = stop.into_commit_error(&self.shared.path);
        tracing::warn!(error = chain(&error), "old revisions could not be removed; will retry");
        for compaction in self.compactions.drain(..) {
            compaction.reply.send(Err(error.clone())).ok();
        }
    }

    /// Empties the write-ahead log where it has grown out of bounds. Waits for readers, a little.
    fn limit_wal(&mut self) {
        let length = std::fs::metadata(&self.shared.wal_path).map_or(0, |metadata| metadata.len());
        if length <= self.wal_bytes_max {
            return;
        }
        self.wal_bytes_max = match group::checkpoint(&self.connection) {
            Ok(()) => WAL_BYTES_MAX,
            // Readers did not get out of the way, or the disk is full. Not again at every group.
            Err(_busy) => length + WAL_BYTES_MAX,
        };
    }

    /// Writes what is pending, notes that all is in order, and closes the file.
    fn finish(self) -> Result<(), CommitError> {
        self.shared.hub.close();
        let path = &self.shared.path;
        let waiting = self.past.waiting(self.replaced);
        group::close(&self.connection, &self.shared, waiting)
            .map_err(|error| Stop::from(error).into_commit_error(path))?;
        if let Err(error) = group::checkpoint(&self.connection) {
            // Nothing is lost: the next start reads the write-ahead log.
            let error = Stop::from(error).into_commit_error(path);
            tracing::warn!(error = chain(&error), "the write-ahead log could not be emptied");
        }
        let closed = self.connection.close();
        closed.map_err(|(_connection, error)| Stop::from(error).into_commit_error(path))
    }
}
