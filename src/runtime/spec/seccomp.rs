//! The seccomp profile that `RuntimeDefault` means here.
//!
//! It refuses what containers have no business with: changing the kernel, the clock, namespaces,
//! mounts, keys, other processes' memory. A system call that some capability is for is let through
//! where the container has that capability. Unlike the profiles of Docker and containerd, whose
//! effect it follows, it lists what is refused and not what is allowed: it is short, it works for
//! every program that theirs works for, and a system call that some later kernel adds is let
//! through.

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

/// Refused always.
const REFUSED: &[&str] = &[
    "_sysctl",
    "add_key",
    "create_module",
    "get_kernel_syms",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "keyctl",
    "nfsservctl",
    "pivot_root",
    "query_module",
    "request_key",
    "swapoff",
    "swapon",
    "sysfs",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
];

/// Refused without the capability.
const REFUSED_WITHOUT: &[(Capability, &[&str])] = &[
    (Capability::DacReadSearch, &["open_by_handle_at"]),
    (
        Capability::SysAdmin,
        &[
            "bpf",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (Capability::SysBoot, &["kexec_file_load", "kexec_load", "reboot"]),
    (Capability::SysChroot, &["chroot"]),
    (Capability::SysModule, &["delete_module", "finit_module", "init_module"]),
    (
        Capability::SysNice,
        &[
            "get_mempolicy",
            "mbind",
            "migrate_pages",
            "move_pages",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    (Capability::SysPacct, &["acct"]),
    (
        Capability::SysPtrace,
        &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev"],
    ),
    (Capability::SysRawio, &["ioperm", "iopl"]),
    (
        Capability::SysTime,
        &["clock_adjtime", "clock_settime", "clock_settime64", "settimeofday", "stime"],
    ),
    (Capability::SysTtyConfig, &["vhangup"]),
    (Capability::Syslog, &["syslog"]),
];

/// `CLONE_NEW*`: each flag that makes a namespace.
const NAMESPACE_FLAGS: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Sockets to the hypervisor, past every namespace.
const AF_VSOCK: u64 = 40;

/// The profile for a container with these capabilities.
pub(super) fn runtime_default(capabilities: &Capabilities) -> LinuxSeccomp {
    let mut names: Vec<String> = REFUSED.iter().map(|name| (*name).to_owned()).collect();
    for (capability, calls) in REFUSED_WITHOUT {
        if !capabilities.contains(capability) {
            names.extend(calls.iter().map(|name| (*name).to_owned()));
        }
    }
    let mut calls = vec![refuse(names, libc::EPERM, None)];
    calls.push(refuse(
        vec!["socket".to_owned()],
        libc::EAFNOSUPPORT,
        Some(argument(0, LinuxSeccompOperator::ScmpCmpEq, AF_VSOCK, None)),
    ));
    if !capabilities.contains(&Capability::SysAdmin) {
        calls.extend(NAMESPACE_FLAGS.map(refuse_clone_flag));
        // Its flags are in memory, where a filter cannot look. C libraries go on with `clone`.
        calls.push(refuse(vec!["clone3".to_owned()], libc::ENOSYS, None));
    }
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActAllow);
    profile.set_architectures(Some(architectures()));
    profile.set_syscalls(Some(calls));
    profile
}

fn refuse_clone_flag(flag: libc::c_int) -> LinuxSyscall {
    let flag = u64::from(flag.cast_unsigned());
    let has_flag = argument(0, LinuxSeccompOperator::ScmpCmpMaskedEq, flag, Some(flag));
    refuse(vec!["clone".to_owned()], libc::EPERM, Some(has_flag))
}

fn refuse(
    names: Vec<String>,
    errno: libc::c_int,
    condition: Option<LinuxSeccompArg>,
) -> LinuxSyscall {
    let mut call = LinuxSyscall::default();
    call.set_names(names);
    call.set_action(LinuxSeccompAction::ScmpActErrno);
    call.set_errno_ret(Some(errno.cast_unsigned()));
    call.set_args(condition.map(|condition| vec![condition]));
    call
}

fn argument(
    index: usize,
    operator: LinuxSeccompOperator,
    value: u64,
    value_two: Option<u64>,
) -> LinuxSeccompArg {
    let argument = LinuxSeccompArgBuilder::default().index(index).op(operator).value(value);
    let argument = match value_two {
        Some(value_two) => argument.value_two(value_two),
        None => argument,
    };
    argument.build().expect("every field has a default")
}

/// This machine's architecture and those whose programs it runs as well.
fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "x86_64") {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    } else if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchNative]
    }
}
