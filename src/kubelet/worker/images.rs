//! Images that the plan's containers need: found here, or fetched beside the looks.

use super::job::Done;
use super::pod::PodWorker;
use crate::kubelet::announce::{container_reference, pod_reference};
use crate::kubelet::container::references::{Lookup, References};
use crate::kubelet::images::FetchOrder;
use crate::kubelet::images::keyring::credentials_for;
use crate::kubelet::images::plan::{NeededImage, Next, Progress, PullPolicy, next};
use crate::kubelet::pod::plan::PodPlan;
use crate::runtime::{Credentials, ImageId};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference};
use std::collections::BTreeMap;

/// Before the name of a volume, where otherwise containers have theirs.
const OF_VOLUME: &str = "volume ";

fn of_volume(name: &str) -> String {
    format!("{OF_VOLUME}{name}")
}

/// An image that something needs.
struct Need {
    whose: String,
    reference: String,
    policy: PullPolicy,
    /// For events.
    regarding: ObjectReference,
}

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
        for need in self.needs(plan, now) {
            let Need { whose, reference, policy, regarding } = need;
            let Next::Fetch { failures } = next(self.images.get(&whose), &reference, now) else {
                continue;
            };
            let Some(credentials) = self.credentials(&reference, references) else {
                continue;
            };
            let order = FetchOrder { regarding, reference: reference.clone(), policy, credentials };
            let progress = match self.shared.images.find(&order).await {
                Ok(Some(image)) => Progress::Ready(image),
                Err(why) => Progress::Failed { why, failures: failures + 1, at: now },
                Ok(None) => {
                    self.begin_pull(whose.clone(), order, failures);
                    Progress::UnderWay { failures }
                }
            };
            self.images.insert(whose, NeededImage { reference, progress });
        }
    }

    /// The images of containers that are to start now, and those that are volumes of the pod.
    fn needs(&self, plan: &PodPlan, now: Timestamp) -> Vec<Need> {
        let waits = |name: &str| {
            self.start_failures.get(name).is_some_and(|failure| now < failure.retry_at)
        };
        let of_containers = plan.start.iter().filter_map(|start| {
            let container = start.slot.of(&self.pod);
            (!waits(&container.name)).then(|| Need {
                whose: container.name.clone(),
                reference: container.image.clone().unwrap_or_default(),
                policy: PullPolicy::of(container),
                regarding: container_reference(&self.pod, start.slot),
            })
        });
        let mut needs: Vec<_> = of_containers.collect();
        if !needs.is_empty() {
            let volumes = self.pod.spec().volumes.iter().flatten();
            needs.extend(volumes.filter_map(|volume| {
                let image = volume.image.as_ref()?;
                Some(Need {
                    whose: of_volume(&volume.name),
                    reference: image.reference.clone().unwrap_or_default(),
                    policy: PullPolicy::of_volume(image),
                    regarding: pod_reference(&self.pod),
                })
            }));
        }
        needs
    }

    /// The images that are volumes of a container, by the names of the volumes: upstream
    /// `toKubeContainerImageVolumes` (pkg/kubelet/kuberuntime/kuberuntime_manager.go, v1.35).
    ///
    /// # Errors
    /// For the first one that is not there, what is to be done about it.
    pub(super) fn image_volumes(
        &self,
        container: &Container,
        now: Timestamp,
    ) -> Result<BTreeMap<String, ImageId>, Next> {
        let mut images = BTreeMap::new();
        for mount in container.volume_mounts.iter().flatten() {
            let mut volumes = self.pod.spec().volumes.iter().flatten();
            let volume = volumes.find(|volume| volume.name == mount.name);
            let Some(image) = volume.and_then(|volume| volume.image.as_ref()) else { continue };
            let reference = image.reference.as_deref().unwrap_or_default();
            match next(self.images.get(&of_volume(&mount.name)), reference, now) {
                Next::Use(image) => {
                    images.insert(mount.name.clone(), image.id);
                }
                next => return Err(next),
            }
        }
        Ok(images)
    }

    /// The containers of this look have started: the next ones need the images of volumes anew.
    pub(super) fn forget_image_volumes(&mut self) {
        self.images.retain(|whose, _| !whose.starts_with(OF_VOLUME));
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
