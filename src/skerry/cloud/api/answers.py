"""What the API answers: JSON, and errors as `{"error": {"code", "what", "hint"}}`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as AnyHttpException

from skerry.core.errors import (
    ConflictError,
    DataError,
    LinkError,
    MissingExtraError,
    RefusedError,
    SkerryError,
    StateError,
    StorageError,
    TrustError,
    UsageError,
)

log = logging.getLogger(__name__)

_STATUSES: tuple[tuple[type[SkerryError], int], ...] = (
    (DataError, 422),
    (UsageError, 400),
    (TrustError, 403),
    (RefusedError, 409),
    (ConflictError, 409),
    (StorageError, 507),
    (StateError, 503),
    (MissingExtraError, 501),
    (LinkError, 504),
)
"""The first that fits counts; 500 where none does."""

_HINTS = {
    404: "See /v1/openapi.json.",
    405: "See /v1/openapi.json.",
}

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": what,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}
        },
    }
    for status, what in (
        (400, "The request makes no sense."),
        (401, "No token, or none of this hub's."),
        (403, "It must not be believed."),
        (404, "There is no such thing."),
        (409, "It does not fit what is here."),
        (422, "A document makes no sense."),
        (503, "The hub is not set up for this."),
        (504, "The device did not answer."),
        (507, "The hub's disk refused."),
    )
}
"""What each route may answer when it fails."""


def answer(document: object, *, status: int = 200) -> Response:
    """Answer with JSON.

    Args:
        document: A mapping or a dataclass.
        status: The HTTP status.
    """
    return Response(
        msgspec.json.encode(document),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


@contextmanager
def finding() -> Iterator[None]:
    """Make a `UsageError` within mean that what the path names is not there."""
    try:
        yield
    except UsageError as error:
        raise absent(error) from error


def absent(error: SkerryError) -> HTTPException:
    """The answer where what the path names is not there."""
    return HTTPException(404, detail=_fields(error))


def refused(error: SkerryError, *, challenge: str = "Bearer") -> HTTPException:
    """The answer to who is not let in."""
    headers = {"WWW-Authenticate": challenge}
    return HTTPException(401, detail=_fields(error), headers=headers)


def status_of(error: SkerryError) -> int:
    """The HTTP status of an error of our tree."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def add_to(api: FastAPI) -> None:
    """Have each error answered in our form, whoever raised it."""
    api.add_exception_handler(SkerryError, _answer_ours)
    api.add_exception_handler(AnyHttpException, _answer_http)
    api.add_exception_handler(RequestValidationError, _answer_invalid)
    api.add_exception_handler(Exception, _answer_bug)


async def _answer_ours(request: Request, error: Exception) -> Response:
    if not isinstance(error, SkerryError):  # Starlette's type says no more than this
        return await _answer_bug(request, error)
    status = status_of(error)
    if status >= 500:
        log.warning(
            "api.failed",
            extra={"path": request.url.path, "code": error.code, "what": error.what},
        )
    return answer({"error": _fields(error)}, status=status)


async def _answer_http(_: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    detail = getattr(error, "detail", "")
    fields = detail if isinstance(detail, dict) else _http_fields(status, str(detail))
    made = answer({"error": fields}, status=status)
    made.headers.update(getattr(error, "headers", None) or {})
    return made


async def _answer_invalid(_: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    places = ", ".join(
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in found
    )
    wrong = DataError(f"the request makes no sense: {places}", hint=_HINTS[404])
    return answer({"error": _fields(wrong)}, status=422)


async def _answer_bug(_: Request, __: Exception) -> Response:
    bug = StateError("the hub failed", hint="Look at its log, and report it.")
    return answer({"error": _fields(bug)}, status=500)


def _fields(error: SkerryError) -> Mapping[str, str]:
    return {"code": error.code, "what": error.what, "hint": error.hint}


def _http_fields(status: int, detail: str) -> Mapping[str, str]:
    hint = _HINTS.get(status, "Look at the request.")
    return _fields(UsageError(f"{status}: {detail.lower()}", hint=hint))
