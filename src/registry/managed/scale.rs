//! The managers of a workload as its scale shows them, and back: the number of replicas is at
//! another place there, and of another version (apimachinery
//! pkg/util/managedfields/scalehandler.go, v1.35).
//!
//! Unlike upstream, an owner who keeps the replicas through a write of the scale keeps its one
//! entry, and an entry that comes by the scale has a time.

use super::element::Element;
use super::entries::{self, Entry};
use super::set::FieldSet;
use super::updater::add;
use std::borrow::Cow;

/// The version of scales.
pub const SCALE_VERSION: &str = "autoscaling/v1";

const REPLICAS: &[&str] = &["spec", "replicas"];

/// Where a workload has its number of replicas.
#[derive(Clone, Copy, Debug)]
pub struct Scaled<'a> {
    /// `apps/v1`
    pub version: &'a str,
    /// `spec`, `replicas`
    pub replicas: &'a [&'a str],
}

fn has(fields: &FieldSet<'_>, path: &[&str]) -> bool {
    let path: Vec<_> = path.iter().map(|name| Element::field(name)).collect();
    fields.has_path(&path)
}

/// The managers of the scale, of those of the workload.
#[must_use]
pub fn of_scale(managed: Option<&str>, scaled: Scaled<'_>) -> Option<String> {
    let mut entries = entries::parse(managed?).ok()?;
    entries.retain(|entry| {
        entry.owner.version == scaled.version && has(&entry.fields, scaled.replicas)
    });
    for entry in &mut entries {
        entry.owner.version = Cow::Borrowed(SCALE_VERSION);
        entry.fields = FieldSet::of_names(REPLICAS);
    }
    entries::write(entries)
}

/// The managers of the workload when those of its scale have become these.
#[must_use]
pub fn of_workload<'a>(
    managed: Option<&'a str>,
    scale: Option<&'a str>,
    scaled: Scaled<'a>,
) -> Option<String> {
    let read =
        |json: Option<&'a str>| json.and_then(|json| entries::parse(json).ok()).unwrap_or_default();
    let replicas = FieldSet::of_names(scaled.replicas);
    let mut scalers: Vec<Entry<'_>> = read(scale);
    scalers.retain(|entry| has(&entry.fields, REPLICAS));
    for entry in &mut scalers {
        entry.owner.version = Cow::Borrowed(scaled.version);
        entry.fields = replicas.clone();
    }
    let mut entries = read(managed);
    for entry in &mut entries {
        let before = scalers.len();
        if has(&entry.fields, scaled.replicas) {
            scalers.retain(|scaler| !(scaler.owner.is(&entry.owner) && scaler.time == entry.time));
            if scalers.len() == before {
                entry.fields = std::mem::take(&mut entry.fields).difference(&replicas);
            }
        }
    }
    entries.retain(|entry| !entry.fields.is_empty());
    scalers.into_iter().for_each(|entry| add(&mut entries, entry));
    entries::write(entries)
}
