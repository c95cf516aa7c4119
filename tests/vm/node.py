"""One machine from its installation to the uninstallation, and a second one that joins."""

import hashlib
import http.client
import os
import shutil
import subprocess
import threading
import time
from contextlib import suppress

from api import UNREACHABLE, Refused, eventually
from debian import RELEASES, Debian

POD_SECONDS = 300
MEMORY_LIMIT = 64 << 20
HERE = os.path.dirname(os.path.realpath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))
DEFAULT = "/api/v1/namespaces/default"
IMAGES = "/var/lib/kinglet/agent/images"
CUTS_WITH_PODS = 3
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
    for script in ("packaging/install.sh", "packaging/kinglet.service"):
        with suppress(FileNotFoundError):
            shutil.copy(f"{PROJECT}/{script}", directory)
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
    return debian.run(f"curl -fsS {RELEASES}/kinglet.service | sed 's,^ExecStart=.*,ExecStart=/usr/local/bin/kinglet {command},'"
                      " >/etc/systemd/system/kinglet.service && systemctl daemon-reload && systemctl enable --now kinglet 2>&1")


def upgrade(debian, carries_its_service):
    """The same again, with what the release has by now."""
    if carries_its_service:
        return debian.run(INSTALL, 400)
    fetch(debian)
    return debian.run("systemctl restart kinglet", 400)


def fetch(debian):
    debian.run(f"curl -fsS {RELEASES}/kinglet-amd64 -o /usr/local/bin/kinglet.new && chmod 755 /usr/local/bin/kinglet.new"
               " && mv /usr/local/bin/kinglet.new /usr/local/bin/kinglet")


def node_is_ready(api, name):
    conditions = api.get(f"/api/v1/nodes/{name}")["status"]["conditions"]
    return any(x["type"] == "Ready" and x["status"] == "True" for x in conditions)


def ready_pods(api, app):
    pods = api.get(f"{DEFAULT}/pods?labelSelector=app%3D{app}")["items"]
    return [x for x in pods if any(
        c["type"] == "Ready" and c["status"] == "True" for c in x["status"].get("conditions", []))]


def hello(app, replicas, node=None):
    """A Deployment of the example's web server."""
    container = {"name": "web", "image": "docker.io/library/hello:1", "ports": [{"containerPort": 8080}],
                 "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
                 "resources": {"limits": {"memory": str(MEMORY_LIMIT)}}}
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container], "tolerations": [{"operator": "Exists"}]}
    if node:
        pod["nodeName"] = node
    labels = {"app": app}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels}, "spec": pod}}}


def service(app, node_port=None):
    port = {"port": 80, "targetPort": 8080} | ({"nodePort": node_port} if node_port else {})
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": app},
            "spec": {"selector": {"app": app}, "ports": [port], "type": "NodePort" if node_port else "ClusterIP"}}


