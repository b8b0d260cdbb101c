"""Requests that are not answered, in one form: id, message, hint."""

import json
from http import HTTPStatus

from starlette.responses import Response

from tuplet.app.web.schemas import ErrorResponse, Problem
from tuplet.errors import DataError, ShapeError, TupletError


class RefusedError(DataError):
    """A request that the server does not answer.

    Args:
        message: What was found.
        status: HTTP status of the response.
        hint: What to send.
        rest: Hint and reference, as for every `TupletError`.
    """

    def __init__(self, message: str, *, status: int, **rest: str) -> None:
        super().__init__(message, **rest)
        self.status = status


def status_of(error: TupletError) -> int:
    """The HTTP status of an error: 422 if the request is to blame, 500 if the index or the model is."""
    if isinstance(error, RefusedError):
        return error.status
    return 422 if isinstance(error, DataError | ShapeError) else 500


def refusal(error: TupletError) -> Response:
    """The response that says what was wrong."""
    problem = Problem(id=error.reference, message=error.message, hint=error.hint)
    content = json.dumps(ErrorResponse(error=problem).model_dump()).encode()
    status = status_of(error)
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    return Response(content, status, headers, media_type="application/json")


def bug(error: Exception) -> RefusedError:
    """What is said of an error that nobody foresaw; the traceback is for the log, not for the client."""
    return RefusedError(
        f"The server has a bug: {type(error).__name__}.",
        status=500,
        hint="The server's log has the traceback. Please send it along when you report this.",
        reference="server-bug",
    )
