"""Deltas that the hub makes: for whom, in which order, within which bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from skerry.app.publish.publisher import Publisher
from skerry.cloud import deltas as deltas_module
from skerry.cloud.delta_costs import costs_of
from skerry.cloud.deltas import Deltas, Pack
from skerry.cloud.hub import Hub
from skerry.cloud.packed import PACKED_FOLDER, PackedDeltas
from skerry.cloud.packing import pack as pack_in_child
from skerry.cloud.packing import pack_files
from skerry.core.clock import FakeClock
from skerry.core.errors import DataError, UsageError, WorkerLostError
from skerry.core.messages import Up
from skerry.core.release import NOTHING, Blob, ReleaseId
from skerry.evolve.delta import patch
from skerry.evolve.ways import Offer, way_bytes
from tests.hubs import Wire, running_hub, wait_until
from tests.publishing import make_parts, make_publisher, publish

Story = Callable[[Hub], Awaitable[None]]


def model(version: int) -> bytes:
    """A model that changes by a thousand bytes from one version to the next."""
    content = np.random.default_rng(0).integers(0, 256, 70_000, np.uint8)
    for one in range(1, version):
        rng = np.random.default_rng(one)
        places = rng.integers(0, len(content), 1000)
        content[places] = rng.integers(0, 256, len(places))
    return content.tobytes()


def sha256_of(version: int) -> str:
    """The hash of its model."""
    return Blob.of(model(version)).sha256


async def in_thread(old: Path, new: Path) -> bytes:
    """Pack without a process."""
    return await asyncio.to_thread(pack_files, old, new)


def on_hub(folder: Path, story: Story, *, pack: Pack = in_thread) -> None:
    """Tell a story on a hub."""

    async def run() -> None:
        async with running_hub(folder, clock=FakeClock(), pack=pack) as (hub, _):
            await story(hub)

    asyncio.run(run())


async def release(
    hub: Hub, folder: Path, *versions: int, deltas: Mapping[int, tuple[int, ...]] = {}
) -> None:
    """Publish versions of the meter, with signed deltas from some others."""
    publisher = make_publisher(folder, hub)
    for version in versions:
        olds = {sha256_of(one): model(one) for one in deltas.get(version, ())}
        parts = make_parts(version, model=model(version))
        await publish(hub, publisher.release(*parts, deltas_from=olds))


async def settled(deltas: Deltas, origin: int, goal: int) -> Offer:
    """The offer, once all was made."""
    while True:
        offer = await deltas.ask(sha256_of(origin), sha256_of(goal))
        if offer.wait_s is None:
            return offer
        await asyncio.sleep(0.002)


def test_a_delta_is_made_for_who_asks(tmp_path: Path) -> None:
    """Once; it is served like any blob, and still there after a restart."""
    made: list[Path] = []

    async def counted(old: Path, new: Path) -> bytes:
        made.append(old)
        return await in_thread(old, new)

    async def first(hub: Hub) -> None:
        await release(hub, tmp_path, 1, 2, 3)
        offer = await hub.deltas.ask(sha256_of(1), sha256_of(3))
        assert offer.way == ()
        assert offer.wait_s == pytest.approx(
            deltas_module.FIRST_GUESS_S
            + (len(model(1)) + len(model(3))) / deltas_module.GUESSED_BYTES_PER_S
        )
        (hop,) = (await settled(hub.deltas, 1, 3)).way
        content = b"".join([one async for one in hub.served.open(hop.delta.sha256)])
        assert Blob.of(content) == hop.delta
        assert patch(model(1), content, largest_bytes=70_000) == model(3)

    async def second(hub: Hub) -> None:
        offer = await hub.deltas.ask(sha256_of(1), sha256_of(3))
        assert offer.wait_s is None
        assert await hub.served.stat(offer.way[0].delta.sha256)

    on_hub(tmp_path / "hub", first, pack=counted)
    on_hub(tmp_path / "hub", second, pack=counted)
    assert len(made) == 1


def test_a_chain_is_offered_until_the_direct_delta_is_there(tmp_path: Path) -> None:
    """Then whichever costs less."""

    async def story(hub: Hub) -> None:
        await release(hub, tmp_path, 1, 2, 3, deltas={2: (1,), 3: (2,)})
        offer = await hub.deltas.ask(sha256_of(1), sha256_of(3))
        assert [hop.result.sha256 for hop in offer.way] == [sha256_of(2), sha256_of(3)]
        assert offer.wait_s is not None
        direct = await settled(hub.deltas, 1, 3)
        assert len(direct.way) == 1
        assert way_bytes(direct.way) < way_bytes(offer.way)
        signed = await hub.deltas.ask(sha256_of(1), sha256_of(2))
        assert (len(signed.way), signed.wait_s) == (1, None)

    on_hub(tmp_path / "hub", story)


def test_what_the_hub_has_lost_is_no_part_of_a_way(tmp_path: Path) -> None:
    """Whoever signed it."""

    async def story(hub: Hub) -> None:
        await release(hub, tmp_path, 1, 2, deltas={2: (1,)})
        (hop,) = (await hub.deltas.ask(sha256_of(1), sha256_of(2))).way
        hub.blobs.path(hop.delta.sha256).unlink()
        assert (await hub.deltas.ask(sha256_of(1), sha256_of(2))).way == ()

    on_hub(tmp_path / "hub", story)


def test_nobody_has_anything_packed_but_models_of_one_name(tmp_path: Path) -> None:
    """Nor a delta from a model to itself, or from nothing."""

    async def story(hub: Hub) -> None:
        await release(hub, tmp_path, 1)
        known = sha256_of(1)
        for origin, goal in (
            (known, known),
            (known, "f" * 64),
            ("../hub", known),
            (NOTHING.sha256, known),
            (known, Blob.of(b"golden samples").sha256),
        ):
            with pytest.raises(UsageError, match="no releases of one name"):
                await hub.deltas.ask(origin, goal)

    on_hub(tmp_path / "hub", story)


def test_what_fails_or_is_not_worth_it_is_not_tried_again(tmp_path: Path) -> None:
    """Who waited for it waits no longer, also after a restart."""
    made: list[Path] = []

    async def failing(old: Path, _new: Path) -> bytes:
        made.append(old)
        if len(made) == 1:
            return b""
        raise WorkerLostError("it died", hint="")

    async def story(hub: Hub) -> None:
        await release(hub, tmp_path, 1, 2, 3)
        for origin in (1, 2):
            assert (await settled(hub.deltas, origin, 3)).way == ()
        pair = sha256_of(1), sha256_of(3)
        assert hub.deltas.state(pair) == "none"

    async def again(hub: Hub) -> None:
        assert hub.deltas.order((sha256_of(2), sha256_of(3))) is None

    on_hub(tmp_path / "hub", story, pack=failing)
    on_hub(tmp_path / "hub", again, pack=failing)
    assert len(made) == 2
    assert not (tmp_path / "hub" / PACKED_FOLDER / "work").exists()


def test_the_queue_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes later is told how long, or to take the model in full."""
    monkeypatch.setattr(deltas_module, "MOST_QUEUED", 2)

    async def stuck(_old: Path, _new: Path) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def story(hub: Hub) -> None:
        await release(hub, tmp_path, 1, 2, 3, 4)
        goal = sha256_of(4)
        first, second = [
            (await hub.deltas.ask(sha256_of(one), goal)).wait_s for one in (1, 2)
        ]
        assert first is not None
        assert second == pytest.approx(2 * first)
        assert (await hub.deltas.ask(sha256_of(3), goal)).wait_s is None
        assert hub.deltas.state((sha256_of(1), goal)) == "making"

    on_hub(tmp_path / "hub", story, pack=stuck)


