//! Where the objects of a kind are served, as data.

use super::ApiObject;
use crate::api::ObjectKey;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;
use std::fmt;

/// What stays as it is in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A kind as the API's paths name it. The texts are `Cow`s because custom resources come and go at
/// run time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceType {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub plural: Cow<'static, str>,
}

impl ResourceType {
    #[must_use]
    pub const fn of<K: ApiObject>() -> Self {
        Self {
            group: Cow::Borrowed(K::GROUP),
            version: Cow::Borrowed(K::VERSION),
            kind: Cow::Borrowed(K::KIND),
            plural: Cow::Borrowed(K::URL_PATH_SEGMENT),
        }
    }

    /// `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone().into_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `/apis/apps/v1/namespaces/default/deployments`; without a namespace, the objects of all
    /// namespaces or of the cluster.
    #[must_use]
    pub fn collection_path(&self, namespace: Option<&str>) -> String {
        let mut path = match &*self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if let Some(namespace) = namespace {
            path.push_str("/namespaces/");
            path.extend(utf8_percent_encode(namespace, SEGMENT));
        }
        path.push('/');
        path.push_str(&self.plural);
        path
    }

    /// The path of one object, or of a subresource of it.
    #[must_use]
    pub fn object_path(&self, key: &ObjectKey, subresource: Option<&str>) -> String {
        let mut path = self.collection_path(key.namespace.as_deref());
        path.push('/');
        path.extend(utf8_percent_encode(&key.name, SEGMENT));
        if let Some(subresource) = subresource {
            path.push('/');
            path.push_str(subresource);
        }
        path
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            formatter.write_str(&self.plural)
        } else {
            write!(formatter, "{}.{}", self.plural, self.group)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::{Node, Pod};
    use k8s_openapi::api::rbac::v1::ClusterRole;

    #[test]
    fn paths_are_those_of_the_api() {
        let pods = ResourceType::of::<Pod>();
        assert_eq!(pods.collection_path(None), "/api/v1/pods");
        assert_eq!(
            pods.object_path(&ObjectKey::namespaced("default", "web"), Some("status")),
            "/api/v1/namespaces/default/pods/web/status"
        );
        assert_eq!(
            ResourceType::of::<Deployment>().collection_path(Some("kube-system")),
            "/apis/apps/v1/namespaces/kube-system/deployments"
        );
        assert_eq!(
            ResourceType::of::<Node>().object_path(&ObjectKey::cluster("n1"), None),
            "/api/v1/nodes/n1"
        );
        assert_eq!(
            ResourceType::of::<ClusterRole>()
                .object_path(&ObjectKey::cluster("system:a/../b?"), None),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Aa%2F..%2Fb%3F"
        );
    }
}
