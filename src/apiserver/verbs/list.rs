//! List: stored bytes, page by page, as of now or of an older revision (upstream apiserver
//! pkg/storage/etcd3/store.go `GetList` and pkg/storage/continue.go, v1.35).

use super::super::config::SELECTED_PAGE_ENTRIES;
use super::super::encoding::{
    Form, Language, ListBody, ListHead, list_response, take_turns, yaml_response,
};
use super::super::errors;
use super::super::query::Query;
use super::super::selection::{Place, Selection};
use super::Call;
use super::selected::Selected;
use crate::api::status::{Status, StatusMeta};
use crate::api::{FieldError, FieldPath, Revision};
use crate::stdx::http::{Response, streamed};
use crate::storage::{Entry, Key, ListRequest, ReadError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use std::io;
use std::num::NonZeroUsize;
use tracing::warn;

/// Entries of a list, and where it goes on.
#[derive(Debug)]
pub(super) struct SelectedPage {
    pub(super) entries: Vec<Entry>,
    /// The last key of this page, when there is more behind it.
    pub(super) next: Option<Key>,
    pub(super) revision: Revision,
    /// Entries behind this page, selected or not.
    pub(super) remaining: u64,
}

/// Which state a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AsOf {
    Newest,
    /// Any state that is not older.
    NotOlderThan(Revision),
    Exactly(Revision),
}

#[derive(Debug)]
pub(super) struct ListOptions {
    pub(super) limit: Option<NonZeroUsize>,
    after: Option<Key>,
    as_of: AsOf,
    /// Whether this takes up a list that was cut.
    continues: bool,
}

pub(super) async fn list(call: &Call<'_>) -> Result<Response, Status> {
    let selection = Selection::parse(call.kind, (call.namespace, call.name), call.query)?;
    let options = ListOptions::parse(call.query, &selection)?;
    if options.is_of_everything_now() {
        if let AsOf::NotOlderThan(revision) = options.as_of {
            call.server.reach(revision).await?;
        }
        return respond_with_all(call, &selection).await;
    }
    let page = read(call, &selection, &options).await?;
    respond(call, &selection, page).await
}

/// Everything that is selected. What is long is sent while it is read, unless it has to be whole
/// before the client can be told that all is well.
async fn respond_with_all(call: &Call<'_>, selection: &Selection) -> Result<Response, Status> {
    let mut all = Selected::open(call, selection).await?;
    let (revision, mut entries) = (all.revision(), all.next().await?);
    let (form, accepted) = (call.accepted.form, &call.accepted);
    let is_whole = all.is_over()
        || accepted.language != Language::Json
        || matches!(form, Form::Table(_))
        || !call.kind.is_stored_as_shown();
    if is_whole {
        entries.append(&mut all.collect().await?);
        let page = SelectedPage { entries, next: None, revision, remaining: 0 };
        return respond(call, selection, page).await;
    }
    let head = ListHead { resource_version: revision.to_string(), ..ListHead::default() };
    let now = call.server.config.clock.now();
    let mut body = ListBody::new(call.kind, entries, &head, form, now).await?.unfinished();
    if accepted.pretty {
        body = body.indented();
    }
    let pieces = stream::unfold((body, all), |(mut body, mut all)| async move {
        next_piece(&mut body, &mut all).await.map(|piece| (piece, (body, all)))
    });
    let mut response = Response::new(streamed(pieces));
    response.headers_mut().insert(CONTENT_TYPE, super::super::encoding::JSON);
    Ok(response)
}

/// The next piece of a list that is read while it is sent.
async fn next_piece(body: &mut ListBody, all: &mut Selected) -> Option<io::Result<Bytes>> {
    loop {
        if let Some(piece) = body.next() {
            return Some(Ok(piece));
        }
        if body.is_finished() {
            return None;
        }
        match all.next().await {
            Ok(entries) => body.go_on(entries, all.is_over()),
            // The client has the head of a good answer: it sees that this one breaks off.
            Err(status) => {
                warn!(why = status.message, "a list broke off");
                body.abandon();
                return Some(Err(io::Error::other(status.message)));
            }
        }
    }
}

/// A page as the client wants to see it, piece by piece.
pub(super) async fn respond(
    call: &Call<'_>,
    selection: &Selection,
    page: SelectedPage,
) -> Result<Response, Status> {
    let remaining = (page.remaining > 0 && selection.is_everything()).then_some(page.remaining);
    let head = ListHead {
        resource_version: page.revision.to_string(),
        continue_token: page
            .next
            .as_ref()
            .map(|last| Token::new(Some(page.revision), selection, last).encode()),
        remaining_item_count: remaining,
    };
    let now = call.server.config.clock.now();
    let form = call.accepted.form;
    if call.accepted.language == Language::Protobuf {
        return list_response(call.kind, page.entries, &head, form).await;
    }
    let mut body = ListBody::new(call.kind, page.entries, &head, form, now).await?;
    if call.accepted.language == Language::Yaml {
        let whole: Vec<u8> = body.flatten().collect();
        return yaml_response(StatusCode::OK, &whole);
    }
    if call.accepted.pretty {
        body = body.indented();
    }
    let first = body.next().unwrap_or_default();
    let mut response = if body.is_finished() {
        Response::new(crate::stdx::http::full(first))
    } else {
        let pieces = std::iter::once(first).chain(body).map(Ok);
        Response::new(streamed(stream::iter(pieces)))
    };
    response.headers_mut().insert(CONTENT_TYPE, super::super::encoding::JSON);
    Ok(response)
}

