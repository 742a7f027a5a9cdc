"""Settings: TOML, then the environment, then flags, each over the one before.

One of `core`'s two doors to the disk: TOML files are read here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean

SettingsT = TypeVar("SettingsT")

ENVIRONMENT_PREFIX = "SKERRY_"
LARGEST_TOML_BYTES = 1 << 20


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: The file is missing, larger than 1 MiB, or not TOML.
    """
    try:
        size_bytes = path.stat().st_size
        content = path.read_bytes() if size_bytes <= LARGEST_TOML_BYTES else b""
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error
    if size_bytes > LARGEST_TOML_BYTES:
        raise UsageError(
            f"{path} has {size_bytes} bytes, expected at most {LARGEST_TOML_BYTES}",
            hint="Is this the right file?",
        )
    return parse_toml(content, name=str(path))


def parse_toml(content: bytes, *, name: str) -> dict[str, Any]:
    """Parse TOML text.

    Raises:
        UsageError: It is not UTF-8 or not TOML; `name` says whose it is.
    """
    try:
        return tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(
            f"{name} is not TOML: {error or 'nested too deep'}",
            hint="See toml.io for the format.",
        ) from error


def from_table(
    settings: type[SettingsT], table: Mapping[str, Any], *, name: str
) -> SettingsT:
    """Make a dataclass from a table, refusing unknown keys and wrong types.

    Args:
        settings: A dataclass; nested dataclasses are not checked for unknown keys.
        table: Values by field name.
        name: Whose table it is, for messages.

    Raises:
        UsageError: A key is unknown (the nearest known one is named), missing, or of
            the wrong type.
    """
    known = [field.name for field in fields(settings)]  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise UsageError(
                f"{name}: unknown key {key!r}", hint=did_you_mean(key, known)
            )
    try:
        return msgspec.convert(dict(table), settings)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{name}: {error}", hint=f"Known keys: {', '.join(known)}."
        ) from error


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
    merged = from_file = read_toml(path) if path else {}
    from_table(settings, from_file, name=str(path))
    merged = dict(from_file)
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
