//! A watch that does not end: lists, watches, goes on where it was cut off, lists again when it must.
//!
//! Start at [`Watcher::next`]. What to do next is decided by the pure `step`; `lines` and `event`
//! turn the body into events. Architecture invariant: what a [`Watcher`] shows is the whole truth
//! as of a revision ([`Item::Listed`]) and then every change after it, none left out.

mod event;
mod lines;
mod step;
#[cfg(test)]
mod tests;

use super::known::Journal;
use super::request::{JSON, Page, PageEnd, PathAndQuery, TakePage, decode};
use super::{ApiObject, Client, ClientError, ResourceType, Selection, Watched};
use crate::api::{Reason, Revision};
use crate::stdx::http::Body;
use crate::stdx::{Wanted, chain};
use bytes::Bytes;
use event::WatchEvent;
use http_body_util::BodyExt as _;
use lines::Lines;
use serde_json::Value;
use serde_json::value::RawValue;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use step::{Event, Position, Standing};
use tracing::{debug, error, info, warn};

/// What a watch has to say.
#[derive(Debug)]
pub enum Item<T> {
    /// These are all the objects there are. Whatever was shown before is outdated.
    Listed(Vec<T>),
    Applied(T),
    /// The object is gone; this is its last state.
    Deleted(T),
    /// Nothing but the revision has changed.
    Progress,
}

impl<T> Item<T> {
    /// The same of what `to` makes of each object.
    pub(super) fn map<U>(self, to: impl Fn(T) -> U) -> Item<U> {
        match self {
            Self::Listed(listed) => Item::Listed(listed.into_iter().map(to).collect()),
            Self::Applied(object) => Item::Applied(to(object)),
            Self::Deleted(object) => Item::Deleted(to(object)),
            Self::Progress => Item::Progress,
        }
    }
}

/// Watches one selection of objects for as long as it is asked to.
#[derive(Debug)]
pub struct Watcher<T> {
    connection: Connection,
    items: PhantomData<fn() -> T>,
}

/// Everything about a watch that does not depend on the type of its objects.
#[derive(Debug)]
struct Connection {
    client: Client,
    path: PathAndQuery,
    accept: &'static str,
    /// For logs.
    resource: ResourceType,
    standing: Standing,
    open: Option<Open>,
    is_failing: bool,
    bookmarks: Bookmarks,
    wanted: Arc<Wanted>,
    memory: Option<Memory>,
}

/// What is written down of a watch.
#[derive(Debug)]
struct Memory {
    journal: Journal,
    /// Whether something was shown already.
    has_shown: bool,
    is_failing: bool,
}

impl Memory {
    fn write(&mut self, write: impl FnOnce(&mut Journal) -> io::Result<()>) {
        self.has_shown = true;
        let written = write(&mut self.journal);
        if let Err(error) = &written
            && !self.is_failing
        {
            warn!(error = chain(error), "what is known here cannot be written down");
        }
        self.is_failing = written.is_err();
    }
}

/// What came of an attempt to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Listed,
    /// The server has something against it.
    Refused,
    /// No server answers.
    Away,
}

/// How often a watch that shows nothing hears through which revision that is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bookmarks {
    /// About once a minute, so that the watch can be taken up again.
    Seldom,
    /// Whenever others wait until a revision has been seen, or, from a server that is not in this
    /// process, whenever the store moves on. Our own server's; others send them seldom.
    Wanted,
}

/// A watch request that is being answered.
#[derive(Debug)]
struct Open {
    body: Body,
    lines: Lines,
}

