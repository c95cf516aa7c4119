//! What containers see: owners, modes, devices, attributes, whiteouts, through a real overlay.

use crate::rig::{Rig, open, require_root};
use crate::support::{BuiltImage, Compression, ImageBuilder, LayerBuilder, busybox};
use kinglet::runtime::images::{Marks, Rootfs};
use kinglet::runtime::{ContainerId, ImageId, ImageSource};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

async fn imported(rig: &Rig, image: &BuiltImage) -> String {
    rig.import(&image.docker_archive(&["app:1"])).await.unwrap();
    image.id()
}

fn xattr(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 100];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
    value.truncate(length);
    value
}

#[tokio::test]
async fn files_are_as_the_image_has_them() {
    let kind = |kind: u8| tar::EntryType::new(kind);
    // A capability whose bytes have a line end and an equals sign among them.
    let capability = b"\x01\0\0\x02\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let device = |header: &mut tar::Header| {
        header.set_mode(0o620);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    };
    let owned = |header: &mut tar::Header| {
        header.set_mode(0o4755);
        header.set_uid(1234);
        header.set_gid(2_000_000);
    };
    let layer = LayerBuilder::new()
        .entry("./", kind(b'5'), |header| header.set_mode(0o711), b"")
        .entry("su", kind(b'0'), owned, b"x")
        .entry("null", kind(b'3'), device, b"")
        .entry("disk", kind(b'4'), device, b"")
        .entry("pipe", kind(b'6'), |header| header.set_mode(0o600), b"")
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"a\n=b"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("mtime", b"1234567890.25"),
            ("uid", b"4000000000"),
        ])
        .file("ping", 0o755, b"x")
        .directory("var/spool/", 0o1777)
        .link("su2", "su")
        .symlink("loop", "loop");
    let image = ImageBuilder::new().layer(layer, Compression::Gzip).build();
    let rig = Rig::new().await;
    let id = imported(&rig, &image).await;
    let mounted = rig.mounted(&id, "c").await;
    let stat = |name: &str| fs::symlink_metadata(mounted.target.join(name)).unwrap();
    assert_eq!(stat("").mode() & 0o7777, 0o711);
    let su = stat("su");
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.nlink()), (0o4755, 1234, 2_000_000, 2));
    assert_eq!(stat("su2").ino(), su.ino());
    assert_eq!(su.mtime(), 1_700_000_000);
    let (null, disk) = (stat("null"), stat("disk"));
    assert!(null.file_type().is_char_device() && disk.file_type().is_block_device());
    assert_eq!((null.rdev(), null.mode() & 0o7777), (rustix::fs::makedev(1, 3), 0o620));
    assert!(stat("pipe").file_type().is_fifo());
    assert_eq!(stat("var").mode() & 0o7777, 0o755, "it was left out, and is as any other");
    assert_eq!(stat("var/spool").mode() & 0o7777, 0o1777);
    let ping = stat("ping");
    assert_eq!(
        (ping.mtime(), ping.mtime_nsec(), ping.uid()),
        (1_234_567_890, 250_000_000, 4_000_000_000)
    );
    let path = mounted.target.join("ping");
    assert_eq!(xattr(&path, "security.capability"), capability);
    assert_eq!(xattr(&path, "user.note"), b"a\n=b");
    let snapshot = rig.path("agent/snapshots").join(rig.names("agent/snapshots")[0].clone());
    let mut value = [0; 10];
    let forged =
        rustix::fs::lgetxattr(snapshot.join("fs/ping"), "trusted.overlay.redirect", &mut value[..]);
    assert!(forged.is_err(), "an image cannot tell overlayfs where to look");
}

