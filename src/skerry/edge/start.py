"""What a gateway does first: serve what it served before."""

from __future__ import annotations

import logging

from skerry.core.errors import SkerryError, StorageError
from skerry.core.release import Reason, Refusal, ReleaseId
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
    it; the gateway's death during its probation is a strike against it. An accepted
    one is only held against its golden samples: a machine that is busy at the start
    is no reason not to serve. What cannot be loaded gives way to the standby slot.

    Returns:
        What went wrong, a sentence each.
    """
    troubles: list[str] = []
    for name in slots.names():
        try:
            await _start_name(name, engine, slots, now_ms, in_thread, troubles)
        except Exception as error:  # One bad release must not stop the others.
            log.exception("start.failed", extra={"release": name})
            troubles.append(f"{name}: {error}")
    return tuple(troubles)


async def _start_name(
    name: str,
    engine: Serving,
    slots: Slots,
    now_ms: int,
    in_thread: InThread,
    troubles: list[str],
) -> None:
    strikes = await _strike(name, slots, in_thread, troubles)
    trial = slots.facts(name).trial
    active, standby = slots.active(name), slots.standby(name)
    if active is None:
        return
    if trial is None:
        if await _load(without_limits(active), engine, in_thread, troubles) is None:
            return
        if standby is not None:
            # It is kept: the agent tries it again, as it tries any release.
            await in_thread(lambda: slots.roll_back(name, keep=True, refused=None))
            await _load(without_limits(standby), engine, in_thread, troubles)
        return
    refusal: Refusal | None = None
    if standby is not None:
        await _load(without_limits(standby), engine, in_thread, troubles)
    if strikes >= MOST_STRIKES:
        what = f"the gateway died {strikes} times while {active.id} was on probation"
        refusal = _refusal(active.id, Reason.PROBATION, what, now_ms)
        troubles.append(what)
    else:
        tried = active if standby is not None else without_limits(active)
        error = await _load(tried, engine, in_thread, troubles)
        if error is not None:
            refusal, _ = refusal_of(error, str(active.id), Step.LOAD, at_ms=now_ms)
    if refusal is not None:
        refused = Refused(refusal=refusal, rollout=trial.rollout)
        await in_thread(lambda: slots.roll_back(name, keep=False, refused=refused))


async def _strike(
    name: str, slots: Slots, in_thread: InThread, troubles: list[str]
) -> int:
    try:
        return await in_thread(slots.strike, name)
    except StorageError as error:
        troubles.append(error.what)
        return 0


async def _load(
    installed: Installed, engine: Serving, in_thread: InThread, troubles: list[str]
) -> Exception | None:
    try:
        engine.switch(await in_thread(engine.prepare, installed))
    except (SkerryError, OSError, MemoryError) as error:
        troubles.append(f"{installed.id} cannot be loaded: {error}")
        return error
    return None


def _refusal(release: ReleaseId, reason: Reason, what: str, at_ms: int) -> Refusal:
    return Refusal(release=str(release), reason=reason, what=what, at_ms=at_ms)
