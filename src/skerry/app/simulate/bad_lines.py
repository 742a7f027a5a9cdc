"""How many bytes a fleet pays for an update where lines are bad and power fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skerry.app.simulate.faults import BadLine
from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.gain import GainModel, make_gain_release
from skerry.app.simulate.gateway import SimulatedGateway
from skerry.app.simulate.loop import simulate
from skerry.comms.download import most_unsynced_bytes
from skerry.core.fleet import Gate, Wave
from skerry.core.release import Blob, Manifest

_NAME = "meter"


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLines:
    """How bad a fleet's days are.

    Attributes:
        gateways: How many there are.
        model_bytes: The size of the model that all of them fetch.
        flips_per_mb: Bits flipped in a million bytes, on average.
        breaks_per_mb: Broken connections in a million bytes, on average.
        power_cuts: How often each gateway loses its power in the middle of the model.
        seed: Of all chance.
    """

    gateways: int = 50
    model_bytes: int = 2_000_000
    flips_per_mb: float = 0.5
    breaks_per_mb: float = 2.0
    power_cuts: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesPaid:
    """What an update cost a fleet.

    Attributes:
        received_bytes: All bytes of blobs that came to gateways, chunk lists and what
            had to be thrown away among them.
        chosen_bytes: The manifests, models and other parts that gateways had to get.
        n_flips: How many bits were flipped on the way.
        n_breaks: How many connections broke.
        n_power_cuts: How many gateways lost their power while they fetched.
        n_updated: How many gateways run the new release in the end.
    """

    received_bytes: int
    chosen_bytes: int
    n_flips: int
    n_breaks: int
    n_power_cuts: int
    n_updated: int

    @property
    def ratio(self) -> float:
        """Bytes received for each byte chosen; 1.0 where nothing was in vain."""
        return self.received_bytes / self.chosen_bytes


def measure_bytes(folder: Path, days: BadLines | None = None) -> BytesPaid:
    """Take a fleet through an update on bad lines, and count what it received.

    Args:
        folder: Where the fleet's disks are; empty.
        days: How bad they are.

    Raises:
        LateError: The rollout did not come to rest in a day of the fleet's time.
    """
    return simulate(_story(folder, days or BadLines()))


async def _story(folder: Path, days: BadLines) -> BytesPaid:
    rng = np.random.default_rng(days.seed)
    names = tuple(f"gateway-{number}" for number in range(days.gateways))
    async with FleetSimulator(folder, devices=names, seed=days.seed) as fleet:
        await fleet.publish(*make_gain_release(_NAME, 1))
        everybody = {"waves": (Wave(devices=names),), "gate": Gate(success_ratio=0.0)}
        await fleet.roll_out(f"{_NAME}/1", **everybody)
        for gateway in fleet.gateways.values():
            gateway.blobs.sent.clear()
            gateway.blobs.line = BadLine(
                rng, flips_per_mb=days.flips_per_mb, breaks_per_mb=days.breaks_per_mb
            )
        model = GainModel(gain=3.0, ballast_bytes=days.model_bytes)
        manifest, blobs = make_gain_release(_NAME, 2, model)
        bundle = await fleet.publish(manifest, blobs)
        rollout = await fleet.begin(f"{_NAME}/2", **everybody)
        n_power_cuts = await _cut_power(fleet, manifest.models[0].blob, days, rng)
        await fleet.wait_for(rollout)
        sizes = {sha256: len(content) for sha256, content in bundle.blobs.items()}
        chosen = _chosen(manifest, bundle.manifest_sha256)
        gateways = fleet.gateways.values()
        lines = [one.blobs.line for one in gateways if one.blobs.line is not None]
        return BytesPaid(
            received_bytes=sum(sum(one.blobs.sent.values()) for one in gateways),
            chosen_bytes=sum(
                sizes[sha256]
                for one in gateways
                for sha256 in chosen & set(one.blobs.sent)
            ),
            n_flips=sum(line.n_flips for line in lines),
            n_breaks=sum(line.n_breaks for line in lines),
            n_power_cuts=n_power_cuts,
            n_updated=sum(version == 2 for version in fleet.versions(_NAME).values()),
        )


async def _cut_power(
    fleet: FleetSimulator, model: Blob, days: BadLines, rng: np.random.Generator
) -> int:
    """Cut each gateway's power at some bytes of the model; return how often it was."""
    due = {
        name: sorted(rng.uniform(0.1, 0.9, days.power_cuts) * model.size_bytes)
        for name in fleet.gateways
    }

    def ripe() -> Iterator[SimulatedGateway]:
        for name, gateway in fleet.gateways.items():
            if due[name] and gateway.blobs.sent.get(model.sha256, 0) >= due[name][0]:
                yield gateway

    while any(due.values()):
        await fleet.catch(lambda: any(ripe()))
        for gateway in list(ripe()):
            due[gateway.name].pop(0)
            await gateway.cut_power()
            part = gateway.folder / "downloads" / _NAME / f"{model.sha256}.part"
            if part.exists():
                _tear(part, most_unsynced_bytes(model), rng)
            await fleet.restart(gateway.name)
    return days.gateways * days.power_cuts


def _tear(part: Path, most_bytes: int, rng: np.random.Generator) -> None:
    """Lose what was not synced, or have zeros in its place."""
    content = part.read_bytes()
    n_lost = min(len(content), int(rng.integers(most_bytes + 1)))
    left = bytes(n_lost) if rng.random() < 0.5 else b""
    part.write_bytes(content[: len(content) - n_lost] + left)


def _chosen(manifest: Manifest, manifest_sha256: str) -> set[str]:
    parts = manifest.blobs(manifest.models[0].target).values()
    return {manifest_sha256, *(blob.sha256 for blob in parts)}
