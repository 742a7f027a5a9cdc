"""Act 4: five bad releases and a power cut, each under load."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from skerry.app.demo.captured import CapturedHub
from skerry.app.demo.fleet import HUB
from skerry.app.demo.stage import GATEWAYS, Refused, Stage
from skerry.app.demo.workshop import Made, renumbered
from skerry.app.simulate.throttle import CpuLimit
from skerry.core.durable import write_file
from skerry.core.errors import StateError
from skerry.core.fleet import Outcome, RolloutState
from skerry.core.release import ReleaseId, write_manifest

CPU_SHARE = 0.3
SLOW_TRIES, SLOW_PAUSE_S = 4, 2.0
KILLED = GATEWAYS[1]
DECEIVED = GATEWAYS[1]
FORGED_VERSION = 99
LIMITED = REPLAYED = GATEWAYS[2]
KILLABLE = frozenset({"fetching", "downloading", "checking", "switching", "probation"})
"""Phases of an update that is under way: the new release has not been accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseFigures:
    """What came of act 4.

    Attributes:
        refused: Each refusal.
        killed: The gateway that was killed.
        killed_phase: What it was doing.
        killed_converged: Whether it runs what it should after its restart.
        converged_s: From its restart until then.
    """

    refused: tuple[Refused, ...]
    killed: str
    killed_phase: str
    killed_converged: bool
    converged_s: float


async def refuse(
    stage: Stage, *, broken: Made, slow: Made, good: Made, first: Made
) -> RefuseFigures:
    """Try each bad release; then deliver a good one through a power cut.

    Args:
        stage: The fleet.
        broken: A model that plain INT8 has broken.
        slow: Within its budget on the bench, not on a gateway with a third of a CPU.
        good: Nothing is wrong with it; its bytes rot on the hub for a while.
        first: What all ran before all this, to be replayed.
    """
    hub = CapturedHub(stage.fleet.folder / HUB)
    await refuse_broken(stage, broken)
    await refuse_slow(stage, slow)
    await refuse_rotten(stage, hub, good)
    phase, converged_s = await kill_in_update(stage, good)
    stage.say(
        f"{KILLED} is killed (SIGKILL) while {phase} {good.id}; restarted, it runs it "
        f"{converged_s:.1f} s later"
    )
    await refuse_forged_and_replayed(stage, hub, good, first)
    return RefuseFigures(
        refused=tuple(stage.refused),
        killed=KILLED,
        killed_phase=phase,
        killed_converged=True,
        converged_s=converged_s,
    )


async def refuse_broken(stage: Stage, broken: Made) -> None:
    """Act 2's model, broken by plain INT8; its golden samples are the source's."""
    await stage.publish(broken)
    stage.mark("fault", f"{broken.id}, broken by plain INT8 per tensor")
    rollout = await stage.roll_out(broken.id)
    ended = await stage.wait_rollout(rollout, RolloutState.STOPPED)
    await stage.refusal(
        GATEWAYS[0], broken.id, fault="broken by plain INT8", ended=ended
    )
    await stage.undo(ended)


async def refuse_slow(stage: Stage, slow: Made) -> None:
    """A budget that holds on the bench, and not where 70 % of a CPU are taken.

    Raises:
        StateError: The machine is so busy that healthy gateways are as slow.
    """
    await stage.publish(slow)
    stage.mark("fault", f"{LIMITED} is limited to {CPU_SHARE:.0%} of a CPU")
    pid = stage.fleet.pids()[LIMITED]
    for _ in range(SLOW_TRIES):
        with CpuLimit(pid, CPU_SHARE):
            rollout = await stage.roll_out(slow.id, [[name] for name in GATEWAYS])
            ended = await stage.wait_rollout(
                rollout, RolloutState.STOPPED, RolloutState.SUCCEEDED
            )
        outcomes = {name: ended.progress[name].outcome for name in GATEWAYS}
        healthy = {outcomes[name] for name in GATEWAYS if name != LIMITED}
        if healthy == {Outcome.UPDATED} and outcomes[LIMITED] is Outcome.REFUSED:
            break
        stage.say(f"this machine is too busy to tell {LIMITED} from the others: again")
        await stage.undo(ended)
        await stage.clock.sleep(SLOW_PAUSE_S)
    else:
        raise StateError(
            f"{slow.id} was judged alike by all gateways {SLOW_TRIES} times",
            hint="Run the demo on a machine that has less to do.",
        )
    await stage.refusal(
        LIMITED, slow.id, fault=f"{CPU_SHARE:.0%} of a CPU", ended=ended
    )
    await stage.undo(ended)
    stage.mark("swap", f"{slow.id} is undone on all gateways")


