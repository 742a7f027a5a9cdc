"""Run a model: one file a runtime, one Protocol for all."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from skerry.core.plugins import RUNTIMES, find, names
from skerry.core.seams import Runtime

if TYPE_CHECKING:
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


def __getattr__(name: str) -> object:
    """Import what reads files of all formats when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("skerry.runtimes.files"), name)