def test_deltas_from_what_the_fleet_runs_are_made_at_once(tmp_path: Path) -> None:
    """When a release is published; from other versions only for who asks."""

    async def run() -> None:
        folder = tmp_path / "hub"
        async with running_hub(folder, "gw", pack=in_thread) as (hub, broker):
            await release(hub, tmp_path, 1, 2)
            wire = await Wire(broker, "gw").join()
            patch_of = {"releases": {"meter": {"version": 1}}}
            await wire.send(Up.REPORTED, {"patch": patch_of}, seq=1)
            await wire.wait_for("ack", seq=1)
            parts = make_parts(3, model=model(3))
            publisher = Publisher.open(tmp_path / "publisher", clock=hub.clock)
            await publish(hub, publisher.release(*parts))
            pairs = hub.deltas.packed.pairs
            await wait_until(lambda: (sha256_of(1), sha256_of(3)) in pairs)
            assert hub.deltas.state((sha256_of(2), sha256_of(3))) == ""

    asyncio.run(run())


def test_a_table_says_what_each_version_costs(tmp_path: Path) -> None:
    """Directly and through others, with what is being made, and how many run it."""
    goal = ReleaseId(name="meter", version=3)

    async def run() -> None:
        folder = tmp_path / "hub"
        async with running_hub(folder, "gw", pack=in_thread) as (hub, broker):
            await release(hub, tmp_path, 1, 2, 3, deltas={2: (1,), 3: (2,)})
            wire = await Wire(broker, "gw").join()
            patch_of = {"releases": {"meter": {"version": 1}}}
            await wire.send(Up.REPORTED, {"patch": patch_of}, seq=1)
            await wire.wait_for("ack", seq=1)
            first, second = await costs_of(goal, hub.deltas)
            assert (first.direct, first.direct_bytes, first.devices) == ("", None, 1)
            assert (first.through, second.through) == ((2,), ())
            assert (second.direct, second.devices) == ("signed", 0)
            assert first.through_bytes == first.best_bytes < 70_000 / 10
            first, _ = await costs_of(goal, hub.deltas, make=True)
            assert first.direct == "making"
            await wait_until(lambda: len(hub.deltas.packed.pairs) == 2)
            first, _ = await costs_of(goal, hub.deltas)
            assert first.direct == "made"
            assert first.best_bytes == first.direct_bytes
            # Random bytes cannot be packed.
            assert first.packed_bytes is None

    asyncio.run(run())


