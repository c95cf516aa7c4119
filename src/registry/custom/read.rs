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
        let from = self.version_of(&value)?;
        complete(&mut value, &from.compiled);
        if from.api_version == self.version().api_version {
            return Ok(Reading::Done(self.compiled().decode(value)?.encode()));
        }
        match self.definition.conversion {
            Conversion::Webhook(_) => Ok(Reading::Convert(value)),
            Conversion::None => self.converted(value).map(Reading::Done),
        }
    }

    /// The version that an object is of (upstream `ConvertToVersion`, apiextensions
    /// pkg/apiserver/conversion/converter.go, v1.35).
    fn version_of(&self, value: &Value) -> Result<&Version, serde_json::Error> {
        let of = value["apiVersion"].as_str().unwrap_or_default();
        let mut versions = self.definition.versions.iter();
        versions.find(|version| version.api_version == of).ok_or_else(|| {
            let why = format!("request to convert CR from an invalid group/version: {of}");
            serde::de::Error::custom(why)
        })
    }

    /// What this version shows of an object that has become one of it. Defaults are those of the
    /// version that it was before.
    ///
    /// # Errors
    /// Where it has no metadata.
    pub fn converted(&self, mut value: Value) -> Result<Bytes, serde_json::Error> {
        value["apiVersion"] = json!(self.version().api_version);
        fit(&mut value, self.compiled());
        Ok(self.compiled().decode(value)?.encode())
    }

    /// Whether objects of this version are stored as they are shown.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.storage().version().api_version == self.version().api_version
    }

    /// What is stored of an object that this version shows.
    ///
    /// # Errors
    /// Where it is none.
    pub fn stored(&self, shown: Bytes) -> Result<Reading, serde_json::Error> {
        if self.is_stored() {
            return Ok(Reading::Done(shown));
        }
        let value: Value = serde_json::from_slice(&shown)?;
        match self.definition.conversion {
            Conversion::Webhook(_) => Ok(Reading::Convert(value)),
            Conversion::None => self.storage().converted(value).map(Reading::Done),
        }
    }
}

/// Fills in what was stored before the schema had it, and takes out what it has no more.
fn complete(value: &mut Value, version: &CompiledVersion) {
    version.fill_in(value);
    fit(value, version);
}

/// Takes out what the schema does not have (upstream `schemaCoercingConverter`).
fn fit(value: &mut Value, version: &CompiledVersion) {
    embedded::coerce_leniently(value, &version.schema);
    if !version.keeps_unknown {
        prune(value, &version.schema);
    }
}
