"""Ways for devices that are behind: deltas that are signed, and those made here.

The publisher signs deltas from the version before. A device that runs another one asks
for a way; the hub joins what there is, and makes the direct delta, one at a time, in a
process of its own. Of what the fleet runs it makes deltas as soon as a release is
published. Nothing of it is signed: devices know what each delta must give.

Only models of releases are packed, and only with versions of the same name, so that
nobody can have more made than there are releases.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from skerry.cloud.blobs import Blobs
from skerry.cloud.packed import PackedDeltas, Pair
from skerry.cloud.packing import pack as pack_in_child
from skerry.cloud.releases import Releases
from skerry.cloud.served import Served
from skerry.cloud.shadows import Shadows
from skerry.core.clock import Clock
from skerry.core.durable import make_folder, storage_errors
from skerry.core.errors import SkerryError, StorageError, UsageError
from skerry.core.release import (
    ANY_TARGET,
    NOTHING,
    Blob,
    Manifest,
    delta_path,
    is_sha256,
)
from skerry.evolve.rollout.observe import release_in
from skerry.evolve.ways import (
    LEAST_BYTES,
    WORTHWHILE,
    Hop,
    Offer,
    Way,
    cheapest_way,
    way_bytes,
)

log = logging.getLogger(__name__)

LARGEST_PACKED_BYTES = 64 << 20
"""A larger model goes in full, or by deltas that the publisher has signed."""

MOST_QUEUED = 64
FIRST_GUESS_S, GUESSED_BYTES_PER_S = 1.0, 2e6
"""How long a delta takes, until one was made: so long, and by both models' size."""

Pack = Callable[[Path, Path], Awaitable[bytes]]
"""Makes the delta of two files; empty where none is worth it."""