def test_what_is_used_least_makes_room(tmp_path: Path) -> None:
    """And what has rotted is forgotten."""

    async def story() -> None:
        packed = PackedDeltas(tmp_path, most_bytes=25)
        await packed.start()
        pairs = [(digit * 64, "f" * 64) for digit in "abc"]
        blobs = [await packed.add(pair, pair[0][:10].encode()) for pair in pairs[:2]]
        packed.touch(pairs[0])
        await packed.add(pairs[2], b"c" * 10)
        assert list(packed.pairs) == [pairs[0], pairs[2]]
        assert await packed.stat(blobs[1].sha256) is None
        with pytest.raises(DataError, match="no blob"):
            _ = [piece async for piece in packed.open(blobs[1].sha256)]
        with pytest.raises(DataError, match="byte 11"):
            _ = [piece async for piece in packed.open(blobs[0].sha256, offset=11)]
        assert await packed.stat(NOTHING.sha256) is None
        (rotten,) = (tmp_path / PACKED_FOLDER).glob("c*")
        rotten.write_bytes(b"c" * 9)
        again = PackedDeltas(tmp_path)
        await again.start()
        assert list(again.pairs) == pairs[:1]

    asyncio.run(story())


def test_packing_has_a_process_of_its_own(tmp_path: Path) -> None:
    """Which may die; the hub does not."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(model(1))
    new.write_bytes(model(2))
    delta = asyncio.run(pack_in_child(old, new))
    assert patch(model(1), delta, largest_bytes=70_000) == model(2)
    with pytest.raises(WorkerLostError):
        asyncio.run(pack_in_child(tmp_path / "none", new))
