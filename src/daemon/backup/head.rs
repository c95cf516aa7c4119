//! What a backup says about itself, in its first member: enough to list it without reading the rest,
//! and to check the rest when it is read.
//!
//! Architecture invariant: pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};

/// The format that this version writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;

/// The first member.
pub(super) const HEAD: &str = "backup.json";

/// The member that is the store, below the directory of a server like all of them.
pub(super) const STORE: &str = "db/state.db";

/// Larger heads are not read.
pub(super) const HEAD_BYTES_MAX: u64 = 2 << 20;

/// A backup has no more members; a server with more files than that is not saved.
pub(super) const MEMBERS_MAX: usize = 4_096;

/// How long the path of a member may be, and how many directories deep.
const PATH_BYTES_MAX: usize = 255;
pub(super) const PATH_DEPTH_MAX: usize = 8;

/// The digits of a SHA-256.
const DIGITS: usize = 64;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub format: u32,
    /// The version of kinglet that has made it.
    pub kinglet: String,
    /// Stands for the cluster: SHA-256 of the authority that its clients trust.
    pub cluster: String,
    /// The node whose server was saved.
    pub node: String,
    #[serde(with = "moment")]
    pub taken: Timestamp,
    pub trigger: Trigger,
    pub store: StoreFacts,
    pub members: Vec<Member>,
}

/// Who asked for a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// Somebody at the command line.
    Command,
    /// The server itself, when it was due.
    Schedule,
}

/// What is known of the store in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFacts {
    /// The version of its tables.
    pub schema: usize,
    /// The newest revision in it.
    pub revision: u64,
    /// Through which revisions could have been given out.
    pub reserved: u64,
    pub objects: u64,
}

/// A file in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Below the directory of the server.
    pub path: String,
    pub mode: u32,
    pub bytes: u64,
    pub sha256: String,
}

/// Why a file cannot be used as a backup.
#[derive(Debug, thiserror::Error)]
pub enum BadBackup {
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    #[error("it is no backup that kinglet has made")]
    Foreign,
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error(
        "it was made by a newer kinglet (format {found}, this one knows up to {FORMAT}): use that \
         version"
    )]
    NewerFormat { found: u32 },
    #[error(
        "its store was written by kinglet {kinglet} (tables {found}, this one knows up to {known}): \
         use that version"
    )]
    NewerStore { kinglet: String, found: usize, known: usize },
}

impl Head {
    /// # Errors
    /// Where the text is no head, of a later version, or says what no backup says.
    pub(super) fn parse(text: &[u8]) -> Result<Self, BadBackup> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |error: serde_json::Error| BadBackup::Damaged(format!("{HEAD}: {error}"));
        let Format { format } = serde_json::from_slice(text).map_err(damaged)?;
        if format > FORMAT {
            return Err(BadBackup::NewerFormat { found: format });
        }
        let head: Self = serde_json::from_slice(text).map_err(damaged)?;
        let problem = head.problem();
        problem.map_or(Ok(head), |it| Err(BadBackup::Damaged(format!("{HEAD}: {it}"))))
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("texts and numbers");
        text.push(b'\n');
        text
    }

    /// # Errors
    /// Where the store is of a later version than `known`.
    pub(super) fn check_store(&self, known: usize) -> Result<(), BadBackup> {
        let found = self.store.schema;
        match found <= known {
            true => Ok(()),
            false => Err(BadBackup::NewerStore { kinglet: self.kinglet.clone(), found, known }),
        }
    }

    /// All bytes of all members.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.members.iter().fold(0, |sum, member| sum.saturating_add(member.bytes))
    }

    fn problem(&self) -> Option<String> {
        if self.members.len() > MEMBERS_MAX {
            return Some(format!("more than {MEMBERS_MAX} members"));
        }
        if !self.members.iter().any(|member| member.path == STORE) {
            return Some(format!("no member {STORE}"));
        }
        let mut paths: Vec<&str> = self.members.iter().map(|it| it.path.as_str()).collect();
        paths.sort_unstable();
        if let Some(twice) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
            return Some(format!("two members {:?}", twice[0]));
        }
        let odd = self.members.iter().find(|member| !member.is_sound());
        odd.map(|member| format!("the member {:?}", member.path))
    }
}