class Deltas:
    """The ways between the models of a tenant's releases.

    Args:
        releases: What was published.
        blobs: Where its models are.
        shadows: What devices report.
        folder: The hub's; deltas that are made lie in it.
        tenant: Whose they are.
        clock: Says how long making one took.
        pack: Makes them.

    Attributes:
        packed: What was made.
        served: What devices may fetch: that, and the blobs.
        releases: What was published.
        shadows: What devices report.
    """

    def __init__(
        self,
        releases: Releases,
        blobs: Blobs,
        shadows: Shadows,
        folder: Path,
        *,
        tenant: str,
        clock: Clock,
        pack: Pack = pack_in_child,
    ) -> None:
        self.packed = PackedDeltas(folder)
        self.releases = releases
        self._blobs = blobs
        self.shadows = shadows
        self.served = Served(blobs, self.packed)
        self._tenant = tenant
        self._clock = clock
        self._pack = pack
        self._names: dict[str, set[str]] = defaultdict(set)
        self._models: dict[str, Blob] = {NOTHING.sha256: NOTHING}
        self._known: tuple[Mapping[str, Blob], Mapping[Pair, Blob]] = ({}, {})
        self._queue: list[Pair] = []
        self._has_queued = asyncio.Event()
        self._took_s: float | None = None
        releases.on_publish(self._take)

    async def start(self) -> None:
        """Read what was made, and what is released.

        Raises:
            StorageError: The disk or the database refused.
        """
        await self.packed.start()
        for manifest in await self.releases.list():
            self._learn(manifest)

    async def run(self) -> None:
        """Make for ever what was asked for, one delta at a time."""
        while True:
            await self._has_queued.wait()
            began_s = self._clock.wall_s()
            try:
                await self._make(self._queue[0])
            except SkerryError as error:
                log.warning("delta.not_made", extra={"what": error.what})
            took_s = self._clock.wall_s() - began_s
            before_s = took_s if self._took_s is None else self._took_s
            self._took_s = (before_s + took_s) / 2
            del self._queue[0]
            if not self._queue:
                self._has_queued.clear()

    async def ask(self, origin: str, goal: str) -> Offer:
        """Find the cheapest way for a device, and have a better one made.

        Args:
            origin: The hash of the model that it has.
            goal: The hash of the model that it wants.

        Raises:
            UsageError: They are not models of releases of one name.
        """
        known = self._names.get(origin, set()) & self._names.get(goal, set())
        if not known or origin == goal:
            raise UsageError(
                f"no releases of one name have the models {origin[:12]!r} and "
                f"{goal[:12]!r}",
                hint="Fetch the model in full.",
            )
        wait_s = self.order((origin, goal))
        way = await self.cheapest(origin, goal, self.hops())
        if way_bytes(way) >= WORTHWHILE * self._models[goal].size_bytes:
            way = ()
        return Offer(way=way, wait_s=wait_s)

    def state(self, pair: Pair) -> str:
        """What there is of a direct delta.

        Returns:
            `signed`, `made`, `none` where it is not worth it, `making`, or empty where
            nobody has asked for it.
        """
        if pair in self._signed:
            return "signed"
        made = self.packed.pairs.get(pair)
        if made is not None:
            return "made" if made.size_bytes else "none"
        return "making" if pair in self._queue else ""

    def order(self, pair: Pair) -> float | None:
        """Have a direct delta made, unless there is one.

        Returns:
            In how many seconds it may be there; None where it is, or will not be.
        """
        if self.state(pair) in {"signed", "made", "none"}:
            return None
        if pair not in self._queue:
            old_bytes, new_bytes = (self._models[one].size_bytes for one in pair)
            is_fit = LEAST_BYTES <= new_bytes <= LARGEST_PACKED_BYTES >= old_bytes
            if len(self._queue) >= MOST_QUEUED or not is_fit:
                return None
            self._queue.append(pair)
            self._has_queued.set()
        took_s = self._took_s
        if took_s is None:
            size_bytes = sum(self._models[one].size_bytes for one in pair)
            took_s = FIRST_GUESS_S + size_bytes / GUESSED_BYTES_PER_S
        return took_s * (self._queue.index(pair) + 1)

    def hops(self) -> list[Hop]:
        """All deltas between models, signed or made here."""
        found = {**self.packed.pairs, **self._signed}
        return [
            Hop(origin=origin, result=self._models[goal], delta=delta)
            for (origin, goal), delta in found.items()
            if delta.size_bytes and origin in self._names and goal in self._names
        ]

    async def cheapest(self, origin: str, goal: str, hops: Sequence[Hop]) -> Way:
        """The cheapest way of deltas that can be fetched."""
        left = list(hops)
        while way := cheapest_way(left, origin, goal):
            lost = [hop for hop in way if await self._is_lost(hop.delta)]
            if not lost:
                for hop in way:
                    self.packed.touch((hop.origin, hop.result.sha256))
                return way
            left = [hop for hop in left if hop not in lost]
        return ()

    @property
    def _signed(self) -> Mapping[Pair, Blob]:
        """The deltas that the publisher has signed."""
        listed, deltas = self._known
        if listed is not self.releases.listed:
            listed = self.releases.listed
            deltas = _deltas_in(listed, self._tenant)
            self._known = (listed, deltas)
        return deltas

    async def _is_lost(self, delta: Blob) -> bool:
        return await self.served.stat(delta.sha256) != delta.size_bytes

    async def _take(self, published: Sequence[Manifest]) -> None:
        """Have deltas made from what the fleet runs to what was published."""
        manifests = {one.id: one for one in await self.releases.list()}
        shadows = await self.shadows.list()
        for manifest in published:
            self._learn(manifest)
            runs = Counter(
                release_in(shadow.reported, manifest.name) for shadow in shadows
            )
            for release, _ in runs.most_common():
                before = manifests.get(release) if release else None
                for pair in _pairs(before, manifest) if before else ():
                    self.order(pair)

    def _learn(self, manifest: Manifest) -> None:
        for model in manifest.models:
            self._names[model.blob.sha256].add(manifest.name)
            self._models[model.blob.sha256] = model.blob

    async def _make(self, pair: Pair) -> None:
        work = self.packed.work
        await asyncio.to_thread(make_folder, work)
        with storage_errors(work), tempfile.TemporaryDirectory(dir=work) as folder:
            paths = [Path(folder) / name for name in ("old", "new")]
            try:
                for sha256, path in zip(pair, paths, strict=True):
                    await self._copy(sha256, path)
                delta = await self._pack(*paths)
            except StorageError:
                raise
            except SkerryError as error:
                # It would fail again; and who waits for it should wait no longer.
                log.warning("delta.failed", extra={"what": error.what})
                delta = b""
        await self.packed.add(pair, delta)
        log.info("delta.made", extra={"pair": pair, "size_bytes": len(delta)})

    async def _copy(self, sha256: str, path: Path) -> None:
        with path.open("wb") as file:
            if sha256 != NOTHING.sha256:
                async for piece in self._blobs.open(sha256):
                    await asyncio.to_thread(file.write, piece)


def _deltas_in(listed: Mapping[str, Blob], tenant: str) -> Mapping[Pair, Blob]:
    prefix = delta_path("", "", tenant=tenant).removesuffix("-")
    found = {}
    for path, blob in listed.items():
        origin, _, goal = path.removeprefix(prefix).partition("-")
        if path.startswith(prefix) and is_sha256(origin) and is_sha256(goal):
            found[origin, goal] = blob
    return found


def _pairs(before: Manifest, after: Manifest) -> list[Pair]:
    """The models of two versions that a device of one target goes from and to."""
    targets = {ANY_TARGET, *(one.target for one in (*before.models, *after.models))}
    pairs = []
    for target in sorted(targets):
        old, new = before.model_for(target), after.model_for(target)
        if old is not None and new is not None and old.blob != new.blob:
            pairs.append((old.blob.sha256, new.blob.sha256))
    return list(dict.fromkeys(pairs))
