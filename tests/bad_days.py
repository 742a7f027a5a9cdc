"""A simulated fleet on a bad day: what is delivered to it, and what it says."""

from __future__ import annotations

from typing import Any

from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.gain import (
    GAIN_INPUTS,
    GainModel,
    make_gain_release,
)
from skerry.core.fleet import Gate, RolloutState

DAY_S = 24 * 3600.0
PATIENT = Gate(timeout_s=30 * DAY_S)
ONE = ("gateway-1",)
BALLAST = 20_000


def release(version: int, **promises: Any) -> Any:
    """A release of the meter that multiplies by its version."""
    model = promises.pop("model", None)
    if model is None:
        model = GainModel(gain=float(version), ballast_bytes=BALLAST)
    return make_gain_release("meter", version, model, **promises)


async def deliver(fleet: FleetSimulator, version: int) -> None:
    """Publish a good release and bring it to everybody."""
    await fleet.publish(*release(version))
    rollout = await fleet.roll_out(f"meter/{version}")
    assert rollout.state is RolloutState.SUCCEEDED, rollout.reason


async def refusal(fleet: FleetSimulator, device: str) -> dict[str, Any]:
    """What a device says of why it does not run what it should."""
    reported: Any = (await fleet.shadow(device)).reported
    return (reported.get("refused") or {}).get("meter") or {}


async def answers(fleet: FleetSimulator, device: str, version: int) -> None:
    """See that a gateway serves, and which version."""
    answer = await fleet.gateways[device].ask("meter", GAIN_INPUTS)
    assert answer.release.version == version
    assert (answer.outputs["y"] == GAIN_INPUTS["x"] * version).all()


async def waits_with(fleet: FleetSimulator, device: str, reason: str) -> None:
    """Let time pass until a device says why it waits or refuses."""

    async def says_so() -> bool:
        return (await refusal(fleet, device)).get("reason") == reason

    await fleet.run_until(says_so)


async def want(fleet: FleetSimulator, device: str, version: int) -> None:
    """Write a version into a shadow, as nobody should: past every rollout."""
    await fleet.hub.shadows.set_desired(
        device, {"releases": {"meter": {"version": version, "rollout": "by-hand"}}}
    )
