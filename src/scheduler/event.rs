//! What happens in the cluster, as far as it may help a pod that fits nowhere.

use super::pod::PodFacts;
use crate::api::ObjectKey;
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};

/// Something that happened. Of two states the first is the older.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    NodeAdded(&'a Node),
    NodeChanged(&'a Node, &'a Node),
    NodeRemoved(&'a Node),
    /// A pod counts on a node now.
    PodPlaced(&'a PodFacts),
    /// A pod with a node.
    PodChanged(&'a PodFacts, &'a PodFacts),
    /// A pod does not count on its node any more.
    PodGone(&'a PodFacts),
    /// The waiting pod itself.
    OwnChange(&'a PodFacts, &'a PodFacts),
    /// Room that was being made for a pod is not needed any more.
    RoomFreed {
        priority: i32,
    },
    ClaimAdded(&'a ObjectKey),
    ClaimChanged(&'a ObjectKey),
    VolumeAdded,
    VolumeChanged(&'a PersistentVolume, &'a PersistentVolume),
    ClassAdded(&'a StorageClass),
    ClassChanged(&'a StorageClass, &'a StorageClass),
    CsiNodeAdded,
    CsiNodeChanged(&'a CSINode, &'a CSINode),
    CsiDriverChanged(&'a CSIDriver, &'a CSIDriver),
    /// A volume is not attached to its node any more.
    Detached,
    CapacityAdded,
    CapacityChanged(&'a CSIStorageCapacity, &'a CSIStorageCapacity),
}
