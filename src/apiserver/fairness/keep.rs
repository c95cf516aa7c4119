//! Keeps what the server knows of FlowSchemas and priority levels, and what they are told about
//! themselves.

use super::config::{Levels, Schemas};
use super::dangling::{self, Telling};
use super::{Fairness, Objects, POISONED};
use crate::api::Status;
use crate::apiserver::follow::Follower;
use crate::apiserver::identity::Identity;
use crate::apiserver::server::Server;
use crate::stdx::chain;
use crate::stdx::http::{HttpService, Request, read_whole};
use crate::storage::{Entry, Event, Key};
use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

const SCHEMAS: &str = "/flowcontrol.apiserver.k8s.io/flowschemas/";
const LEVELS: &str = "/flowcontrol.apiserver.k8s.io/prioritylevelconfigurations/";

/// As which the server tells schemas about themselves (upstream `fieldManager`).
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";

/// After schemas were told something, they are looked at again only after this long, so that a
/// quarrel with somebody who says otherwise stays a slow one.
const PAUSE: Duration = Duration::from_secs(1);

/// An answer to one of these small requests is never larger.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

impl Fairness {
    /// What keeps it knowing.
    pub(in crate::apiserver) fn followers(self: &Arc<Self>) -> [Follower; 2] {
        [
            self.follower(SCHEMAS, |objects| (&mut objects.schemas, &mut objects.has_schemas)),
            self.follower(LEVELS, |objects| (&mut objects.levels, &mut objects.has_levels)),
        ]
    }

    fn follower<T: DeserializeOwned + 'static>(
        self: &Arc<Self>,
        prefix: &'static str,
        part: for<'a> fn(&'a mut Objects) -> (&'a mut BTreeMap<String, T>, &'a mut bool),
    ) -> Follower {
        let (of_list, of_event) = (Arc::clone(self), Arc::clone(self));
        let on_list = move |entries: Vec<Entry>| {
            let read = entries.iter().filter_map(|entry| {
                Some((name(prefix, &entry.key), read::<T>(&entry.key, &entry.value)?))
            });
            let all: BTreeMap<_, _> = read.collect();
            of_list.change(|objects| {
                let (known, is_known) = part(objects);
                *known = all;
                *is_known = true;
            });
        };
        let on_event = move |event: &Event| {
            let value = event.value.as_ref().and_then(|value| read::<T>(&event.key, value));
            of_event.change(|objects| {
                let (known, _) = part(objects);
                let name = name(prefix, &event.key);
                match value {
                    Some(value) => known.insert(name, value),
                    None => known.remove(&name),
                };
            });
        };
        Follower::of_objects(prefix, on_list, on_event)
    }

    /// What is to be told to schemas, once everything is known.
    fn tellings(&self, now: Timestamp) -> Vec<Telling> {
        let objects = self.objects.lock().expect(POISONED);
        if !(objects.has_schemas && objects.has_levels) {
            return Vec::new();
        }
        let (schemas, levels): (&Schemas, &Levels) = (&objects.schemas, &objects.levels);
        dangling::plan(schemas, levels, now)
    }
}

fn name(prefix: &str, key: &Key) -> String {
    key.as_str().strip_prefix(prefix).unwrap_or_default().to_owned()
}

fn read<T: DeserializeOwned>(key: &Key, stored: &Bytes) -> Option<T> {
    match serde_json::from_slice(stored) {
        Ok(object) => Some(object),
        Err(error) => {
            warn!(key = key.as_str(), error = chain(&error), "flow control goes on without it");
            None
        }
    }
}

/// Why a schema could not be told about itself.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("the server cannot be asked")]
    Ask(#[from] io::Error),
    #[error("the status of flow schema {name} was refused")]
    Refused {
        name: String,
        #[source]
        status: Box<Status>,
    },
}

/// Tells flow schemas whether their level is there, whenever that has changed.
pub(in crate::apiserver) async fn keep_conditions(server: Arc<Server>) {
    let fairness = server.in_flight.fairness();
    let api = server.local(Identity::api_server());
    let mut changed = fairness.changed.subscribe();
    loop {
        changed.borrow_and_update();
        let tellings = fairness.tellings(server.config.clock.now());
        if tellings.is_empty() {
            // The sender is in the server, which is here.
            changed.changed().await.ok();
            continue;
        }
        for told in join_all(tellings.into_iter().map(|telling| tell(&*api, telling))).await {
            if let Err(error) = told {
                warn!(error = chain(&error), "a flow schema is not told about itself for now");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn tell(api: &dyn HttpService, Telling { name, applied }: Telling) -> Result<(), TellError> {
    let path = format!(
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/{name}/status?fieldManager={MANAGER}\
         &force=true"
    );
    let mut request = Request::new(Bytes::from(applied.to_string()));
    *request.method_mut() = Method::PATCH;
    *request.uri_mut() = path.parse().expect("names of flow schemas are parts of paths");
    let apply = HeaderValue::from_static("application/apply-patch+yaml");
    request.headers_mut().insert(CONTENT_TYPE, apply);
    let response = api.call(request).await?;
    let code = response.status();
    let body = read_whole(response.into_body(), ANSWER_BYTES_MAX).await?;
    // One that is gone meanwhile has nothing to be told.
    if code.is_success() || code == StatusCode::NOT_FOUND {
        return Ok(());
    }
    let status = serde_json::from_slice(&body).unwrap_or_else(|_| Status::internal(code));
    Err(TellError::Refused { name, status: Box::new(status) })
}
