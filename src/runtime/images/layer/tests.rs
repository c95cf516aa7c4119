//! Layers good and bad, unpacked. None of this needs root; ownership and devices are in tests/images.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};

/// Writes an archive. Each line is a kind, a name and what belongs to it: `file a/b text`,
/// `dir a 0750`, `link new old`, `symlink name target`, `fifo name`.
fn archive(lines: &[&str]) -> Vec<u8> {
    let mut tar = ::tar::Builder::new(Vec::new());
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (kind, name) = (words.next().unwrap(), words.next().unwrap());
        let rest = words.next().unwrap_or_default();
        let mut header = ::tar::Header::new_ustar();
        header.set_entry_type(match kind {
            "dir" => ::tar::EntryType::Directory,
            "link" => ::tar::EntryType::Link,
            "symlink" => ::tar::EntryType::Symlink,
            "fifo" => ::tar::EntryType::Fifo,
            _ => ::tar::EntryType::Regular,
        });
        header.set_mode(0o644);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mtime(1_000_000_000);
        let mut data = &b""[..];
        match kind {
            "dir" if !rest.is_empty() => {
                header.set_mode(u32::from_str_radix(rest, 8).unwrap());
            }
            "dir" => header.set_mode(0o755),
            "link" | "symlink" => header.set_link_name_literal(rest).unwrap(),
            _ => data = rest.as_bytes(),
        }
        header.set_size(data.len() as u64);
        // The builder would refuse names that strangers do write.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, data).unwrap();
    }
    tar.into_inner().unwrap()
}

fn unpack_into(root: &Path, bytes: &[u8], limits: Limits) -> Result<Unpacked, UnpackError> {
    let diff_id = Digest::of(bytes);
    unpack(bytes, &Job { root, marks: Marks::User, limits, diff_id: &diff_id })
}

/// One line for everything in a directory.
fn listed(root: &Path) -> String {
    let mut lines = String::new();
    let mut pending = vec![root.to_path_buf()];
    let mut found = BTreeMap::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let kind = stat.file_type();
            let shown = if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_dir() {
                pending.push(path.clone());
                let mut value = [0; 1];
                let marked = rustix::fs::lgetxattr(&path, Marks::User.opaque(), &mut value[..]);
                let mark = if marked.is_ok() { " opaque" } else { "" };
                format!("{:o}{mark}", stat.mode() & 0o7777)
            } else if kind.is_char_device() && stat.rdev() == 0 {
                "whiteout".to_owned()
            } else if kind.is_file() {
                fs::read_to_string(&path).unwrap()
            } else {
                format!("{kind:?}")
            };
            found.insert(path.strip_prefix(root).unwrap().to_path_buf(), shown);
        }
    }
    for (path, shown) in found {
        writeln!(lines, "{} {shown}", path.display()).unwrap();
    }
    lines
}

fn check(lines: &[&str], expected: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    match unpack_into(directory.path(), &archive(lines), LIMITS) {
        Ok(_) => {
            assert_eq!(listed(directory.path()).lines().collect::<Vec<_>>(), expected, "{lines:?}");
        }
        Err(error) => assert_eq!([error.to_string().as_str()], expected, "{lines:?}"),
    }
}

#[test]
fn entries_become_files() {
    check(
        &["dir a 0750", "file a/f text", "link a/hard a/f", "symlink s a/f", "file b/c deep"],
        &["a 750", "a/f text", "a/hard text", "b 700", "b/c deep", "s -> a/f"],
    );
    check(&["file a one", "file a two"], &["a two"]);
    check(&["dir a", "file a/b x", "file a y"], &["a y"]);
    check(&["file a y", "dir a", "file a/b x"], &["a 755", "a/b x"]);
    check(&["dir a 0700", "file a/b x", "dir a 0711"], &["a 711", "a/b x"]);
    check(&["dir closed 0555", "file closed/f x"], &["closed 555", "closed/f x"]);
    check(&["link self self"], &[]);
}

