//! Logs read whole, from their end, and while they are written.

use super::*;
use http_body_util::BodyExt as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use tokio::sync::oneshot;

fn line(n: u32) -> String {
    format!("2026-01-02T03:04:{:02}Z stdout F line {n}\n", n % 60)
}

fn append(log: &Path, text: &str) {
    let mut file = File::options().append(true).create(true).open(log).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

async fn whole(log: &Path, selection: Selection) -> String {
    let request = LogRequest { log: log.to_owned(), selection, follow_until: None };
    let bytes = read(request).await.unwrap().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_log_is_read_over_its_rotated_files() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("0.log");
    append(&directory.path().join("0.log.20260101-000000"), &(line(1) + &line(2)));
    append(&log, &(line(3) + &line(4)));
    assert_eq!(whole(&log, Selection::default()).await, "line 1\nline 2\nline 3\nline 4\n");
    for (tail, expected) in [
        (0, ""),
        (1, "line 4\n"),
        (3, "line 2\nline 3\nline 4\n"),
        (9, "line 1\nline 2\nline 3\nline 4\n"),
    ] {
        let selection = Selection { tail: Some(tail), ..Selection::default() };
        assert_eq!(whole(&log, selection).await, expected, "tail {tail}");
    }
    let selection = Selection { tail: Some(2), limit_bytes: Some(9), ..Selection::default() };
    assert_eq!(whole(&log, selection).await, "line 3\nli");
    assert_eq!(whole(&directory.path().join("1.log"), Selection::default()).await, "");
}

struct Following {
    body: Body,
    ended: Option<oneshot::Sender<()>>,
}

impl Following {
    async fn start(log: &Path, selection: Selection) -> Self {
        let (ended, until) = oneshot::channel::<()>();
        let follow_until: BoxFuture<'static, ()> = Box::pin(async move {
            until.await.ok();
        });
        let follow_until = Some(follow_until);
        let request = LogRequest { log: log.to_owned(), selection, follow_until };
        Self { body: read(request).await.unwrap(), ended: Some(ended) }
    }

    /// Reads until that much has come, within a time that is long for a machine.
    async fn expect(&mut self, expected: &str) {
        let mut text = String::new();
        while text.len() < expected.len() {
            let piece = tokio::time::timeout(Duration::from_secs(10), self.body.frame());
            let piece = piece.await.expect("no more came").expect("it ended").unwrap();
            text.push_str(std::str::from_utf8(piece.data_ref().unwrap()).unwrap());
        }
        assert_eq!(text, expected);
    }

    async fn expect_end(mut self) {
        self.ended.take();
        let end = tokio::time::timeout(Duration::from_secs(10), self.body.frame());
        assert!(end.await.expect("it goes on").is_none());
    }
}

#[tokio::test]
async fn a_followed_log_shows_lines_as_they_come() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("0.log");
    append(&log, &line(1));
    let mut following = Following::start(&log, Selection::default()).await;
    following.expect("line 1\n").await;
    append(&log, "2026-01-02T03:04:05Z stdout F half");
    append(&log, " a line\n");
    following.expect("half a line\n").await;
    following.expect_end().await;
}

#[tokio::test]
async fn a_followed_log_may_be_rotated() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("0.log");
    append(&log, &line(1));
    let selection = Selection { tail: Some(0), ..Selection::default() };
    let mut following = Following::start(&log, selection).await;
    append(&log, &line(2));
    following.expect("line 2\n").await;
    fs::rename(&log, directory.path().join("0.log.20260101-000000")).unwrap();
    append(&log, &line(3));
    following.expect("line 3\n").await;
    append(&log, &line(4));
    following.expect("line 4\n").await;
    following.expect_end().await;
}

#[tokio::test]
async fn lines_written_at_the_very_end_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("0.log");
    append(&log, &line(1));
    let mut following = Following::start(&log, Selection::default()).await;
    following.expect("line 1\n").await;
    following.ended.take();
    append(&log, &line(2));
    following.expect("line 2\n").await;
    following.expect_end().await;
}
