"""`skerry rollout …`: staged delivery of a release, and what people may say to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from skerry.app import figures
from skerry.app.connection import ask
from skerry.app.output import Output
from skerry.app.tables import plain_table
from skerry.core.errors import UsageError
from skerry.core.fleet import Gate, Outcome, Rollout, RolloutState
from skerry.core.release import ReleaseId

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.hub_api import HubApi

POLL_S = 0.5
MOST_ROWS = 1000
"""Most devices in a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutList:
    """The rollouts, the latest first."""

    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What a rollout would be: its devices, with the wave or why it is left out."""

    release: str
    members: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acts:
    """Who did what to a rollout, the oldest first."""

    acts: tuple[dict[str, Any], ...]


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


def log(name: str, /, *, hub: str | None = None) -> Acts:
    """Tell who did what to a rollout, and when.

    Args:
        name: The rollout.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return Acts(acts=ask(hub, lambda api: api.acts(name)))


def create(
    release: str,
    /,
    *devices: str,
    where: str | None = None,
    wave: tuple[str, ...] = (),
    canary: str = "1",
    size: tuple[str, ...] = (),
    growth: float | None = None,
    success_ratio: float = 1.0,
    timeout_s: float = 600.0,
    soak_s: float = 0.0,
    retries: int = 0,
    wait_for_offline: bool = False,
    gate: tuple[str, ...] = (),
    least_requests: int = 20,
    approval: Literal["none", "first", "each"] = "none",
    window: str | None = None,
    window_zone: str = "",
    download_any_time: bool = False,
    dynamic: bool = False,
    on_failure: Literal["stop", "undo"] = "undo",
    supersede: bool = False,
    dry_run: bool = False,
    hub: str | None = None,
) -> Rollout | Foretold:
    """Deliver a release: one device first, then the rest, unless told otherwise.

    Args:
        release: NAME/VERSION, already published.
        devices: The devices; all enrolled ones by default.
        where: Instead of devices, their labels, as for Kubernetes:
            site=oslo,tier!=test,model in (a,b),!retired.
        wave: Devices separated by commas, once a wave, instead of `devices`.
        canary: The first wave: how many devices, or a label query for them.
        size: The next wave: how many devices, or 25% of all; once a wave, the last one
            again and again. One wave by default.
        growth: Instead of sizes, how many times as large as the wave before each is.
        success_ratio: Least fraction of a wave that must be updated to go on.
        timeout_s: How long a device may take to answer.
        soak_s: How long a wave must run before the next begins.
        retries: How often a device that does not answer in time is told again.
        wait_for_offline: The time in which a device is offline does not count.
        gate: What a wave's figures must hold after its soak, such as error_rate<=0.01,
            latency_p99_ms<=1.2*before, or …*others; may be given several times.
        least_requests: A wave of fewer requests than this proves nothing.
        approval: Which waves wait for `skerry rollout approve`: the one after the
            first, or each but the first.
        window: When devices may be updated, by their own time: sat,sun 02:00-05:00.
        window_zone: The time zone of devices that do not say theirs, such as
            Europe/Oslo.
        download_any_time: Only the switch waits for the window.
        dynamic: Devices that match `where` later join the last wave.
        on_failure: What happens to the updated devices when a gate does not hold.
        supersede: Rollouts under way on these devices give way.
        dry_run: Only say who would be in which wave, and who is left out and why.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.

    Raises:
        UsageError: The window, a gate or the waves make no sense.
    """
    from skerry.evolve.rollout import Stages, parse_metric_gate
    from skerry.evolve.window import parse_window

    if window is None and (window_zone or download_any_time):
        raise UsageError(
            "a time zone or downloads at any time, and no window",
            hint="Give the window, too: --window 02:00-05:00.",
        )
    wanted = ReleaseId.parse(release)
    terms: dict[str, Any] = {
        "devices": devices,
        "waves": [entry.split(",") for entry in wave],
        "query": where,
        "stages": Stages(canary=canary, sizes=size, growth=growth),
        "gate": Gate(
            success_ratio=success_ratio,
            timeout_s=timeout_s,
            soak_s=soak_s,
            retries=retries,
            waits_for_offline=wait_for_offline,
            metrics=tuple(parse_metric_gate(text) for text in gate),
            least_requests=least_requests,
        ),
        "approval": approval,
        "window": parse_window(
            window, allows_download=download_any_time, zone=window_zone
        )
        if window is not None
        else None,
        "is_dynamic": dynamic,
        "on_failure": on_failure,
        "supersede": supersede,
    }
    if not dry_run:
        return ask(hub, lambda api: api.create_rollout(wanted, **terms))
    foretold = ask(hub, lambda api: api.preview_rollout(wanted, **terms))
    return Foretold(release=str(wanted), members=_members(foretold))


