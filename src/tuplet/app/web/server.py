"""The server: routes, start, stop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from tuplet.app.web.api import BESIDE, ENDPOINTS, Api, Endpoint, asked_of, to_response
from tuplet.app.web.guard import LOOPBACK, Guard
from tuplet.app.web.metrics import Metrics
from tuplet.app.web.openapi import openapi
from tuplet.app.web.places import MOST_POINTS, Places
from tuplet.app.web.refusals import RefusedError, bug, refusal
from tuplet.app.web.service import Service
from tuplet.app.web.settings import Settings
from tuplet.errors import DataError, TupletError
from tuplet.index import Index

_PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/beside.js": ("beside.js", "text/javascript; charset=utf-8"),
    "/compare.js": ("compare.js", "text/javascript; charset=utf-8"),
    "/marks.js": ("marks.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/map.js": ("map.js", "text/javascript; charset=utf-8"),
}


@dataclass(frozen=True)
class Served:
    """What is searched.

    Args:
        index: The items, and their model.
        name: What it is called.
        pictures: Folder of the collection, where the picture of an item lies at the item's name.
    """

    index: Index
    name: str
    pictures: Path | None = None


def make_app(served: Sequence[Served], settings: Settings) -> ASGIApp:
    """What answers requests for one or two indexes."""
    metrics, places = Metrics(), Places()
    services = [Service(one.index, one.name, one.pictures, settings, metrics) for one in served]
    names = [one.name for one in served[1:]]
    api = Api(services[0], places, beside=names[0] if names else None)
    apis: list[tuple[Sequence[Endpoint], Api]] = [(ENDPOINTS, api)]
    if names:
        apis.append((BESIDE, Api(services[1], places, root="api/beside")))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_draw_map(services[0], places))]
        tasks += [asyncio.create_task(service.run()) for service in services]
        api.is_ready = True
        yield
        api.is_ready = False
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def document(_request: Request) -> Response:
        return JSONResponse(openapi([one for endpoints, _ in apis for one in endpoints]))

    async def counted(_request: Request) -> Response:
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes = [
        Route(one.path, _answering(one, own), methods=[one.method]) for endpoints, own in apis for one in endpoints
    ]
    routes += [Route("/api/openapi.json", document), Route("/metrics", counted)]
    routes += [Route(path, _sending(*file)) for path, file in _FILES.items()]
    handlers: dict[Any, Any] = {TupletError: _refused, HTTPException: _refused, Exception: _refused}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    return Guard(app, settings, metrics, frozenset(route.path for route in routes))


async def _draw_map(service: Service, places: Places) -> None:
    facts, vectors = await service.embeddings(MOST_POINTS)
    places.start(facts, vectors, service.index.geometry)


def _answering(endpoint: Endpoint, api: Api) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        return to_response(await endpoint.answer(api, await asked_of(endpoint, request)))

    return answer


def _sending(name: str, media_type: str) -> Callable[[Request], Any]:
    content = (_PAGE / name).read_bytes()

    async def send(_request: Request) -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return send


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, TupletError):
        return refusal(error)
    if not isinstance(error, HTTPException):
        return refusal(bug(error))
    path = request.url.path[:200]
    is_missing = error.status_code == 404
    return refusal(
        RefusedError(
            f"There is nothing at {path!r}." if is_missing else f"{request.method} {path!r}: {error.detail}.",
            status=error.status_code,
            hint="/api/openapi.json lists what there is.",
            reference="unknown-path",
        )
    )


class _Protocol(H11Protocol):
    """Closes a connection whose first request does not begin in time: uvicorn waits for it without end."""

    head_timeout: float = 10.0
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self._head = self.loop.call_later(self.head_timeout, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._head is not None:
            self._head.cancel()
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def serve(served: Sequence[Served], settings: Settings, ready: Callable[[str], None]) -> None:
    """Answer requests until the process is reported to stop; running ones are finished.

    Args:
        served: One index, or two that are compared on the page.
        settings: Where to listen, and limits.
        ready: Called with the address once requests are answered.

    Raises:
        DataError: If the address is not to be had.
    """
    listening = _listen(settings)
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        make_app(served, settings),
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.stop_timeout),
        backlog=128,
    )
    with listening:
        _Server(config, lambda: ready(f"http://{shown}:{port}/")).run(sockets=[listening])


def _listen(settings: Settings) -> socket.socket:
    if settings.host not in LOOPBACK and not settings.token:
        raise DataError(
            f"{settings.host} can be reached by others, and there is no token.",
            hint="Add --token-file FILE; the file is made if it is not there. Or leave --host out.",
            reference="token-required",
        )
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, number, _, address = found[0]
        listening = socket.socket(family, kind, number)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as problem:
        raise DataError(
            f"The address {settings.host}:{settings.port} cannot be used: {problem.strerror or problem}.",
            hint="Choose another port: --port 8001, or --port 0 for any that is free.",
            reference="address-in-use",
        ) from problem
    return listening
