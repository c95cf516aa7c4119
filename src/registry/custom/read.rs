//! Custom resources between the store and the version that is asked for.

use super::definition::{Conversion, CustomVersion, Version};
use super::version::CompiledVersion;
use crate::registry::schema::structural::{embedded, prune};
use bytes::Bytes;
use serde_json::{Value, json};

/// What has to be done so that a version shows what is stored, or the other way round.
#[derive(Debug)]
pub enum Reading {
    Done(Bytes),
    /// Somebody has to convert this first; [`CustomVersion::converted`] goes on.
    Convert(Value),
}

impl CustomVersion {
    /// What this version shows of stored bytes.
    ///
    /// # Errors
    /// Where they are not of any version.
    pub fn shown(&self, stored: &[u8]) -> Result<Reading, serde_json::Error> {
        let mut value: Value = serde_json::from_slice(stored)?;
        if let Some(from) = self.other_version(&value) {
            complete(&mut value, &from.compiled);
            if matches!(self.definition.conversion, Conversion::Webhook(_)) {
                return Ok(Reading::Convert(value));
            }
        }
        self.converted(value).map(Reading::Done)
    }

    /// The version that an object is of, where it is another than this.
    fn other_version(&self, value: &Value) -> Option<&Version> {
        let own = value["apiVersion"].as_str().unwrap_or_default();
        let mut versions = self.definition.versions.iter();
        versions.find(|version| version.api_version == own && own != self.version().api_version)
    }

    /// What this version shows of an object that has become one of it.
    ///
    /// # Errors
    /// Where it has no metadata.
    pub fn converted(&self, mut value: Value) -> Result<Bytes, serde_json::Error> {
        value["apiVersion"] = json!(self.version().api_version);
        complete(&mut value, self.compiled());
        Ok(self.compiled().decode(value)?.encode())
    }

    /// What is stored of an object that this version shows.
    ///
    /// # Errors
    /// Where it is none.
    pub fn stored(&self, shown: Bytes) -> Result<Reading, serde_json::Error> {
        let storage = self.storage();
        if storage.version().api_version == self.version().api_version {
            return Ok(Reading::Done(shown));
        }
        let value: Value = serde_json::from_slice(&shown)?;
        match self.definition.conversion {
            Conversion::Webhook(_) => Ok(Reading::Convert(value)),
            Conversion::None => storage.converted(value).map(Reading::Done),
        }
    }
}

/// Fills in what was stored before the schema had it, and takes out what it has no more.
fn complete(value: &mut Value, version: &CompiledVersion) {
    version.fill_in(value);
    embedded::coerce_leniently(value, &version.schema);
    if !version.keeps_unknown {
        prune(value, &version.schema);
    }
}