#[test]
fn whiteouts_hide_only_what_is_below() {
    check(&["file .wh.gone"], &["gone whiteout"]);
    check(&["file d/.wh.gone"], &["d 700", "d/gone whiteout"]);
    check(&["dir d", "file d/.wh..wh..opq", "file d/f x"], &["d 755 opaque", "d/f x"]);
    check(&["file f x", "file .wh.f"], &["f x"]);
    check(&["file .wh.f", "file f x"], &["f x"]);
    check(&["file .wh.d", "dir d"], &["d 755 opaque"]);
    check(&["dir d", "file .wh.d"], &["d 755 opaque"]);
    check(&["file .wh.d", "file d/f x"], &["d 700 opaque", "d/f x"]);
    check(&["file .wh..wh.plnk x"], &[]);
    check(&["file .wh..."], &["`.wh...` hides nothing"]);
}

#[test]
fn links_are_followed_within_the_root_only() {
    check(
        &["dir usr/bin", "symlink bin usr/bin", "file bin/sh x"],
        &["bin -> usr/bin", "usr 700", "usr/bin 755", "usr/bin/sh x"],
    );
    check(
        &["symlink out /../../etc", "file out/passwd x"],
        &["etc 700", "etc/passwd x", "out -> /../../etc"],
    );
    check(
        &["symlink a b", "symlink b a", "file a/x"],
        &["`a/x`: Too many levels of symbolic links (os error 40)"],
    );
    check(&["file a x", "file a/b x"], &["`a/b`: Not a directory (os error 20)"]);
    check(&["symlink a target", "file a x"], &["a x"]);
    check(&["symlink a target", "dir a"], &["a 755"]);
    check(&["file ../up x"], &["`../up` leads out of it"]);
    check(&["link a ../../etc/passwd"], &["`../../etc/passwd` leads out of it"]);
    check(&["file . x"], &["an entry that would replace the root"]);
}

#[test]
fn limits_are_said() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = archive(&["file a 0123456789", "file b 0123456789"]);
    for (limits, expected) in [
        (Limits { bytes: 19, ..LIMITS }, "it unpacks to more than 19 bytes"),
        (Limits { entries: 1, ..LIMITS }, "it has more than 1 entries"),
    ] {
        let error = unpack_into(directory.path(), &bytes, limits).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let named = archive(&["dir abc", "file def/x x", "link ghi jkl"]);
    for (names_bytes, is_within) in [(12, true), (11, false)] {
        let unpacked = unpack_into(directory.path(), &named, Limits { names_bytes, ..LIMITS });
        let error = unpacked.map_err(|error| error.to_string());
        let expected = "the names of its directories and links have more than 11 bytes";
        assert_eq!(error.is_ok(), is_within);
        assert!(error.is_ok() || error.is_err_and(|error| error == expected));
        for name in ["abc", "def"] {
            fs::remove_dir_all(directory.path().join(name)).unwrap();
        }
    }
    let diff_id = Digest::of(b"other");
    let job = Job { root: directory.path(), marks: Marks::User, limits: LIMITS, diff_id: &diff_id };
    let error = unpack(&bytes[..], &job).unwrap_err().to_string();
    assert!(error.starts_with("uncompressed, it has digest sha256:"), "{error}");
}

