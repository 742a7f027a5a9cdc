"""A fleet's members and what is known of them: device, shadow, rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from skerry.core.documents import Json
from skerry.core.release import ReleaseId

DEFAULT_TENANT = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A member of a fleet.

    Attributes:
        name: Its name, unique in its tenant.
        tenant: Whose it is.
        labels: What rollouts choose by.
        created_at_ms: When it was registered, milliseconds since 1970.
        enrolled_at_ms: When it got credentials of its own, or None.
        last_seen_ms: When it was last heard, or None.
        is_online: Whether its link stands, as far as the hub knows.
    """

    name: str
    tenant: str = DEFAULT_TENANT
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at_ms: int
    enrolled_at_ms: int | None = None
    last_seen_ms: int | None = None
    is_online: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """When a top-level key of a shadow last changed.

    Attributes:
        version: The shadow's version after that change.
        at_ms: When, milliseconds since 1970.
    """

    version: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """What a device should be, and what it said it is.

    Attributes:
        device: The device's name.
        tenant: Whose it is.
        version: Grows by one with each change of either side.
        desired: What it should be.
        reported: What it said it is.
        desired_stamps: When each top-level key of `desired` changed; a key that was
            removed keeps its stamp.
        reported_stamps: The same of `reported`.
    """

    device: str
    tenant: str = DEFAULT_TENANT
    version: int = 0
    desired: Mapping[str, Json] = field(default_factory=dict)
    reported: Mapping[str, Json] = field(default_factory=dict)
    desired_stamps: Mapping[str, Stamp] = field(default_factory=dict)
    reported_stamps: Mapping[str, Stamp] = field(default_factory=dict)


class RolloutState(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    """A gate did not hold or a person stopped it; who was updated stays so."""
    UNDOING = "undoing"
    UNDONE = "undone"
    """Each device that was told to update is back at what it ran before."""

    @property
    def is_under_way(self) -> bool:
        """Whether something is still to come by itself."""
        return self in {RolloutState.RUNNING, RolloutState.UNDOING}


class Outcome(StrEnum):
    """Where one device of a rollout stands."""

    WAITING = "waiting"
    """Its wave has not begun."""
    SENT = "sent"
    """Its shadow says so; it has not answered."""
    UPDATED = "updated"
    REFUSED = "refused"
    LATE = "late"
    """It did not answer in the gate's time."""
    UNDOING = "undoing"
    UNDONE = "undone"
    SUPERSEDED = "superseded"
    """Its shadow was changed by somebody else since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What must hold before the next wave.

    Attributes:
        success_ratio: Least fraction of a wave's devices that must be updated.
        timeout_s: How long a device may take to answer.
        soak_s: How long a wave must run before the next begins.
    """

    success_ratio: float = 1.0
    timeout_s: float = 600.0
    soak_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Devices that are updated together."""

    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProgress:
    """One device's part in a rollout.

    Attributes:
        outcome: Where it stands.
        since_ms: Since when.
        previous: What its shadow wanted before, or None; what undoing goes back to.
        reason: Why it refused or was late, or empty.
    """

    outcome: Outcome = Outcome.WAITING
    since_ms: int = 0
    previous: ReleaseId | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Staged delivery of a release.

    Attributes:
        id: Its name.
        tenant: Whose it is.
        release: What is delivered.
        waves: To whom, in this order.
        gate: What must hold after each wave.
        on_failure: What happens to the updated devices when a gate does not hold.
        state: Where it stands.
        wave: Index of the wave under way.
        progress: Each device's part.
        reason: Why it stopped, or empty.
        started_at_ms: When it began, milliseconds since 1970.
        finished_at_ms: When it ended, or None.
    """

    id: str
    tenant: str = DEFAULT_TENANT
    release: ReleaseId
    waves: tuple[Wave, ...]
    gate: Gate = field(default_factory=Gate)
    on_failure: Literal["stop", "undo"] = "undo"
    state: RolloutState = RolloutState.RUNNING
    wave: int = 0
    progress: Mapping[str, DeviceProgress] = field(default_factory=dict)
    reason: str = ""
    started_at_ms: int = 0
    finished_at_ms: int | None = None
