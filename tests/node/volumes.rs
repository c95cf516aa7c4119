//! Volumes that take a kernel: memory instead of a disk, and files that belong to a group.

use crate::rig::Rig;
use kinglet::kubelet::container::mounts::{PlannedMount, Recursion};
use kinglet::kubelet::volumes::Volumes;
use kinglet::kubelet::volumes::plan::{FileContent, Source, VolumePlan};
use kinglet::runtime::Runtime as _;
use kinglet::runtime::{ContainerConfig, DeviceMapping, ImageMount, Mount, MountPropagation};
use kinglet::sys::host::DeviceKind;
use kinglet::sys::mount;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const GROUP: u32 = 4_321;

struct Place {
    directory: TempDir,
    volumes: Volumes,
}

impl Place {
    fn new() -> Self {
        // Not below /tmp, which may be in memory itself.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = fs::canonicalize(directory.path()).unwrap();
        let volumes = Volumes { pods_dir: path.join("pods"), memory_dir: path.join("memory") };
        Self { directory, volumes }
    }

    fn mounts(&self) -> usize {
        let path = fs::canonicalize(self.directory.path()).unwrap();
        mount::mounted().unwrap().iter().filter(|it| it.target.starts_with(&path)).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        mount::unmount_all(&fs::canonicalize(self.directory.path()).unwrap()).unwrap();
    }
}

fn volume(name: &str, source: Source) -> VolumePlan {
    VolumePlan { group: Some(GROUP), ..VolumePlan::of(name, source) }
}

/// Group and mode.
fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.gid(), found.mode() & 0o7777)
}

#[test]
fn secrets_are_in_memory_and_found_again() {
    let place = Place::new();
    let memory = &place.volumes.memory_dir;
    let is_needed = !mount::is_in_memory(place.directory.path()).unwrap();
    place.volumes.keep_off_disk().unwrap();
    assert!(mount::is_in_memory(memory).unwrap());
    if !is_needed {
        // Temporary files of this machine are in memory: there is nothing to see.
        return;
    }
    assert_eq!(owner(memory).1, 0o700);
    let mounted = mount::mounted().unwrap();
    let found = mounted.iter().find(|it| it.target == *memory).unwrap();
    assert!(found.propagation.is_empty(), "private: {found:?}");
    assert!(found.super_options.contains("size="), "limited: {found:?}");
    fs::write(memory.join("secret"), "hush").unwrap();
    place.volumes.keep_off_disk().unwrap();
    assert_eq!(fs::read_to_string(memory.join("secret")).unwrap(), "hush");
    assert_eq!(place.mounts(), 1);
}

#[test]
fn sub_paths_follow_what_is_in_the_volume() {
    let mut place = Place::new();
    let root = fs::canonicalize(place.directory.path()).unwrap();
    // The kernel lists mounts by their true paths.
    std::os::unix::fs::symlink(&root, root.join("link")).unwrap();
    place.volumes.pods_dir = root.join("link/pods");
    let volume = root.join("volume");
    fs::create_dir_all(&volume).unwrap();
    let check = |expected: &str| {
        let mount = Mount {
            host_path: volume.clone(),
            container_path: "/data".to_owned(),
            read_only: false,
            propagation: MountPropagation::Private,
        };
        let sub_path = Some(PathBuf::from("part"));
        let volume = "v".to_owned();
        let recursive_read_only = Recursion::Disabled;
        let planned = vec![PlannedMount { mount, volume, sub_path, recursive_read_only }];
        let found = place.volumes.find_sub_paths("u1", "c", planned).unwrap();
        let seen = fs::read_to_string(&found[0].host_path).unwrap_or_else(|_error| {
            let entries = fs::read_dir(&found[0].host_path).unwrap();
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
        });
        assert_eq!((seen.as_str(), place.mounts()), (expected, 1));
    };
    let replace = |contents: &str| {
        fs::write(volume.join("new"), contents).unwrap();
        fs::rename(volume.join("new"), volume.join("part")).unwrap();
    };
    replace("first");
    check("first");
    check("first");
    replace("second");
    check("second");
    fs::remove_file(volume.join("part")).unwrap();
    fs::create_dir_all(volume.join("part/inside")).unwrap();
    check("inside");
    fs::remove_dir_all(volume.join("part")).unwrap();
    replace("third");
    check("third");
    place.volumes.remove_pod("u1").unwrap();
    assert_eq!(place.mounts(), 0);
}

