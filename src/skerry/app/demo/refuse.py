"""Act 4: five bad releases and a power cut, each under load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skerry.app.demo.stage import CANARY_FIRST, GATEWAYS, Refused, Stage
from skerry.app.demo.workshop import Made
from skerry.app.publish.publisher import Publisher
from skerry.app.simulate.throttle import CpuLimit
from skerry.core.durable import write_file, write_files
from skerry.core.errors import StateError
from skerry.core.fleet import RolloutState
from skerry.core.release import ReleaseId
from skerry.evolve.trust import Repository, public_key

CPU_SHARE = 0.3
LIMITED = GATEWAYS[2]
FORGED = GATEWAYS[1]
KILLED = GATEWAYS[1]
ROTTEN = GATEWAYS[0]
REPLAYED = GATEWAYS[2]
ENDED_BADLY = (RolloutState.STOPPED, RolloutState.UNDONE)


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
    trust = Trust(stage.fleet.folder / "hub")
    before = trust.files()
    await refuse_broken(stage, broken)
    await refuse_slow(stage, slow)
    await refuse_forged(stage, trust, good)
    await refuse_rotten(stage, good)
    await refuse_replayed(stage, trust, before, first)
    phase, converged_s = await kill_in_update(stage, good)
    stage.say(
        f"{KILLED} was killed (SIGKILL) while {phase} {good.id}; restarted, it runs "
        f"it {converged_s:.1f} s later"
    )
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
    stage.mark("fault", f"{broken.id}: broken by plain INT8 per tensor")
    rollout = await stage.roll_out(broken.id)
    ended = await stage.wait_rollout(rollout, *ENDED_BADLY)
    await stage.refusal(
        GATEWAYS[0], broken.id, fault="broken by plain INT8", ended=ended
    )


async def refuse_slow(stage: Stage, slow: Made) -> None:
    """A budget that holds on the bench, and not where 70 % of the CPU are taken."""
    await stage.publish(slow)
    pid = stage.fleet.pids()[LIMITED]
    stage.mark("fault", f"{LIMITED} is limited to {CPU_SHARE:.0%} of a CPU")
    with CpuLimit(pid, CPU_SHARE):
        rollout = await stage.roll_out(slow.id, [[name] for name in GATEWAYS])
        ended = await stage.wait_rollout(rollout, *ENDED_BADLY)
    accepted = [
        name
        for name, progress in ended.progress.items()
        if progress.previous is not None and name != LIMITED
    ]
    stage.say(f"{slow.id}: {', '.join(accepted)} accept it and are taken back")
    await stage.refusal(
        LIMITED, slow.id, fault=f"{CPU_SHARE:.0%} of a CPU", ended=ended
    )


async def refuse_forged(stage: Stage, trust: Trust, good: Made) -> None:
    """Who owns the hub signs a list of his own, and what is current with its key."""
    forged = ReleaseId(name=good.id.name, version=good.id.version + 1)
    forger = Publisher.create(
        stage.folder / "forger", hub_key=public_key(trust.online_key())
    )
    manifest = stage.workshop.renamed(good, forged.version)
    bundle = forger.release(manifest, good.blobs)
    for sha256, content in bundle.blobs.items():
        await stage.api.put_blob(sha256, content)
    before = trust.files()
    stage.mark("fault", f"{forged}: signed with an unknown key on a captured hub")
    trust.forge(bundle.metadata, tenant=forger.tenant, now_ms=stage.clock.unix_ms())
    await _want(stage, FORGED, forged)
    await stage.refusal(FORGED, forged, fault="signed by an unknown key", ended=None)
    trust.put_back(before)
    await _want(stage, FORGED, await _runs(stage, FORGED, good.id.name))


async def refuse_rotten(stage: Stage, good: Made) -> None:
    """One bit of the model flips on the hub's disk."""
    await stage.publish(good)
    blob = blob_file(stage.fleet.folder / "hub", good.blob)
    content = bytearray(good.content)
    content[len(content) // 2] ^= 1
    write_file(blob, bytes(content))
    stage.mark("fault", f"{good.id}: one bit of it flips on the hub's disk")
    ended = await stage.wait_rollout(await stage.roll_out(good.id), *ENDED_BADLY)
    await stage.refusal(ROTTEN, good.id, fault="one flipped bit", ended=ended)
    write_file(blob, good.content)


async def refuse_replayed(
    stage: Stage, trust: Trust, before: Mapping[str, bytes], first: Made
) -> None:
    """Signed lists of yesterday, and the wish for yesterday's release."""
    today = trust.files()
    stage.mark("fault", f"{first.id} and its signed lists are replayed")
    trust.put_back(before)
    was = await _runs(stage, REPLAYED, first.id.name)
    await _want(stage, REPLAYED, first.id)
    await stage.refusal(REPLAYED, first.id, fault="an older release", ended=None)
    trust.put_back(today)
    await _want(stage, REPLAYED, was)


async def kill_in_update(stage: Stage, good: Made) -> tuple[str, float]:
    """Cut the power of a gateway in the middle of an update; returns what it did."""
    waves = [[name] for name in (KILLED, *(g for g in GATEWAYS if g != KILLED))]
    rollout = await stage.roll_out(good.id, waves)
    phase = ""

    async def is_updating() -> bool:
        nonlocal phase
        phase = await stage.phase(KILLED, good.id)
        version, _ = await stage.running(KILLED, good.id.name)
        if version == good.id.version:
            raise StateError(
                f"{KILLED} was faster than the hand that was to cut its power",
                hint="Try again.",
            )
        return phase in {"fetching", "downloading", "checking"}

    await stage.until(is_updating, f"{KILLED} to begin its update")
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