def page(port, seconds=10):
    """What the Service answers to the host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


class Node:
    """The steps of part `node`, in their order."""

    def __init__(self, image, options, work, ports, rng, say):
        self.options, self.work, self.rng, self.say = options, work, rng, say
        self.port = ports["service"]
        self.carries_its_service = release(work, options.previous or options.kinglet)
        self.debian = Debian(image, "vm1", 1, work, ports)
        self.debian.address = "10.9.0.1"
        self.api = self.before = None

    def first_boot(self):
        took = self.debian.boot()
        version = self.debian.run("uname -r; . /etc/os-release; echo $PRETTY_NAME; stat -fc %T /sys/fs/cgroup").split("\n")
        self.say(f"booted in {took:.0f} s: {', '.join(version).strip(', ')}")
        if version[2] != "cgroup2fs":
            raise AssertionError("this is not cgroup v2")
        self.debian.run("systemctl is-system-running --wait || true", 200)
        self.before = self.debian.run(TRACES)

    def install(self):
        began = time.monotonic()
        install(self.debian, self.carries_its_service, "server")
        self.api = self.debian.api()
        ready = time.monotonic() - began
        eventually("the node", lambda: node_is_ready(self.api, "vm1"), POD_SECONDS)
        self.say(f"installed: API ready after {ready:.0f} s, node Ready after {time.monotonic() - began:.0f} s")

    def check(self):
        """`kinglet check` finds nothing missing."""
        code, output = self.debian.shell.attempt("/usr/local/bin/kinglet check")
        self.say(f"kinglet check ended with {code}: {' | '.join(output.split(chr(10)))[:600]}")
        if code != 0:
            raise AssertionError("kinglet check is not content")

    def first_pod(self):
        began = time.monotonic()
        self.api.create("/apis/apps/v1/namespaces/default/deployments", hello("hello", 2))
        self.api.create(f"{DEFAULT}/services", service("hello", 30080))
        eventually("two pods", lambda: len(ready_pods(self.api, "hello")) == 2, POD_SECONDS)
        ready = time.monotonic() - began
        self.await_page()
        self.say(f"two pods Ready after {ready:.1f} s, their Service answers after {time.monotonic() - began:.1f} s")
        self.memory_limit()

    def memory_limit(self):
        """The limit of a container is in the cgroup that its process is in."""
        found = self.debian.run(
            "for p in $(pgrep -x httpd); do g=/sys/fs/cgroup$(cut -d: -f3 /proc/$p/cgroup);"
            " echo $(cat $g/memory.max) $(cat $g/memory.current) $g; done")
        limits = [line.split() for line in found.splitlines()]
        if not limits or any(x[0] != str(MEMORY_LIMIT) for x in limits):
            raise AssertionError(f"memory.max is not {MEMORY_LIMIT}: {found}")
        self.say(f"memory.max of {len(limits)} containers is {MEMORY_LIMIT}, in use {limits[0][1]}: {limits[0][2]}")

    def await_page(self, seconds=POD_SECONDS):
        eventually("the Service", lambda: "Hello" in page(self.port), seconds)

    def power_cuts(self):
        for number in range(CUTS_WITH_PODS):
            name = f"before-cut-{number}"
            made = self.api.create(f"{DEFAULT}/configmaps", {"metadata": {"name": name}, "data": {"number": str(number)}})
            revision = int(made["metadata"]["resourceVersion"])
            unflushed, lost = self.debian.cut_power(self.rng)
            what = self.come_back(lambda: self.debian.boot())
            if self.api.get(f"{DEFAULT}/configmaps/{name}")["data"]["number"] != str(number):
                raise AssertionError(f"{name} is not as it was acknowledged")
            after = self.api.create(f"{DEFAULT}/configmaps", {"metadata": {"name": f"after-{name}"}})
            if int(after["metadata"]["resourceVersion"]) <= revision:
                raise AssertionError("a revision was used again")
            self.say(f"power cut {number + 1} with pods ({lost} of {unflushed} sectors not flushed were lost): {what}")

    def reboot(self):
        down = []
        what = self.come_back(lambda: down.append(self.debian.reboot()))
        self.say(f"reboot: down after {down[0][0]:.0f} s; {what}")

    def come_back(self, boot):
        """Boots and waits until the pods of before are there again."""
        before = {x["metadata"]["uid"] for x in ready_pods(self.api, "hello")}
        boot()
        began = time.monotonic()
        self.api = self.debian.api()
        ready = time.monotonic() - began
        def back():
            pods = ready_pods(self.api, "hello")
            return len(pods) == 2 and all(x["status"]["containerStatuses"][0]["restartCount"] > 0
                                          or x["metadata"]["uid"] not in before for x in pods)
        eventually("the pods", back, POD_SECONDS)
        pods = time.monotonic() - began
        self.await_page()
        same = before == {x["metadata"]["uid"] for x in ready_pods(self.api, "hello")}
        return (f"API ready {ready:.0f} s after there was a shell, {'the same' if same else 'other'} pods Ready"
                f" after {pods:.0f} s, Service after {time.monotonic() - began:.0f} s")

    def upgrade(self):
        """From the previous build to this one, while clients look on."""
        self.carries_its_service = release(self.work, self.options.kinglet)
        old = self.debian.run("/usr/local/bin/kinglet version").strip()
        pods = {x["metadata"]["uid"]: x["status"]["containerStatuses"][0]["restartCount"]
                for x in ready_pods(self.api, "hello")}
        lookers = Lookers(self.debian, self.port)
        lookers.start()
        time.sleep(3)
        upgrade(self.debian, self.carries_its_service)
        self.api = self.debian.api()
        new = self.debian.run("/usr/local/bin/kinglet version").strip()
        self.api.create(f"{DEFAULT}/configmaps", {"metadata": {"name": "after-upgrade"}})
        time.sleep(3)
        what = lookers.end("after-upgrade")
        now = {x["metadata"]["uid"]: x["status"]["containerStatuses"][0]["restartCount"]
               for x in ready_pods(self.api, "hello")}
        if pods != now:
            raise AssertionError(f"pods were {pods}, are {now}")
        self.say(f"upgrade from {old} to {new}: pods went on without a restart; {what}")

    def disk_full(self):
        """Writes are refused, reads go on, and after there is room again, writes too."""
        self.debian.run("head -c 100G /dev/zero >/filler 2>/dev/null; sync /filler; df -h / | tail -1", 300)
        refusals = []
        def refused():
            name = f"full-{len(refusals)}-{time.monotonic_ns()}"
            try:
                self.api.create(f"{DEFAULT}/configmaps", {"metadata": {"name": name}, "data": {"x": "y" * 200_000}})
            except Refused as error:
                refusals.append(str(error))
            return refusals
        eventually("a refusal", refused, 60)
        self.api.get(f"{DEFAULT}/pods")
        self.await_page(30)
        began = time.monotonic()
        self.debian.run("rm /filler; sync")
        freed = time.monotonic()
        eventually("a write", lambda: self.api.create(
            f"{DEFAULT}/configmaps", {"metadata": {"generateName": "freed-"}}), 120)
        wrote = time.monotonic() - freed
        eventually("the pods", lambda: len(ready_pods(self.api, "hello")) == 2, POD_SECONDS)
        self.say(f"disk full: a write was refused ({refusals[0][:160]}), reads and the Service went on; {wrote:.1f} s"
                 f" after it was freed writes went on, two pods Ready after {time.monotonic() - began:.0f} s")

    def clock(self):
        """A year on and back again: certificates are renewed, or good still, and pods stay."""
        for direction, days in (("on", 366), ("back", -366), ("back once more", -366), ("on again", 366)):
            self.debian.run(f"date -s @$(( $(date +%s) + {days} * 86400 ))")
            began = time.monotonic()
            self.api.close()
            self.api = self.debian.api()
            eventually("a write", lambda: self.api.create(
                f"{DEFAULT}/configmaps", {"metadata": {"generateName": "clock-"}}), 60)
            wrote = time.monotonic() - began
            eventually("the node", lambda: node_is_ready(self.api, "vm1"), POD_SECONDS)
            ready = time.monotonic() - began
            self.await_page(60)
            eventually("the pods", lambda: len(ready_pods(self.api, "hello")) == 2, POD_SECONDS)
            self.say(f"clock a year {direction}: a write after {wrote:.0f} s, node Ready after {ready:.0f} s,"
                     f" two pods Ready after {time.monotonic() - began:.0f} s")

    def uninstall(self):
        self.debian.run("kinglet-uninstall.sh 2>&1" if self.carries_its_service else BY_HAND, 300)
        before, after = set(self.before.splitlines()), set(self.debian.run(TRACES).splitlines())
        left, gone = sorted(after - before), sorted(before - after)
        self.say(f"uninstalled: {len(after)} traces compared, {len(left)} more than before: {left[:40]};"
                 f" {len(gone)} fewer: {gone[:10]}")

    def close(self):
        self.debian.close()

    def begin(self):
        return self.first_boot, self.install, self.check, self.first_pod

    def go_on(self):
        return self.upgrade, self.power_cuts, self.reboot, self.disk_full, self.clock, self.uninstall


class Agent:
    """The steps of part `agent`: a second machine joins the first one."""

    def __init__(self, image, node, work, ports, say):
        self.server, self.say, self.carries_its_service = node.debian, say, node.carries_its_service
        self.debian = Debian(image, "vm2", 2, work, ports)
        self.debian.address = "10.9.0.2"

    def join(self):
        took = self.debian.boot()
        self.debian.run("ping -c 1 -W 20 10.9.0.1 || curl -sk --max-time 20 https://10.9.0.1:6443/version")
        token = self.server.run("/usr/local/bin/kinglet token create").split()[-1]
        began = time.monotonic()
        install(self.debian, self.carries_its_service, f"agent --server https://10.9.0.1:6443 --token {token}")
        api = self.server.api()
        eventually("the second node", lambda: node_is_ready(api, "vm2"), POD_SECONDS, self.debian.assert_alive)
        self.say(f"second machine booted in {took:.0f} s, joined and Ready {time.monotonic() - began:.0f} s later")

    def pod_behind_service(self):
        """A pod on the second machine answers on the first one, through its Service."""
        api = self.server.api()
        began = time.monotonic()
        api.create("/apis/apps/v1/namespaces/default/deployments", hello("far", 1, "vm2"))
        address = api.create(f"{DEFAULT}/services", service("far"))["spec"]["clusterIP"]
        eventually("the pod of the second machine", lambda: ready_pods(api, "far"), POD_SECONDS)
        ready = time.monotonic() - began
        def answers():
            return "Hello" in self.server.shell.attempt(f"curl -fsS --max-time 5 http://{address}/")[1]
        eventually("the Service", answers, POD_SECONDS)
        pod = ready_pods(api, "far")[0]["status"]["podIP"]
        self.say(f"pod {pod} on vm2 Ready after {ready:.1f} s, answers on vm1 through the Service {address}"
                 f" after {time.monotonic() - began:.1f} s")

    def leave(self):
        """Its machine is off: the first one says so, and goes on."""
        self.debian.machine.cut()
        api = self.server.api()
        for path in ("/apis/apps/v1/namespaces/default/deployments/far", f"{DEFAULT}/services/far", "/api/v1/nodes/vm2"):
            api.delete(path)

    def close(self):
        self.debian.close()

    def steps(self):
        return self.join, self.pod_behind_service, self.leave


class Lookers:
    """Clients during an upgrade: of the API server, of a watch, and of a Service."""

    def __init__(self, debian, port):
        self._debian, self._port = debian, port
        self._over = threading.Event()
        self._api, self._watcher = debian.api(2), debian.api(30)
        self.answers, self.pages, self.failed_pages, self.events, self.expired = [], 0, 0, [], 0
        self._threads = [threading.Thread(target=x, daemon=True) for x in (self._ask, self._visit, self._watch)]

    def start(self):
        self._revision = self._api.get(f"{DEFAULT}/configmaps")["metadata"]["resourceVersion"]
        for thread in self._threads:
            thread.start()

    def end(self, expected):
        self._over.set()
        for thread in self._threads[:2]:
            thread.join(30)
        gap = max(b - a for a, b in zip(self.answers, self.answers[1:]))
        if expected not in self.events:
            raise AssertionError(f"the watch has not told of {expected}: {self.events}")
        if self.expired:
            raise AssertionError("the watch could not be resumed")
        return (f"longest time without an answer of the API {gap:.2f} s; the watch went on from its last revision;"
                f" {self.failed_pages} of {self.pages} requests through the Service failed")

    def _ask(self):
        while not self._over.is_set():
            with suppress(*UNREACHABLE, Refused):
                self._api.text("/readyz")
                self.answers.append(time.monotonic())

    def _visit(self):
        while not self._over.is_set():
            self.pages += 1
            try:
                page(self._port)
            except UNREACHABLE:
                self.failed_pages += 1

    def _watch(self):
        while not self._over.is_set():
            try:
                for event in self._watcher.stream(
                        f"{DEFAULT}/configmaps?watch=1&allowWatchBookmarks=true&resourceVersion={self._revision}"):
                    if event["type"] == "ERROR":
                        self.expired += 1
                        return
                    self._revision = event["object"]["metadata"]["resourceVersion"]
                    self.events.append(event["object"]["metadata"].get("name"))
            except UNREACHABLE:
                self._watcher.close()
            except Refused as error:
                self.expired += error.status == 410
