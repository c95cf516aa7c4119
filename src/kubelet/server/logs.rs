//! Logs of containers: what is asked for, and which container is meant.

use super::{Query, Refusal, plain};
use crate::api::ObjectKey;
use crate::kubelet::logs::line::{Selection, seconds_before};
use crate::kubelet::logs::{LogRequest, read};
use crate::kubelet::worker::Shared;
use crate::runtime::{ContainerState, ContainerStatus};
use crate::stdx::chain;
use crate::stdx::http::Response;
use futures_util::future::BoxFuture;
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

/// What of a log is asked for.
#[derive(Debug)]
struct Asked {
    selection: Selection,
    follow: bool,
    previous: bool,
}

impl Asked {
    fn read(query: &Query, now: Timestamp) -> Result<Self, Refusal> {
        let given = |name: &str| query.get(name).filter(|value| !value.is_empty());
        let flag = |name: &str| match given(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(Refusal::bad(format!("{name}: must be true or false"))),
        };
        let number = |name: &str, least: i64| -> Result<Option<i64>, Refusal> {
            let number = given(name).map(|text| text.parse::<i64>());
            match number.transpose() {
                Ok(Some(number)) if number < least => {
                    let text = format!("{name}: must be greater than or equal to {least}");
                    Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text))
                }
                Ok(number) => Ok(number),
                Err(_) => Err(Refusal::bad(format!("{name}: must be a whole number"))),
            }
        };
        let moment = given("sinceTime").map(|text| text.parse::<Timestamp>()).transpose();
        let moment = moment.map_err(|_| Refusal::bad("sinceTime: must be an RFC 3339 time"))?;
        let seconds = number("sinceSeconds", 1)?.map(|seconds| seconds_before(now, seconds));
        let unsigned = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        Ok(Self {
            selection: Selection {
                tail: unsigned(number("tailLines", 0)?),
                since: moment.or(seconds),
                limit_bytes: unsigned(number("limitBytes", 1)?),
                timestamps: flag("timestamps")?,
            },
            follow: flag("follow")?,
            previous: flag("previous")?,
        })
    }
}

pub(super) async fn container_logs(
    shared: &Shared,
    key: &ObjectKey,
    container: &str,
    query: &Query,
) -> Result<Response, Refusal> {
    let asked = Asked::read(query, shared.clock.now())?;
    let Some(pod) = shared.pod_named(key, None) else {
        let text = format!("pod {:?} not found\n", key.name);
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    };
    if !super::has_container(&pod, container) {
        let text = format!("container {container:?} not found in pod {:?}\n", key.name);
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    }
    let found = find(shared, &pod, container, asked.previous).await?;
    let is_running = matches!(found.state, ContainerState::Running { .. });
    let follow_until = (asked.follow && is_running)
        .then(|| -> BoxFuture<'static, ()> { Box::pin(shared.exits.of(found.id.clone())) });
    let request = LogRequest { log: found.log_path, selection: asked.selection, follow_until };
    match read(request).await {
        Ok(body) => {
            let mut response = plain(StatusCode::OK, "");
            *response.body_mut() = body;
            Ok(response)
        }
        Err(error) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot read the log of container {container:?}: {}", chain(&error)),
        )),
    }
}