/// Why a watch could not go on as it was.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error("the watch was refused")]
    Refused(#[source] ClientError),
    #[error("the watch broke off")]
    Broken(#[source] io::Error),
    #[error("the server ended the watch: {0}")]
    Told(crate::api::Status),
}

impl Interruption {
    fn event(&self) -> Event {
        let is_expired = match self {
            Self::Refused(error) => error.is_expired(),
            Self::Broken(_) => false,
            Self::Told(status) => matches!(status.reason, Reason::Expired | Reason::Gone),
        };
        if is_expired { Event::Expired } else { Event::Failed }
    }
}

impl<T: Watched> Watcher<T> {
    /// Watches objects of a kind that is known only at run time, as `accept` has them encoded, with
    /// bookmarks now and then.
    #[must_use]
    pub fn of_type(
        client: Client,
        resource: ResourceType,
        selection: &Selection,
        accept: &'static str,
    ) -> Self {
        let mut connection = Connection {
            path: selection.path(&resource),
            client,
            accept,
            resource,
            standing: Standing::START,
            open: None,
            is_failing: false,
            bookmarks: Bookmarks::Seldom,
            wanted: Arc::default(),
            memory: None,
        };
        if T::is_remembered() {
            let journal = connection.client.journal(&connection.resource, &connection.path);
            connection.memory =
                journal.map(|journal| Memory { journal, has_shown: false, is_failing: false });
        }
        Self { connection, items: PhantomData }
    }

    /// What raises this hears soon that the watch has seen so much.
    #[must_use]
    pub fn wanted(&self) -> Arc<Wanted> {
        Arc::clone(&self.connection.wanted)
    }

    /// Everything through this revision has been shown.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self.connection.standing.position {
            Position::Unknown => Revision::default(),
            Position::Through(revision) => revision,
        }
    }

    /// Waits for the next item, however long it takes and however often the server must be asked.
    pub async fn next(&mut self) -> Item<T> {
        loop {
            if self.connection.standing.position == Position::Unknown {
                let resource = self.connection.resource.clone();
                let mut list = Listing::<T> { resource: &resource, items: Vec::new() };
                match self.connection.list(&mut list).await {
                    Attempt::Listed => {
                        self.connection.remember_all(&list.items);
                        return Item::Listed(list.items);
                    }
                    Attempt::Refused => {}
                    Attempt::Away => {
                        if let Some(known) = self.connection.recall() {
                            return Item::Listed(known);
                        }
                    }
                }
            } else if let Some(line) = self.connection.next_line().await
                && let Some(item) = self.read_line(&line)
            {
                return item;
            }
        }
    }

    fn read_line(&mut self, line: &[u8]) -> Option<Item<T>> {
        let item = match serde_json::from_slice::<WatchEvent<T>>(line) {
            Ok(WatchEvent::Applied(object)) => {
                let object = self.connection.shown(object);
                self.connection
                    .remember(&object, |journal, key, object| journal.applied(key, object));
                Item::Applied(object)
            }
            Ok(WatchEvent::Deleted(object)) => {
                let object = self.connection.shown(object);
                self.connection.remember(&object, |journal, key, _object| journal.deleted(key));
                Item::Deleted(object)
            }
            Ok(WatchEvent::Bookmark(revision)) => {
                self.connection.advance(revision);
                Item::Progress
            }
            Ok(WatchEvent::Error(status)) => {
                self.connection.interrupted(&Interruption::Told(status));
                return None;
            }
            Err(error) => {
                unreadable(&self.connection.resource, &error);
                return None;
            }
        };
        Some(item)
    }
}

impl<K: ApiObject> Watcher<K> {
    /// Watches objects of one kind, with bookmarks when they are [wanted](Self::wanted).
    #[must_use]
    pub fn new(client: Client, selection: &Selection) -> Self {
        let mut watcher = Self::with_seldom_bookmarks(client, selection);
        watcher.connection.bookmarks = Bookmarks::Wanted;
        watcher
    }

    /// Watches objects of one kind, with bookmarks now and then.
    #[must_use]
    pub fn with_seldom_bookmarks(client: Client, selection: &Selection) -> Self {
        Self::of_type(client, ResourceType::of::<K>(), selection, JSON)
    }
}

impl Connection {
    fn shown<T: Watched>(&mut self, mut object: T) -> T {
        if let Some(revision) = object.revision() {
            self.advance(revision);
        }
        object.trim();
        object
    }

    fn advance(&mut self, revision: Revision) {
        self.standing = self.standing.step(Event::Shown(revision));
        if std::mem::take(&mut self.is_failing) {
            info!(resource = %self.resource, "the watch goes on");
        }
    }

    fn remember_all<T: Watched>(&mut self, objects: &[T]) {
        if let Some(memory) = &mut self.memory {
            let objects = objects.iter().filter_map(Watched::remembered).collect();
            memory.write(|journal| journal.listed(objects));
        }
    }

    fn remember<T: Watched>(
        &mut self,
        object: &T,
        write: impl FnOnce(&mut Journal, &str, Value) -> io::Result<()>,
    ) {
        if let Some(memory) = &mut self.memory
            && let Some((key, object)) = object.remembered()
        {
            memory.write(|journal| write(journal, &key, object));
        }
    }

