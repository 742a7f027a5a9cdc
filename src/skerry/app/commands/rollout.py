"""`skerry rollout ls|show|create|watch|stop|undo`: staged delivery of a release."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skerry.app import figures
from skerry.app.connection import ask
from skerry.app.output import Output
from skerry.app.tables import plain_table
from skerry.core.fleet import Gate, Rollout, RolloutState
from skerry.core.release import ReleaseId

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.hub_api import HubApi

POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutList:
    """The rollouts, the latest first."""

    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A rollout that has ended; the exit code is 0 where it succeeded."""

    rollout: Rollout
    exit_code: int


def ls(*, hub: str | None = None) -> RolloutList:
    """List the rollouts, the latest first.

    Args:
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return RolloutList(rollouts=ask(hub, lambda api: api.rollouts()))


def show(name: str, /, *, hub: str | None = None) -> Rollout:
    """Show where each device of a rollout stands.

    Args:
        name: The rollout.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return ask(hub, lambda api: api.rollout(name))


def create(
    release: str,
    /,
    *devices: str,
    wave: tuple[str, ...] = (),
    success_ratio: float = 1.0,
    timeout_s: float = 600.0,
    soak_s: float = 0.0,
    on_failure: Literal["stop", "undo"] = "undo",
    supersede: bool = False,
    hub: str | None = None,
) -> Rollout:
    """Deliver a release: one device first, then the rest, unless waves are given.

    Args:
        release: NAME/VERSION, already published.
        devices: The devices; all enrolled ones by default.
        wave: Devices separated by commas, once a wave, instead of `devices`.
        success_ratio: Least fraction of a wave that must be updated to go on.
        timeout_s: How long a device may take to answer.
        soak_s: How long a wave must run before the next begins.
        on_failure: What happens to the updated devices when a gate does not hold.
        supersede: Rollouts under way on these devices give way.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    wanted = ReleaseId.parse(release)
    gate = Gate(success_ratio=success_ratio, timeout_s=timeout_s, soak_s=soak_s)

    return ask(
        hub,
        lambda api: api.create_rollout(
            wanted,
            devices=devices,
            waves=[entry.split(",") for entry in wave],
            gate=gate,
            on_failure=on_failure,
            supersede=supersede,
        ),
    )


def watch(
    name: str,
    /,
    *,
    hub: str | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> Watched:
    """Follow a rollout until it ends; the exit code is 0 where it succeeded.

    Args:
        name: The rollout.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
        output: Where each change is said.
    """

    async def follow(api: HubApi) -> Rollout:
        last = ""
        while True:
            rollout = await api.rollout(name)
            now = _line(rollout)
            if now != last:
                output.talk(now)
                last = now
            if not rollout.state.is_under_way:
                return rollout
            await asyncio.sleep(POLL_S)

    ended = ask(hub, follow)
    succeeded = ended.state is RolloutState.SUCCEEDED
    return Watched(rollout=ended, exit_code=0 if succeeded else 1)


def stop(name: str, /, *, hub: str | None = None) -> Rollout:
    """Stop a rollout: who is updated stays so, nobody else is.

    Args:
        name: The rollout.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return ask(hub, lambda api: api.stop_rollout(name))


def undo(name: str, /, *, hub: str | None = None) -> Rollout:
    """Take each device of a rollout back to what it ran before.

    Args:
        name: The rollout.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return ask(hub, lambda api: api.undo_rollout(name))


def _line(rollout: Rollout) -> str:
    counts: dict[str, int] = {}
    for progress in rollout.progress.values():
        counts[progress.outcome] = counts.get(progress.outcome, 0) + 1
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    wave = f"wave {rollout.wave + 1} of {len(rollout.waves)}"
    return f"{rollout.release} {rollout.state}, {wave}: {said}"


def render_ls(found: RolloutList) -> RenderableType:
    """Render as a table with one row a rollout."""
    table = plain_table("rollout", "release", "state", "started", "devices", "why")
    for rollout in found.rollouts:
        table.add_row(
            rollout.id,
            str(rollout.release),
            rollout.state,
            figures.show_time(rollout.started_at_ms),
            _line(rollout).partition(": ")[2],
            rollout.reason,
        )
    return table


def render_show(rollout: Rollout) -> RenderableType:
    """Render as a line and a table with one row a device."""
    from rich.console import Group

    table = plain_table("device", "wave", "outcome", "since", "before", "why")
    for number, wave in enumerate(rollout.waves, start=1):
        for device in wave.devices:
            progress = rollout.progress.get(device)
            if progress is None:
                table.add_row(device, str(number), "waiting", "", "", "")
                continue
            table.add_row(
                device,
                str(number),
                progress.outcome,
                figures.show_time(progress.since_ms or None),
                str(progress.previous or ""),
                progress.reason,
            )
    parts: list[RenderableType] = [f"{rollout.id}: {_line(rollout)}"]
    if rollout.reason:
        parts.append(rollout.reason)
    return Group(*parts, table)


def render_watch(watched: Watched) -> RenderableType:
    """Render as `skerry rollout show` does."""
    return render_show(watched.rollout)
