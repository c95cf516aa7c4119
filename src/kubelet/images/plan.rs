//! Whether a container's image is fetched now, waited for, or used. Pure.
//!
//! Upstream `EnsureImageExists` (pkg/kubelet/images/image_manager.go, v1.35), without its blocking:
//! a fetch is under way in the background while the rest of the pod goes on.

use crate::kubelet::pod::plan::Waiting;
use crate::runtime::images::{Reference, Version};
use crate::runtime::{ImageStatus, PullError};
use crate::stdx::Backoff;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource};
use std::time::Duration;

/// What passes between two tries to fetch an image.
const PULL_BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(10), longest: Duration::from_secs(300) };

/// A failure is shown as itself for this long, and as a wait after that.
const FAILURE_SHOWN: SignedDuration = SignedDuration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The container's; without one `Always` for the tag `latest` and `IfNotPresent` for others, as
    /// the API server defaults it.
    #[must_use]
    pub fn of(container: &Container) -> Self {
        let image = container.image.as_deref().unwrap_or_default();
        Self::read(container.image_pull_policy.as_deref(), image)
    }

    /// As [`PullPolicy::of`], of an image that is a volume.
    #[must_use]
    pub fn of_volume(source: &ImageVolumeSource) -> Self {
        let image = source.reference.as_deref().unwrap_or_default();
        Self::read(source.pull_policy.as_deref(), image)
    }

    fn read(policy: Option<&str>, image: &str) -> Self {
        match policy {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ => {
                let image = image.parse::<Reference>();
                let latest = image.is_ok_and(
                    |image| matches!(image.version(), Version::Tag(tag) if tag == "latest"),
                );
                if latest { Self::Always } else { Self::IfNotPresent }
            }
        }
    }
}

/// Why an image is not there, in the words of a container's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    InvalidName(String),
    NeverPull(String),
    Inspect(String),
    Pull(String),
}

impl Unavailable {
    #[must_use]
    pub fn of_pull(reference: &str, error: &PullError) -> Self {
        let text = crate::stdx::chain(error);
        match error {
            PullError::BadReference { .. } => Self::InvalidName(text),
            // Not every cause knows whose fault it is.
            _ => Self::Pull(format!("failed to pull image {reference:?}: {text}")),
        }
    }

    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName(_) => "InvalidImageName",
            Self::NeverPull(_) => "ErrImageNeverPull",
            Self::Inspect(_) => "ImageInspectError",
            Self::Pull(_) => "ErrImagePull",
        }
    }

    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::InvalidName(text)
            | Self::NeverPull(text)
            | Self::Inspect(text)
            | Self::Pull(text) => text,
        }
    }
}

/// How far the image of one container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    UnderWay { failures: u32 },
    Ready(ImageStatus),
    Failed { why: Unavailable, failures: u32, at: Timestamp },
}

/// The image that a container was last seen to need, and how far it is. Forgotten when the
/// container is made: the next one needs it anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededImage {
    pub reference: String,
    pub progress: Progress,
}

/// What to do about a container's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Begin to look for it or fetch it. So many tries have failed.
    Fetch {
        failures: u32,
    },
    /// It is being fetched.
    Await,
    Use(ImageStatus),
    /// Show this, and look again then.
    Wait {
        waiting: Waiting,
        until: Option<Timestamp>,
    },
}

/// Decides.
#[must_use]
pub fn next(needed: Option<&NeededImage>, reference: &str, now: Timestamp) -> Next {
    let needed = needed.filter(|needed| needed.reference == reference);
    match needed.map(|needed| &needed.progress) {
        None => Next::Fetch { failures: 0 },
        Some(Progress::UnderWay { .. }) => Next::Await,
        Some(Progress::Ready(image)) => Next::Use(image.clone()),
        Some(Progress::Failed { why: why @ Unavailable::InvalidName(message), .. }) => Next::Wait {
            waiting: Waiting { reason: why.reason(), message: message.clone() },
            // Only another name helps.
            until: None,
        },
        Some(Progress::Failed { why, failures, at }) => {
            let later =
                |duration: SignedDuration| at.saturating_add(duration).unwrap_or(Timestamp::MAX);
            let delay = PULL_BACKOFF.delay(*failures);
            let retry_at = later(SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX));
            let shown_until = later(FAILURE_SHOWN);
            if now >= retry_at {
                return Next::Fetch { failures: *failures };
            }
            let first = now < shown_until;
            let waiting = wait_words(why, reference, first);
            let until = if first { shown_until.min(retry_at) } else { retry_at };
            Next::Wait { waiting, until: Some(until) }
        }
    }
}

