"""Run a model: one file a runtime, one Protocol for all."""

from __future__ import annotations

from typing import cast

from skerry.core.plugins import RUNTIMES, find, names
from skerry.core.seams import Runtime
from skerry.runtimes.files import (
    DEFAULT_RUNTIMES,
    RUNTIMES_OF,
    input_names,
    model_content,
    model_format,
    open_any,
)

__all__ = [
    "DEFAULT_RUNTIMES",
    "RUNTIMES_OF",
    "get_runtime",
    "input_names",
    "model_content",
    "model_format",
    "open_any",
    "runtime_names",
]


def runtime_names() -> list[str]:
    """The names of all registered runtimes, installed or not; imports none."""
    return names(RUNTIMES)


def get_runtime(name: str) -> Runtime:
    """Find a runtime by name.

    Raises:
        UsageError: There is none of that name.
        MissingExtraError: The library behind it is not installed.
    """
    return cast("Runtime", find(RUNTIMES, name)())
