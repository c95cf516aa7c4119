"""A machine with Debian 12 and systemd, on a disk that loses power as disks do (disk.py)."""

import time

from api import Api, eventually
from disk import Disk
from image import fresh_disk
from qemu import Machine
from shell import Shell

BOOT_SECONDS = 600
API_SECONDS = 300
MEMORY_MIB = 1024
# Where a machine finds what the host gives away: a file of the directory each, by HTTP.
RELEASES = "http://10.0.2.100"


class Debian:
    """One machine through all its boots."""

    def __init__(self, image, name, number, work, ports):
        self.name, self.port = name, ports["api"]
        self.machine = self.shell = self._kubeconfig = None
        self._endpoint = f"{work}/{name}.shell"
        self._console = f"{work}/{name}.console"
        fresh_disk(image, f"{work}/{name}.img")
        self.disk = Disk(f"{work}/{name}.img", f"{work}/{name}.nbd")
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{ports[key]}-:{port}" for key, port in FORWARDED.items())
        identity = f"systemd.hostname={name} systemd.machine_id={number:032x}"
        other = 3 - number
        self._options = [
            "-kernel", image.kernel,
            "-append", "root=/dev/nvme0n1 rootfstype=ext4 rw console=ttyS0 quiet panic=-1 net.ifnames=0 mitigations=off"
            f" cryptomgr.notests systemd.show_status=0 {identity}",
            "-drive", f"file=nbd+unix:///?socket={work}/{name}.nbd,format=raw,if=none,id=disk",
            "-device", "nvme,drive=disk,serial=disk",
            "-netdev", f"user,id=host,restrict=on{forwards}"
            f",guestfwd=tcp:10.0.2.100:80-cmd:busybox httpd -i -h {work}/release",
            "-device", f"virtio-net-pci,netdev=host,mac=52:54:00:00:00:{number:02x},romfile=",
            "-netdev", f"dgram,id=peer,local.type=inet,local.host=127.0.0.1,local.port={ports[f'peer-{number}']}"
            f",remote.type=inet,remote.host=127.0.0.1,remote.port={ports[f'peer-{other}']}",
            "-device", f"virtio-net-pci,netdev=peer,mac=52:54:01:00:00:{number:02x},romfile=",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=shell,path={self._endpoint},server=on,wait=off",
            "-device", "virtserialport,chardev=shell,name=shell"]

    def boot(self):
        """Starts the machine; says how long it took until there was a shell."""
        began = time.monotonic()
        self.machine = Machine(self.name, self._console, MEMORY_MIB, self._options)
        self.machine.hear("SHELL IS READY", BOOT_SECONDS, "Kernel panic|emergency mode")
        self.shell = Shell(self.machine, self._endpoint)
        return time.monotonic() - began

    def run(self, command, seconds=120):
        return self.shell.run(command, seconds)

    def cut_power(self, rng):
        """Says how many sectors were not flushed, and how many of them were lost."""
        self.machine.cut()
        return self.disk.lose_power(rng)

    def reboot(self):
        """In order, from inside; says how long it took to go down and to come up."""
        began = time.monotonic()
        self.run("systemctl --no-block reboot")
        self.machine.wait(BOOT_SECONDS)
        down = time.monotonic() - began
        return down, self.boot()

    def api(self, seconds=60):
        """A new connection to the API server, as its administrator; waits until it is ready."""
        def connect():
            api = Api(self.port, self.shell.run("cat /etc/kinglet/kinglet.yaml 2>/dev/null || echo NONE"), seconds)
            api.text("/readyz")
            return api
        return eventually("the API server", connect, API_SECONDS, self.assert_alive)

    def assert_alive(self):
        if self.machine.is_over():
            raise RuntimeError(f"{self.name} is gone")

    def troubles(self):
        """What helps to understand a failure."""
        lines = [self.machine.tail() if self.machine else ""]
        if self.shell and not self.machine.is_over():
            try:
                lines.append(self.shell.attempt(TROUBLES, 60)[1])
            except (OSError, RuntimeError) as error:
                lines.append(repr(error))
        return "\n".join(lines)

    def close(self):
        if self.machine and not self.machine.is_over():
            self.machine.cut()
        self.disk.close()


# What is reached from the host: the name of the port here, and there.
FORWARDED = {"api": 6443, "service": 30080}
TROUBLES = "systemctl --failed --no-legend; journalctl -n 60 --no-pager -o cat; df -h /; free -m; ip -br address"
