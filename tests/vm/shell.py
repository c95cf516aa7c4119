"""Root's shell in a machine, for the host."""

import base64
import socket
import time

from qemu import Ended


class Failed(Exception):
    """A command in a machine did not succeed."""


class Shell:
    """Through a port of its own (guest/vm-shell): it needs no network."""

    def __init__(self, machine, endpoint):
        self._machine = machine
        self._endpoint = endpoint
        self._talk = None
        self._number = 0

    def run(self, command, seconds=120):
        """Its output, when it succeeds."""
        code, output = self.attempt(command, seconds)
        if code != 0:
            raise Failed(f"{self._machine.name}: {command}\nended with {code}: {output[-2000:]}")
        return output

    def attempt(self, command, seconds=120):
        """Its exit code and its output."""
        until = time.monotonic() + seconds
        self._number += 1
        line = f"{self._number} {base64.b64encode(command.encode()).decode()}\n"
        self._connect().sendall(line.encode())
        answer = b""
        while not answer.endswith(b"\n"):
            if self._machine.is_over():
                raise Ended(f"{self._machine.name} ended during: {command}")
            if time.monotonic() > until:
                self._talk.close()
                self._talk = None
                raise TimeoutError(f"{self._machine.name}: within {seconds} s: {command}")
            try:
                answer += self._talk.recv(65536)
            except TimeoutError:
                continue
            # What an earlier command answers too late.
            if answer.endswith(b"\n"):
                lines = [x for x in answer.splitlines(True) if x.split(b" ")[0] == str(self._number).encode()]
                answer = lines[0] if lines else b""
        _, code, output = answer.decode().rstrip("\n").split(" ")
        return int(code), base64.b64decode(output).decode(errors="replace")

    def _connect(self):
        if self._talk is None:
            self._talk = socket.socket(socket.AF_UNIX)
            self._talk.connect(self._endpoint)
            self._talk.settimeout(1)
        return self._talk
