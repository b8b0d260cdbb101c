"""What stands before the API: limits on size, time and number, who may ask, and what every response says."""

import asyncio
import hmac
import logging
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuplet.app.web.metrics import Metrics
from tuplet.app.web.refusals import RefusedError, bug, refusal
from tuplet.app.web.settings import Settings

logger = logging.getLogger(__name__)

COOKIE = "tuplet-token"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_OPEN = ("/api/health", "/api/openapi.json")
"""What is answered without a token, besides the files of the page: nothing in them is of the collection."""


class Guard:
    """Answers what is refused, and hands on the rest with its body read.

    Args:
        app: Answers requests.
        settings: The limits.
        metrics: Counts what is answered.
        paths: What the metrics tell apart; other paths are counted together.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._settings, self._metrics, self._paths = app, settings, metrics, paths
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, path = time.monotonic(), scope["path"] if scope["path"] in self._paths else "other"
        status, is_active = 499, True  # of a client that went away

        def leave() -> None:
            nonlocal is_active
            if is_active:
                self._active -= 1
                self._metrics.active.dec()
            is_active = False

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_HEADERS)
            elif not message.get("more_body", False):
                leave()  # before the last byte: whoever has it may ask the next thing
            await send(message)

        self._active += 1
        self._metrics.active.inc()
        try:
            await self._answer(scope, receive, answer)
        except RefusedError as error:
            await refusal(error)(scope, receive, answer)
        finally:
            leave()
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._require_own_site(headers)
        if scope["path"].startswith(("/api/", "/metrics")) and scope["path"] not in _OPEN:
            self._require_token(headers)
        if self._active > self._settings.max_requests and scope["path"] != "/api/health":
            raise RefusedError(
                f"{self._settings.max_requests} requests are being answered.",
                status=503,
                hint="Ask again in a second; many queries fit into one request.",
                reference="server-busy",
            )
        body = await self._body(headers, receive)
        if body is not None:
            await self._handle(scope, body, receive, send)

    async def _handle(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Let the app answer, as long as there is time and somebody waits."""
        has_started, is_read = False, False

        async def start(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        async def replay() -> Message:
            nonlocal is_read
            if is_read:
                await asyncio.Event().wait()  # the next message would be that the client left, seen below
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        handled = asyncio.ensure_future(self._app(scope, replay, start))
        left = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({handled, left}, timeout=self._settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if handled.done():
                await handled
        except Exception as error:
            logger.exception("%s %s", scope["method"], scope["path"])
            if not has_started:
                raise bug(error) from error
        finally:
            handled.cancel()
            left.cancel()
            has_left = left.done() and not left.cancelled()
            await asyncio.gather(handled, left, return_exceptions=True)
        if not has_started and not has_left:
            raise RefusedError(
                f"The request was not answered in {self._settings.timeout:g} s.",
                status=503,
                hint="Ask again, for less at once; or start the server with a larger --timeout.",
                reference="request-timeout",
            )

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """All of the body; None if the client went away."""
        limit, body = self._settings.max_body, bytearray()
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(self._settings.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise _too_large(limit)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise RefusedError(
                f"The body did not arrive in {self._settings.timeout:g} s.",
                status=408,
                hint="Send less at once, or start the server with a larger --timeout.",
                reference="request-timeout",
            ) from None

    def _require_own_site(self, headers: Headers) -> None:
        """Refuse what another page in the same browser sends, whatever name leads it to this address."""
        host = headers.get("host", "")
        name = _hostname(f"//{host}")
        if self._settings.host in LOOPBACK and name not in LOOPBACK:
            raise RefusedError(
                f"The request is for the host {host[:200]!r}; this server is that of this machine alone.",
                status=421,
                hint="Ask for http://127.0.0.1 or http://localhost, or start the server with --host.",
                reference="unknown-host",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise RefusedError(
                f"A page of {origin[:200]!r} sent the request.",
                status=403,
                hint="Only the server's own page may ask from within a browser.",
                reference="foreign-origin",
            )

    def _require_token(self, headers: Headers) -> None:
        wanted = self._settings.token
        if not wanted:
            return
        found = headers.get("authorization", "")
        scheme, _, token = found.partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else _cookie(headers)
        if not hmac.compare_digest(token.encode(), wanted.encode()):
            raise RefusedError(
                "The request has no token, or another one than the server's." if token else "The request has no token.",
                status=401,
                hint="Send the header `Authorization: Bearer TOKEN`; the token is in the file of --token-file.",
                reference="wrong-token",
            )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _cookie(headers: Headers) -> str:
    jar: Any = SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except CookieError:
        return ""
    return jar[COOKIE].value if COOKIE in jar else ""


def _hostname(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _too_large(limit: int) -> RefusedError:
    return RefusedError(
        f"The body is larger than {limit:,} bytes.",
        status=413,
        hint="Send fewer or smaller pictures, or start the server with a larger --max-body.",
        reference="too-large",
    )
