"""Parts that are found by name: our own and those of third parties, alike.

A part is registered as a Python entry point in one of the groups below; a package
that declares `[project.entry-points."skerry.runtimes"] mine = "pkg.module:Class"` adds
a runtime called `mine`. Skerry's own parts are registered the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from skerry.core.errors import StateError, UsageError
from skerry.core.names import did_you_mean

IMPORTERS = "skerry.importers"
RUNTIMES = "skerry.runtimes"
STEPS = "skerry.steps"
TRAIN_STEPS = "skerry.train_steps"


def names(group: str) -> list[str]:
    """The names registered in a group, sorted; nothing is imported."""
    return sorted({point.name for point in entry_points(group=group)})


def find(group: str, name: str) -> Callable[..., Any]:
    """Import the part registered under a name.

    Args:
        group: `IMPORTERS`, `RUNTIMES`, `STEPS` or `TRAIN_STEPS`.
        name: What the user calls it.

    Returns:
        The class or function registered; the caller knows its Protocol.

    Raises:
        UsageError: No part of that name is registered.
        StateError: The part is registered but cannot be imported.
    """
    kind = group.rpartition(".")[2].removesuffix("s").replace("_", " ")
    for point in entry_points(group=group, name=name):
        try:
            part: Callable[..., Any] = point.load()
        except (ImportError, AttributeError) as error:
            raise StateError(
                f"the {kind} {name!r} cannot be imported from {point.value}: {error}",
                hint="Install its package again, or remove it.",
            ) from error
        return part
    raise UsageError(
        f"there is no {kind} called {name!r}", hint=did_you_mean(name, names(group))
    )
