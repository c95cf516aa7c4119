"""Power cuts during a write load: what was acknowledged is there, and no revision comes twice.

The machine is all in memory but for the disk of the store, and its picture is taken when it has started
but for kinglet, so that a cut costs seconds. Writers on the host create, replace and delete; they know of
each write whether it was acknowledged. Then qemu is killed, and the disk loses what was not flushed.
"""

import base64
import os
import random
import sqlite3
import statistics
import subprocess
import threading
import time
from contextlib import closing, suppress

from api import UNREACHABLE, Api, Refused, eventually
from disk import Disk
from image import empty_disk, memory_archive, run
from qemu import Machine, save

WRITERS = 4
NAMES_PER_WRITER = 30
# A cut comes after so many acknowledged writes, or after so long.
WRITES = (1, 100)
LOAD_SECONDS = 10
# Or, one time of so many, while kinglet starts.
EARLY = 6
CONFLICT = 409
READY_SECONDS = 300
DREADED = "^ENDED|NOT MOUNTED|Kernel panic|EXT4-fs error"
BOOT_SECONDS = 240
DISK_BYTES = 256 << 20
MEMORY_MIB = 512
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Broken(Exception):
    """A promise of the store was not kept."""


class Ledger:
    """What the clients know: of each name what may be there, and the greatest revision that anybody saw."""

    def __init__(self):
        self._lock = threading.Condition()
        self.known = {}
        self.unsure = {}
        self.greatest = 0
        self.acknowledged = 0

    def intends(self, name, content):
        """A write of this content (None: a deletion) is under way."""
        with self._lock:
            self.unsure[name] = content

    def has(self, name, content, revision):
        """The write was acknowledged."""
        with self._lock:
            self.unsure.pop(name, None)
            if content is None:
                self.known.pop(name, None)
            else:
                self.known[name] = (content, revision)
            self.greatest = max(self.greatest, revision)
            self.acknowledged += 1
            self._lock.notify_all()

    def wait(self, acknowledged, seconds):
        """Until so many writes were acknowledged, but no longer than so."""
        with self._lock:
            self._lock.wait_for(lambda: self.acknowledged >= acknowledged, seconds)

    def saw(self, revision):
        with self._lock:
            self.greatest = max(self.greatest, revision)

    def settle(self, found):
        """Compares with what is there after a cut, and takes it over. Says how many unanswered writes came through."""
        for name in {*self.known, *found, *self.unsure}:
            before, after = self.known.get(name), found.get(name)
            came_through = name in self.unsure and self.unsure[name] == (after and after[0])
            if before != after and not came_through:
                raise Broken(f"{name}: acknowledged was {shorten(before)}, there is {shorten(after)},"
                             f" unanswered was {shorten(self.unsure.get(name, 'nothing'))}")
        came_through = sum(self.known.get(name) != found.get(name) for name in self.unsure)
        self.known, self.unsure = found, {}
        return came_through


def shorten(value):
    return str(value)[:80]


