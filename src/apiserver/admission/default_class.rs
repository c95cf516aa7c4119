//! Which of several classes is the one for those who name none.

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::cmp::Reverse;

/// The newest class that has one of `annotations` set to `true`; of those equally new, the first by
/// name (upstream `GetDefaultClass`, pkg/volume/util/storageclass.go and
/// plugin/pkg/admission/network/defaultingressclass, v1.35).
pub(super) fn default_class<'a, K: Metadata<Ty = ObjectMeta> + 'a>(
    classes: impl Iterator<Item = &'a K>,
    annotations: &[&str],
) -> Option<&'a str> {
    let is_default = |metadata: &ObjectMeta| {
        let own = metadata.annotations.as_ref();
        let is_set =
            |name: &&str| own.and_then(|own| own.get(*name)).is_some_and(|it| it == "true");
        annotations.iter().any(is_set)
    };
    let defaults = classes.map(K::metadata).filter(|metadata| is_default(metadata));
    let created = |metadata: &ObjectMeta| metadata.creation_timestamp.as_ref().map(|time| time.0);
    let newest = defaults.min_by_key(|metadata| (Reverse(created(metadata)), &metadata.name));
    newest.and_then(|metadata| metadata.name.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::networking::v1::IngressClass;
    use serde_json::json;

    /// Each class with when it was made and the value of its annotation.
    fn check(classes: &[(&str, &str, &str)], expected: Option<&str>) {
        let class = |(name, day, value): &(&str, &str, &str)| -> IngressClass {
            serde_json::from_value(
                json!({"metadata": {"name": name, "annotations": {"default": value},
                "creationTimestamp": format!("2026-01-{day}T00:00:00Z")}}),
            )
            .unwrap()
        };
        let classes: Vec<_> = classes.iter().map(class).collect();
        assert_eq!(default_class(classes.iter(), &["other", "default"]), expected);
    }

    #[test]
    fn the_newest_default_counts() {
        check(&[], None);
        check(&[("a", "01", "false")], None);
        check(&[("a", "01", "true"), ("b", "02", "false")], Some("a"));
        check(&[("a", "01", "true"), ("b", "02", "true")], Some("b"));
        check(&[("b", "01", "true"), ("a", "01", "true")], Some("a"));
    }
}
