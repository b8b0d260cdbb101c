"""A run of a minute of digits, and real servers for it."""

import json
import signal
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple

import pytest

if any(find_spec(name) is None for name in ("starlette", "uvicorn", "prometheus_client")):
    collect_ignore_glob = ["test_*.py"]


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def refused(self):
        """Status and id of a refusal, whose form is checked."""
        error = self.json["error"]
        assert error.keys() == {"id", "message", "hint"}
        assert all(error.values())
        return self.status, error["id"]


class Server:
    """A running `tuplet serve`."""

    def __init__(self, address, process):
        self.address, self.process = address, process

    def ask(self, path, json_body=None, *, data=None, headers=(), method=None):
        """One request, by the standard library."""
        headers = dict(headers)
        if json_body is not None:
            data, headers = json.dumps(json_body).encode(), {"Content-Type": "application/json", **headers}
        asked = urllib.request.Request(self.address + path, data, headers, method=method)  # noqa: S310  of this machine
        try:
            with urllib.request.urlopen(asked, timeout=60) as found:  # noqa: S310
                return Answer(found.status, dict(found.headers), found.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def form(self, path, *parts, headers=()):
        """A form: parts are (name, text) or (name, file name, bytes)."""
        edge, lines = b"----tuplet", []
        for name, *rest in parts:
            file = f'; filename="{rest[0]}"' if len(rest) == 2 else ""
            content = rest[-1] if isinstance(rest[-1], bytes) else str(rest[-1]).encode()
            lines += [b"--" + edge, f'Content-Disposition: form-data; name="{name}"{file}'.encode(), b"", content]
        body = b"\r\n".join([*lines, b"--" + edge + b"--", b""])
        return self.ask(
            path, data=body, headers={"Content-Type": f"multipart/form-data; boundary={edge.decode()}", **dict(headers)}
        )

    def stop(self):
        """Ask it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@pytest.fixture(scope="session")
def served(starter):
    """`tuplet serve` as a process of its own, once it says that it listens."""

    @contextmanager
    def serving(*words, folder):
        process = starter.start(["serve", *words, "--port", "0"], folder)
        try:
            address = next(process.lines(), "").strip()
            assert address.startswith("http://"), process.said("stderr")
            yield Server(address.rstrip("/"), process)
        finally:
            process.kill()
            process.wait()

    return serving


@pytest.fixture(scope="session")
def server(run, served):
    """A server of the run, for all tests that leave it as it is."""
    with served(run, folder=run.parent) as found:
        yield found


@pytest.fixture(scope="session")
def digit(workplace):
    """The file of a picture, and its id."""
    path = min((workplace / "digits" / "3").glob("*.png"))
    return path, f"3/{path.name}"