    /// What was shown last by an earlier process; once, and only where nothing else was shown.
    fn recall<T: Watched>(&mut self) -> Option<Vec<T>> {
        let memory = self.memory.as_mut().filter(|memory| !memory.has_shown)?;
        memory.has_shown = true;
        let known = memory.journal.recall()?;
        info!(resource = %self.resource, objects = known.len(), "no server answers: what was known last has to do");
        Some(known.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// Lists once, after a rest where one is due.
    async fn list(&mut self, pages: &mut dyn TakePage) -> Attempt {
        tokio::time::sleep(self.standing.rest()).await;
        match self.client.list_pages(&self.path, self.accept, pages).await {
            Ok(revision) => {
                self.standing = self.standing.step(Event::Listed(revision));
                Attempt::Listed
            }
            Err(error) => {
                let is_away = error.is_transient();
                self.interrupted(&Interruption::Refused(error));
                if is_away { Attempt::Away } else { Attempt::Refused }
            }
        }
    }

    /// The next line of the watch, which is opened first where it is not; none where the watch
    /// cannot go on from where it was.
    async fn next_line(&mut self) -> Option<Bytes> {
        loop {
            let Position::Through(revision) = self.standing.position else { return None };
            let Some(open) = &mut self.open else {
                tokio::time::sleep(self.standing.rest()).await;
                self.watch(revision).await;
                continue;
            };
            match open.next_line().await {
                Ok(Some(line)) => return Some(line),
                Ok(None) => {
                    debug!(resource = %self.resource, %revision, "the watch ended; going on");
                    self.open = None;
                    self.standing = self.standing.step(Event::Ended);
                }
                Err(error) => self.interrupted(&Interruption::Broken(error)),
            }
        }
    }

    /// Opens a watch after `revision`.
    async fn watch(&mut self, revision: Revision) {
        let mut path = self.path.with("watch", "true");
        path.push("resourceVersion", &revision.to_string());
        path.push("allowWatchBookmarks", "true");
        if self.bookmarks == Bookmarks::Wanted {
            path.push("progress", "true");
        }
        let wanted = Arc::clone(&self.wanted);
        match self.client.open_watch(path.as_str(), self.accept, wanted).await {
            Ok(body) => self.open = Some(Open { body, lines: Lines::default() }),
            Err(error) => self.interrupted(&Interruption::Refused(error)),
        }
    }

    /// Says so once per row of failures; an expired revision is part of a watch's life.
    fn interrupted(&mut self, interruption: &Interruption) {
        self.open = None;
        let event = interruption.event();
        self.standing = self.standing.step(event);
        let error = chain(interruption);
        if event == Event::Expired || self.is_failing {
            debug!(resource = %self.resource, error, "the watch was interrupted; will go on");
        } else {
            self.is_failing = true;
            warn!(resource = %self.resource, error, "the watch was interrupted; will try until it goes on");
        }
    }
}

impl Open {
    async fn next_line(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(line) = self.lines.next().map_err(io::Error::other)? {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error),
                Some(Ok(frame)) => {
                    // Trailers say nothing here.
                    if let Ok(piece) = frame.into_data() {
                        self.lines.push(piece);
                    }
                }
            }
        }
    }
}

/// The objects of a list. One that cannot be read is left out, and said so: the others are not to
/// suffer.
struct Listing<'a, T> {
    resource: &'a ResourceType,
    items: Vec<T>,
}

impl<T: Watched> TakePage for Listing<'_, T> {
    fn take_page(&mut self, json: &[u8]) -> Result<PageEnd, ClientError> {
        let (items, end) = match decode::<Page<T>>(json) {
            Ok(page) => page.split(),
            Err(_) => {
                let (raw, end) = decode::<Page<Box<RawValue>>>(json)?.split();
                (raw.iter().filter_map(|item| self.read_item(item)).collect(), end)
            }
        };
        self.items.extend(items.into_iter().map(|mut item| {
            item.trim();
            item
        }));
        Ok(end)
    }

    fn restart(&mut self) {
        self.items.clear();
    }
}

impl<T: Watched> Listing<'_, T> {
    fn read_item(&self, item: &RawValue) -> Option<T> {
        serde_json::from_str(item.get())
            .inspect_err(|problem| unreadable(self.resource, problem))
            .ok()
    }
}

fn unreadable(resource: &ResourceType, problem: &serde_json::Error) {
    error!(%resource, error = chain(problem), "an object cannot be read and is left out");
}
