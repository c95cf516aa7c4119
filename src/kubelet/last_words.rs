//! What a container leaves when it ends: upstream `getTerminationMessage` and
//! `readLastStringFromContainerLogs` (pkg/kubelet/kuberuntime/kuberuntime_container.go, v1.35).

use super::logs::last_text;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Upstream `MaxContainerTerminationMessageLength`: the end of a longer file is taken.
const MESSAGE_BYTES_MAX: u64 = 4_096;
/// Upstream `MaxContainerTerminationMessageLogLength` and `...LogLines`.
const LOG_BYTES_MAX: usize = 2_048;
const LOG_LINES_MAX: u64 = 80;

/// Where a container's last words may be.
#[derive(Clone, Debug)]
pub(super) struct LastWords {
    /// `None`: the container has no such file.
    pub(super) file: Option<PathBuf>,
    pub(super) log: PathBuf,
    /// The end of the log will do where the file is empty.
    pub(super) falls_back: bool,
}

impl LastWords {
    /// Reads them. Whatever cannot be read is told in their place, for want of a better one.
    pub(super) fn read(&self) -> String {
        let text = match self.file.as_deref().map(end_of) {
            None => String::new(),
            Some(Ok(text)) => text,
            Some(Err(error)) => {
                let path = self.file.as_deref().unwrap_or(Path::new("")).display();
                return format!("Error on reading termination log {path}: {error}");
            }
        };
        if !text.is_empty() || !self.falls_back {
            return text;
        }
        last_text(&self.log, LOG_LINES_MAX, LOG_BYTES_MAX).unwrap_or_else(|error| {
            format!("Error on reading termination message from logs: {error}")
        })
    }
}

fn end_of(path: &Path) -> io::Result<String> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MESSAGE_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_file_goes_before_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let (file, log) = (directory.path().join("message"), directory.path().join("0.log"));
        fs::write(&log, "2026-01-02T03:04:05Z stderr F gone wrong\n").unwrap();
        let words =
            |falls_back| LastWords { file: Some(file.clone()), log: log.clone(), falls_back };
        assert_eq!(words(true).read(), "gone wrong\n");
        assert_eq!(words(false).read(), "");
        fs::write(&file, "disk on fire").unwrap();
        assert_eq!(words(true).read(), "disk on fire");
        fs::write(&file, "x".repeat(5_000) + "end").unwrap();
        let long = words(true).read();
        assert_eq!(long.len(), 4_096);
        assert!(long.ends_with("end"));
        let none = LastWords { file: None, log, falls_back: false };
        assert_eq!(none.read(), "");
    }
}
