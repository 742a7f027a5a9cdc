"""Settings: TOML, then the environment, then flags, each over the one before.

One of `core`'s two doors to the disk: TOML files are read here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from skerry.core.errors import UsageError
from skerry.core.files import read_file
from skerry.core.names import did_you_mean

SettingsT = TypeVar("SettingsT")

ENVIRONMENT_PREFIX = "SKERRY_"
LARGEST_TOML_BYTES = 1 << 20


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: The file is missing, larger than 1 MiB, or not TOML.
    """
    content = read_file(path, largest_bytes=LARGEST_TOML_BYTES)
    return parse_toml(content, name=str(path))


def parse_toml(content: bytes, *, name: str) -> dict[str, Any]:
    """Parse TOML text.

    Raises:
        UsageError: It is not UTF-8 or not TOML; `name` says whose it is.
    """
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        # ValueError: not UTF-8, not TOML, or a number of more than 4300 digits.
        raise UsageError(
            f"{name} is not TOML: {error}", hint="See toml.io for the format."
        ) from error


def from_table(
    settings: type[SettingsT], table: Mapping[str, Any], *, name: str
) -> SettingsT:
    """Make a dataclass from a table, refusing unknown keys and wrong types.

    Args:
        settings: A dataclass, which may hold others.
        table: Values by field name.
        name: Whose table it is, for messages.

    Raises:
        UsageError: A key is unknown (the nearest known one is named), missing, or of
            the wrong type.
    """
    _refuse_unknown_keys(settings, table, name=name)
    try:
        return msgspec.convert(table, settings)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in fields(settings))  # type: ignore[arg-type]
        raise UsageError(f"{name}: {error}", hint=f"Known keys: {known}.") from error


def load(
    settings: type[SettingsT],
    *,
    path: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, object],
) -> SettingsT:
    """Read settings: TOML < `SKERRY_*` environment < flag.

    Args:
        settings: A dataclass whose defaults are the lowest layer.
        path: The TOML file, or None.
        environment: The process's environment; `SKERRY_THREADS=2` sets `threads`.
        flags: Values given on the command line; None means not given.

    Raises:
        UsageError: A key is unknown or of the wrong type; the error says where.
    """
    merged = read_toml(path) if path else {}
    _refuse_unknown_keys(settings, merged, name=str(path))
    for field in fields(settings):  # type: ignore[arg-type]
        text = environment.get(ENVIRONMENT_PREFIX + field.name.upper())
        if text is not None:
            merged[field.name] = text
    merged.update({key: value for key, value in flags.items() if value is not None})
    try:
        return msgspec.convert(merged, settings, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"settings: {error}",
            hint="Check the file, the SKERRY_* environment and the flags.",
        ) from error


def _refuse_unknown_keys(
    settings: type[object], table: Mapping[str, Any], *, name: str
) -> None:
    for place, key, known in _unknown_keys(inspect.type_info(settings), table, ""):
        raise UsageError(
            f"{name}: unknown key {place + key!r}", hint=did_you_mean(key, known)
        )


def _unknown_keys(
    kind: inspect.Type, value: object, place: str
) -> Iterator[tuple[str, str, list[str]]]:
    """List keys without a field, at any depth: where, which, and the known ones."""
    match kind, value:
        case inspect.DataclassType(fields=known_fields), Mapping():
            kinds = {field.name: field.type for field in known_fields}
            for key, part in value.items():
                if key in kinds:
                    yield from _unknown_keys(kinds[key], part, f"{place}{key}.")
                else:
                    yield place, key, list(kinds)
        case inspect.DictType(value_type=part_kind), Mapping():
            for key, part in value.items():
                yield from _unknown_keys(part_kind, part, f"{place}{key}.")
        case inspect.CollectionType(item_type=part_kind), list():
            for index, part in enumerate(value):
                yield from _unknown_keys(part_kind, part, f"{place}{index}.")
        case inspect.UnionType(types=kinds_allowed), _:
            for one in kinds_allowed:
                yield from _unknown_keys(one, value, place)
