//! Looks for images on this node and fetches them from registries.

use super::plan::{PullPolicy, Unavailable};
use crate::client::{EventRecorder, EventType};
use crate::kubelet::pod::go_duration;
use crate::runtime::images::Reference;
use crate::runtime::{Credentials, ImageStatus, Runtime};
use crate::stdx::{chain, monotonic};
use k8s_openapi::api::core::v1::ObjectReference;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;

/// So many images are fetched at once; others wait for their turn. (Upstream's default is one: one
/// slow registry then holds up everything.)
const IMAGE_PULLS_AT_ONCE_MAX: usize = 4;

/// An image that a container needs.
#[derive(Clone, Debug)]
pub struct FetchOrder {
    /// The container, for events.
    pub regarding: ObjectReference,
    pub reference: String,
    pub policy: PullPolicy,
    pub credentials: Vec<Credentials>,
}

/// Gets images for all pods of the node.
#[derive(Clone, Debug)]
pub struct ImageFetcher {
    runtime: Arc<dyn Runtime>,
    events: EventRecorder,
    turns: Arc<Semaphore>,
    /// How often images have come that nobody fetched through this.
    arrivals: Arc<AtomicU64>,
}

impl ImageFetcher {
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, events: EventRecorder) -> Self {
        let turns = Arc::new(Semaphore::new(IMAGE_PULLS_AT_ONCE_MAX));
        Self { runtime, events, turns, arrivals: Arc::default() }
    }

    /// Images have come by another way: whoever could not have one looks again.
    pub fn note_arrival(&self) {
        self.arrivals.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes with each arrival.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Acquire)
    }

    /// The image, where no registry has to be asked for it. `None`: [`pull`](Self::pull) it.
    ///
    /// # Errors
    /// Where it can never be had, or the policy forbids to fetch it.
    pub async fn find(&self, order: &FetchOrder) -> Result<Option<ImageStatus>, Unavailable> {
        if let Err(error) = order.reference.parse::<Reference>() {
            let message =
                format!("Failed to apply default image tag {:?}: {error}", order.reference);
            self.warn(order, "InspectFailed", message.clone());
            return Err(Unavailable::InvalidName(message));
        }
        if order.policy == PullPolicy::Always {
            return Ok(None);
        }
        let found = self.runtime.image(&order.reference).await.map_err(|error| {
            let why = chain(&error);
            let message = format!("Failed to inspect image {:?}: {why}", order.reference);
            self.warn(order, "InspectFailed", message.clone());
            Unavailable::Inspect(message)
        })?;
        match found {
            Some(image) => {
                let reference = &order.reference;
                let text = format!("Container image {reference:?} already present on machine");
                self.tell(order, "Pulled", text);
                Ok(Some(image))
            }
            None if order.policy == PullPolicy::Never => {
                let reference = &order.reference;
                let text = format!(
                    "Container image {reference:?} is not present with pull policy of Never"
                );
                self.warn(order, "ErrImageNeverPull", text.clone());
                Err(Unavailable::NeverPull(text))
            }
            None => Ok(None),
        }
    }

    /// Fetches the image.
    ///
    /// # Errors
    /// Where no registry gives it.
    pub async fn pull(&self, order: FetchOrder) -> Result<ImageStatus, Unavailable> {
        let FetchOrder { reference, credentials, .. } = &order;
        self.tell(&order, "Pulling", format!("Pulling image {reference:?}"));
        let waited_since = monotonic();
        let turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let since = monotonic();
        let pulled = self.runtime.pull_image(reference, credentials.clone()).await;
        drop(turn);
        let now = monotonic();
        match pulled {
            Ok(image) => {
                let text = format!(
                    "Successfully pulled image {reference:?} in {} ({} including waiting). Image \
                     size: {} bytes.",
                    go_duration(now.duration_since(since)),
                    go_duration(now.duration_since(waited_since)),
                    image.size_bytes
                );
                self.tell(&order, "Pulled", text);
                Ok(image)
            }
            Err(error) => {
                let why = chain(&error);
                self.warn(&order, "Failed", format!("Failed to pull image {reference:?}: {why}"));
                Err(Unavailable::of_pull(reference, &error))
            }
        }
    }

    fn tell(&self, order: &FetchOrder, reason: &str, message: String) {
        self.events.record(order.regarding.clone(), EventType::Normal, reason, message);
    }

    fn warn(&self, order: &FetchOrder, reason: &str, message: String) {
        self.events.record(order.regarding.clone(), EventType::Warning, reason, message);
    }
}
