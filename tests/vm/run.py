#!/usr/bin/env python3
"""Proves kinglet on virtual machines: `make test-vm`. Debian 12 in qemu, without hardware's help.

    run.py KINGLET [--previous KINGLET] [--cuts NUMBER] [--seed SEED] [--only PART...]

Parts, each of which says what it does as it does it:
  cuts   power cuts during a write load (cuts.py), on a disk that loses what was not flushed (disk.py)
  node   install, first pod, power cuts and a reboot with pods, upgrade, disk full, clock, uninstall (node.py)
  agent  in the midst of `node`, a second machine joins (agent.py)
Only `cuts` is run where --only says nothing else: the others have not yet been seen to come to their end.

image.py builds what the machines boot, once, qemu.py starts them, shell.py speaks with them, api.py speaks with
the API server. The machines reach nothing but this host's loopback. Everything is in a directory of its own
that goes at the end, and only processes are ended that were started here. It needs root, to unpack Debian.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time

import image
from agent import Agent
from cuts import Cuts
from node import Node

MINUTES = 30
CUTS = 50
BEGAN = time.monotonic()


class Report:
    """What is printed, a line each with the time since the start and the part."""

    lock = threading.Lock()

    @classmethod
    def sayer(cls, part):
        def say(text):
            elapsed = int(time.monotonic() - BEGAN)
            with cls.lock:
                print(f"{elapsed // 60:2}:{elapsed % 60:02} {part}: {text}", flush=True)
        return say


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cut_power(built, options, work):
    """Part `cuts`."""
    say = Report.sayer("cuts")
    cuts = Cuts(built, options.kinglet, work, free_port(), random.Random(options.seed), say)
    try:
        cuts.take_picture()
        while cuts.cuts < options.cuts:
            cuts.once()
        cuts.check_at_last()
        say(cuts.summary())
    except Exception:
        say(f"failed; the console's end:\n{cuts.machine.tail() if cuts.machine else ''}")
        raise
    finally:
        cuts.close()


def live_on_a_node(built, options, work):
    """Part `node`, and `agent` in its midst."""
    say = Report.sayer("node")
    ports = {key: free_port() for key in ("api", "service", "api-2", "service-2", "peer-1", "peer-2")}
    node = Node(built, options, work, ports, random.Random(options.seed), say)
    try:
        for step in node.begin():
            step()
        if "agent" in options.only:
            let_agent_join(built, node, work, ports)
        for step in node.go_on():
            step()
    except Exception as failure:
        say(f"failed: {failure}\n{node.debian.troubles()}")
        raise
    finally:
        node.close()


def let_agent_join(built, node, work, ports):
    say = Report.sayer("agent")
    agent = Agent(built, node, work, ports | {"api": ports["api-2"], "service": ports["service-2"]}, say)
    try:
        for step in agent.steps():
            step()
    except Exception as failure:
        say(f"failed: {failure}\n{agent.debian.troubles()}")
        raise
    finally:
        agent.close()


PARTS = ("cuts", "node", "agent")
# Those that were seen to come to their end, and are run where nothing else is said.
SEEN = ("cuts",)


def parse():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("kinglet", type=os.path.realpath)
    arguments.add_argument("--previous", type=os.path.realpath)
    arguments.add_argument("--cuts", type=int, default=CUTS)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments.add_argument("--minutes", type=int, default=MINUTES)
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=SEEN)
    return arguments.parse_args()


def out_of_time(*_):
    raise TimeoutError("it took longer than it may")


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(options.minutes * 60)
    say = Report.sayer("run")
    say(f"seed {options.seed}")
    built = image.built(say)
    work = tempfile.mkdtemp(prefix="kinglet-vm.")
    try:
        if "cuts" in options.only:
            cut_power(built, options, work)
        if "node" in options.only:
            live_on_a_node(built, options, work)
    finally:
        shutil.rmtree(work)
    say("done")


if __name__ == "__main__":
    main()