#[test]
fn what_depends_on_layers_below_is_taken_from_them() {
    let layers: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let below = [
        archive(&[
            "dir etc 0710",
            "file etc/a text",
            "dir gone 0701",
            "dir d 0711",
            "dir d/e 0715",
        ]),
        archive(&["file .wh.gone", "file d/.wh..wh..opq"]),
        archive(&[
            "file etc/b x",
            "file gone/c x",
            "file d/e/f x",
            "link copy etc/a",
            "link again copy",
            "link other etc/a",
        ]),
    ];
    let mut roots: Vec<PathBuf> = Vec::new();
    for (layer, bytes) in layers.iter().zip(&below) {
        let unpacked = unpack_into(layer.path(), bytes, LIMITS).unwrap();
        settle(layer.path(), &roots, Marks::User, &unpacked.unsettled).unwrap();
        roots.insert(0, layer.path().to_path_buf());
    }
    assert_eq!(
        listed(&roots[0]).lines().collect::<Vec<_>>(),
        [
            "again text",
            "copy text",
            "d 711",
            "d/e 755",
            "d/e/f x",
            "etc 710",
            "etc/b x",
            "gone 755",
            "gone/c x",
            "other text",
        ]
    );
    let inode = |name: &str| fs::metadata(roots[0].join(name)).unwrap().ino();
    assert_eq!(inode("again"), inode("copy"));
    assert_eq!(inode("other"), inode("copy"), "a file is copied up once");
    let missing = tempfile::tempdir().unwrap();
    let unpacked = unpack_into(missing.path(), &archive(&["link a b"]), LIMITS).unwrap();
    let error = settle(missing.path(), &roots, Marks::User, &unpacked.unsettled).unwrap_err();
    assert_eq!(error.to_string(), "`a` is a hard link to `b`, which is in no layer");
}

#[test]
fn an_opaque_root_is_noted() {
    let directory = tempfile::tempdir().unwrap();
    let unpack = |lines: &[&str]| unpack_into(directory.path(), &archive(lines), LIMITS).unwrap();
    let unpacked = unpack(&["file .wh..wh..opq", "dir ./ 0711"]);
    assert!(unpacked.has_opaque_root && unpacked.describes_root);
    assert_eq!(fs::metadata(directory.path()).unwrap().mode() & 0o777, 0o711);
    let unpacked = unpack(&["dir a"]);
    assert!(!unpacked.has_opaque_root && !unpacked.describes_root);
    assert_eq!(fs::metadata(directory.path()).unwrap().mode() & 0o777, 0o755);
}

/// Names that lead away, into each other and on top of each other.
fn name() -> impl Strategy<Value = String> {
    let part =
        prop_oneof!["[ab]", Just("..".to_owned()), Just("s".to_owned()), Just(".".to_owned())];
    (any::<bool>(), proptest::collection::vec(part, 1..4)).prop_map(|(absolute, parts)| {
        format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"))
    })
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        name(),
        Just("../outside".to_owned()),
        Just("../../outside".to_owned()),
        Just("/".to_owned()),
        Just("OUTSIDE".to_owned()),
        Just("../outside/secret".to_owned()),
    ]
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        name().prop_map(|name| format!("file {name} new")),
        name().prop_map(|name| format!("dir {name}")),
        (name(), target()).prop_map(|(name, target)| format!("symlink {name} {target}")),
        (name(), target()).prop_map(|(name, target)| format!("link {name} {target}")),
        name().prop_map(|name| format!("file {name}/.wh.s")),
        name().prop_map(|name| format!("file {name}/.wh..wh..opq")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_made_or_changed_outside(
        first in target(),
        lines in proptest::collection::vec(line(), 1..12),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "untouched").unwrap();
        for directory in ["a/a", "a/b", "b/a"] {
            fs::create_dir_all(outside.join(directory)).unwrap();
        }
        symlink("secret", outside.join("s")).unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        let before = (listed(&outside), fs::symlink_metadata(outside.join("secret")).unwrap());

        let first = format!("symlink s {first}");
        let lines: Vec<_> = std::iter::once(&first)
            .chain(&lines)
            .map(|line| line.replace("OUTSIDE", outside.to_str().unwrap()))
            .collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        if let Ok(unpacked) = unpack_into(&root, &archive(&lines), LIMITS) {
            // Links to what is nowhere are refused here; that is not the question.
            settle(&root, &[], Marks::User, &unpacked.unsettled).ok();
        }

        prop_assert_eq!(listed(&outside), before.0);
        let after = fs::symlink_metadata(outside.join("secret")).unwrap();
        let facts = |stat: &fs::Metadata| (stat.ino(), stat.nlink(), stat.ctime_nsec());
        prop_assert_eq!(facts(&after), facts(&before.1));
        prop_assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
