//! Which cgroup hierarchies are mounted where.

use super::{Hierarchy, Layout};
use crate::sys::mount::Mounted;
use std::path::Path;

/// Where every distribution mounts them.
const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// What a version 1 hierarchy's options may name besides controllers.
const CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "memory",
    "pids",
    "cpuset",
    "blkio",
    "devices",
    "freezer",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
];

/// The layout of the hierarchies below [`MOUNT_POINT`]; `None` where there are none.
pub(super) fn layout(mounted: &[Mounted]) -> Option<Layout> {
    let ours = mounted.iter().filter(|each| each.target.starts_with(MOUNT_POINT));
    let mut hierarchies: Vec<Hierarchy> = ours.filter_map(hierarchy).collect();
    let only_unified = hierarchies.iter().all(|each| each.unified);
    if only_unified {
        let at_top = |each: &&Hierarchy| each.root == Path::new(MOUNT_POINT);
        let root = hierarchies.iter().find(at_top).or(hierarchies.first())?.root.clone();
        return Some(Layout::Unified { root });
    }
    // Those with controllers first: every process of a cgroup is in each of them, which is not so
    // for the hierarchies that only name groups.
    hierarchies.sort_by_key(|each| {
        let has = |name: &str| each.controllers.iter().any(|controller| controller == name);
        (!has("memory"), !has("pids"), each.controllers.is_empty())
    });
    Some(Layout::Legacy { hierarchies })
}

fn hierarchy(mounted: &Mounted) -> Option<Hierarchy> {
    let root = mounted.target.clone();
    match mounted.file_system.as_str() {
        "cgroup2" => Some(Hierarchy { root, controllers: Vec::new(), unified: true }),
        "cgroup" => {
            let options = mounted.super_options.split(',');
            let controllers = options.filter(|option| CONTROLLERS.contains(option));
            let controllers = controllers.map(str::to_owned).collect();
            Some(Hierarchy { root, controllers, unified: false })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mounts: &[(&str, &str, &str)], expected: &str) {
        let mounted: Vec<_> = mounts
            .iter()
            .map(|(target, file_system, options)| Mounted {
                root: "/".into(),
                target: target.into(),
                file_system: (*file_system).to_owned(),
                super_options: (*options).to_owned(),
                propagation: vec![],
            })
            .collect();
        let line = match layout(&mounted) {
            None => "none".to_owned(),
            Some(Layout::Unified { root }) => format!("unified {}", root.display()),
            Some(Layout::Legacy { hierarchies }) => {
                let names = hierarchies.iter().map(|each| {
                    let kind = if each.unified { "v2" } else { "v1" };
                    format!("{kind}:{}", each.controllers.join("+"))
                });
                names.collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(line, expected);
    }

    #[test]
    fn every_layout_is_recognised() {
        check(&[("/", "ext4", "rw")], "none");
        check(&[("/sys/fs/cgroup", "cgroup2", "rw,nsdelegate")], "unified /sys/fs/cgroup");
        check(
            &[
                ("/sys/fs/cgroup", "tmpfs", "ro"),
                ("/sys/fs/cgroup/unified", "cgroup2", "rw"),
                ("/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd"),
                ("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
                ("/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
            ],
            "v1:memory v1:cpu+cpuacct v2: v1:",
        );
    }
}
