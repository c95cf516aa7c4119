//! Files of one volume that are in each other's way (upstream `warningsForOverlappingVirtualPaths`).

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, Volume, VolumeProjection,
};

/// More files of a volume than this are not compared with each other.
const COMPARED_MAX: usize = 1000;
/// More collisions in a volume than this are not told.
const TOLD_MAX: usize = 16;

/// A file of a volume, and where it comes from, where that is to be told.
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &str, source: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
    }

    fn shown(&self) -> String {
        let Self { path, source } = self;
        if source.is_empty() { format!("{path:?}") } else { format!("{path:?} ({source})") }
    }

    fn is_in_the_way_of(&self, other: &Self) -> bool {
        let is_below = |one: &str, two: &str| {
            one.strip_prefix(two).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !self.path.is_empty()
            && !other.path.is_empty()
            && (is_below(&self.path, &other.path) || is_below(&other.path, &self.path))
    }
}

pub(super) fn overlaps(volumes: &[Volume]) -> Vec<String> {
    let mut warnings = Vec::new();
    for volume in volumes {
        let name = &volume.name;
        let mut told = |files: &[File], of: &str| {
            let pairs = colliding(files);
            warnings.extend(
                pairs.map(|pair| format!("volume {name:?} ({of}): overlapping paths: {pair}")),
            );
        };
        if let Some(map) = &volume.config_map {
            told(&of_keys(map.items.as_deref(), ""), &format!("ConfigMap {:?}", map.name));
        }
        if let Some(secret) = &volume.secret {
            let of = secret.secret_name.as_deref().unwrap_or_default();
            told(&of_keys(secret.items.as_deref(), ""), &format!("Secret {of:?}"));
        }
        if let Some(downward) = &volume.downward_api {
            told(&of_fields(downward.items.as_deref(), ""), "DownwardAPI");
        }
        if let Some(projected) = &volume.projected {
            told(&of_projected(projected), "Projected");
            let sources = projected.sources.iter().flatten();
            let empty = sources.filter(|source| **source == VolumeProjection::default());
            let none = |_| format!("volume {name:?} (Projected) has no sources provided");
            warnings.extend(empty.map(none));
        }
    }
    warnings
}

/// Each file with those before it that it collides with.
fn colliding(files: &[File]) -> impl Iterator<Item = String> {
    let files = &files[..files.len().min(COMPARED_MAX)];
    let pairs = files.iter().enumerate().flat_map(move |(index, file)| {
        let before = files[..index].iter().filter(|other| file.is_in_the_way_of(other));
        before.map(|other| format!("{} with {}", file.shown(), other.shown()))
    });
    pairs.take(TOLD_MAX)
}

fn of_keys(items: Option<&[KeyToPath]>, source: &str) -> Vec<File> {
    items.unwrap_or_default().iter().map(|item| File::new(&item.path, source)).collect()
}

fn of_fields(items: Option<&[DownwardAPIVolumeFile]>, source: &str) -> Vec<File> {
    items.unwrap_or_default().iter().map(|item| File::new(&item.path, source)).collect()
}

fn of_projected(volume: &ProjectedVolumeSource) -> Vec<File> {
    volume.sources.iter().flatten().flat_map(of_source).collect()
}

fn of_source(source: &VolumeProjection) -> Vec<File> {
    if let Some(map) = &source.config_map {
        return of_keys(map.items.as_deref(), &format!("ConfigMap {:?}", map.name));
    }
    if let Some(secret) = &source.secret {
        return of_keys(secret.items.as_deref(), &format!("Secret {:?}", secret.name));
    }
    if let Some(downward) = &source.downward_api {
        return of_fields(downward.items.as_deref(), "DownwardAPI");
    }
    if let Some(token) = &source.service_account_token {
        return vec![File::new(&token.path, "ServiceAccountToken")];
    }
    if let Some(bundle) = &source.cluster_trust_bundle {
        let name = bundle.name.as_ref().or(bundle.signer_name.as_ref());
        let of = format!("ClusterTrustBundle {:?}", name.map(String::as_str).unwrap_or_default());
        return vec![File::new(&bundle.path, &of)];
    }
    if let Some(certificate) = &source.pod_certificate {
        let files = [
            (&certificate.certificate_chain_path, "PodCertificate chain"),
            (&certificate.key_path, "PodCertificate key"),
            (&certificate.credential_bundle_path, "PodCertificate credential bundle"),
        ];
        let named = files.iter().filter_map(|(path, of)| Some(File::new(path.as_deref()?, of)));
        return named.collect();
    }
    Vec::new()
}
