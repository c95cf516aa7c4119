//! Which secrets a pod refers to, and whether its account lets it (upstream
//! `limitSecretReferences`, plugin/pkg/admission/serviceaccount, and `VisitPodSecretNames`,
//! pkg/api/pod, v1.35).

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EphemeralContainer, PodSpec, ServiceAccount, Volume,
};

/// An account with this set to a true value lends its pods only the secrets that it lists.
const ENFORCE_ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";

/// What refers to secrets in a container.
struct Container<'a> {
    role: &'static str,
    name: &'a str,
    env: &'a [EnvVar],
    env_from: &'a [EnvFromSource],
}

fn containers(spec: &PodSpec) -> Vec<Container<'_>> {
    let init = spec.init_containers.iter().flatten().map(|it| ("init container", it));
    let main = spec.containers.iter().map(|it| ("container", it));
    let mut all: Vec<_> = init
        .chain(main)
        .map(|(role, container)| Container {
            role,
            name: &container.name,
            env: container.env.as_deref().unwrap_or_default(),
            env_from: container.env_from.as_deref().unwrap_or_default(),
        })
        .collect();
    all.extend(ephemeral(spec.ephemeral_containers.as_deref().unwrap_or_default()));
    all
}

fn ephemeral(containers: &[EphemeralContainer]) -> impl Iterator<Item = Container<'_>> {
    containers.iter().map(|container| Container {
        role: "ephemeral container",
        name: &container.name,
        env: container.env.as_deref().unwrap_or_default(),
        env_from: container.env_from.as_deref().unwrap_or_default(),
    })
}

impl Container<'_> {
    /// What refers to a secret, with the secret's name.
    fn references(&self) -> impl Iterator<Item = (String, &str)> {
        let variables = self.env.iter().filter_map(|variable| {
            let secret = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
            Some((format!("envVar {}", variable.name), secret.name.as_str()))
        });
        let sources = self.env_from.iter().filter_map(|source| {
            Some(("envFrom".to_owned(), source.secret_ref.as_ref()?.name.as_str()))
        });
        variables.chain(sources)
    }
}

/// Whether the account lends the pod what it refers to. Accounts that do not say lend everything.
pub(super) fn check(spec: &PodSpec, account: &ServiceAccount) -> Result<(), String> {
    let annotations = account.metadata.annotations.as_ref();
    let enforce = annotations.and_then(|annotations| annotations.get(ENFORCE_ANNOTATION));
    // What Go's `strconv.ParseBool` takes for true.
    if !enforce.is_some_and(|it| matches!(&**it, "1" | "t" | "T" | "TRUE" | "true" | "True")) {
        return Ok(());
    }
    let account_name = account.metadata.name.as_deref().unwrap_or_default();
    let lent = |name: &str| {
        account.secrets.iter().flatten().any(|secret| secret.name.as_deref() == Some(name))
    };
    let denied = |what: &str| {
        format!(
            "{what} is not allowed because service account {account_name} does not reference that"
        )
    };
    for volume in spec.volumes.iter().flatten() {
        let secret = volume.secret.as_ref().map(|it| it.secret_name.as_deref().unwrap_or_default());
        if let Some(name) = secret.filter(|name| !lent(name)) {
            let what = format!("volume with secret.secretName=\"{name}\"");
            return Err(denied(&what) + " secret");
        }
    }
    for container in containers(spec) {
        if let Some((what, name)) = container.references().find(|(_, name)| !lent(name)) {
            let Container { role, name: container, .. } = &container;
            let what =
                format!("{role} {container} with {what} referencing secret.secretName=\"{name}\"");
            return Err(denied(&what) + " secret");
        }
    }
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if !account.image_pull_secrets.iter().flatten().any(|own| own.name == secret.name) {
            let what = format!("imagePullSecrets[{index}].name=\"{}\"", secret.name);
            return Err(denied(&what) + " imagePullSecret");
        }
    }
    Ok(())
}

/// Whether the pod refers to any secret.
pub(super) fn has_any(spec: &PodSpec) -> bool {
    spec.image_pull_secrets.as_ref().is_some_and(|secrets| !secrets.is_empty())
        || containers(spec).iter().any(|container| container.references().next().is_some())
        || spec.volumes.iter().flatten().any(is_secret)
}

fn is_secret(volume: &Volume) -> bool {
    let projected = volume.projected.as_ref().and_then(|it| it.sources.as_deref());
    volume.secret.is_some()
        || volume.azure_file.is_some()
        || projected.unwrap_or_default().iter().any(|source| source.secret.is_some())
        || volume.cephfs.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.cinder.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.flex_volume.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.rbd.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.scale_io.is_some()
        || volume.iscsi.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.storageos.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.csi.as_ref().is_some_and(|it| it.node_publish_secret_ref.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check_spec(spec: &Value, expected: &str) {
        let account = json!({"metadata": {"name": "a", "annotations": {ENFORCE_ANNOTATION: "true"}},
            "secrets": [{"name": "own"}], "imagePullSecrets": [{"name": "pull"}]});
        let account = serde_json::from_value(account).unwrap();
        let mut full = json!({"containers": []});
        json_patch::merge(&mut full, spec);
        let result = check(&serde_json::from_value(full).unwrap(), &account);
        assert_eq!(result.err().unwrap_or_default(), expected, "{spec}");
    }

    #[test]
    fn accounts_lend_only_what_they_list_where_they_say_so() {
        let because = "is not allowed because service account a does not reference that";
        check_spec(&json!({"volumes": [{"name": "v", "secret": {"secretName": "own"}}]}), "");
        check_spec(
            &json!({"volumes": [{"name": "v", "secret": {"secretName": "x"}}]}),
            &format!("volume with secret.secretName=\"x\" {because} secret"),
        );
        let env = json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k"}}}]);
        check_spec(
            &json!({"initContainers": [{"name": "c", "env": env}]}),
            &format!(
                "init container c with envVar E referencing secret.secretName=\"x\" {because} secret"
            ),
        );
        check_spec(
            &json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "x"}}]}]}),
            &format!(
                "container c with envFrom referencing secret.secretName=\"x\" {because} secret"
            ),
        );
        check_spec(
            &json!({"imagePullSecrets": [{"name": "pull"}, {"name": "x"}]}),
            &format!("imagePullSecrets[1].name=\"x\" {because} imagePullSecret"),
        );
    }

    #[test]
    fn accounts_that_say_nothing_lend_everything() {
        let spec = json!({"containers": [], "imagePullSecrets": [{"name": "x"}]});
        let spec = serde_json::from_value(spec).unwrap();
        assert_eq!(check(&spec, &ServiceAccount::default()), Ok(()));
        assert!(has_any(&spec));
    }
}