#[test]
fn a_tree_is_read_only_with_all_that_is_mounted_in_it() {
    let place = Place::new();
    let volume = fs::canonicalize(place.directory.path()).unwrap().join("volume");
    fs::create_dir_all(volume.join("below")).unwrap();
    let size = mount::Tmpfs { size_bytes: 1 << 20, mode: 0o777, group: None };
    mount::tmpfs(&volume.join("below"), size).unwrap();
    let found = |recursive_read_only| {
        let mount = Mount {
            host_path: volume.clone(),
            container_path: "/data".to_owned(),
            read_only: true,
            propagation: MountPropagation::Private,
        };
        let (volume, sub_path) = ("v".to_owned(), None);
        let planned = PlannedMount { mount, volume, sub_path, recursive_read_only };
        let found = place.volumes.find_sub_paths("u1", "c", vec![planned]).unwrap();
        found[0].host_path.clone()
    };
    assert_eq!(found(Recursion::Disabled), volume);
    let tree = found(Recursion::Enabled);
    assert_eq!((found(Recursion::Enabled), place.mounts()), (tree.clone(), 3));
    for path in ["x", "below/x"] {
        let error = fs::write(tree.join(path), "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{path}");
        fs::write(volume.join(path), "").unwrap();
        assert!(tree.join(path).exists());
    }
    place.volumes.tear_down("u1").unwrap();
    assert_eq!(place.mounts(), 1);
    mount::unmount_all(&volume).unwrap();
}

