"""A gateway whose folder is sealed, on its bad days."""

from __future__ import annotations

from pathlib import Path

from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.gateway import SimulatedGateway
from skerry.app.simulate.loop import simulate
from skerry.core.fleet import RolloutState
from skerry.edge.sealed_folder import GivenKey, open_vault, seal_folder
from skerry.evolve.trust.at_rest import DeviceKey
from tests.bad_days import BALLAST, ONE, PATIENT, answers, deliver, release

GIVEN = GivenKey(key=DeviceKey(b"k" * 32), level="file")
CUTS = range(0, 40, 4)


async def seal(gateway: SimulatedGateway) -> None:
    """Seal a gateway's folder, and let it go on."""
    await gateway.stop()
    seal_folder(gateway.folder, GIVEN)
    gateway.vault = open_vault(gateway.folder, GIVEN)
    await gateway.start()


def test_power_cuts_in_the_midst_of_updates(tmp_path: Path) -> None:
    """At many writes: it serves a whole release after each, and comes along."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            gateway = fleet.gateways["gateway-1"]
            await seal(gateway)
            await answers(fleet, "gateway-1", 1)
            for version, cut in enumerate(CUTS, 2):
                await fleet.publish(*release(version))
                gateway.disk.cut_at = gateway.disk.calls + cut
                rollout = await fleet.begin(f"meter/{version}", gate=PATIENT)
                await fleet.run_for(60)
                await gateway.cut_power()
                gateway.disk.cut_at = None
                await gateway.start()
                served = gateway.engine.active("meter")
                assert served is not None
                assert served.id.version in {version - 1, version}
                await answers(fleet, "gateway-1", served.id.version)
                ended = await fleet.wait_for(rollout)
                assert ended.state is RolloutState.SUCCEEDED, ended.reason
            lies = [path for path in gateway.folder.rglob("*") if path.is_file()]
            assert any(path.stat().st_size > BALLAST for path in lies)
            assert not any(b"ballast" in path.read_bytes() for path in lies)

    simulate(story())