impl Member {
    /// Whether it is a file below the server's directory, with a sum to check it by.
    fn is_sound(&self) -> bool {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        is_sound_path(&self.path)
            && self.mode & !0o777 == 0
            && self.sha256.len() == DIGITS
            && self.sha256.bytes().all(digit)
    }
}

/// Whether a path stays below the directory that it is relative to, and is written in one way only.
pub(super) fn is_sound_path(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    let is_name = |part: &&str| {
        let mut components = Path::new(part).components();
        let only = (components.next(), components.next());
        matches!(only, (Some(Component::Normal(_)), None)) && !part.contains('\0')
    };
    path.len() <= PATH_BYTES_MAX
        && (2..=PATH_DEPTH_MAX).contains(&parts.len())
        && parts.iter().all(is_name)
}

/// Times as the API writes them.
mod moment {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn head(paths: &[&str]) -> Head {
        let member = |path: &&str| Member {
            path: (*path).to_owned(),
            mode: 0o600,
            bytes: 1,
            sha256: "0".repeat(DIGITS),
        };
        Head {
            format: FORMAT,
            kinglet: "0.1.0".to_owned(),
            cluster: "c".to_owned(),
            node: "one".to_owned(),
            taken: "2026-11-22T18:00:00Z".parse().unwrap(),
            trigger: Trigger::Command,
            store: StoreFacts { schema: 1, revision: 7, reserved: 9, objects: 3 },
            members: paths.iter().map(member).collect(),
        }
    }

    #[track_caller]
    fn check(head: &Head, expected: &str) {
        let actual = match Head::parse(&head.to_json()) {
            Ok(parsed) => {
                assert_eq!(parsed, *head);
                "good".to_owned()
            }
            Err(error) => error.to_string(),
        };
        assert!(actual.contains(expected), "{actual}");
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        check(&head(&[STORE, "tls/server-ca.key", "cred/a/b.json"]), "good");
        let text = String::from_utf8(head(&[STORE]).to_json()).unwrap();
        assert!(text.contains(r#""taken": "2026-11-22T18:00:00Z""#), "{text}");
        assert!(text.contains(r#""trigger": "command""#), "{text}");
    }

    #[test]
    fn members_stay_below_the_directory() {
        for path in [
            "../a",
            "tls/../../a",
            "/etc/passwd",
            "tls//a",
            "tls/./a",
            "a",
            "",
            "tls/",
            "tls/a\0",
            "1/2/3/4/5/6/7/8/9",
        ] {
            check(&head(&[STORE, path]), "damaged: backup.json: the member");
        }
        check(&head(&[STORE, &format!("tls/{}", "a".repeat(255))]), "the member");
    }

    #[test]
    fn what_no_backup_says_is_refused() {
        check(&head(&["tls/a"]), "no member db/state.db");
        check(&head(&[STORE, STORE]), "two members");
        let mut odd = head(&[STORE]);
        odd.members[0].sha256 = "x".repeat(DIGITS);
        check(&odd, "the member \"db/state.db\"");
        let mut odd = head(&[STORE]);
        odd.members[0].mode = 0o4755;
        check(&odd, "the member \"db/state.db\"");
        let many: Vec<String> = (0..=MEMBERS_MAX).map(|it| format!("tls/{it}")).collect();
        check(&head(&many.iter().map(String::as_str).collect::<Vec<_>>()), "more than 4096");
        assert!(matches!(Head::parse(b"{}"), Err(BadBackup::Damaged(_))));
        assert!(matches!(Head::parse(&[0xff; 9]), Err(BadBackup::Damaged(_))));
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let text = br#"{"format": 2, "what": "nobody knows yet"}"#;
        assert!(matches!(Head::parse(text), Err(BadBackup::NewerFormat { found: 2 })));
        let error = head(&[STORE]).check_store(0).unwrap_err();
        assert!(matches!(error, BadBackup::NewerStore { found: 1, known: 0, .. }));
        head(&[STORE]).check_store(1).unwrap();
    }
}
