"""What the fleet's acts share: the processes, the hub's API, the load, the story."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skerry.app.demo.fleet import Fleet, HubPlace
from skerry.app.demo.infer import Client
from skerry.app.demo.load import Load
from skerry.app.demo.timeline import Mark
from skerry.app.demo.workshop import OUTPUT, Made, Workshop
from skerry.app.hub_api import HubApi
from skerry.app.publish.publisher import Bundle, Publisher
from skerry.core.clock import Clock
from skerry.core.errors import StateError
from skerry.core.fleet import Gate, Rollout, RolloutState, Shadow
from skerry.core.release import ReleaseId

GATEWAYS = ("gateway-1", "gateway-2", "gateway-3")
CANARY_FIRST = (GATEWAYS[:1], GATEWAYS[1:])
"""The usual waves: one gateway, then the others."""

POLL_S = 0.05
ROLLOUT_TIMEOUT_S = 60.0
GATE = Gate(timeout_s=45.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A gateway's refusal, as its shadow tells it.

    Attributes:
        release: `NAME/VERSION`.
        gateway: Who refused.
        reason: Which kind, a value of `skerry.core.release.Reason`.
        what: One sentence: what, got, expected.
        measured: The figure that broke the budget, or None.
        allowed: What the budget allows, or None.
        fault: What was done to it, for people.
        rollout: What became of the rollout, or empty where there was none.
    """

    release: str
    gateway: str
    reason: str
    what: str
    measured: float | None
    allowed: float | None
    fault: str
    rollout: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """The fleet on stage.

    Attributes:
        folder: Of the demo.
        fleet: Its processes.
        hub: Where the hub is.
        api: The hub's API, as an operator.
        publisher: Who holds the keys.
        workshop: Where releases are made.
        load: What asks the gateways all the time.
        addresses: Where the gateways answer.
        talk: Says a line.
        clock: What is waited by.
        marks: What happened, for the timeline.
        refused: Every refusal so far.
    """

    folder: Path
    fleet: Fleet
    hub: HubPlace
    api: HubApi
    publisher: Publisher
    workshop: Workshop
    load: Load
    addresses: dict[str, str]
    talk: Callable[[str], None]
    clock: Clock
    marks: list[Mark] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Say a line of the act under way."""
        self.talk(f"   {line}")

    def mark(
        self, kind: Literal["swap", "fault", "refusal", "field"], what: str
    ) -> None:
        """Mark a moment on the timeline."""
        self.marks.append(Mark(at_s=self.load.now_s(), what=what, kind=kind))

    def client(self, gateway: str) -> Client:
        """Make a connection for inferences by the meter reader."""
        return Client(self.addresses[gateway], model=Workshop.NAME, output=OUTPUT)

    async def publish(self, made: Made, *, deltas_from: Sequence[Made] = ()) -> Bundle:
        """Sign a release and give it to the hub."""
        bundle = self.publisher.release(
            made.manifest,
            made.blobs,
            deltas_from={one.blob: one.content for one in deltas_from},
        )
        await self.api.publish(bundle)
        return bundle

    async def roll_out(
        self,
        release: ReleaseId,
        waves: Sequence[Sequence[str]] = CANARY_FIRST,
    ) -> Rollout:
        """Start a rollout that stops where a gate does not hold; return at once."""
        return await self.api.create_rollout(
            release,
            waves=[list(wave) for wave in waves],
            gate=GATE,
            on_failure="stop",
        )

    async def wait_rollout(self, rollout: Rollout, *wanted: RolloutState) -> Rollout:
        """Wait until a rollout has ended.

        Raises:
            StateError: It did not end in time, or not as it should.
        """
        ended = rollout

        async def has_ended() -> bool:
            nonlocal ended
            ended = await self.api.rollout(rollout.id)
            return not ended.state.is_under_way

        await self.until(has_ended, f"the rollout of {rollout.release} to end")
        if ended.state not in wanted:
            states = ", ".join(f"{d} {p.outcome}" for d, p in ended.progress.items())
            raise StateError(
                f"the rollout of {ended.release} is {ended.state}, expected "
                f"{' or '.join(wanted)}: {ended.reason or states}",
                hint=f"Look at {self.fleet.folder}/*.log.",
            )
        return ended

    async def undo(self, stopped: Rollout) -> None:
        """Take who was updated back, and wait until they are."""
        undoing = await self.api.undo_rollout(stopped.id)
        await self.wait_rollout(undoing, RolloutState.UNDONE)

    async def until(
        self,
        holds: Callable[[], Awaitable[bool]],
        what: str,
        *,
        timeout_s: float = ROLLOUT_TIMEOUT_S,
        poll_s: float = POLL_S,
    ) -> None:
        """Wait until something holds.

        Args:
            holds: Asked again and again; awaited.
            what: What is waited for, for the message.
            timeout_s: How long.
            poll_s: How long from asking to asking.

        Raises:
            StateError: It did not happen in time.
        """
        until_s = self.clock.wall_s() + timeout_s
        while not await holds():
            if self.clock.wall_s() > until_s:
                raise StateError(
                    f"waited {timeout_s:.0f} s in vain for {what}",
                    hint=f"Look at {self.fleet.folder}/*.log.",
                )
            await self.clock.sleep(poll_s)

    async def refusal(
        self, gateway: str, release: ReleaseId, *, fault: str, ended: Rollout | None
    ) -> Refused:
        """Wait for a gateway's refusal in its shadow, keep it, and say it.

        Raises:
            StateError: It does not come.
        """
        found: dict[str, Any] = {}

        async def is_there() -> bool:
            found.clear()
            found.update(_part(await self.api.shadow(gateway), "refused", release.name))
            return found.get("release") == str(release)

        await self.until(is_there, f"{gateway} to refuse {release}", timeout_s=30)
        refused = Refused(
            release=str(release),
            gateway=gateway,
            reason=str(found["reason"]),
            what=str(found["what"]),
            measured=found.get("measured"),
            allowed=found.get("allowed"),
            fault=fault,
            rollout=_tell(ended) if ended else "",
        )
        self.refused.append(refused)
        self.mark("refusal", f"{gateway} refuses {release}: {refused.reason}")
        self.say(f"{fault}: {gateway} refuses {release}: {refused.reason}")
        self.say(f"  {refused.what}")
        if refused.rollout:
            self.say(f"  {refused.rollout}")
        return refused

    async def phase(self, gateway: str, release: ReleaseId) -> str:
        """What a gateway reports that it does for a release; empty for nothing."""
        found = _part(await self.api.shadow(gateway), "update", release.name)
        return str(found["phase"]) if found.get("version") == release.version else ""

    async def running(self, gateway: str, name: str) -> tuple[int, bool]:
        """The version that a gateway reports, 0 for none, and if it is on probation."""
        found = _part(await self.api.shadow(gateway), "releases", name)
        return int(found.get("version") or 0), bool(found.get("probation"))


def _part(shadow: Shadow, key: str, name: str) -> dict[str, Any]:
    part = shadow.reported.get(key)
    found = part.get(name) if isinstance(part, dict) else None
    return found if isinstance(found, dict) else {}


def _tell(ended: Rollout) -> str:
    counts: dict[str, int] = {}
    for progress in ended.progress.values():
        counts[progress.outcome.value] = counts.get(progress.outcome.value, 0) + 1
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    return f"the rollout has {ended.state.value} by itself: {said}"
