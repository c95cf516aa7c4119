//! Images that the plan's containers need: found here, or fetched beside the looks.

use super::job::Done;
use super::pod::PodWorker;
use crate::kubelet::announce::container_reference;
use crate::kubelet::container::references::{Lookup, References};
use crate::kubelet::images::FetchOrder;
use crate::kubelet::images::keyring::credentials_for;
use crate::kubelet::images::plan::{NeededImage, Next, Progress, PullPolicy, next};
use crate::kubelet::pod::plan::PodPlan;
use crate::runtime::Credentials;
use jiff::Timestamp;

impl PodWorker {
    /// Begins to fetch what is missing while volumes and sandbox are made.
    pub(super) async fn look_for_images(
        &mut self,
        plan: &PodPlan,
        references: &References,
        now: Timestamp,
    ) {
        let arrivals = self.shared.images.arrivals();
        if self.images_seen != arrivals {
            // What could not be had may be here now.
            self.images_seen = arrivals;
            self.images.retain(|_, needed| !matches!(needed.progress, Progress::Failed { .. }));
        }
        for start in &plan.start {
            let container = start.slot.of(&self.pod).clone();
            let failure = self.start_failures.get(&container.name);
            if failure.is_some_and(|failure| now < failure.retry_at) {
                continue;
            }
            let reference = container.image.clone().unwrap_or_default();
            let needed = self.images.get(&container.name);
            let Next::Fetch { failures } = next(needed, &reference, now) else {
                continue;
            };
            let Some(credentials) = self.credentials(&reference, references) else {
                continue;
            };
            let order = FetchOrder {
                regarding: container_reference(&self.pod, start.slot),
                reference: reference.clone(),
                policy: PullPolicy::of(&container),
                credentials,
            };
            let progress = match self.shared.images.find(&order).await {
                Ok(Some(image)) => Progress::Ready(image),
                Err(why) => Progress::Failed { why, failures: failures + 1, at: now },
                Ok(None) => {
                    self.begin_pull(container.name.clone(), order, failures);
                    Progress::UnderWay { failures }
                }
            };
            self.images.insert(container.name.clone(), NeededImage { reference, progress });
        }
    }

    fn begin_pull(&mut self, container: String, order: FetchOrder, failures: u32) {
        let images = self.shared.images.clone();
        self.begin(Box::pin(async move {
            let reference = order.reference.clone();
            let result = images.pull(order).await;
            Done::Fetched { container, reference, failures, result }
        }));
    }

    /// `None` while it is not known what the pod's pull secrets hold.
    fn credentials(
        &mut self,
        reference: &str,
        references: &References,
    ) -> Option<Vec<Credentials>> {
        let names = self.pod.spec().image_pull_secrets.clone().unwrap_or_default();
        let mut secrets = Vec::new();
        let mut missing = Vec::new();
        for name in names.into_iter().map(|it| it.name).filter(|name| !name.is_empty()) {
            match references.secret(&name) {
                Lookup::Found(secret) => secrets.push(secret),
                Lookup::Missing => missing.push(name),
                Lookup::Unknown => return None,
            }
        }
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may \
                 not succeed.",
                missing.join(", ")
            );
            self.warn_once("FailedToRetrieveImagePullSecret", message, "");
        }
        let secrets: Vec<_> = secrets.iter().map(|secret| &**secret).collect();
        let image = reference.parse();
        Some(image.map(|image| credentials_for(&image, &secrets)).unwrap_or_default())
    }
}
