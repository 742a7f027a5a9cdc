"""Probation without an agent: what was switched to last settles or is rolled back."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Protocol

from skerry.core.clock import Clock
from skerry.core.release import ReleaseId
from skerry.edge.installed import Installed
from skerry.edge.serving_figures import ServingFigures
from skerry.evolve.probation import ProbationLimits, judge

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""How often the figures are looked at, in seconds."""


class ProbationEnd(StrEnum):
    """How a probation ended."""

    SETTLED = "settled"
    """It stays, and what served before is let go."""
    ROLLED_BACK = "rolled-back"
    """What served before serves again."""
    OVERTAKEN = "overtaken"
    """Something else was switched to, settled or removed meanwhile."""


class Served(Protocol):
    """What probation needs of the engine."""

    def active(self, name: str) -> Installed | None:
        """What was switched to last."""
        ...

    def figures(self, name: str) -> ServingFigures:
        """How it has served since."""
        ...

    def roll_back(self, name: str) -> ReleaseId | None:
        """Let what served before serve again."""
        ...

    def settle(self, name: str) -> None:
        """Let go of what served before."""
        ...


async def watch(
    engine: Served,
    name: str,
    *,
    clock: Clock,
    probation_s: float,
    limits: ProbationLimits,
) -> ProbationEnd:
    """Watch what was switched to last, until its probation is over.

    A release that took no other's place is never taken back: one that fails now and
    then is better than none.

    Args:
        engine: What serves.
        name: The release's name.
        clock: Says when it is over.
        probation_s: How long it serves before it is accepted.
        limits: What it may do until then.
    """
    watched = engine.active(name)
    until_s = clock.wall_s() + probation_s
    while watched is not None:
        left_s = until_s - clock.wall_s()
        await clock.sleep(max(0.0, min(LOOK_S, left_s)))
        if engine.active(name) is not watched:
            break
        figures = engine.figures(name)
        if figures.before is None and left_s > 0:
            continue
        wrong = judge(figures.on_probation, limits) if figures.before else ""
        if wrong:
            log.warning(
                "probation.failed", extra={"release": str(watched.id), "why": wrong}
            )
            engine.roll_back(name)
            return ProbationEnd.ROLLED_BACK
        if left_s <= 0:
            engine.settle(name)
            return ProbationEnd.SETTLED
    return ProbationEnd.OVERTAKEN
