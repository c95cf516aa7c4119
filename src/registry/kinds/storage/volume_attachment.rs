//! VolumeAttachments: that a volume should be attached to a node, and whether it is.
//!
//! Follows upstream `ValidateVolumeAttachment` and `ValidateVolumeAttachmentV1`
//! (pkg/apis/storage/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{immutable, invalid, to_value};
use crate::registry::kinds::core::{podspec, validate_inline_volume};
use crate::registry::managed::Resets;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves, metadata,
};
use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{
    VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentStatus, VolumeError,
};
use serde_json::Value;

/// All keys and values of what the attacher tells together; beyond it the status is refused.
const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;

impl Resource for VolumeAttachment {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "volumeattachment",
        subresources: &[Subresource::STATUS],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::VOLUME_ATTACHMENT;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        // Upstream marks this column as one of names, too; a table has one.
        Column::text("Attacher", "The driver that attaches the volume."),
        Column::text("PV", "The volume."),
        Column::text("Node", "The node."),
        Column::boolean("Attached", "Whether the volume is attached."),
        Column::AGE,
    ];
    const UPDATES_UNCONDITIONALLY: bool = false;
    const RETURNS_DELETED: bool = true;

    fn resets(subresource: &str) -> Resets {
        Resets::of_bare_status(subresource)
    }

    fn prepare_status_update(&mut self, old: &Self) {
        metadata::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("spec");
        let mut errors =
            podspec::validate_driver_name(&self.spec.attacher, &path.child("attacher"));
        errors.extend(validate_source(&self.spec.source, &path.child("source")));
        let node = &self.spec.node_name;
        let problems = names::dns1123_subdomain(node);
        errors.extend(invalid(&path.child("nodeName"), node, problems));
        errors.extend(self.status.iter().flat_map(validate_status));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let spec = |one: &Self| to_value(&one.spec);
        immutable(&FieldPath::new("spec"), spec(self), &spec(old)).into_iter().collect()
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        self.status.iter().flat_map(validate_status).collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let volume = self.spec.source.persistent_volume_name.clone().unwrap_or_default();
        vec![
            cells::name(&self.metadata),
            self.spec.attacher.clone().into(),
            volume.into(),
            self.spec.node_name.clone().into(),
            self.status.as_ref().is_some_and(|status| status.attached).into(),
            cells::age(&self.metadata, now),
        ]
    }
}

fn validate_source(source: &VolumeAttachmentSource, path: &FieldPath) -> Vec<FieldError> {
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&source.inline_volume_spec, source.persistent_volume_name.as_deref()) {
        (None, None) => vec![FieldError::required(path, detail)],
        (Some(_), Some(_)) => vec![FieldError::forbidden(path, detail)],
        (Some(spec), None) => validate_inline_volume(spec, &path.child("inlineVolumeSpec")),
        (None, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            vec![FieldError::required(&path.child("persistentVolumeName"), detail)]
        }
        (None, Some(name)) => {
            let path = path.child("persistentVolumeName");
            invalid(&path, name, names::dns1123_subdomain(name))
        }
    }
}

fn validate_status(status: &VolumeAttachmentStatus) -> Vec<FieldError> {
    let path = FieldPath::new("status");
    let told = status.attachment_metadata.iter().flatten();
    let mut errors = Vec::new();
    if told.map(|(key, value)| key.len() + value.len()).sum::<usize>() > METADATA_BYTES_MAX {
        let path = path.child("attachmentMetadata");
        errors.push(FieldError::too_long(&path, METADATA_BYTES_MAX));
    }
    for (field, error) in
        [("attachError", &status.attach_error), ("detachError", &status.detach_error)]
    {
        errors.extend(error.iter().flat_map(|error| validate_error(error, &path.child(field))));
    }
    errors
}

fn validate_error(error: &VolumeError, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if error.message.as_ref().is_some_and(|message| message.len() > MESSAGE_BYTES_MAX) {
        // As upstream: the error names the limit of the metadata.
        errors.push(FieldError::too_long(&path.child("message"), METADATA_BYTES_MAX));
    }
    if let Some(code) = error.error_code.filter(|code| *code < 0) {
        let detail = "must be between 0 and 2147483647, inclusive";
        errors.push(FieldError::invalid(&path.child("errorCode"), code, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
    use serde_json::json;

    fn attachment() -> Case {
        Case::of(
            "volumeattachments",
            json!({
                "metadata": {"name": "a"},
                "spec": {
                    "attacher": "d.io", "nodeName": "one",
                    "source": {"persistentVolumeName": "v"},
                },
            }),
        )
    }

    #[test]
    fn what_is_attached() {
        check(&attachment(), &[]);
        let csi = json!({"driver": "d.io", "volumeHandle": "h"});
        let inline = |spec: serde_json::Value| {
            let source = json!({"persistentVolumeName": null, "inlineVolumeSpec": spec});
            attachment().with(json!({"spec": {"source": source}}))
        };
        check(&inline(json!({"csi": csi, "accessModes": ["ReadWriteOnce"]})), &[]);
        check(
            &inline(json!({
                "hostPath": {"path": "/a"}, "capacity": {"storage": "1"}, "claimRef": {},
                "persistentVolumeReclaimPolicy": "Delete", "nodeAffinity": {},
                "storageClassName": "a", "volumeMode": "Block",
            })),
            &[
                "spec.source.inlineVolumeSpec.claimRef: Forbidden: may not be specified in the context of inline volumes",
                "spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes",
                "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
                "spec.source.inlineVolumeSpec.accessModes: Required value",
                "spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of inline volumes",
                "spec.source.inlineVolumeSpec.nodeAffinity: Forbidden: may not be specified in the context of inline volumes",
                "spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes",
                "spec.source.inlineVolumeSpec.volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context of inline volumes",
            ],
        );
        check(
            &attachment()
                .with(json!({"spec": {"attacher": "", "nodeName": "A", "source": null}}))
                .with(json!({"spec": {"source": {}}})),
            &[
                "spec.attacher: Required value",
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                "spec.nodeName: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            ],
        );
    }

    #[test]
    fn the_wish_stays_and_the_status_tells() {
        check_update(
            &attachment(),
            &attachment().with(json!({"spec": {"nodeName": "two"}})),
            &["spec: Invalid value: {\"attacher\":\"d.io\",\"nodeName\":\"two\""],
        );
        check_status_update(
            &attachment(),
            &attachment().with(json!({"status": {
                "attached": true, "attachError": {"message": "m".repeat(1025), "errorCode": -1},
                "attachmentMetadata": {"a": "b".repeat(262_144)},
            }})),
            &[
                "status.attachmentMetadata: Too long: may not be more than 262144 bytes",
                "status.attachError.message: Too long: may not be more than 262144 bytes",
                "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ],
        );
    }
}