pub(super) async fn read(
    call: &Call<'_>,
    selection: &Selection,
    options: &ListOptions,
) -> Result<SelectedPage, Status> {
    let store = &call.server.store;
    let at = match options.as_of {
        AsOf::Newest => None,
        AsOf::Exactly(revision) => Some(revision),
        AsOf::NotOlderThan(revision) => {
            call.server.reach(revision).await?;
            None
        }
    };
    let mut page = SelectedPage {
        entries: Vec::new(),
        next: None,
        revision: at.unwrap_or_else(|| store.revision()),
        remaining: 0,
    };
    let prefix = match &selection.place {
        Place::Prefix(prefix) => prefix.clone(),
        Place::Key(key) => return read_one(call, (selection, options), key, page, at).await,
        Place::Nowhere => return Ok(page),
    };
    let wants_all = selection.is_everything();
    let mut request = ListRequest { prefix, after: options.after.clone(), limit: None, at };
    loop {
        // Without a selector the limit is the store's. With one, more has to be read than is shown,
        // and never all of it at once.
        let missing = options.limit.map(|limit| limit.get() - page.entries.len());
        request.limit = match missing {
            _ if !wants_all => {
                NonZeroUsize::new(missing.unwrap_or_default().max(SELECTED_PAGE_ENTRIES))
            }
            missing => missing.and_then(NonZeroUsize::new),
        };
        let read = store.list(request.clone()).await;
        let mut read = read.map_err(|error| explain(&error, selection, options))?;
        read.entries = call.server.show(call.kind, read.entries).await?;
        page.revision = read.revision;
        page.remaining = read.remaining;
        // Later pages show the same state as the first.
        request.at = Some(read.revision);
        request.after = read.entries.last().map(|entry| entry.key.clone());
        let is_last = read.remaining == 0;
        if wants_all {
            page.entries = read.entries;
            page.next = if is_last { None } else { request.after };
            return Ok(page);
        }
        if take_selected(&mut page, selection, read.entries, missing, is_last).await || is_last {
            return Ok(page);
        }
    }
}

/// The one object that can be selected. Nothing is behind it.
async fn read_one(
    call: &Call<'_>,
    (selection, options): (&Selection, &ListOptions),
    key: &Key,
    mut page: SelectedPage,
    at: Option<Revision>,
) -> Result<SelectedPage, Status> {
    let store = &call.server.store;
    let found = match at {
        None => {
            let lookup = store.get(key).await.map_err(|error| errors::of_read(&error))?;
            page.revision = lookup.revision;
            lookup.entry
        }
        // No key with this prefix is before the key itself.
        Some(_) => {
            let prefix = key.as_str().to_owned();
            let request = ListRequest { prefix, after: None, limit: NonZeroUsize::new(1), at };
            let read = store.list(request).await;
            let read = read.map_err(|error| explain(&error, selection, options))?;
            page.revision = read.revision;
            read.entries.into_iter().next()
        }
    };
    let found = match found {
        Some(entry) => Some(call.server.show_one(call.kind, entry).await?),
        None => None,
    };
    let is_selected = |entry: &Entry| entry.key == *key && selection.matches(key, &entry.value);
    // A list that is continued has shown it.
    page.entries.extend(found.filter(|entry| options.after.is_none() && is_selected(entry)));
    Ok(page)
}

/// Takes what is selected, `missing` at most. Says whether the page is full; it has a next one if
/// anything was left over.
async fn take_selected(
    page: &mut SelectedPage,
    selection: &Selection,
    entries: Vec<Entry>,
    missing: Option<usize>,
    is_last: bool,
) -> bool {
    let mut taken = 0;
    let count = entries.len();
    for (index, entry) in entries.into_iter().enumerate() {
        take_turns(index).await;
        if !selection.covers(&entry.key) || !selection.matches(&entry.key, &entry.value) {
            continue;
        }
        let key = entry.key.clone();
        page.entries.push(entry);
        taken += 1;
        if missing == Some(taken) {
            let more = !is_last || index + 1 < count;
            page.next = more.then_some(key);
            return true;
        }
    }
    false
}

