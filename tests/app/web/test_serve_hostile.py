"""Requests that no client should send: each is answered as designed, and the server lives."""

import base64
import contextlib
import io
import json
import os
import re
import socket
import stat
import struct
import zlib
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image

from tuplet import index as indexes
from tuplet.app.pictures import Pictures


@pytest.fixture(scope="module")
def guarded(served, run, tmp_path_factory):
    """A server with a token and small limits, whose collection has links and files around it."""
    folder = tmp_path_factory.mktemp("guarded")
    token = folder / "token"
    collection = folder / "collection"
    collection.mkdir()
    limits = ("--max-body", 1, "--max-pixels", 100_000, "--timeout", 15, "--max-requests", 8)
    with served(run, "--token-file", token, "--pictures", collection, *limits, folder=folder) as server:
        server.token = token.read_text().strip()
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        yield server
        assert server.ask("/api/health").status == 200


@pytest.fixture
def bearer(guarded):
    return {"Authorization": f"Bearer {guarded.token}"}


def png(width, height):
    """A small file that holds many black pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes((width + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        pytest.param(png(3000, 3000), (413, "too-many-pixels"), id="bomb"),
        pytest.param(png(200, 200)[:60], (422, "broken-image"), id="cut short"),
        pytest.param(b"", (422, "broken-image"), id="empty"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", (422, "broken-image"), id="svg"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + os.urandom(200), (422, "broken-image"), id="noise"),
    ],
)
def test_pictures_that_are_none(guarded, bearer, content, refused):
    assert guarded.form("/api/search", ("picture", "a.png", content), headers=bearer).refused == refused


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({}, (400, "wrong-request")),
        ({"queries": []}, (400, "wrong-request")),
        ({"queries": [{}]}, (400, "wrong-request")),
        ({"queries": [{"text": "a", "item": "b"}]}, (400, "wrong-request")),
        ({"queries": [{"item": "a"}], "top": 0}, (400, "wrong-request")),
        ({"queries": [{"item": "a"}], "nonsense": 1}, (400, "wrong-request")),
        ({"queries": [{"item": "a"}] * 65}, (400, "wrong-request")),
        ({"queries": [{"vector": [1, 2]}]}, (422, "query-vector")),
        ({"queries": [{"vector": ["NaN"] * 128}]}, (400, "wrong-request")),
        ({"queries": [{"text": "a"}]}, (422, "query-kind")),
        ({"queries": [{"row": [1.0]}]}, (422, "query-kind")),
        ({"queries": [{"picture": "no base64!"}]}, (422, "broken-image")),
        ({"queries": [{"item": "../3/0003.png"}]}, (404, "unknown-item")),
        ({"queries": [{"vector": [0.5] * 128}], "where": "nonsense = 1"}, (422, "unknown-column")),
        ({"queries": [{"vector": [0.5] * 128}], "where": "label = "}, (422, "unreadable-filter")),
        ({"queries": [{"vector": [0.5] * 128}], "where": "(" * 5000}, (422, "unreadable-filter")),
    ],
)
def test_searches_that_make_no_sense(guarded, bearer, asked, refused):
    assert guarded.ask("/api/search", asked, headers=bearer).refused == refused


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[]", b'{"queries": NaN}', b"[" * 50_000])
def test_bodies_that_are_no_request(guarded, bearer, body):
    headers = {"Content-Type": "application/json", **bearer}
    assert guarded.ask("/api/search", data=body, headers=headers).refused == (400, "wrong-request")


def test_other_types_paths_and_methods(guarded, bearer):
    plain = {"Content-Type": "text/plain", **bearer}
    assert guarded.ask("/api/search", data=b"a", headers=plain).refused == (415, "wrong-media-type")
    assert guarded.ask("/api/search", headers=bearer).refused == (405, "unknown-path")
    assert guarded.ask("/api/nonsense", headers=bearer).refused == (404, "unknown-path")
    broken = {"Content-Type": "multipart/form-data; boundary=x", **bearer}
    assert guarded.ask("/api/search", data=b"--y\r\n", headers=broken).refused == (400, "wrong-request")


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer wrong", "Bearer \u00e9", "Basic dTpw"])
def test_wrong_tokens(guarded, token):
    asked = {"queries": [{"item": "a"}]}
    assert guarded.ask("/api/search", asked, headers={"Authorization": token}).refused == (401, "wrong-token")
    assert guarded.ask("/metrics", headers={"Authorization": token}).refused == (401, "wrong-token")


def test_a_session_carries_the_token_in_a_cookie_that_no_script_reads(guarded, bearer):
    opened = guarded.ask("/api/session", data=b"", headers=bearer)
    cookie = opened.headers["set-cookie"]
    assert opened.status == 204
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert guarded.ask("/api/about", headers={"Cookie": cookie.partition(";")[0]}).status == 200
    assert guarded.ask("/api/about", headers={"Cookie": "tuplet-token=wrong"}).refused == (401, "wrong-token")


def test_other_hosts_and_other_sites(guarded, bearer):
    assert guarded.ask("/api/about", headers={"Host": "evil.example", **bearer}).refused == (421, "unknown-host")
    assert guarded.ask("/api/about", headers={"Origin": "http://evil.example", **bearer}).refused == (
        403,
        "foreign-origin",
    )
    assert guarded.ask("/api/about", headers={"Origin": guarded.address, **bearer}).status == 200


@pytest.mark.parametrize(
    "name",
    ["../token", "/etc/passwd", "..", "", "3/../../token", "C:\\token", "link.png", "%2e%2e/token", "a\0b", "x" * 5000],
)
def test_pictures_are_those_of_items_alone(guarded, bearer, name):
    assert guarded.ask(f"/api/picture?id={quote(name)}", headers=bearer).refused == (404, "unknown-item")


def raw(server, content, *, half_open=False):
    """Bytes to the server, and all that it answers until it closes."""
    place = urlsplit(server.address)
    with socket.create_connection((place.hostname, place.port), timeout=30) as line:
        with contextlib.suppress(OSError):
            line.sendall(content)
        if half_open:
            return b""
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while part := line.recv(65536):
                found += part
        return found


def head(server, length):
    return (
        f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Type: application/json\r\n{length}\r\n\r\n"
    ).encode()


def answered(found):
    return int(found.split()[1]), json.loads(found.partition(b"\r\n\r\n")[2])["error"]["id"]


def test_a_body_that_is_announced_too_large_is_not_read(guarded):
    found = raw(guarded, head(guarded, "Connection: close\r\nContent-Length: 999999999999"))
    assert answered(found) == (413, "too-large")


def test_a_body_in_chunks_that_grows_too_large(guarded):
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    found = raw(guarded, head(guarded, "Connection: close\r\nTransfer-Encoding: chunked") + chunk * 17)
    assert answered(found) == (413, "too-large")


@pytest.mark.slow
def test_a_body_that_never_ends(guarded):
    found = raw(guarded, head(guarded, "Connection: close\r\nContent-Length: 100") + b"{")
    assert answered(found) == (408, "request-timeout")


@pytest.mark.slow
def test_requests_that_are_broken_off(guarded, bearer):
    for length in ("Content-Length: 100", "Content-Length: 0", "Transfer-Encoding: chunked"):
        raw(guarded, head(guarded, length), half_open=True)
    raw(guarded, b"GET / HT", half_open=True)
    raw(guarded, os.urandom(300))
    assert guarded.ask("/api/about", headers=bearer).status == 200


@pytest.mark.slow
def test_slow_clients_are_given_up_while_others_are_answered(guarded, bearer):
    """One that says nothing, one that stops in the head, one whose body drips."""
    place = urlsplit(guarded.address)
    with contextlib.ExitStack() as stack:
        lines = [
            stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=1)) for _ in range(3)
        ]
        lines[1].sendall(b"POST /api/search HTTP/1.1\r\nHost: 127")
        lines[2].sendall(head(guarded, "Connection: close\r\nContent-Length: 10000"))
        waiting, said = set(lines), dict.fromkeys(lines, b"")
        for _ in range(60):
            assert guarded.ask("/api/about", headers=bearer).status == 200
            for line in list(waiting):
                try:
                    part = line.recv(65536)
                    said[line] += part
                    if not part:
                        waiting.discard(line)
                except TimeoutError:
                    if line is lines[2]:
                        line.sendall(b" ")
                except ConnectionError:
                    waiting.discard(line)
            if not waiting:
                break
    assert not waiting
    assert (said[lines[0]], said[lines[1]]) == (b"", b"")
    assert answered(said[lines[2]]) == (408, "request-timeout")


def test_requests_that_are_cancelled_leave_nothing_behind(guarded, bearer):
    content = png(64, 64)
    body = json.dumps({"queries": [{"picture": base64.b64encode(content).decode()}]}).encode()
    for _ in range(30):
        raw(guarded, head(guarded, f"Content-Length: {len(body)}") + body, half_open=True)

    def active():
        page = guarded.ask("/metrics", headers=bearer)
        found = re.search(r"^tuplet_requests_active (\S+)", page.body.decode(), re.MULTILINE)
        return None if found is None else float(found[1])  # refused while too many are active

    assert _until(lambda: active() == 1)  # the one that asks
    found = guarded.form("/api/search", ("picture", "a.png", content), headers=bearer)
    assert found.status == 200


def test_more_requests_than_are_answered_at_once(guarded, bearer):
    place = urlsplit(guarded.address)
    lines = [socket.create_connection((place.hostname, place.port), timeout=30) for _ in range(8)]
    try:
        for line in lines:
            line.sendall(head(guarded, "Content-Length: 100"))
        found = {guarded.ask("/api/health").status}
        statuses = [guarded.ask("/api/about", headers=bearer) for _ in range(3)]
        assert found == {200}
        assert [answer.refused for answer in statuses] == [(503, "server-busy")] * 3
        assert statuses[0].headers["retry-after"] == "1"
    finally:
        for line in lines:
            line.close()
    assert _until(lambda: guarded.ask("/api/about", headers=bearer).status == 200)


def _until(holds, tries=200):
    return any(holds() for _ in range(tries))


def test_files_outside_of_the_collection_are_never_sampled(tmp_path, run):
    """Whatever an item is called: the names of items are anybody's."""
    collection, secret = tmp_path / "collection", tmp_path / "secret.png"
    (collection / "a").mkdir(parents=True)
    Image.new("L", (8, 8)).save(secret)
    Image.new("L", (8, 8)).save(collection / "a" / "in.png")
    (collection / "out.png").symlink_to(secret)
    (collection / "folder").symlink_to(tmp_path)
    (collection / "inner.png").symlink_to(collection / "a" / "in.png")
    os.mkfifo(collection / "pipe.png")
    (collection / "huge.png").write_bytes(png(400, 400))
    (collection / "text.png").write_text("no picture")
    index = indexes.create(tmp_path / "empty.index", indexes.open(run).embedder)
    pictures = Pictures(index, collection, max_pixels=100_000)

    def plotted(name):
        return pictures.draw(0, name, 64)

    hostile = ["../secret.png", str(secret), "out.png", "folder/secret.png", "a/../../secret.png", "pipe.png", "", "."]
    assert [name for name in [*hostile, "huge.png", "text.png", "a", "a\0", "absent.png"] if plotted(name)] == []
    for name in ("a/in.png", "inner.png"):
        with Image.open(io.BytesIO(plotted(name).content)) as image:
            assert (image.format, image.size) == ("WEBP", (8, 8))


def test_an_address_for_others_needs_a_token(run, workplace, tuplet, tmp_path):
    said = tuplet("serve", run, "--host", "0.0.0.0", "--port", 0, folder=workplace, code=3)  # noqa: S104
    assert "token-required" in said.stderr
    (tmp_path / "short").write_text("abc")
    said = tuplet("serve", run, "--token-file", tmp_path / "short", folder=workplace, code=3)
    assert "token-required" in said.stderr


def test_an_address_that_is_taken(run, workplace, tuplet):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = tuplet("serve", run, "--port", taken.getsockname()[1], folder=workplace, code=3)
    assert "address-in-use" in said.stderr