class Load:
    """Writers and a watch, until the power goes."""

    def __init__(self, ledger, connect, rng):
        self.failure = None
        self._ledger, self._connect = ledger, connect
        self._floor = ledger.greatest
        self._over = threading.Event()
        self._threads = [self._thread(self._write, index, random.Random(rng.random())) for index in range(WRITERS)]
        self._threads += [self._thread(self._watch), self._thread(self._beat)]

    def end(self):
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=30)
        if self.failure:
            raise self.failure

    def _thread(self, work, *arguments):
        def guarded():
            try:
                with suppress(*UNREACHABLE):
                    work(self._connect(), *arguments)
            except Exception as failure:  # pylint: disable=broad-except
                self.failure = failure
        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _write(self, api, index, rng):
        while not self._over.is_set():
            name = f"w{index}-{rng.randrange(NAMES_PER_WRITER)}"
            before = self._ledger.known.get(name)
            content = rng.randbytes(rng.choice([20, 500, 3000])).hex()
            if before is None:
                self._put(api.create, CONFIG_MAPS, name, content, None)
            elif rng.random() < 0.2:
                self._ledger.intends(name, None)
                api.delete(f"{CONFIG_MAPS}/{name}")
                self._ledger.has(name, None, 0)
            else:
                self._put(api.replace, f"{CONFIG_MAPS}/{name}", name, content, before[1])

    def _put(self, write, path, name, content, precondition):
        body = {"metadata": {"name": name}, "data": {"content": content}}
        if precondition is not None:
            body["metadata"]["resourceVersion"] = str(precondition)
        self._ledger.intends(name, content)
        revision = revision_of(write(path, body))
        if revision <= self._floor:
            raise Broken(f"revision {revision} again: {self._floor} was seen before the cut")
        self._ledger.has(name, content, revision)

    def _watch(self, api):
        for event in api.stream(f"{CONFIG_MAPS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=60"):
            self._ledger.saw(revision_of(event["object"]))

    def _beat(self, api):
        """Heartbeats are announced before they last: their revisions must not come again all the same."""
        lease = {"metadata": {"name": "somebody"}, "spec": {"leaseTransitions": 0}}
        try:
            lease = api.create(LEASES, lease)
        except Refused as refused:
            if refused.status != CONFLICT:
                raise
            lease = api.get(f"{LEASES}/somebody")
        while not self._over.is_set():
            lease["spec"]["leaseTransitions"] += 1
            lease = api.replace(f"{LEASES}/somebody", lease)
            self._ledger.saw(revision_of(lease))


def revision_of(value):
    return int(value["metadata"]["resourceVersion"])


