"""A second machine joins the first one."""

import time

from api import eventually
from debian import Debian
from install import install
from objects import DEFAULT, DEPLOYMENTS, hello, node_is_ready, ready_pods, service

POD_SECONDS = 300


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
        api.create(DEPLOYMENTS, hello("far", 1, "vm2"))
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
        for path in (f"{DEPLOYMENTS}/far", f"{DEFAULT}/services/far", "/api/v1/nodes/vm2"):
            api.delete(path)

    def close(self):
        self.debian.close()

    def steps(self):
        return self.join, self.pod_behind_service, self.leave
