"""What a person asks of a rollout, and who of the fleet that means now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from skerry.core.clock import time_zone
from skerry.core.errors import UsageError
from skerry.core.fleet import Device, Gate, Shadow, Wave, Window
from skerry.core.names import check_name, did_you_mean
from skerry.core.release import Manifest, ReleaseId
from skerry.evolve.rollout import (
    Stages,
    foreseen_refusal,
    parse_query,
    release_in,
    split,
)
from skerry.evolve.window import check_window

ZONE_LABEL = "zone"
"""The label that names a device's time zone."""

_NOT_ENROLLED = "has not enrolled"
_THERE = "runs it already"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a person asks for.

    Attributes:
        release: What is to be delivered.
        waves: To whom, in this order; empty means `devices`, split by `stages`.
        devices: To whom, where there are no waves; empty means whom `query` means.
        query: Labels of the devices, as for Kubernetes; None means all that have
            enrolled.
        stages: How devices are split into waves: a canary first, unless told otherwise.
        gate: What must hold after each wave.
        on_failure: What happens to the updated devices when a gate does not hold.
        approval: Which waves wait for a person: none, the one after the first, or each
            but the first.
        window: When devices may be updated, or None for at any time.
        is_dynamic: Whether devices that match the query later join the last wave.
        id: The rollout's name, or None to have one made.
        supersede: Whether rollouts of the same release name that are under way on
            these devices give way.
    """

    release: ReleaseId
    waves: Sequence[Wave] = ()
    devices: Sequence[str] = ()
    query: str | None = None
    stages: Stages = field(default_factory=Stages)
    gate: Gate = field(default_factory=Gate)
    on_failure: Literal["stop", "undo"] = "undo"
    approval: Literal["none", "first", "each"] = "none"
    window: Window | None = None
    is_dynamic: bool = False
    id: str | None = None
    supersede: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A device that a plan means.

    Attributes:
        device: Its name.
        wave: In which wave it would be, from 1 up; None where it would be left out.
        note: Why it would be left out, or what is to be expected of it; or empty.
    """

    device: str
    wave: int | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a rollout would be, were it started now.

    Attributes:
        release: What would be delivered.
        members: Wave by wave, then those that would be left out.
    """

    release: ReleaseId
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Whom a plan means now.

    Attributes:
        waves: Who is in which.
        excluded: Who is left out, and why.
        zones: The devices' time zones, as far as they are known.
    """

    waves: tuple[Wave, ...]
    excluded: Mapping[str, str]
    zones: Mapping[str, str]


def choose(
    plan: Plan,
    devices: Sequence[Device],
    shadows: Mapping[str, Shadow],
    manifest: Manifest,
) -> Chosen:
    """Choose the devices of a rollout that starts now.

    Devices that are named are taken as they are, and of all others those that have
    enrolled. Of those that a query means, whoever runs the release already is left out,
    and whoever is foreseen to refuse it.

    Args:
        plan: What is asked for.
        devices: The fleet, by name.
        shadows: Its shadows, by device.
        manifest: The release's.

    Raises:
        UsageError: The plan makes no sense, a device is not known.
    """
    _check(plan)
    by_name = {device.name: device for device in devices}
    excluded: dict[str, str] = {}
    if plan.waves:
        waves = tuple(plan.waves)
        _check_known([name for wave in waves for name in wave.devices], by_name)
    elif plan.devices:
        _check_known(plan.devices, by_name)
        waves = split([by_name[name] for name in plan.devices], plan.stages)
    else:
        meant = _meant(plan, devices)
        for device in meant:
            why = _left_out(device, shadows[device.name], manifest)
            if why == _NOT_ENROLLED or (why and plan.query is not None):
                excluded[device.name] = why
        kept = [device for device in meant if device.name not in excluded]
        waves = split(kept, plan.stages)
    names = {name for wave in waves for name in wave.devices}
    zones = {name: zone_of(by_name[name], shadows[name]) for name in names}
    return Chosen(waves=waves, excluded=excluded, zones=zones)


