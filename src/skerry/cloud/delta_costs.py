"""What it costs to bring a fleet to a release, by what its devices run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from skerry.cloud.deltas import Deltas
from skerry.core.fleet import Shadow
from skerry.core.release import ANY_TARGET, NOTHING, Manifest, ReleaseId, ReleaseModel
from skerry.evolve.rollout.observe import release_in
from skerry.evolve.ways import WayCost, way_bytes


async def costs_of(
    release: ReleaseId, deltas: Deltas, *, make: bool = False
) -> tuple[WayCost, ...]:
    """Say what each earlier version's devices cost, target by target.

    Args:
        release: What they are brought to.
        deltas: The ways there.
        make: Whether to have the direct deltas made that there are not yet.

    Raises:
        UsageError: There is no such release.
    """
    goal = await deltas.releases.get(release)
    earlier = [
        one
        for one in await deltas.releases.list()
        if one.name == release.name and one.version < release.version
    ]
    runs = Counter(
        (runs_it.version, model.target)
        for shadow in await deltas.shadows.list()
        if (runs_it := release_in(shadow.reported, release.name))
        and (model := goal.model_for(_target_of(shadow)))
    )
    costs = _Costs(deltas, [goal, *earlier], runs)
    found = []
    for before in sorted(earlier, key=lambda one: one.version):
        for model in goal.models:
            old = before.model_for(model.target)
            if old is None:
                continue
            if make and old.blob != model.blob:
                deltas.order((old.blob.sha256, model.blob.sha256))
                deltas.order((NOTHING.sha256, model.blob.sha256))
            found.append(await costs.cost(before.version, old, model))
    return tuple(found)


def _target_of(shadow: Shadow) -> str:
    agent = shadow.reported.get("agent")
    target = agent.get("target") if isinstance(agent, dict) else None
    return target if isinstance(target, str) else ANY_TARGET


class _Costs:
    def __init__(
        self,
        deltas: Deltas,
        manifests: Sequence[Manifest],
        runs: Mapping[tuple[int, str], int],
    ) -> None:
        self._deltas = deltas
        self._runs = runs
        self._versions = {
            model.blob.sha256: manifest.version
            for manifest in manifests
            for model in manifest.models
        }

    async def cost(self, version: int, old: ReleaseModel, new: ReleaseModel) -> WayCost:
        devices = self._runs.get((version, new.target), 0)
        known = WayCost(
            version=version,
            target=new.target,
            devices=devices,
            full_bytes=new.blob.size_bytes,
        )
        if old.blob == new.blob:
            return replace(known, full_bytes=0)
        deltas, pair = self._deltas, (old.blob.sha256, new.blob.sha256)
        hops = deltas.hops()
        direct = [hop for hop in hops if (hop.origin, hop.result.sha256) == pair]
        others = [hop for hop in hops if hop not in direct]
        through = await deltas.cheapest(*pair, others)
        packed = deltas.packed.pairs.get((NOTHING.sha256, new.blob.sha256), NOTHING)
        return replace(
            known,
            packed_bytes=packed.size_bytes or None,
            direct=deltas.state(pair),
            direct_bytes=direct[0].delta.size_bytes if direct else None,
            through=tuple(self._versions[hop.result.sha256] for hop in through[:-1]),
            through_bytes=way_bytes(through) if through else None,
        )
