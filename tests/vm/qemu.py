"""Virtual machines: qemu in software emulation, and how a test speaks with one."""

import json
import re
import socket
import subprocess
import threading
import time

UNPACKED = "/var/cache/kinglet-tests/qemu/usr"
SAVE_SECONDS = 60


def program():
    """The command of qemu, as deps.sh unpacked it."""
    return [f"{UNPACKED}/bin/qemu-system-x86_64", "-L", f"{UNPACKED}/share/qemu", "-L", f"{UNPACKED}/share/seabios"]


class Ended(Exception):
    """The machine is not there any more."""


class Machine:
    """One run of a virtual machine. Its console goes to a file; `say` writes to it."""

    def __init__(self, name, console, memory, options):
        self.name = name
        # It ends with this process, however that ends.
        command = ["setpriv", "--pdeathsig", "KILL", "nice", "-n", "10", *program(),
                   "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
                   "-m", str(memory), "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", *options]
        self._said = []
        self._lines = threading.Condition()
        self._console = open(console, "a", encoding="utf-8")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def say(self, line):
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, pattern, seconds, dreaded="^$a"):
        """Waits for a line of the console, also of the past, unless one comes that tells of a failure."""
        expression, dread = re.compile(pattern), re.compile(dreaded)
        until = time.monotonic() + seconds
        checked = 0
        with self._lines:
            while True:
                for line in self._said[checked:]:
                    if found := expression.search(line):
                        return found
                    if dread.search(line):
                        raise Ended(f"{self.name} said {line!r}")
                checked = len(self._said)
                if self.is_over():
                    raise Ended(f"{self.name} ended before it said {pattern!r}")
                left = until - time.monotonic()
                if not self._lines.wait(min(1, max(0.01, left))) and left <= 0:
                    raise TimeoutError(f"{self.name} has not said {pattern!r} within {seconds} s")

    def is_over(self):
        return self._process.poll() is not None

    def pid(self):
        return self._process.pid

    def cut(self):
        """Power is gone."""
        self._process.kill()
        self._process.wait()
        self._listener.join(timeout=10)
        self._console.close()

    def wait(self, seconds):
        self._process.wait(seconds)
        self._listener.join(timeout=10)

    def tail(self, count=40):
        return "\n".join(self._said[-count:])

    def _listen(self):
        for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            with self._lines:
                self._said.append(line)
                self._lines.notify_all()
            try:
                self._console.write(line + "\n")
                self._console.flush()
            except ValueError:
                return


def save(machine, monitor, file):
    """Keeps the machine as it is in a file, and ends it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SAVE_SECONDS)
        connection.connect(monitor)
        talk = connection.makefile("rw")
        talk.readline()
        ask(talk, "qmp_capabilities")
        ask(talk, "migrate", uri=f"exec:cat > {file}")
        until = time.monotonic() + SAVE_SECONDS
        while (state := ask(talk, "query-migrate").get("status")) != "completed":
            if state == "failed" or time.monotonic() > until:
                raise RuntimeError(f"the state of {machine.name} cannot be kept: {state}")
            time.sleep(0.1)
    machine.cut()


def ask(talk, command, **arguments):
    talk.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    talk.flush()
    while True:
        answer = json.loads(talk.readline())
        if "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']['desc']}")
        if "return" in answer:
            return answer["return"]
