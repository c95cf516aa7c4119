"""One machine from its installation to the uninstallation."""

import time

from api import Refused, eventually
from debian import Debian
from install import install, release, traces, uninstall, upgrade
from lookers import Lookers
from objects import DEFAULT, DEPLOYMENTS, MEMORY_LIMIT, hello, node_is_ready, page, ready_pods, service

POD_SECONDS = 300
CUTS_WITH_PODS = 3


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
        facts = self.debian.run("uname -r; . /etc/os-release; echo $PRETTY_NAME; stat -fc %T /sys/fs/cgroup").split("\n")
        self.say(f"booted in {took:.0f} s: {', '.join(facts).strip(', ')}")
        if facts[2] != "cgroup2fs":
            raise AssertionError("this is not cgroup v2")
        self.debian.run("systemctl is-system-running --wait || true", 200)
        self.before = traces(self.debian)

    def install(self):
        began = time.monotonic()
        install(self.debian, self.carries_its_service, "server")
        self.api = self.debian.api()
        ready = time.monotonic() - began
        eventually("the node", lambda: node_is_ready(self.api, "vm1"), POD_SECONDS)
        self.say(f"installed: API ready after {ready:.0f} s, node Ready after {time.monotonic() - began:.0f} s")

    def check(self):
        """`kinglet check` finds nothing missing. Some builds know of a module only once it is loaded: pods do that."""
        code, output = self.debian.shell.attempt("/usr/local/bin/kinglet check")
        self.say(f"kinglet check ended with {code}: {' | '.join(output.split(chr(10)))[:600]}")
        if code != 0:
            raise AssertionError("kinglet check is not content")

    def first_pod(self):
        began = time.monotonic()
        self.api.create(DEPLOYMENTS, hello("hello", 2))
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
        uninstall(self.debian, self.carries_its_service)
        after = traces(self.debian)
        left, gone = sorted(after - self.before), sorted(self.before - after)
        self.say(f"uninstalled: {len(after)} traces compared, {len(left)} more than before: {left[:40]};"
                 f" {len(gone)} fewer: {gone[:10]}")

    def close(self):
        self.debian.close()

    def begin(self):
        return self.first_boot, self.install, self.first_pod, self.check

    def go_on(self):
        return self.upgrade, self.power_cuts, self.reboot, self.disk_full, self.clock, self.uninstall