/// The container whose log is meant: upstream `validateContainerLogStatus`
/// (pkg/kubelet/kubelet_pods.go), on what the runtime has.
async fn find(
    shared: &Shared,
    pod: &Pod,
    name: &str,
    previous: bool,
) -> Result<ContainerStatus, Refusal> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let found = shared.runtime.pod(uid).await.map_err(|error| {
        let text = format!("cannot ask for the containers of pod {pod_name:?}: {}", chain(&error));
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    let mut containers: Vec<_> =
        found.containers.into_iter().filter(|container| container.name == name).collect();
    containers
        .sort_by_key(|container| std::cmp::Reverse((container.attempt, container.created_at)));
    let waits = waiting_reason(pod.status.as_ref(), name);
    choose(containers, previous, waits.is_some()).ok_or_else(|| {
        Refusal::bad(match (previous, waits.as_deref()) {
            (true, _) => {
                format!("previous terminated container {name:?} in pod {pod_name:?} not found")
            }
            (false, Some(reason)) => {
                let why = match reason {
                    "ErrImagePull" => "image can't be pulled",
                    "ImagePullBackOff" => "trying and failing to pull image",
                    reason => reason,
                };
                format!("container {name:?} in pod {pod_name:?} is waiting to start: {why}")
            }
            (false, None) => {
                format!("container {name:?} in pod {pod_name:?} is waiting to start - no logs yet")
            }
        })
    })
}

/// Of the containers of one name, the newest first. A container that waits to be started again has
/// its last end behind it, which is then what is meant by `previous`.
fn choose(
    containers: Vec<ContainerStatus>,
    previous: bool,
    waits: bool,
) -> Option<ContainerStatus> {
    let ended = |it: &ContainerStatus| matches!(it.state, ContainerState::Exited { .. });
    let mut ran =
        containers.into_iter().filter(|container| container.state != ContainerState::Created);
    if !previous {
        return ran.next();
    }
    let newest = ran.next()?;
    if waits && ended(&newest) { Some(newest) } else { ran.find(ended) }
}

fn waiting_reason(status: Option<&PodStatus>, name: &str) -> Option<String> {
    let status = status?;
    let statuses = [&status.container_statuses, &status.init_container_statuses];
    let mut statuses = statuses.into_iter().flatten().flatten();
    let found = statuses.find(|status| status.name == name)?;
    found.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{ContainerId, ImageId, PodIdentity, SandboxId};
    use std::collections::BTreeMap;

    fn container(attempt: u32, state: &str) -> ContainerStatus {
        let now = Timestamp::UNIX_EPOCH;
        ContainerStatus {
            id: ContainerId(format!("c{attempt}")),
            sandbox: SandboxId(String::new()),
            pod: PodIdentity::default(),
            name: "a".to_owned(),
            attempt,
            state: match state {
                "run" => ContainerState::Running { pid: 1, started_at: now },
                "made" => ContainerState::Created,
                _ => ContainerState::Exited {
                    exit_code: 1,
                    oom_killed: false,
                    started_at: Some(now),
                    finished_at: now,
                    message: String::new(),
                },
            },
            created_at: now,
            image: ImageId(String::new()),
            image_reference: String::new(),
            resources: crate::runtime::LinuxResources::default(),
            user: None,
            log_path: "/l".into(),
            labels: BTreeMap::new(),
        }
    }

    #[track_caller]
    fn check(states: &[&str], previous: bool, waits: bool, expected: Option<&str>) {
        let numbered = (0..).zip(states).map(|(attempt, state)| container(attempt, state));
        let mut containers: Vec<_> = numbered.collect();
        containers.reverse();
        let chosen = choose(containers, previous, waits).map(|it| it.id.0);
        assert_eq!(chosen.as_deref(), expected, "{states:?}");
    }

    #[test]
    fn the_newest_that_ran_is_meant_or_the_end_before_it() {
        check(&["run"], false, false, Some("c0"));
        check(&["exit", "run"], false, false, Some("c1"));
        check(&["exit", "made"], false, false, Some("c0"));
        check(&["made"], false, true, None);
        check(&[], false, true, None);
        check(&["exit", "run"], true, false, Some("c0"));
        check(&["run"], true, false, None);
        check(&["exit", "exit"], true, true, Some("c1"));
        check(&["exit", "exit"], true, false, Some("c0"));
    }

    fn asked(text: &str) -> Result<Asked, StatusCode> {
        let now = Timestamp::from_second(1_000).unwrap();
        Asked::read(&Query::parse(text), now).map_err(|refusal| refusal.code)
    }

    #[test]
    fn options_are_read_and_checked() {
        let all =
            asked("follow=true&previous=0&tailLines=5&sinceSeconds=10&timestamps=1&limitBytes=9");
        let all = all.unwrap();
        assert!(all.follow && !all.previous && all.selection.timestamps);
        assert_eq!((all.selection.tail, all.selection.limit_bytes), (Some(5), Some(9)));
        assert_eq!(all.selection.since.unwrap().as_second(), 990);
        let time = asked("sinceTime=1970-01-01T00%3A00%3A07Z").unwrap();
        assert_eq!(time.selection.since.unwrap().as_second(), 7);
        for (text, code) in [
            ("follow=maybe", 400),
            ("tailLines=x", 400),
            ("tailLines=-1", 422),
            ("limitBytes=0", 422),
            ("sinceSeconds=0", 422),
            ("sinceTime=yesterday", 400),
        ] {
            assert_eq!(asked(text).unwrap_err().as_u16(), code, "{text}");
        }
    }
}