class Cuts:
    """The machine of the power cuts and what it went through."""

    def __init__(self, image, kinglet, work, port, rng, say):
        self._image, self._work, self._port, self._rng, self._say = image, work, port, rng, say
        self._kubeconfig = None
        self._picture = f"{work}/cuts.picture"
        self._archive = f"{work}/cuts.cpio"
        memory_archive(image, kinglet, self._archive)
        empty_disk(f"{work}/cuts.img", DISK_BYTES)
        self._disk = Disk(f"{work}/cuts.img", f"{work}/cuts.nbd")
        self.machine = None
        self.ledger = Ledger()
        self.ready_after = []
        self.cuts = self.unflushed = self.lost = self.came_through = self.early = 0

    def take_picture(self):
        """Boots as far as it goes without the disk."""
        monitor = f"{self._work}/cuts.qmp"
        began = time.monotonic()
        self._start("-qmp", f"unix:{monitor},server=on,wait=off")
        self.machine.hear("^WAITING", BOOT_SECONDS)
        save(self.machine, monitor, self._picture)
        size = os.path.getsize(self._picture) >> 20
        self._say(f"booted in {time.monotonic() - began:.0f} s, picture of {size} MiB taken")

    def once(self):
        """From one cut to the next."""
        began = self._go()
        early = self._kubeconfig is not None and self._rng.randrange(EARLY) == 0
        if early:
            delay = self._rng.uniform(0, self.ready_after[-1])
            time.sleep(delay)
            self.machine.cut()
            self.early += 1
            what = f"while it started, after {delay:.1f} s"
        else:
            what = self._load_until_cut(began)
        self.cuts += 1
        unflushed, lost = self._disk.lose_power(self._rng)
        self.unflushed += unflushed
        self.lost += lost
        self._say(f"cut {self.cuts}: {what}; the disk lost {lost} of {unflushed} sectors not flushed")

    def check_at_last(self):
        """After the last cut, all is there once more."""
        began = self._go()
        self._find_ready(began)
        self._settle()
        self.machine.cut()
        self._disk.lose_power(self._rng)
        self._examine()

    def _examine(self):
        """Nothing is wrong in the file system nor in the store's file, for others than kinglet."""
        image = f"{self._work}/cuts.img"
        # 1: its journal was replayed.
        if (code := subprocess.run(["e2fsck", "-fp", image], stdout=subprocess.DEVNULL, check=False).returncode) > 1:
            raise Broken(f"the file system is damaged: e2fsck ends with {code}")
        run("debugfs", "-R", f"rdump /kinglet/server/db {self._work}", image, stderr=subprocess.DEVNULL)
        with closing(sqlite3.connect(f"{self._work}/db/state.db")) as store:
            found = store.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            raise Broken(f"the store's file is damaged: {found[:5]}")
        self._say("the file system and the store's file are without a fault")

    def summary(self):
        return (f"{self.cuts} power cuts, {self.early} of them while it started;"
                f" {self.ledger.acknowledged} acknowledged writes all there,"
                f" {self.came_through} unanswered ones had come through; {self.lost} of {self.unflushed}"
                f" sectors not flushed were lost; {self._disk.flushes} flushes; ready after"
                f" {statistics.median(self.ready_after):.1f} s (median), {max(self.ready_after):.1f} s at most")

    def close(self):
        if self.machine and not self.machine.is_over():
            self.machine.cut()
        self._disk.close()

    def _start(self, *more):
        disk = f"nbd+unix:///?socket={self._work}/cuts.nbd"
        self.machine = Machine("cuts", f"{self._work}/cuts.console", MEMORY_MIB, [
            "-kernel", self._image.kernel, "-initrd", self._archive,
            "-append", "console=ttyS0 quiet panic=-1 net.ifnames=0 mitigations=off apparmor=0 cryptomgr.notests",
            "-drive", f"file={disk},format=raw,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk",
            "-netdev", f"user,id=host,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-:6443",
            "-device", "virtio-net-pci,netdev=host,romfile=", *more])

    def _go(self):
        self._start("-incoming", f"exec:cat {self._picture}")
        self.machine.say(f"go {int(time.time())} {self._rng.randbytes(64).hex()}")
        self.machine.hear("^MOUNTED", BOOT_SECONDS, DREADED)
        return time.monotonic()

    def _find_ready(self, began):
        found = self.machine.hear("^KUBECONFIG ([^ ]+) END", READY_SECONDS, DREADED).group(1)
        if found != self._kubeconfig:
            self._kubeconfig = found
            self._connect = connector(self._port, found)
        eventually("ready", lambda: self._connect().text("/readyz"), READY_SECONDS, self._is_alive)
        self.ready_after.append(time.monotonic() - began)

    def _settle(self):
        answer = self._connect().get(CONFIG_MAPS)
        if (now := revision_of(answer)) < self.ledger.greatest:
            # Heartbeats that were not flushed are forgotten, their numbers are not.
            raise Broken(f"the list is of revision {now}, seen was {self.ledger.greatest}")
        found = {x["metadata"]["name"]: (x["data"]["content"], revision_of(x))
                 for x in answer["items"] if "content" in x.get("data", {})}
        came_through = self.ledger.settle(found)
        self.came_through += came_through
        return len(found)

    def _load_until_cut(self, began):
        self._find_ready(began)
        objects = self._settle()
        before, floor = self.ledger.acknowledged, self.ledger.greatest
        load = Load(self.ledger, self._connect, self._rng)
        self.ledger.wait(before + self._rng.randint(*WRITES), LOAD_SECONDS)
        time.sleep(self._rng.uniform(0, 0.05))
        self.machine.cut()
        load.end()
        return (f"ready after {self.ready_after[-1]:.1f} s, {objects} objects as acknowledged,"
                f" {self.ledger.acknowledged - before} writes, revisions {floor} to {self.ledger.greatest}")

    def _is_alive(self):
        """Raises when kinglet is not there any more."""
        with suppress(TimeoutError):
            self.machine.hear("$a^", 0, DREADED)


def connector(port, kubeconfig):
    text = base64.b64decode(kubeconfig).decode()
    return lambda: Api(port, text)