#[tokio::test]
async fn layers_hide_what_they_hide() {
    let lower = LayerBuilder::new()
        .directory("keep/", 0o755)
        .file("keep/gone", 0o644, b"x")
        .file("keep/stays", 0o644, b"stays")
        .directory("emptied/", 0o700)
        .file("emptied/a", 0o644, b"x")
        .directory("removed/", 0o755)
        .file("removed/a", 0o644, b"x")
        .directory("replaced/", 0o755)
        .file("replaced/old", 0o644, b"x")
        .directory("owned/", 0o750)
        .file("owned/a", 0o644, b"x")
        .file("target", 0o600, b"linked");
    let upper = LayerBuilder::new()
        .whiteout("keep/gone")
        .directory("emptied/", 0o700)
        .opaque("emptied")
        .file("emptied/b", 0o644, b"new")
        .whiteout("removed")
        .file("replaced", 0o644, b"a file")
        // Its directory is not in this layer, and looks as it does below.
        .file("owned/b", 0o644, b"x")
        .link("copy", "target");
    let image =
        ImageBuilder::new().layer(lower, Compression::Gzip).layer(upper, Compression::Gzip).build();
    let rig = Rig::new().await;
    let id = imported(&rig, &image).await;
    let mounted = rig.mounted(&id, "c").await;
    let names = |directory: &str| {
        let entries = fs::read_dir(mounted.target.join(directory)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["copy", "emptied", "keep", "owned", "replaced", "target"]);
    assert_eq!(names("keep"), ["stays"]);
    assert_eq!(names("emptied"), ["b"]);
    assert_eq!(names("owned"), ["a", "b"]);
    assert_eq!(
        (mounted.read("replaced"), mounted.read("copy")),
        ("a file".into(), "linked".into())
    );
    assert_eq!(fs::metadata(mounted.target.join("owned")).unwrap().mode() & 0o777, 0o750);
    // Removed in the container: the directory can be made anew, and is empty.
    fs::remove_dir_all(mounted.target.join("keep")).unwrap();
    fs::create_dir(mounted.target.join("keep")).unwrap();
    assert!(names("keep").is_empty());
}

#[tokio::test]
async fn an_opaque_root_hides_all_below_it() {
    let image = ImageBuilder::new()
        .layer(LayerBuilder::new().file("old", 0o644, b"x"), Compression::Gzip)
        .layer(
            LayerBuilder::new().file(".wh..wh..opq", 0o644, b"").file("new", 0o644, b"x"),
            Compression::Gzip,
        )
        .layer(LayerBuilder::new().file("top", 0o644, b"x"), Compression::Gzip)
        .build();
    let rig = Rig::new().await;
    let id = imported(&rig, &image).await;
    assert_eq!(rig.layers(), 2, "nobody will ever see the lowest");
    let mounted = rig.mounted(&id, "c").await;
    assert!(!mounted.target.join("old").exists());
    assert!(mounted.target.join("new").exists() && mounted.target.join("top").exists());
}

#[tokio::test]
async fn containers_of_one_image_do_not_see_each_other() {
    let rig = Rig::new().await;
    let id = imported(&rig, &busybox()).await;
    let (a, b) = (rig.mounted(&id, "a").await, rig.mounted(&id, "b").await);
    fs::write(a.target.join("etc/passwd"), "changed").unwrap();
    assert_eq!(a.read("etc/passwd"), "changed");
    assert!(b.read("etc/passwd").starts_with("root:"));
    drop((a, b));
    let again = rig.mounted(&id, "a").await;
    assert_eq!(again.read("etc/passwd"), "changed", "it is the same container's");
}

#[tokio::test]
async fn a_mount_outlives_the_process_and_is_found_again() {
    let rig = Rig::new().await;
    let id = imported(&rig, &busybox()).await;
    let mounted = rig.mounted(&id, "c").await;
    fs::write(mounted.target.join("written"), "by a container").unwrap();
    rig.images.remove(&id).await.unwrap();
    let rig = rig.reopened().await;
    let container = ContainerId("c".to_owned());
    assert_eq!(rig.images.rootfs_containers(), std::slice::from_ref(&container));
    let rootfs = rig.images.rootfs(&container).unwrap();
    assert!(Rootfs::is_mounted(&mounted.target).unwrap());
    assert!(!Rootfs::is_mounted(rig.directory.path()).unwrap());
    rootfs.mount(&mounted.target).unwrap();
    assert_eq!(mounted.read("written"), "by a container");
    assert!(mounted.read("etc/passwd").starts_with("root:"), "its layers are still there");
    drop(mounted);
    let again = rig.images.prepare_rootfs(&ImageId(id), &container).await.unwrap();
    assert_eq!(again, rootfs);
    rig.images.retain_rootfs(vec![container.clone()]).await.unwrap();
    assert_eq!(rig.layers(), 1);
    rig.images.retain_rootfs(vec![]).await.unwrap();
    rig.assert_empty().await;
    let missing = ImageId("sha256:none".to_owned());
    let error = rig.images.prepare_rootfs(&missing, &container).await.unwrap_err();
    assert_eq!(error.to_string(), "no image with id sha256:none");
}

#[tokio::test]
async fn an_image_without_layers_is_an_empty_directory() {
    let rig = Rig::new().await;
    let id = imported(&rig, &ImageBuilder::new().build()).await;
    let mounted = rig.mounted(&id, "c").await;
    fs::write(mounted.target.join("a"), "x").unwrap();
    assert_eq!(fs::read_dir(&mounted.target).unwrap().count(), 1);
}

#[tokio::test]
async fn many_layers_in_an_odd_place() {
    require_root();
    let mut image = ImageBuilder::new();
    for number in 0..150 {
        let layer = LayerBuilder::new().file(&format!("f{number}"), 0o644, b"x");
        image = image.layer(layer, Compression::None);
    }
    let image = image.build();
    let outer = tempfile::tempdir().unwrap();
    let odd = "a:b,c\\d \"e\"".to_owned();
    for name in [odd, "long/".repeat(50), "p".to_owned()] {
        let data_dir = outer.path().join(name);
        let images = open(&data_dir).await.unwrap();
        let archive = outer.path().join("app.tar");
        fs::write(&archive, image.docker_archive(&["app:1"])).unwrap();
        let source = kinglet::runtime::images::ImportSource::Path(archive);
        images.import(source, &kinglet::runtime::images::Progress::none()).await.unwrap();
        let container = ContainerId("c".to_owned());
        let rootfs = images.prepare_rootfs(&ImageId(image.id()), &container).await.unwrap();
        assert_eq!((rootfs.lower.len(), rootfs.marks), (150, Marks::Trusted));
        let target = outer.path().join("target");
        fs::create_dir_all(&target).unwrap();
        for mount in [Rootfs::mount, Rootfs::mount_by_options] {
            mount(&rootfs, &target).unwrap();
            let count = fs::read_dir(&target).unwrap().count();
            fs::write(target.join("written"), "x").unwrap();
            let written = rootfs.upper.join("written").exists();
            Rootfs::unmount(&target).unwrap();
            Rootfs::unmount(&target).unwrap();
            assert!(count >= 150 && written);
        }
    }
}
