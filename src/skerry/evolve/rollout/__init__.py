"""Rollouts: who gets a release, in which waves, and what must hold to go on.

`plan` splits devices into waves, `machine` brings a rollout on, `gates` judges figures,
`observe` reads shadows; all of it is pure.
"""

from __future__ import annotations

from skerry.evolve.rollout.events import (
    Action,
    Approve,
    DesiredChangedElsewhere,
    DeviceReported,
    Event,
    Finish,
    Joined,
    Order,
    Pause,
    Resume,
    SetDesired,
    Stop,
    Tick,
    Undo,
)
from skerry.evolve.rollout.gates import parse_metric_gate
from skerry.evolve.rollout.labels import Query, parse_query
from skerry.evolve.rollout.machine import start, step, steps
from skerry.evolve.rollout.observe import (
    figures_of,
    is_changed_elsewhere,
    previous_release,
    release_in,
)
from skerry.evolve.rollout.plan import Stages, canary_waves, foreseen_refusal, split

__all__ = [
    "Action",
    "Approve",
    "DesiredChangedElsewhere",
    "DeviceReported",
    "Event",
    "Finish",
    "Joined",
    "Order",
    "Pause",
    "Query",
    "Resume",
    "SetDesired",
    "Stages",
    "Stop",
    "Tick",
    "Undo",
    "canary_waves",
    "figures_of",
    "foreseen_refusal",
    "is_changed_elsewhere",
    "parse_metric_gate",
    "parse_query",
    "previous_release",
    "release_in",
    "split",
    "start",
    "step",
    "steps",
]
