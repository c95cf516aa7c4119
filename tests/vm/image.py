"""What the machines boot: Debian 12, built from Debian's packages, and a machine in memory out of it.

Building takes minutes and is kept in the cache, by what it is made of.
"""

import glob
import hashlib
import os
import shutil
import subprocess

CACHE = "/var/cache/kinglet-tests/vm"
HERE = os.path.dirname(os.path.realpath(__file__))
MIRROR = "http://deb.debian.org/debian"
PACKAGES = ("systemd-sysv,udev,dbus,kmod,iproute2,procps,nftables,conntrack,curl,ca-certificates,"
            "containerd,runc,linux-image-cloud-amd64")
DISK_BYTES = 3 << 30
# What the machine in memory loads, in this order; its disk comes last, once it runs again.
MODULES = ("drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev",
           "drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci", "net/core/failover",
           "drivers/net/net_failover", "drivers/net/virtio_net")
DISK_MODULE = "drivers/block/virtio_blk"
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
          "e2scrub_reap.service", "getty@tty1.service", "serial-getty@ttyS0.service", "containerd.service",
          "systemd-timesyncd.service", "systemd-update-utmp.service", "systemd-random-seed.service",
          "systemd-pcrphase.service", "ldconfig.service", "modprobe@drm.service", "systemd-journal-flush.service")


class Image:
    """Where the parts of it are."""

    def __init__(self, directory):
        self.kernel = f"{directory}/vmlinuz"
        self.disk = f"{directory}/disk.img"
        self.memory_root = f"{directory}/memory"


def run(*command, **options):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)


def built(say):
    """The image, from the cache where it is there."""
    directory = f"{CACHE}/{fingerprint(*parts_of_guest())}"
    if not os.path.exists(directory):
        archive = debian(say)
        say("making the disk out of it")
        for old in glob.glob(f"{CACHE}/*/") + glob.glob(f"{CACHE}/*.unfinished"):
            remove(old)
        unfinished = f"{directory}.unfinished"
        os.makedirs(f"{unfinished}/root")
        run("tar", "-C", f"{unfinished}/root", "-xf", archive, "--exclude=./dev/*")
        assemble(unfinished)
        os.rename(unfinished, directory)
    return Image(directory)


def debian(say):
    """An archive of the packages, unpacked and configured."""
    archive = f"{CACHE}/debian-{fingerprint(PACKAGES)}.tar"
    if not os.path.exists(archive):
        for old in glob.glob(f"{CACHE}/debian-*"):
            remove(old)
        say("building Debian 12 from its packages, which takes minutes; it is kept for the next time")
        os.makedirs(CACHE, exist_ok=True)
        run("mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", f"--include={PACKAGES}", "bookworm",
            f"{archive}.unfinished", MIRROR)
        os.rename(f"{archive}.unfinished", archive)
    return archive


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def parts_of_guest():
    """All that makes a disk out of an archive."""
    yield PACKAGES
    for name in [f"{HERE}/image.py", *sorted(glob.glob(f"{HERE}/guest/*"))]:
        with open(name, encoding="utf-8") as file:
            yield file.read()


def fingerprint(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def assemble(directory):
    """Makes the parts out of the unpacked root in the directory, which goes."""
    root = f"{directory}/root"
    shutil.copy(glob.glob(f"{root}/boot/vmlinuz-*")[0], f"{directory}/vmlinuz")
    gather_memory_root(root, f"{directory}/memory")
    settle(root)
    disk = f"{directory}/disk.img"
    with open(disk, "wb") as file:
        file.truncate(DISK_BYTES)
    run("mke2fs", "-q", "-t", "ext4", "-d", root, disk)
    shutil.rmtree(root)


def settle(root):
    """What a fresh Debian has to be told to be a machine of ours."""
    put(root, "etc/fstab", "")
    put(root, "etc/machine-id", "")
    put(root, "etc/hosts", "127.0.0.1 localhost\n")
    for name, hardware, more in (
            ("host", "52:54:00:*", "Address=10.0.2.15/24\nGateway=10.0.2.2"),
            ("peer-1", "52:54:01:00:00:01", "Address=10.9.0.1/24"), ("peer-2", "52:54:01:00:00:02", "Address=10.9.0.2/24")):
        match = f"MACAddress={hardware}" if "*" not in hardware else "Name=eth0"
        put(root, f"etc/systemd/network/{name}.network", f"[Match]\n{match}\n[Network]\n{more}\n")
    shutil.copy(f"{HERE}/guest/vm-shell", f"{root}/usr/local/sbin/vm-shell")
    put(root, "etc/systemd/system/vm-shell.service",
        "[Service]\nExecStart=/usr/local/sbin/vm-shell\nKillMode=process\n[Install]\nWantedBy=sysinit.target\n"
        "[Unit]\nDefaultDependencies=no\nAfter=systemd-udevd.service\n")
    run("systemctl", "--quiet", f"--root={root}", "enable", "systemd-networkd", "vm-shell", stderr=subprocess.DEVNULL)
    run("systemctl", "--quiet", f"--root={root}", "mask", *MASKED, stderr=subprocess.DEVNULL)
    for archive in glob.glob(f"{root}/var/cache/apt/*.bin") + glob.glob(f"{root}/boot/initrd*"):
        os.remove(archive)


def put(root, name, text):
    os.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
    with open(f"{root}/{name}", "w", encoding="utf-8") as file:
        file.write(text)


def gather_memory_root(root, memory):
    """Kernel modules and the programs that the machine in memory needs."""
    for name in ("bin", "modules", "dev", "proc", "sys", "tmp", "data", "lib64", "lib/x86_64-linux-gnu"):
        os.makedirs(f"{memory}/{name}")
    modules = glob.glob(f"{root}/lib/modules/*/kernel")[0]
    for name in (*MODULES, DISK_MODULE):
        shutil.copy(f"{modules}/{name}.ko", f"{memory}/modules/")
    put(memory, "modules/order", "".join(f"{os.path.basename(name)}.ko\n" for name in MODULES))
    # From the host, as it is for the image of the examples; perl is everywhere in Debian.
    shutil.copy(shutil.which("busybox"), f"{memory}/bin/busybox")
    shutil.copy(f"{root}/usr/bin/perl", f"{memory}/bin/perl")
    shutil.copy(f"{root}/lib64/ld-linux-x86-64.so.2", f"{memory}/lib64/")
    for name in ("libc.so.6", "libm.so.6", "libcrypt.so.1", "libdl.so.2", "libpthread.so.0"):
        shutil.copy(f"{root}/lib/x86_64-linux-gnu/{name}", f"{memory}/lib/x86_64-linux-gnu/{name}")


def memory_archive(image, kinglet, file):
    """What the kernel unpacks as the root of the machine in memory."""
    root = f"{file}.root"
    shutil.copytree(image.memory_root, root)
    shutil.copy(kinglet, f"{root}/bin/kinglet")
    shutil.copy(f"{HERE}/guest/cut-init", f"{root}/init")
    with open(file, "wb") as archive:
        names = subprocess.run(["find", "."], cwd=root, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=names, check=True,
                       stdout=archive, stderr=subprocess.DEVNULL)
    shutil.rmtree(root)


def fresh_disk(image, file):
    run("cp", "--sparse=always", image.disk, file)


def empty_disk(file, size):
    with open(file, "wb") as disk:
        disk.truncate(size)
    run("mke2fs", "-q", "-t", "ext4", file)
