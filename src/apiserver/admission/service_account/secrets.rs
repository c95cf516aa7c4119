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

/// Whether the account lends only the secrets that it lists. Those that do not say lend everything.
fn is_strict(account: &ServiceAccount) -> bool {
    let annotations = account.metadata.annotations.as_ref();
    let enforce = annotations.and_then(|annotations| annotations.get(ENFORCE_ANNOTATION));
    // What Go's `strconv.ParseBool` takes for true.
    enforce.is_some_and(|it| matches!(&**it, "1" | "t" | "T" | "TRUE" | "true" | "True"))
}

fn denied(what: &str, account: &ServiceAccount) -> String {
    let account = account.metadata.name.as_deref().unwrap_or_default();
    format!("{what} is not allowed because service account {account} does not reference that")
}

fn lends(account: &ServiceAccount, secret: &str) -> bool {
    account.secrets.iter().flatten().any(|own| own.name.as_deref() == Some(secret))
}

/// Whether the account lends the pod what it refers to.
pub(super) fn check(spec: &PodSpec, account: &ServiceAccount) -> Result<(), String> {
    if !is_strict(account) {
        return Ok(());
    }
    for volume in spec.volumes.iter().flatten() {
        let secret = volume.secret.as_ref().map(|it| it.secret_name.as_deref().unwrap_or_default());
        if let Some(name) = secret.filter(|name| !lends(account, name)) {
            let what = format!("volume with secret.secretName=\"{name}\"");
            return Err(denied(&what, account) + " secret");
        }
    }
    check_containers(containers(spec).into_iter(), account)?;
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if !account.image_pull_secrets.iter().flatten().any(|own| own.name == secret.name) {
            let what = format!("imagePullSecrets[{index}].name=\"{}\"", secret.name);
            return Err(denied(&what, account) + " imagePullSecret");
        }
    }
    Ok(())
}

/// As [`check`], of the containers that somebody adds to a pod that is there.
pub(super) fn check_ephemeral(spec: &PodSpec, account: &ServiceAccount) -> Result<(), String> {
    if !is_strict(account) {
        return Ok(());
    }
    check_containers(ephemeral(spec.ephemeral_containers.as_deref().unwrap_or_default()), account)
}

fn check_containers<'a>(
    containers: impl Iterator<Item = Container<'a>>,
    account: &ServiceAccount,
) -> Result<(), String> {
    for container in containers {
        if let Some((what, name)) = container.references().find(|(_, name)| !lends(account, name)) {
            let Container { role, name: container, .. } = &container;
            let what =
                format!("{role} {container} with {what} referencing secret.secretName=\"{name}\"");
            return Err(denied(&what, account) + " secret");
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
    fn containers_that_are_added_have_what_is_lent_as_well() {
        let account = json!({"metadata": {"name": "a", "annotations": {ENFORCE_ANNOTATION: "true"}},
            "secrets": [{"name": "own"}]});
        let account: ServiceAccount = serde_json::from_value(account).unwrap();
        let told = |secret: &str| {
            // What was there before is not judged again.
            let spec = json!({"containers": [], "imagePullSecrets": [{"name": "x"}],
                "ephemeralContainers": [{"name": "d", "envFrom": [{"secretRef": {"name": secret}}]}]});
            let result = check_ephemeral(&serde_json::from_value(spec).unwrap(), &account);
            result.err().unwrap_or_default()
        };
        assert_eq!(told("own"), "");
        assert_eq!(
            told("x"),
            "ephemeral container d with envFrom referencing secret.secretName=\"x\" is not allowed \
             because service account a does not reference that secret"
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
