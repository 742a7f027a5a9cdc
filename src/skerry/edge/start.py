"""What a gateway does first: serve what it served before."""

from __future__ import annotations

import logging

from skerry.core.errors import SkerryError, StorageError
from skerry.core.release import Reason, Refusal
from skerry.edge.installed import Installed
from skerry.edge.slots import MOST_STRIKES, Slots
from skerry.edge.update_steps import InThread, Serving, refusal_of, without_limits
from skerry.evolve.update_state import Refused, Step

log = logging.getLogger(__name__)


async def start_serving(
    engine: Serving, slots: Slots, *, now_ms: int, in_thread: InThread
) -> tuple[str, ...]:
    """Load the active release of each name; no network is needed.

    A release on trial is checked again in full, with the one before it loaded behind
    it; the gateway's death during its probation is a strike against it, unless there is
    no other. An accepted one is only held against its golden samples: a machine that is
    busy at the start is no reason not to serve. What cannot be loaded gives way to the
    standby slot.

    Returns:
        What went wrong, a sentence each.
    """
    start = _Start(engine, slots, now_ms, in_thread)
    for name in slots.names():
        try:
            await start.serve(name)
        except Exception as error:  # One bad release must not stop the others.
            log.exception("start.failed", extra={"release": name})
            start.troubles.append(f"{name}: {error}")
    return tuple(start.troubles)


class _Start:
    def __init__(
        self, engine: Serving, slots: Slots, now_ms: int, in_thread: InThread
    ) -> None:
        self._engine = engine
        self._slots = slots
        self._now_ms = now_ms
        self._in_thread = in_thread
        self.troubles: list[str] = []

    async def serve(self, name: str) -> None:
        slots = self._slots
        strikes = await self._strike(name)
        trial = slots.facts(name).trial
        active, standby = slots.active(name), slots.standby(name)
        if active is not None and trial is not None:
            await self._serve_trial(active, standby, trial.rollout, strikes)
        elif active is not None:
            failed = await self._load(without_limits(active))
            if failed is not None and standby is not None:
                # It is kept: the agent tries it again, as it tries any release.
                await self._roll_back(name, keep=True, refused=None)
                await self._load(without_limits(standby))

    async def _serve_trial(
        self, active: Installed, standby: Installed | None, rollout: str, strikes: int
    ) -> None:
        if standby is None:
            # Nothing to go back to: one that may fail is better than none.
            await self._load(without_limits(active))
            return
        await self._load(without_limits(standby))
        if strikes >= MOST_STRIKES:
            refusal = Refusal(
                release=str(active.id),
                reason=Reason.PROBATION,
                what=f"the gateway died {strikes} times while {active.id} was on "
                f"probation",
                at_ms=self._now_ms,
            )
            self.troubles.append(refusal.what)
        else:
            failed = await self._load(active)
            if failed is None:
                return
            refusal, _ = refusal_of(
                failed, str(active.id), Step.LOAD, at_ms=self._now_ms
            )
        refused = Refused(refusal=refusal, rollout=rollout)
        await self._roll_back(active.id.name, keep=False, refused=refused)

    async def _roll_back(
        self, name: str, *, keep: bool, refused: Refused | None
    ) -> None:
        roll_back = self._slots.roll_back
        try:
            await self._in_thread(lambda: roll_back(name, keep=keep, refused=refused))
        except StorageError as error:
            self.troubles.append(error.what)

    async def _strike(self, name: str) -> int:
        try:
            return await self._in_thread(self._slots.strike, name)
        except StorageError as error:
            self.troubles.append(error.what)
            return 0

    async def _load(self, installed: Installed) -> Exception | None:
        try:
            prepared = await self._in_thread(self._engine.prepare, installed)
        except (SkerryError, OSError, MemoryError) as error:
            self.troubles.append(f"{installed.id} cannot be loaded: {error}")
            return error
        self._engine.switch(prepared)
        return None
