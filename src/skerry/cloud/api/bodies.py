"""What the API is sent: bounded JSON, read into dataclasses that OpenAPI names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import Request
from msgspec import Meta
from starlette.requests import ClientDisconnect

from skerry.core.documents import parse_object
from skerry.core.errors import DataError, LinkError
from skerry.core.fleet import Gate

LARGEST_BODY_BYTES = 1 << 20
"""Most bytes of a JSON body."""

LARGEST_METADATA_BYTES = 16 << 20
"""Most bytes of a publication: signed lists grow with what was published."""

BODY_TIMEOUT_S = 120.0
PIECE_TIMEOUT_S = 30.0
"""How long all of a JSON body, and the next piece of any body, may take."""

Name = Annotated[str, Meta(min_length=1, max_length=63)]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
BodyT = TypeVar("BodyT")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDevice:
    """A device to register."""

    name: Name
    labels: dict[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest:
    """What a device is to profile: a model that is installed there."""

    sha256: Hash
    repeats: Annotated[int, Meta(ge=1, le=600)] = 30
    threads: Annotated[int, Meta(ge=1, le=64)] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A gateway's request for credentials of its own."""

    token: Annotated[str, Meta(min_length=1, max_length=512)]
    agent: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPatch:
    """A merge patch of a desired side."""

    desired: dict[str, Any]
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Signed metadata by file name; `replace` forgets the publisher before."""

    metadata: dict[str, str]
    replace: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Releases to publish; manifests and blobs are uploaded before."""

    metadata: dict[str, str]
    manifests: list[Hash]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRollout:
    """A rollout to begin; without waves and devices it is for everybody."""

    release: Annotated[str, Meta(min_length=3, max_length=80)]
    waves: list[list[Name]] = field(default_factory=list)
    devices: list[Name] = field(default_factory=list)
    gate: Gate = field(default_factory=Gate)
    on_failure: Literal["stop", "undo"] = "undo"
    id: Name | None = None
    supersede: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What a sample shows."""

    label: Annotated[str, Meta(min_length=1, max_length=255)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRetraining:
    """A release to learn on from, and the hash of the blob with old samples."""

    release: Annotated[str, Meta(min_length=3, max_length=80)]
    replay: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong, and what to do next."""

    code: str
    what: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The answer when something went wrong."""

    error: Problem


_BODIES = (
    NewDevice,
    ProfileRequest,
    Enrolment,
    ShadowPatch,
    Metadata,
    Publication,
    NewRollout,
    Labelled,
    NewRetraining,
    Failure,
)


def schemas() -> dict[str, Any]:
    """JSON Schema of all bodies by name, as OpenAPI keeps them."""
    _, components = msgspec.json.schema_components(
        _BODIES, ref_template="#/components/schemas/{name}"
    )
    return dict(components)


def takes(body: type[object]) -> dict[str, Any]:
    """The part of a route's OpenAPI description that names its body."""
    content = {
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{body.__name__}"}
        }
    }
    return {"requestBody": {"required": True, "content": content}}


async def read_body(
    request: Request, kind: type[BodyT], *, largest_bytes: int = LARGEST_BODY_BYTES
) -> BodyT:
    """Read a JSON body of bounded size.

    Args:
        request: The request.
        kind: One of the dataclasses of this module.
        largest_bytes: Most bytes it may have.

    Raises:
        DataError: It is too large, not JSON, or a field is missing or makes no sense.
        LinkError: It broke off, or did not come in time.
    """
    content = bytearray()
    with _no_patience():
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in pieces(request):
                content += piece
                if len(content) > largest_bytes:
                    raise DataError(
                        f"the body has more than {largest_bytes} bytes",
                        hint="Send large things as blobs.",
                    )
    fields = parse_object(bytes(content), name="the body", largest_bytes=largest_bytes)
    try:
        return msgspec.convert(fields, kind)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise DataError(
            f"the body makes no sense: {error}", hint="See /v1/openapi.json."
        ) from error


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """Give a body as it comes.

    Raises:
        LinkError: It broke off, or the next piece did not come in time.
    """
    stream = request.stream()
    while True:
        try:
            with _no_patience():
                async with asyncio.timeout(PIECE_TIMEOUT_S):
                    piece = await anext(stream, None)
        except ClientDisconnect as error:
            raise LinkError("the request broke off", hint="Send it again.") from error
        if piece is None:
            return
        yield piece


@contextmanager
def _no_patience() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise LinkError(
            "the request did not come in time", hint="Send it again, in one go."
        ) from error


def as_files(metadata: Mapping[str, str]) -> dict[str, bytes]:
    """Turn metadata of a request into files."""
    return {name: text.encode("utf-8", "replace") for name, text in metadata.items()}
