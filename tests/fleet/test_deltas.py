"""Devices that are behind, on a simulated fleet: what they fetch, and from whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.gain import GainModel
from skerry.app.simulate.loop import simulate
from skerry.cloud.deltas import Deltas
from skerry.core.fleet import RolloutState
from skerry.core.release import Blob
from skerry.evolve.ways import LEAST_BYTES, Hop, Offer
from tests.bad_days import ONE, answers, release


def version(number: int) -> Any:
    """A release of a model that is large enough for a delta of the hub's."""
    return release(
        number, model=GainModel(gain=float(number), ballast_bytes=LEAST_BYTES)
    )


async def roll_out(fleet: FleetSimulator, number: int) -> None:
    """Bring a version to everybody."""
    rollout = await fleet.roll_out(f"meter/{number}")
    assert rollout.state is RolloutState.SUCCEEDED, rollout.reason


def sent(fleet: FleetSimulator, number: int) -> int:
    """How many bytes of a version's model came in full."""
    model = version(number)[0].models[0].blob
    return fleet.gateways["gateway-1"].blobs.sent.get(model.sha256, 0)


def test_a_device_two_versions_behind_gets_a_delta(tmp_path: Path) -> None:
    """The hub makes it of what the device reports: nobody signed one."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await fleet.publish(*version(1))
            await roll_out(fleet, 1)
            await fleet.publish(*version(2))
            await fleet.publish(*version(3))
            await roll_out(fleet, 3)
            await answers(fleet, "gateway-1", 3)
            assert sent(fleet, 1) > LEAST_BYTES
            assert sent(fleet, 3) == 0

    simulate(story())


def test_a_device_goes_through_a_version_in_between(tmp_path: Path) -> None:
    """Over two deltas that are signed, where the hub makes none."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await fleet.publish(*version(1))
            await roll_out(fleet, 1)
            for number in (2, 3):
                _, before = version(number - 1)
                await fleet.publish(*version(number), deltas_from=before)
            fleet.hub.deltas.order = lambda _: None  # type: ignore[method-assign]
            await roll_out(fleet, 3)
            await answers(fleet, "gateway-1", 3)
            assert sent(fleet, 2) == sent(fleet, 3) == 0
            gateway = fleet.gateways["gateway-1"]
            left = list((gateway.folder / "downloads").rglob("*.part"))
            assert not left

    simulate(story())


def test_a_lying_hub_costs_a_full_download(tmp_path: Path) -> None:
    """One that offers what gives something else, and one that offers nonsense."""
    lie = np.random.default_rng(0).bytes(500)

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await fleet.publish(*version(1))
            await roll_out(fleet, 1)
            await fleet.hub.blobs.put(Blob.of(lie).sha256, lie)
            for number, makes in ((2, number_of(2)), (3, number_of(1))):

                async def ask(
                    _: Deltas, origin: str, __: str, made: Blob = makes
                ) -> Offer:
                    hop = Hop(origin=origin, result=made, delta=Blob.of(lie))
                    return Offer(way=(hop,))

                fleet.hub.deltas.ask = ask.__get__(fleet.hub.deltas)  # type: ignore[method-assign]
                await fleet.publish(*version(number))
                await roll_out(fleet, number)
                await answers(fleet, "gateway-1", number)
                assert sent(fleet, number) > LEAST_BYTES
            offered = fleet.gateways["gateway-1"].blobs.sent[Blob.of(lie).sha256]
            assert offered == len(lie)

    simulate(story())


def number_of(number: int) -> Blob:
    """The blob of a version's model."""
    blob: Blob = version(number)[0].models[0].blob
    return blob
