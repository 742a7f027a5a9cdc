"""Producers and consumers of each time, with releases of each time: N−2 … N+1."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skerry.core.clock import SystemClock
from skerry.core.release import Reason, Refusal
from skerry.core.schemas import Schemas
from skerry.edge.engine import Engine
from skerry.edge.protocol.http import make_app
from skerry.edge.slots import Slots
from skerry.edge.start import start_serving
from skerry.evolve.update import check_manifest
from skerry.evolve.update_state import UpdatePolicy
from tests.schemas import NAME, SPOKEN, as_request, changing_release, read, sent
from tests.serving import ask

CAN_SERVE = {
    (1, 1), (2, 2), (3, 3), (4, 4),
    (1, 2), (1, 3), (2, 3),
}  # fmt: skip
"""Which producers and consumers (first) a release (second) can serve."""


class Device:
    """A gateway's disk and engine, updated by hand."""

    def __init__(self, folder: Path, spoken: Schemas | None = None) -> None:
        self.slots = Slots(
            folder, target="any", schemas={NAME: spoken} if spoken else {}
        )
        self.engine = Engine(clock=SystemClock())

    def update(self, version: int) -> Refusal | None:
        """Take a release, as the agent does: refused before its blobs are fetched."""
        release = changing_release(version)
        refusal = check_manifest(
            release.manifest,
            release.manifest.id,
            UpdatePolicy(),
            spoken=self.slots.facts(NAME).spoken,
            now_ms=0,
        )
        if refusal is not None:
            return refusal
        installed = self.slots.install(release.signed, release.contents)
        prepared = self.engine.prepare(installed)
        self.slots.switch(release.manifest.id, rollout="r")
        self.engine.switch(prepared)
        self.slots.settle(NAME)
        return None

    def serves(self, version: int) -> bool:
        """Whether those of a version's time are served right."""

        async def story() -> dict[str, float]:
            app = make_app(self.engine)
            path = f"/v2/models/{NAME}/infer"
            answer = await ask(app, "POST", path, as_request(sent(version)))
            assert answer.status == 200, answer.json
            outputs = answer.json["outputs"]
            return {one["name"]: one["data"][0] for one in outputs}

        return asyncio.run(story()) == pytest.approx(read(version), rel=1e-5)


@pytest.mark.parametrize("release", SPOKEN)
@pytest.mark.parametrize("spoken", SPOKEN)
def test_the_matrix(tmp_path: Path, spoken: int, release: int) -> None:
    """Served as ever by an adapter, or refused before anything is downloaded."""
    device = Device(tmp_path)
    assert device.update(spoken) is None
    if release != spoken:
        refusal = device.update(release)
        if (spoken, release) in CAN_SERVE:
            assert refusal is None
        else:
            assert refusal is not None
            assert refusal.reason is Reason.SCHEMA
            assert f"schemas {SPOKEN[spoken]}" in refusal.what
    assert device.serves(spoken)
    device.engine.close()


def test_what_was_spoken_is_spoken_through_all_releases(tmp_path: Path) -> None:
    """From 1 over 2 to 3, over a restart, and back again."""
    device = Device(tmp_path)
    for version in (1, 2, 3):
        assert device.update(version) is None
        assert device.serves(1)
    device.engine.close()
    again = Device(tmp_path)
    troubles = asyncio.run(
        start_serving(again.engine, again.slots, now_ms=0, in_thread=asyncio.to_thread)
    )
    assert troubles == ()
    assert again.serves(1)
    assert again.slots.facts(NAME).spoken == SPOKEN[1]
    again.slots.roll_back(NAME, keep=True, refused=None)
    assert again.slots.facts(NAME).active == 2
    again.engine.close()


def test_a_gateway_may_be_told_what_is_spoken(tmp_path: Path) -> None:
    """After its camera was replaced: the release is asked for what that one sends."""
    device = Device(tmp_path)
    assert device.update(3) is None
    device.engine.close()
    told = Schemas(input="1", output="2")
    again = Device(tmp_path, told)
    asyncio.run(
        start_serving(again.engine, again.slots, now_ms=0, in_thread=asyncio.to_thread)
    )
    active = again.engine.active(NAME)
    assert active is not None
    assert [spec.name for spec in active.inputs] == ["raw"]
    assert [spec.name for spec in active.outputs] == ["y"]
    refusal = again.update(4)
    assert refusal is not None
    assert refusal.reason is Reason.SCHEMA
    again.engine.close()


def test_what_cannot_be_spoken_stops_nothing(tmp_path: Path) -> None:
    """A gateway that is told nonsense serves what it served."""
    device = Device(tmp_path)
    assert device.update(1) is None
    device.engine.close()
    told = Schemas(input="7", output="7")
    again = Device(tmp_path, told)
    asyncio.run(
        start_serving(again.engine, again.slots, now_ms=0, in_thread=asyncio.to_thread)
    )
    assert again.serves(1)
    again.engine.close()


def test_a_client_is_told_what_is_spoken(tmp_path: Path) -> None:
    """The metadata is that of the producers' schema, not of the model's."""
    device = Device(tmp_path)
    assert device.update(1) is None
    assert device.update(3) is None

    async def story() -> tuple[list[str], list[str]]:
        told = (await ask(make_app(device.engine), "GET", f"/v2/models/{NAME}")).json
        return (
            [one["name"] for one in told["inputs"]],
            [one["name"] for one in told["outputs"]],
        )

    assert asyncio.run(story()) == (["raw"], ["percent"])
    device.engine.close()
