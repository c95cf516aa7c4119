//! Images that go when the disk fills: upstream pkg/kubelet/images/image_gc_manager.go (v1.35). Pure.

use crate::runtime::{ImageId, ImageStatus};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// When images go, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageGarbage {
    /// A disk this full, in percent, is made free down to the other.
    pub high_percent: u64,
    pub low_percent: u64,
    /// A younger image may be about to be used.
    pub age_min: SignedDuration,
}

impl ImageGarbage {
    /// Upstream's defaults.
    pub const USUAL: Self =
        Self { high_percent: 85, low_percent: 80, age_min: SignedDuration::from_mins(2) };
}

/// Since when an image is here and when it was used last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    seen: Timestamp,
    used: Option<Timestamp>,
}

/// What is known of the images of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageLives(BTreeMap<ImageId, Life>);

impl ImageLives {
    /// Notes which images there are now, and which of them are used.
    pub fn note(&mut self, images: &[ImageStatus], used: &BTreeSet<ImageId>, now: Timestamp) {
        self.0.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let life = self.0.entry(image.id.clone()).or_insert(Life { seen: now, used: None });
            if used.contains(&image.id) {
                life.used = Some(now);
            }
        }
    }

    /// The images that go to make so much free, those that were not used for the longest first.
    /// What is used now, pinned or young stays.
    #[must_use]
    pub fn victims(
        &self,
        images: &[ImageStatus],
        bytes: u64,
        age_min: SignedDuration,
        now: Timestamp,
    ) -> Vec<ImageId> {
        let mut unused: Vec<_> = images
            .iter()
            .filter(|image| !image.pinned)
            .filter_map(|image| Some((image, self.0.get(&image.id)?)))
            .filter(|(_, life)| life.used != Some(now) && now.duration_since(life.seen) >= age_min)
            .collect();
        unused.sort_by_key(|(_, life)| (life.used, life.seen));
        let mut freed = 0_u64;
        let mut victims = Vec::new();
        for (image, _) in unused {
            if freed >= bytes {
                break;
            }
            freed = freed.saturating_add(image.size_bytes);
            victims.push(image.id.clone());
        }
        victims
    }
}

impl ImageGarbage {
    /// How much has to become free on a disk of that size; 0 where it is not full.
    #[must_use]
    pub fn excess_bytes(&self, capacity: u64, available: u64) -> u64 {
        let percent_used = 100 - available.min(capacity) * 100 / capacity.max(1);
        if percent_used < self.high_percent {
            return 0;
        }
        (capacity * (100 - self.low_percent) / 100).saturating_sub(available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn image(name: &str) -> ImageStatus {
        ImageStatus {
            id: ImageId(name.to_owned()),
            tags: vec![],
            digests: vec![],
            size_bytes: 10,
            user: String::new(),
            pinned: name == "pinned",
        }
    }

    #[test]
    fn full_disks_are_made_free() {
        let usual = ImageGarbage::USUAL;
        assert_eq!(usual.excess_bytes(1_000, 160), 0);
        assert_eq!(usual.excess_bytes(1_000, 150), 50);
        assert_eq!(usual.excess_bytes(1_000, 0), 200);
        assert_eq!(usual.excess_bytes(0, 0), 0);
    }

    #[test]
    fn what_was_not_used_for_the_longest_goes_first() {
        let mut lives = ImageLives::default();
        let old = ["never", "once", "often", "pinned"].map(image);
        let ids = |names: &[&str]| names.iter().map(|name| ImageId((*name).to_owned())).collect();
        lives.note(&old, &ids(&["once", "often"]), at(0));
        lives.note(&old, &ids(&["often"]), at(100));
        let now = ["never", "once", "often", "pinned", "young"].map(image);
        lives.note(&now, &BTreeSet::new(), at(290));
        lives.note(&now, &BTreeSet::new(), at(300));
        let age_min = SignedDuration::from_secs(120);
        let victims = |bytes| {
            let victims = lives.victims(&now, bytes, age_min, at(300));
            victims.into_iter().map(|id| id.0).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(victims(0), "");
        assert_eq!(victims(11), "never once");
        assert_eq!(victims(1_000), "never once often");
        lives.note(&now, &ids(&["once"]), at(400));
        let victims = lives.victims(&now, 1_000, age_min, at(400));
        assert_eq!(victims, ["never", "often"].map(|name| ImageId(name.to_owned())));
    }
}
