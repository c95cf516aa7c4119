//! What is selected of a kind now, read piece by piece.

use super::super::encoding::take_turns;
use super::super::errors;
use super::super::selection::{Place, Selection};
use super::super::server::Server;
use super::Call;
use crate::api::{Revision, Status};
use crate::registry::KindRef;
use crate::storage::{Entry, Listing, Page, Whole};
use std::sync::Arc;

/// All of what is selected, as of one moment. It can outlive the call.
#[derive(Debug)]
pub(super) struct Selected {
    server: Arc<Server>,
    kind: KindRef,
    selection: Selection,
    listing: Box<dyn Listing>,
}

impl Selected {
    pub(super) async fn open(call: &Call<'_>, selection: &Selection) -> Result<Self, Status> {
        let store = &call.server.store;
        let whole = |entries, revision| -> Box<dyn Listing> {
            Box::new(Whole(Page { entries, revision, remaining: 0 }))
        };
        let listing = match &selection.place {
            Place::Prefix(prefix) => {
                store.open(prefix).await.map_err(|error| errors::of_read(&error))?
            }
            Place::Key(key) => {
                let lookup = store.get(key).await.map_err(|error| errors::of_read(&error))?;
                whole(lookup.entry.into_iter().collect(), lookup.revision)
            }
            Place::Nowhere => whole(Vec::new(), store.revision()),
        };
        let (server, kind) = (Arc::clone(call.server), call.kind.clone());
        Ok(Self { server, kind, selection: selection.clone(), listing })
    }

    pub(super) fn revision(&self) -> Revision {
        self.listing.revision()
    }

    /// Whether everything has been handed out.
    pub(super) fn is_over(&self) -> bool {
        self.listing.remaining() == 0
    }

    /// What is selected of the next piece, as the kind shows it.
    pub(super) async fn next(&mut self) -> Result<Vec<Entry>, Status> {
        let read = self.listing.next().await.map_err(|error| errors::of_read(&error))?;
        let mut shown = self.server.show(&self.kind, read).await?;
        if !self.selection.is_everything() {
            let mut selected = Vec::new();
            for (index, entry) in shown.into_iter().enumerate() {
                take_turns(index).await;
                if self.selection.covers(&entry.key)
                    && self.selection.matches(&entry.key, &entry.value)
                {
                    selected.push(entry);
                }
            }
            shown = selected;
        }
        Ok(shown)
    }

    /// All that is left.
    pub(super) async fn collect(&mut self) -> Result<Vec<Entry>, Status> {
        let mut all = Vec::new();
        while !self.is_over() {
            all.append(&mut self.next().await?);
        }
        Ok(all)
    }
}
