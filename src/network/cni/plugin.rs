//! Runs one plugin: the protocol of the CNI specification, section 4, over a process.

use super::result::PluginError;
use crate::sys::process::{ProcessError, Program};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A plugin that takes longer is given up; the attachment fails and is tried again.
const PLUGIN_DEADLINE: Duration = Duration::from_secs(60);

/// What a plugin is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
}

/// What is the same for all plugins of an attachment.
#[derive(Clone, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) container: &'a str,
    pub(super) namespace: &'a Path,
    pub(super) interface: &'static str,
    pub(super) arguments: String,
    pub(super) directories: &'a [PathBuf],
}

#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("plugin {name} is in none of {directories}")]
    Missing { name: String, directories: String },
    #[error("plugin {name} could not be run")]
    Run {
        name: String,
        #[source]
        source: ProcessError,
    },
    #[error("plugin {name} refused")]
    Refused {
        name: String,
        #[source]
        source: PluginError,
    },
    #[error("plugin {name} answered what is no result")]
    Answer {
        name: String,
        #[source]
        source: serde_json::Error,
    },
}

/// Runs the plugin of that name. A deletion answers nothing.
pub(super) async fn call(
    verb: Verb,
    name: &str,
    surroundings: &Surroundings<'_>,
    request: &Value,
) -> Result<Value, CallError> {
    let named = || name.to_owned();
    let path = find(name, surroundings.directories)?;
    let command = match verb {
        Verb::Add => "ADD",
        Verb::Del => "DEL",
    };
    let search = std::env::join_paths(surroundings.directories).unwrap_or_default();
    let finished = Program::new(path)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", surroundings.container)
        .env("CNI_NETNS", surroundings.namespace)
        .env("CNI_IFNAME", surroundings.interface)
        .env("CNI_ARGS", &surroundings.arguments)
        .env("CNI_PATH", search)
        .input(request.to_string())
        .deadline(PLUGIN_DEADLINE)
        .run()
        .await
        .map_err(|source| CallError::Run { name: named(), source })?;
    if !finished.status.success() {
        let source = serde_json::from_slice(&finished.stdout).unwrap_or_else(|_| PluginError {
            msg: String::from_utf8_lossy(&finished.stderr).trim().to_owned(),
            ..PluginError::default()
        });
        return Err(CallError::Refused { name: named(), source });
    }
    match verb {
        Verb::Del => Ok(Value::Null),
        Verb::Add => serde_json::from_slice(&finished.stdout)
            .map_err(|source| CallError::Answer { name: named(), source }),
    }
}

fn find(name: &str, directories: &[PathBuf]) -> Result<PathBuf, CallError> {
    // A name and no path: it cannot lead out of the directories.
    let paths = directories.iter().map(|directory| directory.join(name));
    let found = paths.filter(|_| !name.contains('/')).find(|path| path.is_file());
    found.ok_or_else(|| {
        let directories: Vec<_> = directories.iter().map(|one| one.display().to_string()).collect();
        CallError::Missing { name: name.to_owned(), directories: directories.join(", ") }
    })
}
