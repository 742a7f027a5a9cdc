"""`skerry release deltas`: what it costs to bring a fleet to a release."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app import figures
from skerry.app.connection import ask
from skerry.app.output import Output
from skerry.app.tables import plain_table
from skerry.core.errors import UsageError
from skerry.core.release import ReleaseId

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.hub_api import HubApi
    from skerry.evolve.ways import WayCost

LINES_KBIT_S = (64.0, 1000.0)
"""A narrow-band radio, and a bad DSL line."""

_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRow:
    """What a device of one version costs.

    Attributes:
        cost: Each way to the release, in bytes.
        best_bytes: What such a device fetches.
        best_s: How long that takes on each line, in seconds.
    """

    cost: WayCost
    best_bytes: int
    best_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaTable:
    """What a rollout of a release costs.

    Attributes:
        release: NAME/VERSION.
        lines_kbit_s: The lines' speeds, in kilobits a second.
        rows: By the version that devices run, and by target.
        rollout_bytes: What all devices on earlier versions fetch.
        full_bytes: What they would fetch without any delta.
    """

    release: str
    lines_kbit_s: tuple[float, ...]
    rows: tuple[DeltaRow, ...]
    rollout_bytes: int
    full_bytes: int


def deltas(
    name: str,
    /,
    *,
    version: int | None = None,
    line: tuple[float, ...] = LINES_KBIT_S,
    wait: bool = True,
    hub: str | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> DeltaTable:
    """Show what it costs to bring each version's devices to a release.

    Deltas that nobody has made yet are made by the hub, and stay there for devices.

    Args:
        name: The release's name.
        version: Its version; the newest by default.
        line: A line's speed in kilobits a second; repeat it for several.
        wait: Whether to have the missing deltas made, and to wait for them.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
        output: Where to say what is under way.
    """
    if not all(0 < one < float("inf") for one in line):
        raise UsageError(
            f"a line of {min(line):g} kbit/s carries nothing",
            hint="Give more than 0: --line 64.",
        )

    async def find(api: HubApi) -> tuple[ReleaseId, tuple[WayCost, ...]]:
        release = await _newest(api, name) if version is None else None
        release = release or ReleaseId(name=name, version=version or 1)
        costs = await api.delta_costs(release, make=wait)
        while wait and (left := sum(one.direct == "making" for one in costs)):
            output.talk(f"{figures.show_number(left, 'delta')} being made")
            await asyncio.sleep(_PAUSE_S)
            costs = await api.delta_costs(release, make=True)
        return release, costs

    release, costs = ask(hub, find)
    return _table(release, costs, line)


async def _newest(api: HubApi, name: str) -> ReleaseId:
    versions = [one.version for one in await api.releases() if one.name == name]
    if not versions:
        raise UsageError(
            f"there is no release of {name!r}", hint="See them: skerry release ls."
        )
    return ReleaseId(name=name, version=max(versions))


def _table(
    release: ReleaseId, costs: tuple[WayCost, ...], lines: tuple[float, ...]
) -> DeltaTable:
    rows = tuple(
        DeltaRow(
            cost=one,
            best_bytes=one.best_bytes,
            best_s=tuple(one.best_bytes * 8 / (1000 * line) for line in lines),
        )
        for one in costs
    )
    return DeltaTable(
        release=str(release),
        lines_kbit_s=lines,
        rows=rows,
        rollout_bytes=sum(row.best_bytes * row.cost.devices for row in rows),
        full_bytes=sum(row.cost.full_bytes * row.cost.devices for row in rows),
    )


def render_deltas(found: DeltaTable) -> RenderableType:
    """Render as a table with one row a version and target."""
    from rich.console import Group

    lines = [f"#{line:g} kbit/s" for line in found.lines_kbit_s]
    table = plain_table(
        "from",
        "target",
        "#devices",
        "#full",
        "#packed",
        "#direct",
        "",
        "#through others",
        "#fetched",
        *lines,
    )
    for row in found.rows:
        cost = row.cost
        share = row.best_bytes / cost.full_bytes if cost.full_bytes else 0.0
        through = ", ".join(map(str, cost.through))
        table.add_row(
            str(cost.version),
            cost.target,
            f"{cost.devices:,}",
            figures.show_bytes(cost.full_bytes),
            figures.show_bytes(cost.packed_bytes),
            figures.show_bytes(cost.direct_bytes),
            cost.direct,
            figures.show_bytes(cost.through_bytes) + (through and f" ({through})"),
            figures.show_percent(share),
            *(figures.show_ms(1000 * seconds) for seconds in row.best_s),
        )
    devices = sum(row.cost.devices for row in found.rows)
    return Group(
        f"to {found.release}",
        table,
        f"{figures.show_number(devices, 'device')}: "
        f"{figures.show_bytes(found.rollout_bytes)} in all, "
        f"{figures.show_bytes(found.full_bytes)} without deltas",
    )
