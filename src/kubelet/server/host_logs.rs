//! `/logs/`: the files below `/var/log` of the node, and lists of its directories (upstream
//! `InstallDebuggingHandlers` with `enableSystemLogHandler`, pkg/kubelet/server/server.go, v1.35).
//!
//! No part of a path may be a link that leads out of there: the kernel sees to it (openat2(2) with
//! `RESOLVE_BENEATH`).

use super::{Refusal, plain};
use crate::stdx::blocking;
use crate::stdx::http::{Response, streamed};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, openat2};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsFd as _;

const ROOT: &str = "/var/log";

/// What is read from a file at once.
const PIECE_BYTES: usize = 64 << 10;

enum Found {
    File(File, u64),
    Names(Vec<String>),
}

pub(super) async fn answer(path: &[&str]) -> Result<Response, Refusal> {
    let path = path.join("/");
    match blocking(move || open(&path)).await {
        Ok(Found::File(file, length)) => Ok(contents(file, length)),
        Ok(Found::Names(names)) => {
            let mut response = plain(StatusCode::OK, list(&names));
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found"))
        }
        Err(_else) => Err(Refusal::new(StatusCode::FORBIDDEN, "403 Forbidden")),
    }
}

fn open(path: &str) -> io::Result<Found> {
    let root = File::open(ROOT)?;
    let path = if path.is_empty() { "." } else { path };
    // A pipe that nobody writes to must not be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(root.as_fd(), path, flags, Mode::empty(), stay)?);
    let facts = file.metadata()?;
    if facts.is_file() {
        return Ok(Found::File(file, facts.len()));
    }
    if !facts.is_dir() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(&file)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            let is_directory = entry.file_type() == FileType::Directory;
            names.push(if is_directory { format!("{name}/") } else { name });
        }
    }
    names.sort();
    Ok(Found::Names(names))
}

/// The file as long as it is now: what is written to it meanwhile is not waited for.
fn contents(file: File, length: u64) -> Response {
    let rest = file.take(length);
    let pieces = futures_util::stream::try_unfold(rest, |rest| async move {
        let (piece, rest) = blocking(move || read(rest)).await?;
        Ok::<_, io::Error>((!piece.is_empty()).then_some((piece, rest)))
    });
    let mut response = plain(StatusCode::OK, "");
    *response.body_mut() = streamed(pieces);
    response
}

fn read(mut from: io::Take<File>) -> io::Result<(Bytes, io::Take<File>)> {
    let mut piece = vec![0; PIECE_BYTES];
    let count = from.read(&mut piece)?;
    piece.truncate(count);
    Ok((piece.into(), from))
}

fn list(names: &[String]) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;")
    };
    let lines: Vec<_> =
        names.iter().map(|name| format!("<a href=\"{0}\">{0}</a>\n", escape(name))).collect();
    format!("<!doctype html>\n<pre>\n{}</pre>\n", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_as_text() {
        let page = list(&["a/".to_owned(), "<b>&\"".to_owned()]);
        assert!(page.contains("<a href=\"a/\">a/</a>\n"), "{page}");
        assert!(page.contains("&lt;b&gt;&amp;&#34;"), "{page}");
    }
}
