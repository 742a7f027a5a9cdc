from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.documents import parse_object
from skerry.core.errors import UsageError
from skerry.core.release import Manifest, ReleaseId, read_manifest
from tests.strategies import damaged

GOLDEN = Path(__file__).parents[1] / "golden"
MANIFESTS = tuple(path.read_bytes() for path in sorted(GOLDEN.glob("release-1*.json")))

KEYS = st.sampled_from(
    [
        "schema",
        "name",
        "version",
        "models",
        "golden",
        "task",
        "drift",
        "budget",
        "blob",
        "sha256",
        "size_bytes",
    ]
)
VALUES = st.recursive(
    st.sampled_from(["skerry.release/1", "skerry.release/2", "a" * 64, "meter"])
    | st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=8)
    ),
    max_leaves=16,
)


@given(st.binary() | VALUES.map(msgspec.json.encode))
def test_any_bytes_are_an_object_or_an_error_of_ours(content: bytes) -> None:
    """The parser never leaks another exception."""
    with contextlib.suppress(UsageError):
        assert isinstance(parse_object(content, name="x"), dict)


@given(st.dictionaries(KEYS, VALUES).map(msgspec.json.encode))
def test_any_object_is_a_manifest_or_an_error_of_ours(content: bytes) -> None:
    """So does the reader of manifests."""
    with contextlib.suppress(UsageError):
        assert isinstance(read_manifest(content), Manifest)


@given(damaged(MANIFESTS))
def test_a_damaged_manifest_is_a_manifest_or_an_error_of_ours(content: bytes) -> None:
    """One that was almost right, too."""
    with contextlib.suppress(UsageError):
        assert isinstance(read_manifest(content), Manifest)


@given(st.text() | st.from_regex(r"[a-z-]{1,5}/[0-9]{1,12}", fullmatch=True))
def test_any_text_is_a_release_or_an_error_of_ours(text: str) -> None:
    """What is read prints as it was, but for leading zeros of the version."""
    with contextlib.suppress(UsageError):
        name, _, version = text.partition("/")
        assert str(ReleaseId.parse(text)) == f"{name}/{int(version)}"