async def refuse_forged_and_replayed(
    stage: Stage, hub: CapturedHub, good: Made, first: Made
) -> None:
    """Who owns the hub signs a list of his own, and wishes for an old release.

    The hub goes down twice for it; the gateways serve on.
    """
    today = hub.files()
    manifest = renumbered(good, FORGED_VERSION)
    content = write_manifest(manifest)
    for sha256, part in {
        **good.blobs,
        hashlib.sha256(content).hexdigest(): content,
    }.items():
        await stage.api.blobs.put(sha256, part)
    stage.mark("fault", f"the hub is captured: {manifest.id}, signed by an unknown key")
    await _restart(stage, lambda: hub.forge(manifest, now_ms=stage.clock.unix_ms()))
    await _want(stage, DECEIVED, manifest.id, "forged")
    await stage.refusal(
        DECEIVED, manifest.id, fault="signed by an unknown key", ended=None
    )
    stage.mark("fault", f"{first.id} is replayed")
    await _want(stage, REPLAYED, first.id, "replayed")
    await stage.refusal(REPLAYED, first.id, fault="an older release", ended=None)
    await _restart(stage, lambda: hub.put(today))
    for gateway in (DECEIVED, REPLAYED):
        await _want(stage, gateway, good.id, "restored")


async def refuse_rotten(stage: Stage, hub: CapturedHub, good: Made) -> None:
    """One bit flips of the model on the hub's disk, and of the deltas that give it."""
    await stage.publish(good)

    async def is_at_rest() -> bool:
        costs = await stage.api.delta_costs(good.id)
        return all(cost.direct != "making" for cost in costs)

    await stage.until(is_at_rest, "the hub to make its deltas")
    paths = [hub.blob(good.blob), *hub.deltas(good.blob)]
    contents = {path: path.read_bytes() for path in paths}
    for path, content in contents.items():
        write_file(path, _with_a_flipped_bit(content))
    stage.mark("fault", f"one bit of {good.id} flips on the hub's disk")
    ended = await stage.wait_rollout(
        await stage.roll_out(good.id), RolloutState.STOPPED
    )
    await stage.refusal(GATEWAYS[0], good.id, fault="one flipped bit", ended=ended)
    await stage.undo(ended)
    for path, content in contents.items():
        write_file(path, content)


def _with_a_flipped_bit(content: bytes) -> bytes:
    rotten = bytearray(content)
    rotten[len(rotten) // 2] ^= 1
    return bytes(rotten)


async def kill_in_update(stage: Stage, good: Made) -> tuple[str, float]:
    """Cut the power of a gateway in the middle of an update.

    Returns:
        What it was doing, and how long after its restart it ran what it should.
    """
    others = [name for name in GATEWAYS if name != KILLED]
    rollout = await stage.roll_out(good.id, [[KILLED], others])
    phase = ""

    async def is_updating() -> bool:
        nonlocal phase
        phase = await stage.phase(KILLED, good.id)
        if await stage.running(KILLED, good.id.name) == (good.id.version, False):
            raise StateError(
                f"{KILLED} was quicker than the hand that was to cut its power",
                hint="Run the demo again.",
            )
        return phase in KILLABLE

    await stage.until(is_updating, f"{KILLED} to begin its update", poll_s=0.005)
    # Nobody answers without power: its load is held, milliseconds before.
    await stage.load.hold(KILLED)
    stage.fleet.kill(KILLED)
    stage.mark("fault", f"{KILLED} is killed while {phase} {good.id}")
    started_s = stage.clock.wall_s()
    await stage.fleet.start_gateway(KILLED, stage.hub)
    stage.load.begin(KILLED, stage.client(KILLED))

    async def has_converged() -> bool:
        return await stage.running(KILLED, good.id.name) == (good.id.version, False)

    await stage.until(has_converged, f"{KILLED} to converge")
    converged_s = stage.clock.wall_s() - started_s
    stage.mark("swap", f"{KILLED} has converged")
    await stage.wait_rollout(rollout, RolloutState.SUCCEEDED)
    stage.mark("swap", f"{good.id} runs on all gateways")
    return phase, converged_s


async def _restart(stage: Stage, change: Callable[[], None]) -> None:
    """Stop the hub, change what it keeps, start it; the gateways serve on."""
    await stage.fleet.end(HUB)
    change()
    await stage.fleet.start_hub()


async def _want(stage: Stage, gateway: str, release: ReleaseId, why: str) -> None:
    await stage.api.set_desired(
        gateway,
        {"releases": {release.name: {"version": release.version, "rollout": why}}},
    )
