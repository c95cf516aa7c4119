//! Tokens with which machines join: made, listed and removed as Secrets of `kube-system`, as kubeadm
//! does it (upstream cmd/kubeadm/app/apis/bootstraptoken/v1, v1.35), by the administrator.

use crate::api::ObjectKey;
use crate::client::remote::Remote;
use crate::client::{Client, DeleteOptions, Kubeconfig, Selection};
use crate::pki::{AuthorityHash, BootstrapToken, JoinToken};
use crate::stdx::{Clock, Entropy};
use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// The group that may join machines; all groups of tokens begin as it does.
pub const JOIN_GROUP: &str = "system:bootstrappers:kinglet:default-node-token";

const USAGE_PREFIX: &str = "usage-bootstrap-";

/// What is said of a token when it is made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// `None`: one is drawn.
    pub token: Option<BootstrapToken>,
    /// Zero: it is good until it is removed.
    pub ttl: SignedDuration,
    pub description: String,
    pub groups: Vec<String>,
    pub usages: Vec<String>,
}

/// A token, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    pub id: String,
    pub expires: Option<Timestamp>,
    pub usages: Vec<String>,
    pub description: String,
    pub groups: Vec<String>,
}

/// What is done about tokens.
#[derive(Clone, Debug)]
pub enum TokenCommand {
    Create(NewToken),
    List,
    /// By id.
    Delete(Vec<String>),
}

/// What has come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenAnswer {
    /// The whole token.
    Created(String),
    Listed(Vec<TokenFacts>),
    Deleted(Vec<String>),
}

/// Carries out a command as the administrator of `kubeconfig`.
///
/// # Errors
/// Where the server is away, or says no.
pub fn manage_tokens(kubeconfig: &Path, command: TokenCommand) -> anyhow::Result<TokenAnswer> {
    let config = Kubeconfig::read(kubeconfig)
        .context("a server writes the administrator's kubeconfig; --kubeconfig says where it is")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new(Arc::new(Remote::new(&config)?), "kinglet-token");
    runtime.block_on(async {
        match command {
            TokenCommand::Create(new) => create(&client, &config, new).await,
            TokenCommand::List => list(&client).await,
            TokenCommand::Delete(ids) => delete(&client, ids).await,
        }
    })
}

async fn create(
    client: &Client,
    config: &Kubeconfig,
    new: NewToken,
) -> anyhow::Result<TokenAnswer> {
    let entropy = Entropy::system();
    // What a version 4 UUID always says is in its middle: each letter is drawn from the other end.
    let draw = || u64::try_from(entropy.draw() & 0xffff_ffff).expect("32 bits fit");
    let token = new.token.clone().unwrap_or_else(|| BootstrapToken::drawn(draw));
    let secret = secret(&token, &new, Clock::system().now());
    client.create(&secret).await.map_err(|error| match error.is_already_exists() {
        true => anyhow::anyhow!("there is a token with the id {} already", token.id()),
        false => anyhow::Error::new(error),
    })?;
    let authority = std::str::from_utf8(&config.certificate_authority)
        .context("the authority in the kubeconfig is not PEM")?;
    let authority = Some(AuthorityHash::of_pem(authority));
    Ok(TokenAnswer::Created(JoinToken { authority, bootstrap: token }.to_string()))
}

async fn list(client: &Client) -> anyhow::Result<TokenAnswer> {
    let selection = Selection {
        namespace: Some(NAMESPACE.to_owned()),
        fields: Some(format!("type={TYPE}")),
        ..Selection::default()
    };
    let found = client.list::<Secret>(&selection).await?;
    Ok(TokenAnswer::Listed(found.items.iter().filter_map(facts).collect()))
}

async fn delete(client: &Client, ids: Vec<String>) -> anyhow::Result<TokenAnswer> {
    for id in &ids {
        let key = ObjectKey::namespaced(NAMESPACE, format!("{PREFIX}{id}"));
        match client.delete::<Secret>(&key, &DeleteOptions::default()).await {
            Err(error) if error.is_not_found() => bail!("there is no token with the id {id}"),
            other => other?,
        }
    }
    Ok(TokenAnswer::Deleted(ids))
}

fn secret(token: &BootstrapToken, new: &NewToken, now: Timestamp) -> Secret {
    let mut data = vec![
        ("token-id".to_owned(), token.id().to_owned()),
        ("token-secret".to_owned(), token.secret().to_owned()),
        ("auth-extra-groups".to_owned(), new.groups.join(",")),
    ];
    data.extend(new.usages.iter().map(|usage| (format!("{USAGE_PREFIX}{usage}"), "true".into())));
    if !new.description.is_empty() {
        data.push(("description".to_owned(), new.description.clone()));
    }
    if !new.ttl.is_zero() {
        let end = now.saturating_add(new.ttl).unwrap_or(Timestamp::MAX);
        let seconds = Timestamp::from_second(end.as_second()).unwrap_or(end);
        data.push(("expiration".to_owned(), seconds.to_string()));
    }
    let bytes = |(key, value): (String, String)| (key, ByteString(value.into_bytes()));
    Secret {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.to_owned()),
            name: Some(format!("{PREFIX}{}", token.id())),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(data.into_iter().map(bytes).collect::<BTreeMap<_, _>>()),
        ..Secret::default()
    }
}

/// What of a token may be told.
fn facts(secret: &Secret) -> Option<TokenFacts> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| {
        let value = data.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned());
        value.unwrap_or_default()
    };
    let usages = data.iter().filter(|(_, value)| value.0 == b"true");
    let usages = usages.filter_map(|(key, _)| key.strip_prefix(USAGE_PREFIX));
    let groups = text("auth-extra-groups");
    Some(TokenFacts {
        id: secret.metadata.name.as_deref()?.strip_prefix(PREFIX)?.to_owned(),
        expires: text("expiration").parse().ok(),
        usages: usages.map(str::to_owned).collect(),
        description: text("description"),
        groups: groups.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_what_is_listed() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        let mut new = NewToken {
            token: None,
            ttl: SignedDuration::from_hours(24),
            description: "the cellar".to_owned(),
            groups: vec![JOIN_GROUP.to_owned()],
            usages: vec!["authentication".to_owned(), "signing".to_owned()],
        };
        let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let made = secret(&token, &new, now);
        assert_eq!(made.metadata.name.as_deref(), Some("bootstrap-token-abcdef"));
        let expected = TokenFacts {
            id: "abcdef".to_owned(),
            expires: Some("2026-01-02T00:00:00Z".parse().unwrap()),
            usages: new.usages.clone(),
            description: new.description.clone(),
            groups: new.groups.clone(),
        };
        assert_eq!(facts(&made), Some(expected));
        new.ttl = SignedDuration::ZERO;
        assert_eq!(facts(&secret(&token, &new, now)).unwrap().expires, None);
    }
}