fn prefix_of(selection: &Selection) -> Option<String> {
    match &selection.place {
        Place::Prefix(prefix) => Some(prefix.clone()),
        Place::Key(key) => Some(key.as_str().to_owned()),
        Place::Nowhere => None,
    }
}

fn explain(error: &ReadError, selection: &Selection, options: &ListOptions) -> Status {
    let (ReadError::Compacted { .. }, true) = (error, options.continues) else {
        return errors::of_read(error);
    };
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can \
         start a new list without the continue parameter, or use the continue token in this \
         response to retrieve the remainder of the results. Continuing with the provided token \
         results in an inconsistent list - objects that were created, modified, or deleted between \
         the time the first chunk was returned and now may show up in the list.",
    );
    if let Some(last) = &options.after {
        let continue_token = Token::new(None, selection, last).encode();
        status.metadata = StatusMeta { continue_token };
    }
    status
}

/// Where a list goes on. Opaque to clients; upstream's has the same members.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    /// -1: as of whenever it is continued.
    rv: i64,
    /// The last key shown, without the prefix of the list.
    start: String,
}

const TOKEN_VERSION: &str = "kinglet.dev/v1";

impl Token {
    fn new(revision: Option<Revision>, selection: &Selection, last: &Key) -> Self {
        let start = match &selection.place {
            Place::Prefix(prefix) => last.as_str().strip_prefix(prefix.as_str()),
            Place::Key(_) | Place::Nowhere => None,
        };
        Self {
            v: TOKEN_VERSION.to_owned(),
            rv: revision.and_then(|revision| i64::try_from(revision.0).ok()).unwrap_or(-1),
            start: start.unwrap_or_default().to_owned(),
        }
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("plain text serializes"))
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let invalid = |why: String| {
            let why = format!("invalid continue token: continue key is not valid: {why}");
            Status::bad_request(why)
        };
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|error| invalid(error.to_string()))?;
        let token: Self =
            serde_json::from_slice(&json).map_err(|error| invalid(error.to_string()))?;
        if token.v != TOKEN_VERSION || token.start.is_empty() {
            return Err(invalid(format!("unknown version {:?}", token.v)));
        }
        Ok(token)
    }
}

impl ListOptions {
    /// Whether this is no page, and of no moment of the past.
    fn is_of_everything_now(&self) -> bool {
        let is_now = matches!(self.as_of, AsOf::Newest | AsOf::NotOlderThan(_));
        self.limit.is_none() && self.after.is_none() && is_now
    }

    /// The page that comes next, as of now.
    pub(super) fn after(last: Key, limit: Option<NonZeroUsize>) -> Self {
        Self { limit, after: Some(last), as_of: AsOf::Newest, continues: false }
    }

    pub(super) fn parse(query: &Query, selection: &Selection) -> Result<Self, Status> {
        let limit: Option<i64> = query.number("limit")?;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).and_then(NonZeroUsize::new);
        // A list takes as long as it takes, but upstream reads what it is told.
        query.number("timeoutSeconds")?;
        check_match(query)?;
        let revision = query
            .revision()
            .map_err(|error| Status::bad_request(format!("invalid resource version: {error}")))?;
        if let Some(text) = query.text("continue") {
            if revision.is_some_and(|revision| revision.0 != 0) {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = Token::decode(text)?;
            let as_of = u64::try_from(token.rv)
                .map_or(AsOf::Newest, |revision| AsOf::Exactly(Revision(revision)));
            let after = prefix_of(selection).map(|prefix| Key::from(prefix + &token.start));
            return Ok(Self { limit, after, as_of, continues: true });
        }
        let as_of = match (revision, query.text("resourceVersionMatch")) {
            (None | Some(Revision(0)), _) => AsOf::Newest,
            (Some(revision), Some("Exact")) => AsOf::Exactly(revision),
            // Before there was a match, a limited list at a revision meant that very revision.
            (Some(revision), None) if limit.is_some() => AsOf::Exactly(revision),
            (Some(revision), _) => AsOf::NotOlderThan(revision),
        };
        Ok(Self { limit, after: None, as_of, continues: false })
    }
}

/// Upstream `ValidateListOptions` (apimachinery pkg/apis/meta/internalversion/validation).
fn check_match(query: &Query) -> Result<(), Status> {
    let mut errors = Vec::new();
    let path = FieldPath::new("resourceVersionMatch");
    if let Some(wanted) = query.text("resourceVersionMatch") {
        let revision = query.text("resourceVersion");
        if revision.is_none() {
            let text = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(&path, text));
        }
        if query.text("continue").is_some() {
            let text = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(&path, text));
        }
        if !matches!(wanted, "Exact" | "NotOlderThan") {
            let supported = ["Exact", "NotOlderThan", ""];
            errors.push(FieldError::not_supported(&path, wanted, &supported));
        }
        if wanted == "Exact" && revision == Some("0") {
            let text = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(&path, text));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        let path = FieldPath::new("sendInitialEvents");
        errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors))
}
