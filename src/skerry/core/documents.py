"""Documents that are kept or sent: JSON objects that name their schema.

A schema is `skerry.KIND/NUMBER`. A reader takes its own number and every older one it
knows; a newer number is refused with the advice to upgrade, and never half-read. Keys
that a reader does not know are ignored, so that a number need not grow for an addition.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from skerry.core.errors import DataError, NewerSchemaError

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
"""What JSON can hold."""

LARGEST_DOCUMENT_BYTES = 1 << 20
"""Most bytes of a document unless its reader says otherwise."""

DocumentT = TypeVar("DocumentT")

_ENCODER = msgspec.json.Encoder(order="sorted")


def to_json(document: object, *, schema: str) -> bytes:
    """Write a dataclass as canonical JSON: sorted keys, no spaces, UTF-8.

    Args:
        document: A dataclass of JSON values, dataclasses, enums and mappings.
        schema: What stands under `schema`.

    Returns:
        The same bytes for the same values, whatever the order they were put in.
    """
    fields = msgspec.to_builtins(document)
    return _ENCODER.encode({"schema": schema, **fields})


def from_json(
    kind: type[DocumentT],
    content: bytes,
    *,
    schema: str,
    name: str,
    largest_bytes: int = LARGEST_DOCUMENT_BYTES,
) -> DocumentT:
    """Read a document from outside.

    Args:
        kind: The dataclass to make.
        content: The bytes as they came.
        schema: The newest schema that `kind` can hold, such as `skerry.release/1`.
        name: Whose it is, for messages.
        largest_bytes: Most bytes it may have.

    Raises:
        NewerSchemaError: Its schema has a larger number than ours.
        DataError: It is too large, not JSON, of another kind, or a field is missing or
            of the wrong type.
    """
    fields = parse_object(content, name=name, largest_bytes=largest_bytes)
    _check_schema(fields.get("schema"), schema, name)
    try:
        return msgspec.convert(fields, kind)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise DataError(
            f"{name} is not a whole {schema}: {error}",
            hint="Make it again with this version of Skerry.",
        ) from error


def parse_object(
    content: bytes, *, name: str, largest_bytes: int = LARGEST_DOCUMENT_BYTES
) -> dict[str, Any]:
    """Read a JSON object of bounded size.

    Raises:
        DataError: It is too large, not JSON, or not an object.
    """
    if len(content) > largest_bytes:
        raise DataError(
            f"{name} has {len(content)} bytes, at most {largest_bytes} expected",
            hint="Send large things as blobs.",
        )
    try:
        fields = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{name} is not JSON: {error}", hint="Send JSON.") from error
    if not isinstance(fields, dict):
        raise DataError(
            f"{name} is {type(fields).__name__}, a JSON object was expected",
            hint="Send an object.",
        )
    return fields


def _check_schema(got: object, newest: str, name: str) -> None:
    family, _, number = newest.partition("/")
    got_family, _, got_number = (got if isinstance(got, str) else "").partition("/")
    is_numbered = got_number.isascii() and got_number.isdigit() and len(got_number) < 9
    if got_family != family or not is_numbered:
        raise DataError(
            f"{name} has the schema {str(got)[:80]!r}, {newest!r} was expected",
            hint="Is this the right document?",
        )
    if int(got_number) > int(number):
        raise NewerSchemaError(
            f"{name} has the schema {got!r}, this version reads up to {newest!r}",
            hint="Upgrade Skerry here first.",
        )
