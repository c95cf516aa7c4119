//! Backups from end to end, of servers that are directories.

use super::*;
use crate::api::Revision;
use crate::pki::{Pki, TokenKey};
use crate::storage::sqlite::{self, Config, Halt, Sqlite};
use crate::storage::{
    Commit, Durability, Key, ListRequest, Op, ReadError, Store as _, WatchError, WatchRequest,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn now() -> Timestamp {
    "2026-11-22T18:00:00Z".parse().unwrap()
}

/// A data directory.
struct Place(tempfile::TempDir);

impl Place {
    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With keys, and a store in which `/k/0` to `/k/99` are.
    async fn filled() -> Self {
        let place = Self::empty();
        let tls = place.path("server/tls");
        Pki::open(&tls, now()).unwrap();
        TokenKey::open_all(&tls).unwrap();
        let store = place.open();
        for number in 0..100 {
            create(&store, &format!("/k/{number}")).await;
        }
        store.close().await.unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Sqlite {
        fs::create_dir_all(self.path("server/db")).unwrap();
        Sqlite::open(Config::file(self.path("server/db/state.db"))).unwrap()
    }

    fn saving(&self) -> Saving {
        Saving {
            server: self.path("server"),
            directory: self.path("server/backups"),
            node: "one".to_owned(),
            trigger: Trigger::Command,
        }
    }

    fn save(&self) -> Saved {
        save(&self.saving(), now(), &Halt::default()).unwrap()
    }

    fn restore(&self, file: &Path, existing: Existing) -> anyhow::Result<Restored> {
        restore(file, self.0.path(), existing, now())
    }

    /// Everything below it, with contents.
    fn contents(&self) -> BTreeSet<(PathBuf, Vec<u8>)> {
        let mut all = BTreeSet::new();
        let mut pending = vec![self.0.path().to_owned()];
        while let Some(path) = pending.pop() {
            for entry in fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    all.insert((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        all
    }
}

async fn create(store: &Sqlite, key: &str) -> Revision {
    let value = format!("the value of {key}").into();
    let ops = vec![Op::Create { key: Key::from(key), value }];
    store.commit(Commit { ops, durability: Durability::Durable }).await.unwrap()
}

async fn keys(store: &Sqlite) -> usize {
    store.list(all(None)).await.unwrap().entries.len()
}

fn all(at: Option<Revision>) -> ListRequest {
    ListRequest { prefix: "/".to_owned(), after: None, limit: None, at }
}

#[tokio::test]
async fn a_server_is_restored_onto_an_empty_machine() {
    let (old, new) = (Place::filled().await, Place::empty());
    let store = old.open();
    let saved = old.save();
    assert_eq!(fs::metadata(&saved.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(saved.head.store.objects, 100);
    // It goes on after that.
    let later = create(&store, "/later").await;
    store.close().await.unwrap();
    let restored = new.restore(&saved.path, Existing::Refuse).unwrap();
    assert_eq!(restored.kept, None);
    for name in ["server-ca.key", "server-ca.crt", "client-ca.key", "service.key"] {
        let name = format!("server/tls/{name}");
        let read = |place: &Place| fs::read(place.path(&name)).unwrap();
        assert_eq!(read(&new), read(&old), "{name}");
        let mode = |place: &Place| fs::metadata(place.path(&name)).unwrap().permissions().mode();
        assert_eq!(mode(&new), mode(&old), "{name}");
    }
    let store = new.open();
    assert_eq!(keys(&store).await, 100);
    // Nobody who knows the old store takes its revisions for ours.
    for known in
        [Revision(1), Revision(saved.head.store.revision), later, Revision(restored.last - 1)]
    {
        let request = WatchRequest { prefix: "/".to_owned(), after: known, progress: false };
        let gone = store.watch(request).await.map(drop);
        assert!(matches!(gone, Err(WatchError::Compacted { .. })), "{known}: {gone:?}");
        let gone = store.list(all(Some(known))).await;
        assert!(matches!(gone, Err(ReadError::Compacted { .. })), "{known}: {gone:?}");
    }
    let next = create(&store, "/new").await;
    assert!(next.0 > later.0 + 900_000_000, "{next} after {later}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_server_goes_back_to_before_a_mistake() {
    let place = Place::filled().await;
    let saved = place.save();
    let store = place.open();
    let mistake = create(&store, "/mistake").await;
    let refused = place.restore(&saved.path, Existing::KeepBeside).unwrap_err();
    assert!(format!("{refused:#}").contains("in use by another process"), "{refused:#}");
    store.close().await.unwrap();
    let before = place.contents();
    let refused = place.restore(&saved.path, Existing::Refuse).unwrap_err();
    assert!(format!("{refused:#}").contains("--force"), "{refused:#}");
    assert_eq!(place.contents(), before);
    let restored = place.restore(&saved.path, Existing::KeepBeside).unwrap();
    let kept = restored.kept.unwrap();
    assert_eq!(kept, place.path("server.before-restore-20261122T180000Z"));
    let store = place.open();
    assert_eq!(keys(&store).await, 100);
    assert!(create(&store, "/other").await > mistake);
    store.close().await.unwrap();
    let old = Sqlite::open(Config::file(kept.join("db/state.db"))).unwrap();
    assert_eq!(keys(&old).await, 101);
    old.close().await.unwrap();
    // The backups are where they were: once more, and further ahead.
    assert_eq!(list(&place.path("server/backups")).unwrap().len(), 1);
    let again = place.restore(&saved.path, Existing::KeepBeside).unwrap();
    assert!(again.last > restored.last + 900_000_000);
    assert_ne!(again.kept.unwrap(), kept);
}

#[tokio::test]
async fn two_machines_that_are_restored_one_after_the_other_share_no_revision() {
    let place = Place::filled().await;
    let saved = place.save();
    let mut last = 0;
    for hours in [0, 1, 48] {
        let machine = Place::empty();
        let at = now() + SignedDuration::from_hours(hours);
        let restored = restore(&saved.path, machine.0.path(), Existing::Refuse, at).unwrap();
        assert!(restored.last > last);
        let store = machine.open();
        last = create(&store, "/new").await.0;
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_sound_backup_changes_nothing() {
    let (old, new) = (Place::filled().await, Place::empty());
    let saved = old.save();
    let whole = fs::read(&saved.path).unwrap();
    let path = new.path("damaged.tar.zst");
    let step = whole.len() / 37;
    for at in (0..37).map(|part| part * step + step / 2) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        fs::write(&path, bytes).unwrap();
        let before = new.contents();
        new.restore(&path, Existing::Refuse).unwrap_err();
        assert_eq!(new.contents(), before, "byte {at}");
        assert!(!new.path("server.restoring").exists());
    }
    fs::write(&path, "anything").unwrap();
    let refused = new.restore(&path, Existing::Refuse).unwrap_err();
    assert!(format!("{refused:#}").contains("no backup that kinglet has made"), "{refused:#}");
    // Sound by its sums, and not a store.
    let mut head = saved.head.clone();
    let member = head.members.iter_mut().find(|member| member.path == head::STORE).unwrap();
    let bytes = vec![7; 4_096];
    (member.bytes, member.sha256) = archive::sum(bytes.as_slice(), &Halt::default()).unwrap();
    head.members.retain(|member| member.path == head::STORE);
    let file = File::create(&path).unwrap();
    archive::write(&file, &head, vec![archive::Source::Bytes(bytes)], &Halt::default()).unwrap();
    let refused = new.restore(&path, Existing::Refuse).unwrap_err();
    assert!(format!("{refused:#}").contains("does not begin as a database"), "{refused:#}");
    assert!(!new.path("server").exists() && !new.path("server.restoring").exists());
}

#[tokio::test]
async fn what_cannot_be_saved_leaves_nothing() {
    let place = Place::filled().await;
    let saving = place.saving();
    let halt = Halt::default();
    halt.ask();
    save(&saving, now(), &halt).unwrap_err();
    fs::write(place.path("server/tls/big.key"), vec![0; (16 << 20) + 1]).unwrap();
    let refused = save(&saving, now(), &Halt::default()).unwrap_err();
    assert!(format!("{refused:#}").contains("more than 16 MiB"), "{refused:#}");
    fs::remove_file(place.path("server/tls/big.key")).unwrap();
    let nobody = Place::empty();
    let refused = save(&nobody.saving(), now(), &Halt::default()).unwrap_err();
    assert!(format!("{refused:#}").contains("--data-dir"), "{refused:#}");
    assert!(!nobody.path("server").exists());
    let left: Vec<_> = fs::read_dir(&saving.directory).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "the lock alone: {left:?}");
    // A process that was killed has left these.
    for name in [".kinglet-backup.db", ".kinglet-backup.tar.zst", ".kinglet-backup.db-journal"] {
        fs::write(saving.directory.join(name), "half").unwrap();
    }
    assert!(list(&saving.directory).unwrap().is_empty());
    place.save();
    assert_eq!(fs::read_dir(&saving.directory).unwrap().count(), 2);
}

#[tokio::test]
async fn one_at_a_time_makes_backups() {
    let place = Place::filled().await;
    let saving = place.saving();
    let taken = directory::Directory::take(&saving.directory).unwrap();
    let refused = save(&saving, now(), &Halt::default()).unwrap_err();
    assert!(refused.to_string().contains("somebody else"), "{refused}");
    drop(taken);
    let (first, second) = (place.save(), place.save());
    assert_ne!(first.path, second.path);
}

#[tokio::test]
async fn backups_are_listed_and_pruned() {
    let place = Place::filled().await;
    let directory = place.path("server/backups");
    let mut saving = place.saving();
    for hours in [3, 1, 2] {
        saving.trigger = Trigger::Schedule;
        save(&saving, now() + SignedDuration::from_hours(hours), &Halt::default()).unwrap();
    }
    place.save();
    fs::write(directory.join("kinglet-odd.tar.zst"), "odd").unwrap();
    fs::write(directory.join("notes"), "odd").unwrap();
    let shown = || -> Vec<String> {
        let name = |listed: &Listed| listed.path.file_stem().unwrap().to_str().unwrap().to_owned();
        let state = |listed: &Listed| if listed.head.is_ok() { "" } else { " unreadable" };
        let all = list(&directory).unwrap();
        all.iter().map(|it| format!("{}{}", name(it).replace(".tar", ""), state(it))).collect()
    };
    let odd = "kinglet-odd unreadable";
    assert_eq!(
        shown(),
        [
            "kinglet-one-20261122T180000Z",
            "kinglet-one-20261122T190000Z",
            "kinglet-one-20261122T200000Z",
            "kinglet-one-20261122T210000Z",
            odd
        ]
    );
    let removed = prune(&directory, Retention { keep: 2, scheduled_only: true }).unwrap();
    assert_eq!(removed, ["kinglet-one-20261122T190000Z.tar.zst"]);
    let removed = prune(&directory, Retention { keep: 1, scheduled_only: false }).unwrap();
    assert_eq!(removed.len(), 2);
    assert_eq!(shown(), ["kinglet-one-20261122T210000Z", odd]);
    assert!(list(&place.path("nowhere")).unwrap().is_empty());
}

/// Whatever the store does meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_in_use_is_saved() {
    let place = Place::filled().await;
    let store = place.open();
    let saving = place.saving();
    let working = std::sync::atomic::AtomicBool::new(true);
    let write = async {
        let mut newest = Revision(0);
        let mut number = 0;
        while working.load(std::sync::atomic::Ordering::Relaxed) {
            newest = create(&store, &format!("/more/{number}")).await;
            number += 1;
        }
        newest
    };
    let save = async {
        let first = create(&store, "/first").await;
        let work = move || save(&saving, now(), &Halt::default()).unwrap();
        let saved = crate::stdx::blocking(work).await;
        working.store(false, std::sync::atomic::Ordering::Relaxed);
        (first, saved)
    };
    let (newest, (first, saved)) = tokio::join!(write, save);
    let revision = Revision(saved.head.store.revision);
    assert!(first <= revision && revision <= newest, "{first} <= {revision} <= {newest}");
    store.close().await.unwrap();
    let facts = sqlite::facts(&place.path("server/db/state.db")).unwrap();
    assert_eq!(facts.revision, newest);
}
