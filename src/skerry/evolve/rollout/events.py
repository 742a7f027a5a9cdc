"""What the rollout machine is told, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.core.documents import Json
from skerry.core.fleet import Figures, RolloutState
from skerry.core.release import ReleaseId


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReported:
    """A device said how it is.

    Attributes:
        device: Its name.
        reported: The whole reported side of its shadow.
    """

    device: str
    reported: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredChangedElsewhere:
    """Somebody else has changed which release a device should run.

    Attributes:
        device: Its name.
    """

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed.

    Attributes:
        away: Devices that cannot answer now and need not: their window is closed, or
            they are offline in a rollout that waits for them.
        others: Figures of devices that are not updated yet, where a gate asks for them.
    """

    away: frozenset[str] = frozenset()
    others: Sequence[Figures] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A device has come that the rollout is for, too.

    Attributes:
        device: Its name.
        previous: What undoing goes back to.
        zone: Its time zone, or empty.
    """

    device: str
    previous: ReleaseId | None = None
    zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A person wants nothing sent until further notice.

    Attributes:
        by: Who.
    """

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """A person wants a paused rollout to go on.

    Attributes:
        by: Who.
    """

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """A person lets the next wave begin.

    Attributes:
        by: Who.
    """

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A person wants no more devices updated.

    Attributes:
        by: Who.
    """

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """A person wants each device back at what it ran before.

    Attributes:
        by: Who.
    """

    by: str


Order = Pause | Resume | Approve | Stop | Undo
"""What a person asks for."""

Event = DeviceReported | DesiredChangedElsewhere | Tick | Joined | Order


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDesired:
    """Change what a device should run.

    Attributes:
        device: Its name.
        release: What it should run, or None to take the name out of its shadow.
        attempt: How often it was told this, from 1 up.
    """

    device: str
    release: ReleaseId | None
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The rollout has come to rest.

    Attributes:
        state: How it ended.
    """

    state: RolloutState


Action = SetDesired | Finish
