"""Requests to a kinglet in a virtual machine, as its administrator."""

import base64
import http.client
import json
import os
import re
import ssl
import tempfile
import time

REQUEST_SECONDS = 60
UNREACHABLE = (OSError, http.client.HTTPException)


class Refused(Exception):
    """An answer that is not a success."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body[:300]}")
        self.status = status


class Api:
    """One connection to the API server, made anew when it breaks."""

    def __init__(self, port, kubeconfig, seconds=REQUEST_SECONDS):
        self._port = port
        self._seconds = seconds
        self._tls = administrator(kubeconfig)
        self._connection = None

    def get(self, path):
        return self.request("GET", path)

    def create(self, path, body):
        return self.request("POST", path, body)

    def replace(self, path, body):
        return self.request("PUT", path, body)

    def delete(self, path):
        return self.request("DELETE", path)

    def apply(self, path, body):
        return self.request("PATCH", path + "?fieldManager=test&force=true", body, "application/apply-patch+yaml")

    def text(self, path):
        return self._send("GET", path, None, None).read().decode()

    def request(self, method, path, body=None, kind="application/json"):
        return json.loads(self._send(method, path, body, kind).read())

    def stream(self, path):
        """The lines of an answer that goes on, each as a value."""
        for line in self._send("GET", path, None, None):
            yield json.loads(line)

    def close(self):
        if self._connection:
            self._connection.close()
            self._connection = None

    def _send(self, method, path, body, kind):
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                "127.0.0.1", self._port, timeout=self._seconds, context=self._tls)
        try:
            self._connection.request(
                method, path, body and json.dumps(body), {"Content-Type": kind} if body else {})
            answer = self._connection.getresponse()
            if answer.status >= 300:
                raise Refused(answer.status, answer.read().decode(errors="replace"))
            return answer
        except UNREACHABLE:
            self.close()
            raise


def administrator(kubeconfig):
    """What the kubeconfig says about certificates."""
    facts = {key: base64.b64decode(value) for key, value in re.findall(
        r"(certificate-authority|client-certificate|client-key)-data: *\"?([A-Za-z0-9+/=]+)", kubeconfig)}
    context = ssl.create_default_context(cadata=facts["certificate-authority"].decode())
    with tempfile.NamedTemporaryFile() as pair:
        os.chmod(pair.name, 0o600)
        pair.write(facts["client-certificate"] + b"\n" + facts["client-key"])
        pair.flush()
        context.load_cert_chain(pair.name)
    return context


def eventually(what, condition, seconds, alive=lambda: None):
    """The first true answer of the condition, which may fail to reach or to find what it asks for."""
    until = time.monotonic() + seconds
    last = None
    while time.monotonic() < until:
        alive()
        try:
            if answer := condition():
                return answer
            last = answer
        except (*UNREACHABLE, Refused, KeyError) as error:
            last = repr(error)
        time.sleep(0.1)
    raise TimeoutError(f"within {seconds} s: {what}; last: {last}")