def preview(
    plan: Plan,
    chosen: Chosen,
    devices: Sequence[Device],
    shadows: Mapping[str, Shadow],
    manifest: Manifest,
) -> Preview:
    """Show what a rollout would be, with what is to be expected of each device."""
    by_name = {device.name: device for device in devices}
    members = [
        Member(
            device=name,
            wave=number,
            note=_left_out(by_name[name], shadows[name], manifest)
            or ("" if by_name[name].is_online else "is offline"),
        )
        for number, wave in enumerate(chosen.waves, start=1)
        for name in wave.devices
    ]
    members += [
        Member(device=name, wave=None, note=why)
        for name, why in chosen.excluded.items()
    ]
    return Preview(release=plan.release, members=tuple(members))


def check_somebody(plan: Plan, chosen: Chosen) -> None:
    """Refuse a plan that means nobody.

    Raises:
        UsageError: It does; the message counts why.
    """
    if chosen.waves:
        return
    of = "all that have enrolled" if plan.query is None else repr(plan.query[:80])
    whys = Counter(why.partition(":")[0] for why in chosen.excluded.values())
    causes = ", ".join(f"{n} {why}" for why, n in whys.most_common(5))
    raise UsageError(
        f"a rollout of 0 waves: of {of} nobody is left"
        + (f"; left out: {causes}" if causes else ""),
        hint="See who is left out and why: skerry rollout create … --dry-run.",
    )


def joining(
    query: str,
    devices: Sequence[Device],
    shadows: Mapping[str, Shadow],
    manifest: Manifest,
) -> tuple[Device, ...]:
    """Who of some devices a dynamic rollout is for."""
    wanted = parse_query(query)
    return tuple(
        device
        for device in devices
        if wanted.matches(device.labels)
        and not _left_out(device, shadows[device.name], manifest)
    )


def zone_of(device: Device, shadow: Shadow) -> str:
    """A device's time zone, by its label or as it says; empty where none is known."""
    agent = shadow.reported.get("agent")
    said = agent.get("zone") if isinstance(agent, dict) else None
    for name in (device.labels.get(ZONE_LABEL), said):
        if isinstance(name, str) and name and time_zone(name) is not None:
            return name
    return ""


def _check(plan: Plan) -> None:
    if plan.id is not None:
        check_name(plan.id, kind="rollout")
    ways = [bool(plan.waves), bool(plan.devices), plan.query is not None]
    if sum(ways) > 1:
        raise UsageError(
            "a rollout has waves, devices or a query, both were given"
            if sum(ways) == 2
            else "a rollout has waves, devices or a query, all were given",
            hint="Give waves to choose the order, devices or a query for a canary "
            "first.",
        )
    if plan.waves and plan.stages != Stages():
        raise UsageError(
            "waves were given, and how to split devices into waves, too",
            hint="Give waves, or devices or a query to be split.",
        )
    if plan.window is not None:
        check_window(plan.window)
        if plan.window.zone and time_zone(plan.window.zone) is None:
            raise UsageError(
                f"there is no time zone {plan.window.zone[:80]!r} here",
                hint="Write it as Europe/Oslo; it may be that tzdata is missing.",
            )


def _check_known(names: Sequence[str], known: Mapping[str, Device]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UsageError(
            f"there is no device {unknown[0]!r:.80}",
            hint=did_you_mean(unknown[0], known),
        )


def _meant(plan: Plan, devices: Sequence[Device]) -> list[Device]:
    query = parse_query(plan.query or "")
    return [device for device in devices if query.matches(device.labels)]


def _left_out(device: Device, shadow: Shadow, manifest: Manifest) -> str:
    """Say why a device is left out of a group, or nothing."""
    if device.enrolled_at_ms is None:
        # Who cannot answer would only keep the rollout open.
        return _NOT_ENROLLED
    name = manifest.name
    sides = (shadow.desired, shadow.reported)
    if all(release_in(side, name) == manifest.id for side in sides):
        return _THERE
    return foreseen_refusal(manifest, shadow.reported)