#[test]
fn a_directory_of_a_claim_is_given_once() {
    let place = Place::new();
    let path = place.directory.path().join("data");
    fs::create_dir_all(path.join("deep")).unwrap();
    fs::write(path.join("deep/x"), "").unwrap();
    let persistent =
        kinglet::kubelet::volumes::Persistent { name: "pv".to_owned(), is_exclusive: false };
    let plans = [VolumePlan {
        persistent: Some(persistent),
        ..volume("data", Source::Local { path: path.clone() })
    }];
    let set_up = || place.volumes.set_up("u1", &plans, 0, jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(set_up()["data"].path, path);
    assert_eq!((owner(&path).0, owner(&path.join("deep/x")).0), (GROUP, GROUP));
    std::os::unix::fs::chown(path.join("deep/x"), None, Some(0)).unwrap();
    set_up();
    assert_eq!(owner(&path.join("deep/x")).0, 0, "what the pod does stays");
    place.volumes.remove_pod("u1").unwrap();
    assert!(path.join("deep/x").exists());
}

#[test]
fn volumes_belong_to_the_pods_group() {
    let place = Place::new();
    let secret = FileContent { bytes: b"hush".to_vec(), mode: 0o400, owner: None };
    let files = [(PathBuf::from("a/pass"), secret)].into();
    let plans = [
        volume("disk", Source::EmptyDir),
        volume("memory", Source::Memory { size_bytes: Some(1 << 20) }),
        volume("secret", Source::Files { files, in_memory: true }),
    ];
    let now = jiff::Timestamp::UNIX_EPOCH;
    let ready = place.volumes.set_up("u1", &plans, 1 << 30, now).unwrap();
    assert_eq!(owner(&ready["disk"].path), (GROUP, 0o2777));
    assert_eq!(owner(&ready["memory"].path), (GROUP, 0o2777));
    let secret = &ready["secret"].path;
    assert_eq!(owner(secret), (GROUP, 0o2755));
    assert_eq!(owner(&secret.join("a")).0, GROUP, "the link");
    assert_eq!(owner(&secret.join("..data/a")), (GROUP, 0o2755));
    assert_eq!(owner(&secret.join("a/pass")), (GROUP, 0o440));
    // What is made in them belongs to the group.
    fs::write(ready["disk"].path.join("new"), "").unwrap();
    assert_eq!(owner(&ready["disk"].path.join("new")).0, GROUP);
    let again = place.volumes.set_up("u1", &plans, 1 << 30, now).unwrap();
    assert_eq!((again, place.mounts()), (ready, 1));
    place.volumes.remove_pod("u1").unwrap();
    assert_eq!(place.mounts(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_image_declares_is_a_volume_of_the_container() {
    let rig = Rig::start().await;
    rig.images.config.lock().unwrap().volumes = vec!["/etc".to_owned(), "/root/".to_owned()];
    let sandbox = rig.run_sandbox("declared").await;
    let mut config = rig.container_config("main", "sleep 1000");
    config.security.read_only_root = true;
    config.environment = vec![("PASSWORD".to_owned(), "hush".to_owned())];
    config.mounts = vec![Mount {
        container_path: "/root".to_owned(),
        host_path: rig.directory.clone(),
        read_only: true,
        propagation: MountPropagation::Private,
    }];
    let id = rig.run(&sandbox, config).await;
    let kept = rig.directory.join("agent/sandboxes").join(&sandbox.id.0);
    let kept = kept.join("containers").join(&id.0);
    // It begins with the image's content and can be written to.
    let script = "echo more >/etc/more && cat /etc/group | head -n 1 && ! touch /x 2>/dev/null";
    assert_eq!(rig.exec(&id, script).await, "root:x:0:");
    assert_eq!(fs::read_to_string(kept.join("volumes/0/more")).unwrap(), "more\n");
    assert!(!kept.join("volumes/1").exists(), "the pod has its own at /root");
    let record = fs::read_to_string(kept.join("container.json")).unwrap();
    assert!(!record.contains("hush"), "no secret is on a disk: {record}");
    assert_eq!(rig.exec(&id, "echo $PASSWORD").await, "hush");
    rig.runtime().stop_container(&id, std::time::Duration::ZERO).await.unwrap();
    rig.runtime().remove_container(&id).await.unwrap();
    assert!(!kept.exists());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_device_is_a_volume() {
    let rig = Rig::start().await;
    let nodes = kinglet::sys::host::device_nodes(Path::new("/dev")).unwrap();
    let disk = nodes.iter().find(|it| it.kind == DeviceKind::Block).expect("a disk").clone();
    let sandbox = rig.run_sandbox("web").await;
    let mut config = rig.container_config("c", "[ -b /dev/own ] && [ ! -e /dev/fuse ]");
    config.devices = vec![DeviceMapping {
        container_path: "/dev/own".to_owned(),
        host_path: disk.path,
        read_only: true,
    }];
    let id = rig.run(&sandbox, config).await;
    assert_eq!(rig.exit_of(&id).await.0, 0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_seen_and_neither_written_nor_run() {
    let mut rig = Rig::start().await;
    let sandbox = rig.run_sandbox("images").await;
    let image = |path: &str, sub_path: &str| ImageMount {
        container_path: path.to_owned(),
        image: crate::rig::BusyboxImages::id(),
        sub_path: sub_path.into(),
    };
    let script = "cat /all/etc/group | head -n 1; ls /some/passwd
        touch /all/x 2>/dev/null || echo read-only
        /all/bin/busybox true 2>/dev/null || echo not-run
        while true; do sleep 0.05; done";
    let config = rig.container_config("main", script);
    let image_mounts = vec![image("/all", ""), image("/some", "etc")];
    let id = rig.run(&sandbox, ContainerConfig { image_mounts, ..config }).await;
    let expected = ["root:x:0:", "/some/passwd", "read-only", "not-run"];
    let expected: Vec<_> = expected.iter().map(|text| format!("stdout F {text}")).collect();
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    rig.log_shows("main", &expected).await;
    // What is mounted is held for as long as the container, whoever looks after it.
    rig.close().await;
    rig.open().await;
    assert_eq!(
        rig.exec(&id, "cat /some/passwd | head -n 1").await,
        "root:x:0:0:root:/root:/bin/sh"
    );
    let config = rig.container_config("lost", "true");
    let image_mounts = vec![image("/some", "no/such")];
    let config = ContainerConfig { image_mounts, ..config };
    let error = rig.runtime().create_container(&sandbox.id, config).await.unwrap_err();
    assert!(error.to_string().contains("mounting an image as a volume"), "{error}");
    rig.runtime().remove_container(&id).await.unwrap();
    assert_eq!(fs::read_dir(rig.images.containers()).unwrap().count(), 0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_mounted_later_is_seen_as_the_pod_says() {
    use rustix::mount::{MountPropagationFlags, mount_change};
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("propagation").await;
    let outside = rig.directory.join("outside");
    fs::create_dir_all(outside.join("later")).unwrap();
    // The test's own directory, which goes with the rig.
    mount::bind(&outside, &outside).unwrap();
    mount_change(&outside, MountPropagationFlags::SHARED).unwrap();
    let run = async |name: &str, propagation| {
        let mount = Mount {
            host_path: outside.clone(),
            container_path: "/data".to_owned(),
            read_only: false,
            propagation,
        };
        let config = rig.container_config(name, "while true; do sleep 0.05; done");
        let config = ContainerConfig { mounts: vec![mount], ..config };
        rig.run(&sandbox, config).await
    };
    let private = run("private", MountPropagation::Private).await;
    let slave = run("slave", MountPropagation::HostToContainer).await;
    let tmpfs = mount::Tmpfs { size_bytes: 1 << 20, mode: 0o755, group: None };
    mount::volume_tmpfs(&outside.join("later"), tmpfs).unwrap();
    fs::write(outside.join("later/x"), "seen").unwrap();
    assert_eq!(rig.exec(&slave, "cat /data/later/x").await, "seen");
    assert_eq!(rig.exec(&private, "ls /data/later").await, "");
    for id in [private, slave] {
        rig.runtime().remove_container(&id).await.unwrap();
    }
    mount::unmount_all(&outside).unwrap();
    rig.finish().await;
}
