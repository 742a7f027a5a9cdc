from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from skerry.cloud.api import bodies
from skerry.cloud.api.bodies import (
    Enrolment,
    NewDevice,
    NewRollout,
    ProfileRequest,
    Publication,
    ShadowPatch,
    read_body,
)
from skerry.cloud.rollout_store import read_rollout
from skerry.core.errors import DataError

BODIES = (
    Enrolment,
    NewDevice,
    NewRollout,
    ProfileRequest,
    Publication,
    ShadowPatch,
)
KINDS = st.sampled_from(BODIES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "labels",
                    "token",
                    "agent",
                    "desired",
                    "version",
                    "metadata",
                    "manifests",
                    "release",
                    "waves",
                    "devices",
                    "gate",
                    "on_failure",
                    "id",
                    "supersede",
                    "state",
                    "progress",
                    "sha256",
                    "repeats",
                    "threads",
                ]
            ),
            inner,
        )
    ),
    max_leaves=8,
)
CONTENTS = st.binary(max_size=200) | JSON.map(msgspec.json.encode)


def _read(kind: type[object], content: bytes, pieces: int) -> object:
    size = max(1, len(content) // pieces)
    parts = [content[i : i + size] for i in range(0, len(content), size)] or [b""]

    async def receive() -> MutableMapping[str, Any]:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    return asyncio.run(read_body(request, kind, largest_bytes=150))


@given(kind=KINDS, content=CONTENTS, pieces=st.integers(1, 5))
def test_any_body_is_read_or_refused(
    kind: type[object], content: bytes, pieces: int
) -> None:
    """Whatever comes, in however many pieces, is a whole body or a `DataError`."""
    with suppress(DataError):
        assert isinstance(_read(kind, content, pieces), kind)


def test_a_body_is_bounded_while_it_comes() -> None:
    """More than is allowed is refused before all of it is here."""
    with pytest.raises(DataError, match="more than 150 bytes"):
        _read(NewDevice, b'{"name": "' + b"x" * 1000 + b'"}', 10)


@given(content=CONTENTS)
def test_any_kept_rollout_is_read_or_refused(content: bytes) -> None:
    """A damaged row of the database is a `DataError`."""
    with pytest.raises(DataError):
        read_rollout(content)


def test_each_body_is_described() -> None:
    """What a route takes is a schema of the OpenAPI document."""
    described = bodies.schemas()
    for kind in BODIES:
        assert kind.__name__ in described
        assert bodies.takes(kind)["requestBody"]["required"]