def _members(foretold: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple(one for one in foretold.get("members", ()) if isinstance(one, dict))


def watch(
    name: str,
    /,
    *,
    hub: str | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> Watched:
    """Follow a rollout until it ends; the exit code is 0 where it succeeded.

    On a terminal it draws each wave; elsewhere it writes a line for each change.

    Args:
        name: The rollout.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
        output: Where each change is said.
    """
    ended = ask(hub, lambda api: _follow(api, name, output))
    succeeded = ended.state is RolloutState.SUCCEEDED
    return Watched(rollout=ended, exit_code=0 if succeeded else 1)


async def _follow(api: HubApi, name: str, output: Output) -> Rollout:
    if not output.console.is_terminal:
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
    from rich.live import Live

    rollout = await api.rollout(name)
    with Live(draw(rollout), console=output.console, transient=True) as live:
        while rollout.state.is_under_way:
            await asyncio.sleep(POLL_S)
            rollout = await api.rollout(name)
            live.update(draw(rollout))
    return rollout


def pause(name: str, /, *, hub: str | None = None) -> Rollout:
    """Pause a rollout: nobody is told anything until it is resumed.

    Args:
        name: The rollout.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return ask(hub, lambda api: api.pause_rollout(name))


def resume(name: str, /, *, hub: str | None = None) -> Rollout:
    """Go on with a paused rollout.

    Args:
        name: The rollout.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return ask(hub, lambda api: api.resume_rollout(name))


def approve(name: str, /, *, hub: str | None = None) -> Rollout:
    """Let the next wave of a rollout begin that waits for it.

    Args:
        name: The rollout.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return ask(hub, lambda api: api.approve_rollout(name))


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
    said = _counts(rollout, [*rollout.progress])
    wave = f"wave {rollout.wave + 1} of {len(rollout.waves)}"
    return f"{rollout.release} {rollout.state}, {wave}: {said}"


def _counts(rollout: Rollout, devices: list[str]) -> str:
    counts: dict[str, int] = {}
    for device in devices:
        outcome = rollout.progress[device].outcome
        counts[outcome] = counts.get(outcome, 0) + 1
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))


def draw(rollout: Rollout) -> RenderableType:
    """Draw a rollout for a terminal: a bar a wave, and who has trouble."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar

    table = plain_table("wave", "updated", "", "")
    for number, wave in enumerate(rollout.waves, start=1):
        devices = [device for device in wave.devices if device in rollout.progress]
        updated = sum(
            rollout.progress[device].outcome is Outcome.UPDATED for device in devices
        )
        table.add_row(
            f"{number}{' (now)' if number == rollout.wave + 1 else ''}",
            f"{updated}/{len(devices)}",
            ProgressBar(total=max(1, len(devices)), completed=updated, width=30),
            _counts(rollout, devices),
        )
    troubles = [
        f"{device}: {one.outcome}, {one.reason}"
        for device, one in rollout.progress.items()
        if one.reason
    ]
    head = f"{rollout.id}: {rollout.release} {rollout.state}"
    lines = [f"{head}; {rollout.reason}" if rollout.reason else head]
    return Group(*lines, table, *troubles[:5])


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


def render_create(made: Rollout | Foretold) -> RenderableType:
    """Render as `skerry rollout show` does, or who would be in which wave."""
    if isinstance(made, Rollout):
        return render_show(made)
    table = plain_table("device", "wave", "note")
    for member in made.members[:MOST_ROWS]:
        wave = member.get("wave")
        note = str(member.get("note") or "")
        table.add_row(
            str(member.get("device")), "left out" if wave is None else str(wave), note
        )
    return table


def render_log(found: Acts) -> RenderableType:
    """Render as a table with one row an act."""
    table = plain_table("when", "who", "what", "")
    for act in found.acts:
        more = {key: one for key, one in act["document"].items() if key != "rollout"}
        table.add_row(
            figures.show_time(act["at_ms"]),
            act["who"],
            act["what"],
            ", ".join(f"{key} {value}" for key, value in more.items() if value),
        )
    return table


def render_show(rollout: Rollout) -> RenderableType:
    """Render as a line and a table with one row a device."""
    from rich.console import Group

    table = plain_table("device", "wave", "outcome", "since", "before", "why")
    rows = [
        (number, device)
        for number, wave in enumerate(rollout.waves, start=1)
        for device in wave.devices
    ]
    for number, device in rows[:MOST_ROWS]:
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
    for device, why in rollout.excluded.items():
        table.add_row(device, "", "left out", "", "", why)
    parts: list[RenderableType] = [f"{rollout.id}: {_line(rollout)}"]
    if rollout.reason:
        parts.append(rollout.reason)
    more = len(rows) - MOST_ROWS
    return Group(*parts, table, *([f"and {more} more"] if more > 0 else []))


def render_watch(watched: Watched) -> RenderableType:
    """Render as `skerry rollout show` does."""
    return render_show(watched.rollout)
