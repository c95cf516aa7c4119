//! One line for each request, where that is asked for: the "combined" format of Apache and nginx, and
//! after it how long it took, and where it went.
//!
//! Lines go through a bounded queue to one task, which writes what has come in one piece. Nobody waits
//! for it: what does not fit is left out, and how much is said in the log of the server.

use super::model::BackendId;
use crate::api::ObjectKey;
use crate::stdx::{Tasks, blocking, chain};
use http::{HeaderMap, HeaderName, Method, StatusCode, Version, header};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::warn;

/// With so many lines waiting to be written, further ones are left out.
const LINES_WAITING_MAX: usize = 4_096;

/// So many lines are written at once.
const LINES_AT_ONCE_MAX: usize = 512;

/// Longer texts of clients are cut, each.
const TEXT_BYTES_MAX: usize = 1_024;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct AccessLog {
    lines: mpsc::Sender<String>,
    left_out: Arc<AtomicU64>,
}

/// What is known of a request when it has come.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) peer: IpAddr,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) version: Version,
    pub(super) host: String,
    pub(super) referer: String,
    pub(super) agent: String,
    pub(super) source: Option<ObjectKey>,
    pub(super) backend: Option<BackendId>,
    pub(super) endpoint: Option<SocketAddr>,
}

/// A header, for [`Entry`]; empty where there is none.
pub(super) fn text_of(headers: &HeaderMap, name: HeaderName) -> String {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.map(std::borrow::Cow::into_owned).unwrap_or_default()
}

impl Entry {
    pub(super) fn line(&self, status: StatusCode, sent_bytes: u64, took: Duration) -> String {
        let time = self.at.to_zoned(TimeZone::UTC).strftime("%d/%b/%Y:%H:%M:%S %z");
        let mut line = format!("{} - - [{time}] \"{} ", self.peer, self.method);
        escape(&mut line, &self.target);
        write!(line, " {:?}\" {} {sent_bytes} \"", self.version, status.as_u16()).expect(WRITTEN);
        escape(&mut line, &self.referer);
        line.push_str("\" \"");
        escape(&mut line, &self.agent);
        write!(line, "\" {:.3} ", took.as_secs_f64()).expect(WRITTEN);
        escape(&mut line, if self.host.is_empty() { "-" } else { &self.host });
        let source = self.source.as_ref().map_or("-".to_owned(), ObjectKey::to_string);
        let backend = self.backend.as_ref().map_or("-".to_owned(), |id| {
            let port = if id.port.is_empty() { "" } else { ":" };
            format!("{}{port}{}", id.service, id.port)
        });
        let endpoint = self.endpoint.map_or("-".to_owned(), |address| address.to_string());
        writeln!(line, " {source} {backend} {endpoint}").expect(WRITTEN);
        line
    }
}

/// Writing to a String cannot fail.
const WRITTEN: &str = "a String takes any text";

/// A client must not be able to write lines of its own.
fn escape(line: &mut String, text: &str) {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    for letter in text[..end].chars() {
        match letter {
            '"' | '\\' => line.extend(['\\', letter]),
            letter if letter.is_control() => {
                write!(line, "\\x{:02x}", u32::from(letter)).expect(WRITTEN);
            }
            letter => line.push(letter),
        }
    }
}

impl AccessLog {
    /// Writes to a file, or with `-` to the standard output. A file that is moved away, as logrotate
    /// does, is made anew.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub(super) fn open(path: &Path, tasks: &mut Tasks) -> io::Result<Self> {
        let mut output = Output::open(path)?;
        let (lines, mut waiting) = mpsc::channel(LINES_WAITING_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let (counted, shutdown) = (Arc::clone(&left_out), tasks.shutdown());
        tasks.spawn("ingress-log", async move {
            let mut pieces: Vec<String> = Vec::new();
            loop {
                let some = waiting.recv_many(&mut pieces, LINES_AT_ONCE_MAX);
                if shutdown.run_until_cancelled(some).await.is_none_or(|count| count == 0) {
                    break;
                }
                let text = std::mem::take(&mut pieces).concat();
                let (back, written) = blocking(move || {
                    let written = output.write(text.as_bytes());
                    (output, written)
                })
                .await;
                output = back;
                let missing = counted.swap(0, Ordering::Relaxed);
                if let Err(error) = written {
                    warn!(error = chain(&error), "the log of the ingress cannot be written");
                } else if missing > 0 {
                    warn!("{missing} lines were left out of the log of the ingress");
                }
            }
            shutdown.cancelled().await;
        });
        Ok(Self { lines, left_out })
    }

    pub(super) fn write(&self, line: &str) {
        if self.lines.try_send(line.to_owned()).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
enum Output {
    Standard,
    File { path: PathBuf, file: File },
}

impl Output {
    fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Standard);
        }
        Ok(Self::File { path: path.to_owned(), file: append(path)? })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Standard => io::stdout().lock().write_all(bytes),
            Self::File { path, file } => {
                let own = file.metadata()?.ino();
                if std::fs::metadata(&*path).map(|it| it.ino()).ok() != Some(own) {
                    *file = append(path)?;
                }
                file.write_all(bytes)
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// The headers that a line shows.
pub(super) const REFERER: HeaderName = header::REFERER;
pub(super) const AGENT: HeaderName = header::USER_AGENT;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: Timestamp::from_second(1_800_000_000).unwrap(),
            peer: "192.0.2.7".parse().unwrap(),
            method: Method::GET,
            target: "/a?b=\"c\"".to_owned(),
            version: Version::HTTP_2,
            host: "a.example".to_owned(),
            referer: String::new(),
            agent: "curl\n1".to_owned(),
            source: Some(ObjectKey::namespaced("n", "i")),
            backend: Some(BackendId {
                service: ObjectKey::namespaced("n", "s"),
                port: "http".to_owned(),
            }),
            endpoint: Some("10.42.0.2:80".parse().unwrap()),
        }
    }

    #[test]
    fn a_line_says_what_was_asked_and_what_came_of_it() {
        let took = Duration::from_micros(1_500);
        assert_eq!(
            entry().line(StatusCode::OK, 12, took),
            "192.0.2.7 - - [15/Jan/2027:08:00:00 +0000] \"GET /a?b=\\\"c\\\" HTTP/2.0\" 200 12 \
             \"\" \"curl\\x0a1\" 0.002 a.example n/i n/s:http 10.42.0.2:80\n"
        );
        let unknown =
            Entry { host: String::new(), source: None, backend: None, endpoint: None, ..entry() };
        let line = unknown.line(StatusCode::NOT_FOUND, 0, took);
        assert!(line.ends_with(" - - - -\n"), "{line}");
    }

    #[tokio::test]
    async fn lines_are_written_and_a_file_that_was_moved_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut output = Output::open(&path).unwrap();
        output.write(b"one\n").unwrap();
        std::fs::rename(&path, directory.path().join("access.log.1")).unwrap();
        output.write(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }
}
