//! Archives of other writers, and archives of nobody.

use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;

/// One line for each entry: what it is, its name, its owner, its size and data.
fn listed(bytes: &[u8]) -> String {
    let mut reader = TarReader::new(bytes);
    let mut lines = String::new();
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return lines,
            Err(error) => return format!("{lines}{error}"),
        };
        let mut data = Vec::new();
        if let Err(error) = reader.read_to_end(&mut data) {
            return format!("{lines}{}", reader.read_failed(error));
        }
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let shown = match &entry.kind {
            Kind::File => format!("file {path} {}", String::from_utf8_lossy(&data)),
            Kind::SparseFile(map) => format!("sparse {path} {} {:?}", map.size, map.segments.len()),
            Kind::HardLink(to) => format!("link {path} {}", String::from_utf8_lossy(to)),
            Kind::Symlink(to) => format!("symlink {path} {}", String::from_utf8_lossy(to)),
            other => format!("{other:?} {path}"),
        };
        writeln!(lines, "{shown}").unwrap();
    }
}

fn header(kind: ::tar::EntryType, size: u64) -> ::tar::Header {
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

fn archive(build: impl FnOnce(&mut ::tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

#[test]
fn long_names_and_every_kind_of_entry() {
    let long = "d/".repeat(120) + "file";
    let bytes = archive(|tar| {
        let kind = ::tar::EntryType::Regular;
        tar.append_data(&mut header(kind, 5), &long, &b"hello"[..]).unwrap();
        let kind = ::tar::EntryType::Symlink;
        tar.append_link(&mut header(kind, 0), "symlink", "t/".repeat(80)).unwrap();
        tar.append_link(&mut header(::tar::EntryType::Link, 0), "link", "target").unwrap();
        let kind = ::tar::EntryType::Directory;
        tar.append_data(&mut header(kind, 0), "dir/", &b""[..]).unwrap();
        tar.append_data(&mut header(::tar::EntryType::Fifo, 0), "fifo", &b""[..]).unwrap();
    });
    let to = "t/".repeat(80);
    let expected = format!(
        "file {long} hello\nsymlink symlink {to}\nlink link target\nDirectory dir/\nFifo fifo\n"
    );
    assert_eq!(listed(&bytes), expected);
}

#[test]
fn extended_headers_override() {
    let bytes = archive(|tar| {
        let records = [
            ("path", &b"new/name"[..]),
            ("uid", b"70000"),
            ("SCHILY.xattr.user.x", b"a\nb"),
            ("mtime", b"12.5"),
        ];
        tar.append_pax_extensions(records).unwrap();
        let kind = ::tar::EntryType::Regular;
        tar.append_data(&mut header(kind, 1), "old", &b"x"[..]).unwrap();
    });
    let entry = TarReader::new(&bytes[..]).next_entry().unwrap().unwrap();
    assert_eq!(entry.path, b"new/name");
    assert_eq!((entry.uid, entry.modified), (70_000, (12, 500_000_000)));
    assert_eq!(entry.xattrs, [(b"user.x".to_vec(), b"a\nb".to_vec())]);
}

/// GNU tar 1.34's own sparse files, in all its formats.
#[test]
fn sparse_files_of_gnu_tar() {
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("holes")).unwrap();
    file.set_len(1 << 20).unwrap();
    for n in 0..30 {
        std::os::unix::fs::FileExt::write_at(&file, &[b'x'; 4096], n * 32_768).unwrap();
    }
    for format in ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax"] {
        #[expect(clippy::disallowed_methods, reason = "tar(1) is what is compared with")]
        let output = std::process::Command::new("tar")
            .args(["-cS", "-C"])
            .arg(directory.path())
            .args(format!("--format={format} holes").split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let expected = "sparse holes 1048576 30\n";
        assert_eq!(listed(&output.stdout), expected, "{format}");
    }
}

#[test]
fn archives_that_end_are_told_from_archives_that_break_off() {
    let kind = ::tar::EntryType::Regular;
    let bytes =
        archive(|tar| tar.append_data(&mut header(kind, 700), "a", &[b'a'; 700][..]).unwrap());
    assert!(listed(&bytes[..1536]).ends_with("a\n"), "no blocks of zeroes at the end");
    assert!(listed(&bytes[..2048]).ends_with("a\n"), "just one");
    for length in [100, 511, 513, 1000, 1212, 1300] {
        let found = listed(&bytes[..length]);
        assert!(found.contains("the archive ends too early (at byte"), "{length}: {found}");
    }
    assert_eq!(listed(b""), "");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let kind = ::tar::EntryType::Regular;
    let with = |change: &dyn Fn(&mut ::tar::Header)| {
        let mut header = header(kind, 0);
        header.set_path("a").unwrap();
        change(&mut header);
        header.set_cksum();
        listed(header.as_bytes())
    };
    assert_eq!(
        with(&|header| header.set_entry_type(::tar::EntryType::new(b'Z'))),
        "`a` is of the unknown type `Z` (at byte 512)"
    );
    assert_eq!(
        with(&|header| header.set_size(u64::MAX >> 1)),
        "the archive ends too early (at byte 512)"
    );
    assert_eq!(
        with(&|header| {
            header.set_entry_type(::tar::EntryType::XHeader);
            header.set_size(1 << 40);
        }),
        "an extended header of 1099511627776 bytes (at byte 512)"
    );
    assert_eq!(with(&|header| header.set_uid(1 << 33)), "bad owner 8589934592 (at byte 512)");
}

proptest! {
    /// Neither a panic nor an endless loop, and no more entries than there are blocks.
    #[test]
    fn any_bytes_are_read_or_refused(
        changes in proptest::collection::vec((0_usize..3000, any::<u8>()), 0..40),
        fix_sums in any::<bool>(),
    ) {
        let mut bytes = archive(|tar| {
            tar.append_pax_extensions([("path", &b"new"[..]), ("size", &b"9"[..])]).unwrap();
            let kind = ::tar::EntryType::Regular;
            tar.append_data(&mut header(kind, 9), "old", &b"some data"[..]).unwrap();
            tar.append_data(&mut header(kind, 3), "d/".repeat(60), &b"abc"[..]).unwrap();
        });
        for (at, byte) in changes {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        if fix_sums {
            for block in bytes.chunks_exact_mut(BLOCK_BYTES) {
                let mut header = ::tar::Header::from_byte_slice(block).clone();
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        let mut reader = TarReader::new(&bytes[..]);
        let mut entries = 0;
        while let Ok(Some(_)) = reader.next_entry() {
            entries += 1;
        }
        prop_assert!(entries <= bytes.len() / BLOCK_BYTES);
    }
}
