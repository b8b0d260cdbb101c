"""The OpenAPI document, from the typed requests and responses."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tuplet import __version__
from tuplet.app.web.api import Endpoint
from tuplet.app.web.schemas import ErrorResponse, SearchRequest, VerifyRequest

_PLACE = "#/components/schemas/{model}"
_REFUSALS = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    404: "There is no such item, or it has no picture.",
    408: "The body did not arrive in time.",
    413: "The body or a picture is too large.",
    415: "The body is of another type.",
    422: "What was asked cannot be used by this model or index.",
    503: "The server is busy, stops, or ran out of time.",
}
_FORMS: dict[type[BaseModel], tuple[dict[str, Any], list[str]]] = {
    SearchRequest: (
        {
            "picture": {"type": "array", "items": {"type": "string", "contentMediaType": "image/*"}},
            "text": {"type": "string"},
            "item": {"type": "string"},
            "top": {"type": "integer"},
            "where": {"type": "string"},
            "threshold": {"type": "string"},
        },
        [],
    ),
    VerifyRequest: (
        {name: {"type": "string", "contentMediaType": "image/*"} for name in ("a", "b")} | {"far": {"type": "number"}},
        ["a", "b"],
    ),
}


def openapi(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    models: list[type[BaseModel]] = [one.request for one in endpoints]
    models += [one.response for one in endpoints if one.response is not None]
    unique: list[type[BaseModel]] = list(dict.fromkeys([*models, ErrorResponse]))
    _, definitions = models_json_schema([(model, "validation") for model in unique], ref_template=_PLACE)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tuplet", "version": __version__},
        "security": [{}, {"token": []}],
        "paths": {one.path: {one.method.lower(): _operation(one)} for one in endpoints},
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    content = (
        {"application/json": {"schema": _reference(endpoint.response)}}
        if endpoint.response is not None
        else {"image/webp": {}, "image/svg+xml": {}}
    )
    is_empty = endpoint.path == "/api/session"
    refused = {"content": {"application/json": {"schema": _reference(ErrorResponse)}}}
    described: dict[str, Any] = {
        "operationId": endpoint.path.removeprefix("/api/").replace("/", "-"),
        "summary": (endpoint.answer.__doc__ or "").partition("\n")[0],
        "responses": {
            "204" if is_empty else "200": {"description": "Done."} | ({} if is_empty else {"content": content}),
            **{str(status): {"description": meaning, **refused} for status, meaning in _REFUSALS.items()},
        },
    }
    if endpoint.method == "GET":
        schema = endpoint.request.model_json_schema(ref_template=_PLACE)
        required = schema.get("required", [])
        described["parameters"] = (
            [
                {"name": name, "in": "query", "required": name in required, "schema": field}
                for name, field in schema["properties"].items()
            ]
            if schema.get("properties")
            else []
        )
    elif not is_empty:
        bodies: dict[str, Any] = {"application/json": {"schema": _reference(endpoint.request)}}
        if endpoint.request in _FORMS:
            fields, required = _FORMS[endpoint.request]
            bodies["multipart/form-data"] = {"schema": {"type": "object", "properties": fields, "required": required}}
        described["requestBody"] = {"required": True, "content": bodies}
    return described


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _PLACE.format(model=model.__name__)}