fn wait_words(why: &Unavailable, reference: &str, first: bool) -> Waiting {
    match why {
        Unavailable::Pull(message) if !first => Waiting {
            reason: "ImagePullBackOff",
            message: format!("Back-off pulling image {reference:?}: {}: {message}", why.reason()),
        },
        _ => Waiting { reason: why.reason(), message: why.message().to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn container(image: &str, policy: Option<&str>) -> Container {
        Container {
            image: Some(image.to_owned()),
            image_pull_policy: policy.map(str::to_owned),
            ..Container::default()
        }
    }

    #[test]
    fn the_policy_follows_the_tag_where_none_is_given() {
        for (image, policy, expected) in [
            ("nginx", None, PullPolicy::Always),
            ("nginx:latest", None, PullPolicy::Always),
            ("nginx:1.27", None, PullPolicy::IfNotPresent),
            ("host:5000/nginx", None, PullPolicy::Always),
            ("nginx", Some("Never"), PullPolicy::Never),
            ("nginx:1", Some("Always"), PullPolicy::Always),
        ] {
            assert_eq!(PullPolicy::of(&container(image, policy)), expected, "{image}");
        }
    }

    fn failed(why: Unavailable, failures: u32) -> NeededImage {
        let progress = Progress::Failed { why, failures, at: at(100) };
        NeededImage { reference: "web:1".to_owned(), progress }
    }

    /// `fetch 2`, `ErrImagePull until 103`.
    fn render(next: &Next) -> String {
        match next {
            Next::Fetch { failures } => format!("fetch {failures}"),
            Next::Await => "await".to_owned(),
            Next::Use(image) => format!("use {}", image.id),
            Next::Wait { waiting, until } => {
                let until = until.map_or("ever".to_owned(), |at| at.as_second().to_string());
                format!("{} until {until}", waiting.reason)
            }
        }
    }

    #[test]
    fn failures_are_shown_waited_out_and_tried_again() {
        let pull = |failures| failed(Unavailable::Pull("no route".to_owned()), failures);
        for (needed, now, expected) in [
            (pull(1), 100, "ErrImagePull until 103"),
            (pull(1), 103, "ImagePullBackOff until 110"),
            (pull(1), 110, "fetch 1"),
            (pull(2), 110, "ImagePullBackOff until 120"),
            (pull(9), 110, "ImagePullBackOff until 400"),
            (failed(Unavailable::NeverPull(String::new()), 1), 105, "ErrImageNeverPull until 110"),
            (
                failed(Unavailable::InvalidName(String::new()), 1),
                999,
                "InvalidImageName until ever",
            ),
        ] {
            assert_eq!(render(&next(Some(&needed), "web:1", at(now))), expected);
        }
    }

    #[test]
    fn another_image_begins_anew() {
        let old = failed(Unavailable::InvalidName(String::new()), 1);
        assert_eq!(render(&next(Some(&old), "web:2", at(101))), "fetch 0");
        assert_eq!(render(&next(None, "web:2", at(101))), "fetch 0");
    }

    #[test]
    fn the_wait_tells_of_the_failure() {
        let needed = failed(Unavailable::Pull("no route".to_owned()), 1);
        let Next::Wait { waiting, .. } = next(Some(&needed), "web:1", at(105)) else { panic!() };
        assert_eq!(waiting.message, "Back-off pulling image \"web:1\": ErrImagePull: no route");
    }
}
