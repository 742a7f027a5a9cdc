"""Run a model: one file a runtime, one Protocol for all."""

from __future__ import annotations

from typing import cast

from skerry.core.plugins import RUNTIMES, find
from skerry.core.seams import Runtime


def get_runtime(name: str) -> Runtime:
    """Find a runtime by name."""
    return cast("Runtime", find(RUNTIMES, name)())
