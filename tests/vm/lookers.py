"""Clients during an upgrade."""

import threading
import time
from contextlib import suppress

from api import UNREACHABLE, Refused
from objects import DEFAULT, page


class Lookers:
    """Of the API server, of a watch, and of a Service."""

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
