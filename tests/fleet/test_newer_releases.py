"""Releases of a publisher who is ahead of the fleet: the hub and devices of today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skerry.app.publish import publisher
from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.loop import simulate
from skerry.core.release import Manifest, write_manifest
from tests.bad_days import answers, deliver


def test_what_a_manifest_says_beyond_us_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed, carried and stored as it came, and no reason to refuse the release."""

    def write_more(manifest: Manifest) -> bytes:
        fields = json.loads(write_manifest(manifest))
        fields["colour"] = {"of": ["the", "sea"]}
        fields["models"][0]["cores"] = 3
        return json.dumps(fields).encode()

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            with monkeypatch.context() as patch:
                patch.setattr(publisher, "write_manifest", write_more)
                await deliver(fleet, 2)
            for name, gateway in fleet.gateways.items():
                await answers(fleet, name, 2)
                lies = gateway.folder / "slots" / "meter" / "b" / "manifest.json"
                assert json.loads(lies.read_bytes())["colour"] == {"of": ["the", "sea"]}
                await gateway.cut_power()
                await gateway.start()
                await answers(fleet, name, 2)
            await deliver(fleet, 3)

    simulate(story())
