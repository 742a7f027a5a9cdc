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
        cloned_at_ms: When two gateways last spoke as this one, since it enrolled; None:
            never.
    """

    name: str
    tenant: str = DEFAULT_TENANT
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at_ms: int
    enrolled_at_ms: int | None = None
    last_seen_ms: int | None = None
    is_online: bool = False
    cloned_at_ms: int | None = None


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
    PAUSED = "paused"
    """A person paused it: nobody is told anything until it is resumed."""
    AWAITING = "awaiting"
    """The next wave waits for a person's approval."""
    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    """A gate did not hold or a person stopped it; who was updated stays so."""
    UNDOING = "undoing"
    UNDONE = "undone"
    """Each device that was told to update is back at what it ran before."""

    @property
    def is_going_on(self) -> bool:
        """Whether it may still update somebody."""
        return self in {
            RolloutState.RUNNING,
            RolloutState.PAUSED,
            RolloutState.AWAITING,
        }

    @property
    def is_under_way(self) -> bool:
        """Whether it has not come to rest."""
        return self.is_going_on or self is RolloutState.UNDOING


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
class MetricGate:
    """A limit on what the updated devices of a wave report.

    Attributes:
        metric: `latency_p50_ms`, `latency_p99_ms`, `error_rate` or any other number in
            `serving` of the release; `SECTION.METRIC` is one of another section.
        op: How the figure must lie to the limit.
        limit: In the metric's unit; a factor where it is relative.
        relative_to: The same devices before the update, devices that are not updated
            yet, or empty for an absolute limit.
    """

    metric: str
    op: Literal["<=", "<", ">=", ">"] = "<="
    limit: float
    relative_to: Literal["", "before", "others"] = ""

    def __str__(self) -> str:
        relative = f"*{self.relative_to}" if self.relative_to else ""
        return f"{self.metric}{self.op}{self.limit:g}{relative}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What must hold before the next wave.

    Attributes:
        success_ratio: Least fraction of a wave's devices that must be updated.
        timeout_s: How long a device may take to answer.
        soak_s: How long a wave must run before the next begins.
        retries: How often a device that does not answer in time is told again.
        waits_for_offline: Whether the time in which a device is offline does not count.
        metrics: What its devices' figures must hold when it has soaked.
        least_requests: Fewer requests than this, all devices together, prove nothing.
    """

    success_ratio: float = 1.0
    timeout_s: float = 600.0
    soak_s: float = 0.0
    retries: int = 0
    waits_for_offline: bool = False
    metrics: tuple[MetricGate, ...] = ()
    least_requests: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When devices may be updated, by the time of the place where each stands.

    Attributes:
        opens: `HH:MM`.
        closes: `HH:MM`; not after `opens`, it is on the next day.
        days: The days on which it opens, of `mon` to `sun`; each, where empty.
        allows_download: Whether only the switch waits for it, and no download.
        zone: The place's time zone, such as `Europe/Oslo`; empty is the device's own.
    """

    opens: str
    closes: str
    days: tuple[str, ...] = ()
    allows_download: bool = False
    zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Devices that are updated together."""

    devices: tuple[str, ...]


Figures = Mapping[str, float]
"""What a device reports of a release, by metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProgress:
    """One device's part in a rollout.

    Attributes:
        outcome: Where it stands.
        since_ms: Since when.
        previous: What its shadow wanted before, or None; what undoing goes back to.
        reason: Why it refused or was late, or empty.
        attempt: How often it was told to update.
        away_since_ms: Since when the time for its answer stands still, or None.
        zone: Its time zone, or empty where nobody said.
        before: Its figures before the update, as far as a gate asks for them.
        after: Those since, of the new release.
    """

    outcome: Outcome = Outcome.WAITING
    since_ms: int = 0
    previous: ReleaseId | None = None
    reason: str = ""
    attempt: int = 1
    away_since_ms: int | None = None
    zone: str = ""
    before: Figures = field(default_factory=dict)
    after: Figures = field(default_factory=dict)


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
        approval: Which waves wait for a person: none, the one after the first, or each
            but the first.
        window: When devices may be updated, or None for at any time.
        query: The labels of the devices it is for; None where they were named.
        is_dynamic: Whether devices that match the query later join the last wave.
        excluded: Devices that match and were left out, and why.
        state: Where it stands.
        wave: Index of the wave under way.
        approved: Index of the last wave that a person has approved.
        progress: Each device's part.
        reason: Why it stopped or waits, or empty.
        started_at_ms: When it began, milliseconds since 1970.
        finished_at_ms: When it ended, or None.
        revision: Grows by one with each change that is kept.
    """

    id: str
    tenant: str = DEFAULT_TENANT
    release: ReleaseId
    waves: tuple[Wave, ...]
    gate: Gate = field(default_factory=Gate)
    on_failure: Literal["stop", "undo"] = "undo"
    approval: Literal["none", "first", "each"] = "none"
    window: Window | None = None
    query: str | None = None
    is_dynamic: bool = False
    excluded: Mapping[str, str] = field(default_factory=dict)
    state: RolloutState = RolloutState.RUNNING
    wave: int = 0
    approved: int = 0
    progress: Mapping[str, DeviceProgress] = field(default_factory=dict)
    reason: str = ""
    started_at_ms: int = 0
    finished_at_ms: int | None = None
    revision: int = 0
