"""A release as the host gives it away, and how a machine gets it, gets the next one, and gets rid of it."""

import hashlib
import os
import shutil
import subprocess

from debian import RELEASES

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
IMAGES = "/var/lib/kinglet/agent/images"
UNIT = """[Unit]
After=network-online.target
Wants=network-online.target
[Service]
ExecStart=/usr/local/bin/kinglet COMMAND
KillMode=process
Delegate=yes
[Install]
WantedBy=multi-user.target
"""
BY_HAND = ("systemctl disable --now kinglet 2>&1; /usr/local/bin/kinglet killall && systemctl daemon-reload && rm -rf"
           " /var/lib/kinglet /etc/kinglet /run/kinglet /usr/local/bin/kinglet /etc/systemd/system/kinglet.service")
INSTALL = f"curl -fsS {RELEASES}/install.sh | INSTALL_KINGLET_URL={RELEASES} sh"
# Of whatever may be left behind, what there is.
TRACES = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/log -o -path /var/tmp \
  -o -path /var/lib/systemd \) -prune -o -print | sed 's/^/file /'
find /run /tmp -mindepth 1 -maxdepth 2 -not -path '/run/systemd/*' -not -path '/run/udev/*' -not -path '/run/vm-shell*' \
  | sed 's/^/run /'
ip -o link | awk '{ print "link", $2 }'
ip -o address | awk '{ print "address", $2, $4 }'
ip route show table all | sed 's/ expires.*//; s/^/route /'
ip rule | sed 's/^/policy /'
nft list ruleset | sed 's/^/nft /'
find /sys/fs/cgroup -type d -not -path '*/system.slice/systemd-*' -not -path '*.mount' | sed 's/^/cgroup /'
awk '{ print "mount", $2, $3 }' /proc/mounts
ps -eo args --ppid 2 -p 2 --deselect | grep -E 'kinglet|shim|runc' | grep -v -E 'grep|bash -c' | sed 's/^/process /'
ls /var/run/netns 2>/dev/null | sed 's/^/namespace /'
true
"""


def release(work, kinglet):
    """Puts what the host gives to the machines into its directory, as a release is."""
    directory = f"{work}/release"
    os.makedirs(directory, exist_ok=True)
    shutil.copy(kinglet, f"{directory}/kinglet-amd64")
    with open(f"{directory}/kinglet-amd64", "rb") as file:
        total = hashlib.file_digest(file, "sha256").hexdigest()
    with open(f"{directory}/sha256sums.txt", "w", encoding="utf-8") as file:
        file.write(f"{total}  kinglet-amd64\n")
    shutil.copy(f"{PROJECT}/packaging/install.sh", directory)
    if not os.path.exists(f"{directory}/hello.tar"):
        subprocess.run([f"{PROJECT}/packaging/example-image.sh", f"{directory}/hello.tar"], check=True)
    return subprocess.run([kinglet, "packaged", "kinglet.service"], capture_output=True, check=False).returncode == 0


def install(debian, carries_its_service, command):
    """Installs kinglet and starts it: `curl | sh`, or by hand where the executable does not carry its unit yet."""
    debian.run(f"mkdir -p {IMAGES} /etc/kinglet && curl -fsS {RELEASES}/hello.tar -o {IMAGES}/hello.tar")
    debian.run(f"echo 'node-ip: [{debian.address}]' >/etc/kinglet/config.yaml")
    if carries_its_service:
        return debian.run(f"{INSTALL} -s - {command}", 400)
    fetch(debian)
    unit = UNIT.replace("COMMAND", command)
    return debian.run(f"echo '{unit}' >/etc/systemd/system/kinglet.service && systemctl daemon-reload"
                      " && systemctl enable --now kinglet 2>&1")


def upgrade(debian, carries_its_service):
    """The same again, with what the release has by now."""
    if carries_its_service:
        return debian.run(INSTALL, 400)
    fetch(debian)
    return debian.run("systemctl restart kinglet", 400)


def fetch(debian):
    debian.run(f"curl -fsS {RELEASES}/kinglet-amd64 -o /usr/local/bin/kinglet.new && chmod 755 /usr/local/bin/kinglet.new"
               " && mv /usr/local/bin/kinglet.new /usr/local/bin/kinglet")


def uninstall(debian, carries_its_service):
    debian.run("kinglet-uninstall.sh 2>&1" if carries_its_service else BY_HAND, 300)


def traces(debian):
    """What there is of all that kinglet could leave behind, a line each."""
    return set(debian.run(TRACES).splitlines())
