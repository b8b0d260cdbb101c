"""The endpoints: one table, from which routes and the OpenAPI document are made."""

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tuplet import __version__
from tuplet.app import thresholds
from tuplet.app.web import schemas
from tuplet.app.web.guard import COOKIE
from tuplet.app.web.places import Places
from tuplet.app.web.refusals import RefusedError
from tuplet.app.web.service import Service
from tuplet.index.base import Facts


class Api:
    """The endpoints of a service; each takes a checked request and returns a checked response.

    Args:
        service: What does the work.
        places: Of the items on the map.
        root: Where the endpoints are, relative to the server.
        beside: Name of a second service, if there is one.
    """

    def __init__(self, service: Service, places: Places, *, root: str = "api", beside: str | None = None) -> None:
        self.service = service
        self._places, self._root, self._beside = places, root, beside
        self.is_ready = False

    async def search(self, asked: schemas.SearchRequest) -> schemas.SearchResponse:
        """The nearest items of each query."""
        service = self.service
        limit = service.threshold if asked.threshold is None else service.limit(asked.threshold)
        vectors = await service.embed(asked.queries)
        names = [_name(query, at) for at, query in enumerate(asked.queries)]
        hits = await service.search(vectors, asked.top, asked.where, names)
        results = []
        for query, facts, scores in zip(hits.queries, hits.facts, hits.scores.tolist(), strict=True):
            found = [
                schemas.Hit(
                    **self._item(fact), rank=rank, score=score, same=None if limit is None else limit.accepts(score)
                )
                for rank, (fact, score) in enumerate(zip(facts, scores, strict=False), start=1)
            ]
            kept = [hit for hit in found if asked.threshold is None or hit.same]
            results.append(schemas.QueryHits(query=query, hits=kept))
        return schemas.SearchResponse(results=results, threshold=_threshold(limit))

    async def embed(self, asked: schemas.EmbedRequest) -> schemas.EmbedResponse:
        """The embedding of each query."""
        rows = (await self.service.embed(asked.queries)).tolist()
        index = self.service.index
        return schemas.EmbedResponse(embeddings=rows, geometry=index.geometry, model=index.model_hash)

    async def verify(self, asked: schemas.VerifyRequest) -> schemas.VerifyResponse:
        """Whether two items are of one class, with the error rates of the threshold."""
        score, limit = await self.service.verify(asked.a, asked.b, asked.far, asked.threshold)
        decision: Literal["same", "different"] = "same" if limit.accepts(score) else "different"
        reported = schemas.Threshold(value=limit.value, larger_is_same=limit.larger_is_same, rates=limit.rates)
        return schemas.VerifyResponse(decision=decision, score=score, threshold=reported)

    async def items(self, asked: schemas.ItemsRequest) -> schemas.ItemsResponse:
        """Items of the index, page by page."""
        found, total = await self.service.items(asked.where, asked.name, asked.offset, asked.limit)
        return schemas.ItemsResponse(items=[schemas.Item(**self._item(fact)) for fact in found], total=total)

    async def picture(self, asked: schemas.PictureRequest) -> Response:
        """The picture of an item."""
        found = await self.service.picture(asked.id, asked.size)
        return Response(found.content, media_type=found.media_type, headers={"Cache-Control": "private, max-age=300"})

    async def about(self, _asked: schemas.NoParameters) -> schemas.AboutResponse:
        """What is served: model, columns, threshold."""
        service, index = self.service, self.service.index
        counts = await service.columns()
        columns = [
            schemas.Column(name=name, kind=kind, values=dict(counts[name].most_common()) if name in counts else {})
            for name, kind in index.columns.items()
        ]
        return schemas.AboutResponse(
            name=service.name,
            version=__version__,
            backend=index.backend,
            items=await service.size(),
            dim=index.dim,
            geometry=index.geometry,
            model=index.model_hash,
            inputs=service.inputs,
            columns=columns,
            threshold=_threshold(service.threshold),
            pictures=bool(service.pictures),
            beside=self._beside,
        )

    async def map(self, _asked: schemas.NoParameters) -> schemas.MapResponse:
        """Places of the items on a plane; ask again while it is not ready."""
        return self._places.response()

    async def health(self, _asked: schemas.NoParameters) -> schemas.HealthResponse:
        """Whether requests are answered."""
        if not self.is_ready:
            raise RefusedError(
                "The server stops.",
                status=503,
                hint="Ask another one, or wait until it is started again.",
                reference="server-busy",
            )
        return schemas.HealthResponse(ready=True, items=await self.service.size())

    async def session(self, _asked: schemas.NoParameters) -> Response:
        """Keep the token of this request as a cookie, so that the page can show pictures."""
        response = Response(status_code=204)
        if token := self.service.token:
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
        return response

    def _item(self, fact: Facts) -> dict[str, Any]:
        name = str(fact["id"])
        picture = f"{self._root}/picture?{urlencode({'id': name})}" if self.service.pictures.has(name) else None
        return {"id": name, "facts": {key: value for key, value in fact.items() if key != "id"}, "picture": picture}


