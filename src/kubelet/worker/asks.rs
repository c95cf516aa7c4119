//! Asks for the tokens of a pod when they are due, and for the volumes behind its claims.

use super::job::Done;
use super::pod::PodWorker;
use crate::client::ClientError;
use crate::kubelet::claims::find;
use crate::kubelet::tokens::{Token, TokenAsk, Tokens, adopt, ask, asks};
use crate::stdx::{blocking, chain};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::debug;

/// What volumes of one node name it by.
const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";

impl PodWorker {
    /// Begins to ask for what is due. The answers come beside the looks: an API server that is away
    /// holds nothing else up.
    pub(super) async fn look_for_tokens(&mut self, now: Timestamp) {
        if self.tokens.is_none() {
            self.tokens = Some(Tokens::new(&self.pod, self.tokens_left().await));
        }
        let due = self.tokens.as_mut().map(|tokens| tokens.due(now)).unwrap_or_default();
        for due in due {
            let (client, pod) = (self.shared.client.clone(), self.pod.clone());
            self.begin(Box::pin(async move {
                let result = ask(client, pod, due.clone()).await;
                Done::Token { ask: due, result }
            }));
        }
    }

    /// Begins to ask for what is not found yet, beside the looks as well.
    pub(super) fn look_for_claims(&mut self, now: Timestamp) {
        for volume in self.claims.due(now) {
            let (client, pod) = (self.shared.client.clone(), self.pod.clone());
            let node = self.shared.keeper.node().unwrap_or_else(|| self.node_to_be());
            self.begin(Box::pin(async move {
                let result = find(client, pod, volume.clone(), node).await;
                Done::Claim { volume, result }
            }));
        }
    }

    /// As the node will register: a process that has just started has not seen its object yet.
    fn node_to_be(&self) -> Arc<Node> {
        let settings = &self.shared.config.node;
        let mut labels = settings.labels.clone();
        labels.insert(HOSTNAME_LABEL.to_owned(), settings.name.clone());
        let metadata = ObjectMeta {
            name: Some(settings.name.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        Arc::new(Node { metadata, ..Node::default() })
    }

    /// The tokens that an earlier process has left in the volumes.
    async fn tokens_left(&self) -> BTreeMap<TokenAsk, Token> {
        let asks = asks(&self.pod);
        if asks.is_empty() {
            return BTreeMap::new();
        }
        let uid = self.pod.uid().to_owned();
        let directory = self.shared.config.volumes.pod_memory_dir(&uid);
        blocking(move || adopt(&directory, &uid, &asks)).await
    }

    pub(super) fn take_token(
        &mut self,
        ask: &TokenAsk,
        result: Result<Token, ClientError>,
        now: Timestamp,
    ) {
        let answer = result.map_err(|error| chain(&error));
        if let Err(error) = &answer {
            debug!(pod = %self.pod, error, "a token could not be had");
        }
        if let Some(tokens) = &mut self.tokens {
            tokens.take(ask, answer, now);
        }
    }
}
