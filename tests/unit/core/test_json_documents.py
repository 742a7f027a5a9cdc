from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from skerry.core.documents import from_json, parse_object, to_json
from skerry.core.errors import DataError, NewerSchemaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A small document."""

    words: str
    places: dict[str, int] = field(default_factory=dict)


def test_what_is_written_is_read() -> None:
    """The same values come back, and the same bytes go out for any order of keys."""
    one = Note(words="å", places={"b": 1, "a": 2})
    two = Note(words="å", places={"a": 2, "b": 1})
    content = to_json(one, schema="skerry.note/1")
    assert content == to_json(two, schema="skerry.note/1")
    assert from_json(Note, content, schema="skerry.note/1", name="x") == one


def test_unknown_keys_are_let_be() -> None:
    """A key that only a newer version knows does not stop an older one."""
    content = b'{"schema":"skerry.note/1","words":"a","colour":"red"}'
    assert from_json(Note, content, schema="skerry.note/1", name="x").words == "a"


def test_an_older_schema_is_read() -> None:
    """A reader of number 3 takes number 2 as well."""
    content = b'{"schema":"skerry.note/2","words":"a"}'
    assert from_json(Note, content, schema="skerry.note/3", name="x").words == "a"


def test_a_newer_schema_asks_for_an_upgrade() -> None:
    """Nothing is read of it; the message names both numbers."""
    content = b'{"schema":"skerry.note/2","words":"a"}'
    with pytest.raises(NewerSchemaError, match=r"note/2.*note/1") as caught:
        from_json(Note, content, schema="skerry.note/1", name="x")
    assert "Upgrade" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"schema":1,"words":"a"}',
        b'{"schema":"skerry.other/1","words":"a"}',
        b'{"schema":"skerry.note/one","words":"a"}',
        b'{"schema":"skerry.note/999999999999","words":"a"}',
        b'{"schema":"skerry.note/1"}',
        b'{"schema":"skerry.note/1","words":1}',
        b'{"schema":"skerry.note/1","words":"a","places":{"a":1e400}}',
    ],
)
def test_what_is_no_such_document_is_refused(content: bytes) -> None:
    """Each is a DataError that names the document."""
    with pytest.raises(DataError, match="letter"):
        from_json(Note, content, schema="skerry.note/1", name="letter")


def test_size_is_bounded() -> None:
    """A document larger than its reader expects is not parsed."""
    with pytest.raises(DataError, match="3 bytes, at most 2"):
        parse_object(b"{ }", name="x", largest_bytes=2)