@dataclass(frozen=True)
class Endpoint:
    """One path of the API.

    Args:
        path: Where it is.
        method: GET reads the request from the query of the address, POST from the body.
        request: What is asked.
        response: What is answered; None for what is no JSON.
        answer: Method of `Api`.
    """

    path: str
    method: str
    request: type[BaseModel]
    response: type[BaseModel] | None
    answer: Callable[[Api, Any], Awaitable[BaseModel | Response]]


ENDPOINTS = (
    Endpoint("/api/search", "POST", schemas.SearchRequest, schemas.SearchResponse, Api.search),
    Endpoint("/api/embed", "POST", schemas.EmbedRequest, schemas.EmbedResponse, Api.embed),
    Endpoint("/api/verify", "POST", schemas.VerifyRequest, schemas.VerifyResponse, Api.verify),
    Endpoint("/api/items", "GET", schemas.ItemsRequest, schemas.ItemsResponse, Api.items),
    Endpoint("/api/picture", "GET", schemas.PictureRequest, None, Api.picture),
    Endpoint("/api/about", "GET", schemas.NoParameters, schemas.AboutResponse, Api.about),
    Endpoint("/api/map", "GET", schemas.NoParameters, schemas.MapResponse, Api.map),
    Endpoint("/api/health", "GET", schemas.NoParameters, schemas.HealthResponse, Api.health),
    Endpoint("/api/session", "POST", schemas.NoParameters, None, Api.session),
)

BESIDE = tuple(
    replace(one, path=one.path.replace("/api/", "/api/beside/"))
    for one in ENDPOINTS
    if one.answer in (Api.search, Api.embed, Api.verify, Api.items, Api.picture, Api.about)
)
"""Those of a second index or run."""


async def asked_of(endpoint: Endpoint, request: Request) -> BaseModel:
    """The request, read and checked.

    Raises:
        RefusedError: If it is not what the endpoint takes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if endpoint.method == "GET":
            return endpoint.request.model_validate(dict(request.query_params))
        body = await request.body()
        if not body:
            return endpoint.request.model_validate({})
        if kind == "multipart/form-data":
            async with request.form() as form:
                return endpoint.request.model_validate(await _from_form(form, endpoint.request))
        if kind == "application/json":
            return endpoint.request.model_validate_json(body)
    except ValidationError as error:
        raise _wrong(_told(error)) from error
    except HTTPException as error:  # of the form's parser
        raise _wrong(str(error.detail)) from error
    raise RefusedError(
        f"The body is of the type {kind[:100]!r}.",
        status=415,
        hint="Send application/json, or multipart/form-data with files.",
        reference="wrong-media-type",
    )


async def _from_form(form: FormData, model: type[BaseModel]) -> dict[str, Any]:
    """A form in the shape of the JSON: `picture`, `text` and `item` make queries, as `a` and `b` do of a pair."""
    asked: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in ("picture", "text", "item", "vector") and "queries" in model.model_fields:
            asked.setdefault("queries", []).append(await _query(name, value))
        elif name in ("a", "b"):
            asked[name] = await _query("text", value)
        elif isinstance(value, str) and name not in asked:
            asked[name] = value
        else:
            raise _wrong(f"{name[:100]!r} stands in the form twice, or is a file")
    if isinstance(threshold := asked.get("threshold"), str) and threshold != "auto":
        asked["threshold"] = _number(threshold)
    return asked


async def _query(name: str, value: str | UploadFile) -> Mapping[str, Any]:
    if isinstance(value, UploadFile):
        return {"picture": base64.b64encode(await value.read())}
    return {name: [_number(part) for part in value.split(",")] if name == "vector" else value}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # whoever checks the request says what is wrong


def _wrong(what: str) -> RefusedError:
    return RefusedError(
        f"The request cannot be read: {what}.",
        status=400,
        hint="/api/openapi.json describes every request.",
        reference="wrong-request",
    )


def _told(error: ValidationError) -> str:
    parts = [
        f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg'].removeprefix('Value error, ')}"
        for one in error.errors(include_url=False, include_context=False, include_input=False)[:5]
    ]
    return "; ".join(parts)[:1000]


def _name(query: schemas.Query, at: int) -> str:
    return query.item or query.text or str(at)


def _threshold(limit: thresholds.Threshold | None) -> schemas.Threshold | None:
    if limit is None:
        return None
    return schemas.Threshold(value=limit.value, larger_is_same=limit.larger_is_same, rates=limit.rates)


def to_response(answered: BaseModel | Response) -> Response:
    """What an endpoint returned, as HTTP."""
    if isinstance(answered, Response):
        return answered
    return Response(json.dumps(answered.model_dump(mode="json"), allow_nan=False), media_type="application/json")
