//! How far a pull or an import has come, for those who watch.

use super::digest::Digest;
use std::fmt;
use std::sync::Arc;

/// What happens to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Other layers come first.
    Waiting,
    /// Bytes arrive and are unpacked.
    Unpacking,
    /// Everything is unpacked and checked, and is being made durable.
    Publishing,
    Done,
    /// It was on this node already.
    Present,
}

/// How far one layer has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerProgress {
    /// As the manifest names it; layers of archives that have no manifest go by their diff id.
    pub layer: Digest,
    /// Compressed bytes so far.
    pub bytes: u64,
    pub total_bytes: u64,
    pub phase: Phase,
}

type Listener = dyn Fn(&LayerProgress) + Send + Sync;

/// Who is told about progress. Called for every piece of every layer, from the threads that do the
/// work: a listener only notes what it is told.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Listener>>);

impl Progress {
    /// Nobody is told.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    #[must_use]
    pub fn to(listener: impl Fn(&LayerProgress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(super) fn report(&self, progress: &LayerProgress) {
        if let Some(listener) = &self.0 {
            listener(progress);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Progress(listener)" } else { "Progress" })
    }
}
