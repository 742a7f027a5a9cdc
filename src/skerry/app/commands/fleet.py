"""`skerry fleet show`: the whole fleet on one screen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skerry.app.connection import ask
from skerry.app.tables import plain_table
from skerry.core.fleet import Device, Rollout, Shadow

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.hub_api import HubApi

AT_ONCE = 8
"""How many shadows are asked for at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """The fleet, counted.

    Attributes:
        devices: How many are registered.
        enrolled: How many of them have credentials.
        online: How many of them can be reached.
        running: Devices by the release that they run, `NAME/VERSION`.
        behind: Devices that do not run what they should.
        refused: What devices refuse: device, release, reason.
        drifting: Devices whose field has changed.
        rollouts: The rollouts under way.
    """

    devices: int
    enrolled: int
    online: int
    running: dict[str, int]
    behind: tuple[str, ...]
    refused: tuple[tuple[str, str, str], ...]
    drifting: tuple[str, ...]
    rollouts: tuple[str, ...]


def show(*, hub: str | None = None) -> FleetView:
    """Count what the fleet runs, what it refuses, and who is behind.

    Args:
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """

    async def look(api: HubApi) -> FleetView:
        devices = await api.devices()
        turns = asyncio.Semaphore(AT_ONCE)

        async def shadow_of(device: Device) -> Shadow:
            async with turns:
                return await api.shadow(device.name)

        shadows = await asyncio.gather(*(shadow_of(device) for device in devices))
        return count(devices, shadows, await api.rollouts())

    return ask(hub, look)


def count(
    devices: tuple[Device, ...], shadows: list[Shadow], rollouts: tuple[Rollout, ...]
) -> FleetView:
    """Count a fleet; what a device reported may have any shape."""
    running: Counter[str] = Counter()
    behind, refused, drifting = [], [], []
    for shadow in shadows:
        runs = _versions(shadow.reported)
        wants = _versions(shadow.desired)
        running.update(f"{name}/{version}" for name, version in runs.items())
        if any(runs.get(name) != version for name, version in wants.items()):
            behind.append(shadow.device)
        for answer in _entries(shadow.reported, "refused").values():
            release, reason = str(answer.get("release")), str(answer.get("reason"))
            refused.append((shadow.device, release, reason))
        drifts = _entries(shadow.reported, "drift").values()
        if any(drift.get("is_drift") is True for drift in drifts):
            drifting.append(shadow.device)
    return FleetView(
        devices=len(devices),
        enrolled=sum(device.enrolled_at_ms is not None for device in devices),
        online=sum(device.is_online for device in devices),
        running=dict(sorted(running.items())),
        behind=tuple(behind),
        refused=tuple(refused),
        drifting=tuple(drifting),
        rollouts=tuple(one.id for one in rollouts if one.state.is_under_way),
    )


def _entries(side: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    found = side.get(key)
    if not isinstance(found, dict):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)}


def _versions(side: Mapping[str, Any]) -> dict[str, object]:
    return {
        name: entry.get("version") for name, entry in _entries(side, "releases").items()
    }


def render_show(view: FleetView) -> RenderableType:
    """Render as a table with one row a figure."""
    table = plain_table("", "")
    table.add_row(
        "devices",
        f"{view.devices}, {view.enrolled} enrolled, {view.online} online",
    )
    for release, devices in view.running.items():
        table.add_row(release, f"on {devices}")
    for device, release, reason in view.refused:
        table.add_row("refused", f"{device}: {release} ({reason})")
    for title, names in (
        ("behind", view.behind),
        ("drifting", view.drifting),
        ("rollouts under way", view.rollouts),
    ):
        table.add_row(title, ", ".join(names) or "none")
    return table
