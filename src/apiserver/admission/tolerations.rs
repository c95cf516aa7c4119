//! Every pod stays on a node in trouble for five minutes, unless it says otherwise (upstream
//! `DefaultTolerationSeconds`, plugin/pkg/admission/defaulttolerationseconds, v1.35).

use super::{Attributes, Facts, Mutation, Plugin};
use crate::api::status::Status;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};

pub(super) const PLUGIN: Plugin = Plugin {
    name: "DefaultTolerationSeconds",
    mutation: Some(Mutation { wants: |_| Vec::new(), apply }),
    judgement: None,
};

const TAINTS: &[&str] = &["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// How long a pod stays, in seconds.
const TOLERATION_SECONDS: i64 = 300;

fn apply(attributes: &mut Attributes<'_>, _facts: &Facts<'_>) -> Result<(), Status> {
    if let Some(pod) = attributes.created::<Pod>() {
        complete(pod.spec.as_mut());
    } else if let Some((pod, _old)) = attributes.updated::<Pod>() {
        complete(pod.spec.as_mut());
    }
    Ok(())
}

fn complete(spec: Option<&mut PodSpec>) {
    let Some(spec) = spec else {
        return;
    };
    let mut tolerations = spec.tolerations.take().unwrap_or_default();
    for taint in TAINTS {
        if !tolerations.iter().any(|toleration| tolerates(toleration, taint)) {
            tolerations.push(Toleration {
                key: Some((*taint).to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(TOLERATION_SECONDS),
                value: None,
            });
        }
    }
    spec.tolerations = Some(tolerations);
}

fn tolerates(toleration: &Toleration, taint: &str) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tolerations: &[(&str, &str)], expected: &str) {
        let toleration = |(key, effect): &(&str, &str)| Toleration {
            key: Some((*key).to_owned()),
            effect: Some((*effect).to_owned()),
            ..Toleration::default()
        };
        let tolerations: Vec<_> = tolerations.iter().map(toleration).collect();
        let mut spec = PodSpec { tolerations: Some(tolerations), ..PodSpec::default() };
        complete(Some(&mut spec));
        let added = spec.tolerations.into_iter().flatten();
        let added: Vec<_> = added
            .filter(|toleration| toleration.toleration_seconds == Some(300))
            .filter_map(|toleration| toleration.key?.rsplit('/').next().map(str::to_owned))
            .collect();
        assert_eq!(added.join(" "), expected);
    }

    #[test]
    fn only_missing_tolerations_are_added() {
        check(&[], "not-ready unreachable");
        check(&[("node.kubernetes.io/not-ready", "NoExecute")], "unreachable");
        check(&[("node.kubernetes.io/not-ready", "NoSchedule")], "not-ready unreachable");
        check(&[("", "")], "");
    }
}
