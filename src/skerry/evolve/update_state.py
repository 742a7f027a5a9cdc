"""What the update machine is told, knows and answers: its steps, events and actions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from skerry.core.documents import Json
from skerry.core.fleet import Window
from skerry.core.release import AGENT_LEVEL, ANY_TARGET, Blob, Manifest, Refusal
from skerry.core.schemas import Schemas
from skerry.evolve.probation import Figures, ProbationLimits
from skerry.evolve.ways import Way


class Step(StrEnum):
    """What the agent can be asked to do."""

    REFRESH = "refresh"
    """Bring the signed metadata up to date."""
    MANIFEST = "manifest"
    """Fetch the manifest, and look which ways lead to its model."""
    BLOBS = "blobs"
    """Download what is not here already."""
    REBUILD = "rebuild"
    """Make the model from its deltas, and check every hash."""
    INSTALL = "install"
    """Write the files into the standby slot."""
    LOAD = "load"
    """Load it beside the running one, and check it."""
    SWITCH = "switch"
    """Let it serve, on probation."""
    SETTLE = "settle"
    """Probation is over: it stays."""
    ROLL_BACK = "roll-back"
    """Let the standby slot's release serve again."""


class Phase(StrEnum):
    """Where an update stands, as it is reported."""

    IDLE = "idle"
    FETCHING = "fetching"
    DOWNLOADING = "downloading"
    CHECKING = "checking"
    SWITCHING = "switching"
    PROBATION = "probation"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePolicy:
    """What a device can run, and how patient it is.

    Attributes:
        target: The device's target.
        level: The newest manifests that its agent understands.
        runtimes: What it has installed, or None where only loading will tell.
        abi: What machine its libraries of operators are for, or None where only
            loading will tell.
        probation_s: How long a release serves before it is accepted for good.
        limits: What it may do until then.
        backoff_s: The first wait after a failure that may pass; it doubles.
        longest_wait_s: The longest wait.
        attempts: How often a failure that nobody foresaw is tried again.
        zone: The time zone of the place where it stands.
    """

    target: str = ANY_TARGET
    level: int = AGENT_LEVEL
    runtimes: frozenset[str] | None = None
    abi: str | None = None
    probation_s: float = 5.0
    limits: ProbationLimits = field(default_factory=ProbationLimits)
    backoff_s: float = 1.0
    longest_wait_s: float = 300.0
    attempts: int = 3
    zone: dt.tzinfo = dt.UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A version of the release, and the rollout that asks for it.

    Attributes:
        version: Of the release.
        rollout: What asks for it.
        attempt: How often it has asked; a device that waits tries again at once.
        window: When it may be updated to, or None for at any time.
        zone: The window's time zone, or None for the device's own.
    """

    version: int
    rollout: str
    attempt: int = 1
    window: Window | None = None
    zone: dt.tzinfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A final refusal, and the rollout that asked for what was refused."""

    refusal: Refusal
    rollout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is on the device's disk.

    Attributes:
        active: The version that serves, or None.
        standby: The version that served before it and is whole, or None.
        counter: The highest version ever accepted; 0 before the first.
        trial: What `active` is on probation for, or None.
        refused: What was refused for good and not asked for otherwise since, or None.
        spoken: The schemas in which what is active is served, or None.
    """

    active: int | None = None
    standby: int | None = None
    counter: int = 0
    trial: Want | None = None
    refused: Refused | None = None
    spoken: Schemas | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A signed manifest, and the ways that lead to its model.

    Attributes:
        manifest: What was signed.
        ways: Ways to the model of this device's target, each from a model that is on
            the device.
    """

    manifest: Manifest
    ways: tuple[Way, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What to download for a release.

    Attributes:
        manifest: The release's.
        blobs: What the release needs, by role.
        way: The deltas from which `model` is rebuilt; none, to fetch it in full.
    """

    manifest: Manifest
    blobs: Mapping[str, Blob]
    way: Way = ()


# Events.


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """Something is desired, or nothing any more."""

    want: Want | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The action with this number is done; `found` after `Step.MANIFEST`."""

    serial: int
    facts: Facts
    found: Found | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The action with this number failed, and changed nothing that serves.

    Attributes:
        serial: Which action.
        facts: What is on the disk now.
        refusal: Why.
        is_foreseen: Whether its reason is one that the agent knows; a failure that
            nobody foresaw is tried again a few times whatever its reason.
    """

    serial: int
    facts: Facts
    refusal: Refusal
    is_foreseen: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed; `figures` are those of the release on probation."""

    figures: Figures = field(default_factory=Figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """The agent has just started and this is what it found on the disk."""

    facts: Facts


Event = Desired | Done | Failed | Tick | Restarted


# Actions.


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Do this step; what was under way for this name is given up first.

    Attributes:
        step: What to do.
        serial: To be named in `Done` or `Failed`.
        want: What it is for.
        transfer: What to download, rebuild and install; None where nothing is.
        refused: For `ROLL_BACK`: what serves now and what is wrong with it, or None
            where its switch is only undone.
    """

    step: Step
    serial: int
    want: Want
    transfer: Transfer | None = None
    refused: Refused | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """Give up what is under way for this name: a download, never anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Keep a final refusal on the disk, or forget it."""

    refused: Refused | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Write a line into the device's log."""

    name: str
    fields: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the state says of itself has changed."""


Action = Run | Halt | Keep | Tell | Report


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateState:
    """All that the machine knows.

    Attributes:
        name: The release's name.
        policy: What the device can run, and how patient it is.
        facts: What is on the disk.
        desired: What should run, or None where nobody said.
        working: What the attempt under way is for, or None.
        phase: Where it stands.
        running: The step under way, or None.
        serial: The number of the latest action.
        attempt: Failures in a row.
        retry_at_ms: When it goes on by itself, or None.
        due: What is done then; None to begin again.
        cause: Why it waits, or why it rolls back; else None.
        refused: The final refusal of what is desired, or None.
        transfer: What is downloaded, or None.
        probation_until_ms: When probation ends, or None.
    """

    name: str
    policy: UpdatePolicy = field(default_factory=UpdatePolicy)
    facts: Facts = field(default_factory=Facts)
    desired: Want | None = None
    working: Want | None = None
    phase: Phase = Phase.IDLE
    running: Step | None = None
    serial: int = 0
    attempt: int = 0
    retry_at_ms: int | None = None
    due: Step | None = None
    cause: Refusal | None = None
    refused: Refused | None = None
    transfer: Transfer | None = None
    probation_until_ms: int | None = None

    @property
    def awaits_window(self) -> bool:
        """Whether it waits for its maintenance window to open, and for nothing else."""
        return self.phase is Phase.WAITING and self.cause is None

    @property
    def why(self) -> Refused | None:
        """Why what is desired does not run: the final refusal, or why it waits."""
        if self.refused is not None:
            return self.refused
        want = self.working or self.desired
        if self.cause is None or want is None or not self.cause.reason.is_passing:
            return None
        return Refused(refusal=self.cause, rollout=want.rollout)
