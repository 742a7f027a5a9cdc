"""Who is in which wave, resolved when a rollout starts.

Waves of fixed sizes, of percents of all, or each so many times as large as the one
before; a canary first, which is a number of devices or those with some labels.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.core.documents import Json
from skerry.core.errors import UsageError
from skerry.core.fleet import Device, Gate, Wave
from skerry.core.release import Manifest
from skerry.evolve.rollout.labels import parse_query
from skerry.evolve.rollout.observe import figure_at
from skerry.evolve.update import check_manifest
from skerry.evolve.update_state import UpdatePolicy

MOST_DEVICES = 100_000
"""Most devices of one rollout."""

MOST_RETRIES = 100
"""Most times that a device is told again."""

_SIZE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(%?)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """How devices are split into waves.

    Attributes:
        canary: The first wave: a number of devices, or a label query for them.
        sizes: The waves after it: numbers of devices, or percents of all, such as
            `25%`; the last one again and again until nobody is left.
        growth: Instead of sizes, how many times as large as the wave before each is.
    """

    canary: str = "1"
    sizes: tuple[str, ...] = ()
    growth: float | None = None


def canary_waves(devices: Sequence[str], *, canaries: int = 1) -> tuple[Wave, ...]:
    """Split devices into a first wave of a few and a second one of the rest.

    Args:
        devices: Their names, in the order in which they are to be updated.
        canaries: How many are in the first wave.

    Returns:
        One wave, or two where there are more devices than canaries.

    Example:
        >>> [wave.devices for wave in canary_waves(["a", "b", "c"])]
        [('a',), ('b', 'c')]
    """
    return _cut(devices, [canaries, len(devices)])


def split(devices: Sequence[Device], stages: Stages) -> tuple[Wave, ...]:
    """Split devices into waves.

    Args:
        devices: In the order in which they are to be updated.
        stages: How.

    Returns:
        The waves, none of them empty; together they are all the devices.

    Raises:
        UsageError: The stages make no sense.

    Example:
        >>> fleet = [Device(name=f"gw-{n}", created_at_ms=0) for n in range(10)]
        >>> [len(wave.devices) for wave in split(fleet, Stages(growth=2))]
        [1, 2, 4, 3]
    """
    if stages.growth is not None and stages.sizes:
        raise UsageError(
            "waves of given sizes or waves that grow, both were given",
            hint="Give sizes, or a growth factor.",
        )
    names = [device.name for device in devices]
    n_first = 0
    if stages.canary.isascii() and stages.canary.isdigit():
        n_first = min(int(stages.canary[:9]), len(names))
    else:
        query = parse_query(stages.canary)
        first = {device.name for device in devices if query.matches(device.labels)}
        if names and not first:
            raise UsageError(
                f"none of {len(names)} devices is a canary by {stages.canary!r:.80}",
                hint="Label one, or give the number of canaries.",
            )
        names = sorted(names, key=lambda name: name not in first)
        n_first = len(first)
    return _cut(names, [n_first, *_sizes(stages, n_first, len(names))])


def check_waves(waves: Sequence[Wave]) -> None:
    """Refuse waves that cannot be a rollout's.

    Raises:
        UsageError: There is none, one is empty, a device stands in two, or they are
            too many.
    """
    devices = [device for wave in waves for device in wave.devices]
    if not waves or not all(wave.devices for wave in waves):
        raise UsageError(
            f"a rollout of {len(waves)} waves, one of them empty or none at all",
            hint="Name at least one device for each wave.",
        )
    if len(devices) > MOST_DEVICES:
        raise UsageError(
            f"a rollout of {len(devices)} devices, at most {MOST_DEVICES} expected",
            hint="Start several rollouts.",
        )
    device, times = Counter(devices).most_common(1)[0]
    if times > 1:
        raise UsageError(
            f"{device} stands in this rollout twice",
            hint="Name each device in one wave.",
        )


def check_gate(gate: Gate) -> None:
    """Refuse a gate that can never hold.

    Raises:
        UsageError: A ratio, a time, a count or a metric's limit makes no sense, or
            figures are asked for and no time is left to gather them.
    """
    times = (gate.timeout_s, gate.soak_s)
    if not 0 <= gate.success_ratio <= 1:
        raise UsageError(
            f"a gate's success ratio of {gate.success_ratio}, 0 to 1 expected",
            hint="0.95 lets one device of twenty fail.",
        )
    if not all(math.isfinite(time) and time >= 0 for time in times):
        raise UsageError(
            f"a gate with timeout {gate.timeout_s} s and soak {gate.soak_s} s",
            hint="Give times in seconds, from 0 up.",
        )
    if not 0 <= gate.retries <= MOST_RETRIES or gate.least_requests < 0:
        raise UsageError(
            f"a gate with {gate.retries} retries and {gate.least_requests} requests",
            hint=f"Give 0 to {MOST_RETRIES} retries, and requests from 0 up.",
        )
    if gate.metrics and gate.soak_s == 0:
        raise UsageError(
            f"a gate asks for {gate.metrics[0].metric} and leaves no time to gather it",
            hint="Let each wave soak: a minute or more.",
        )
    for metric in gate.metrics:
        if not math.isfinite(metric.limit) or not metric.metric:
            raise UsageError(
                f"a gate's metric {metric.metric[:80]!r} with the limit {metric.limit}",
                hint="Write METRIC<=LIMIT: latency_p99_ms<=20.",
            )


def foreseen_refusal(manifest: Manifest, reported: Mapping[str, Json]) -> str:
    """Say why a device would refuse a release, or nothing where it may take it.

    Args:
        manifest: The release's.
        reported: The reported side of the device's shadow; what it does not say is not
            held against it.
    """
    said = reported.get("agent")
    agent = said if isinstance(said, dict) else {}
    target, runtimes = agent.get("target"), agent.get("runtimes")
    level, abi = figure_at(agent, "level"), agent.get("abi")
    if not isinstance(target, str) or level is None:
        return ""
    policy = UpdatePolicy(
        target=target,
        level=int(level),
        runtimes=frozenset(map(str, runtimes)) if isinstance(runtimes, list) else None,
        abi=abi if isinstance(abi, str) and abi else None,
    )
    refusal = check_manifest(manifest, manifest.id, policy, now_ms=0)
    return "" if refusal is None else f"{refusal.reason.value}: {refusal.what}"


def _cut(names: Sequence[str], sizes: Sequence[int]) -> tuple[Wave, ...]:
    waves, at = [], 0
    for size in sizes:
        if names[at : at + size]:
            waves.append(Wave(devices=tuple(names[at : at + size])))
        at += size
    return tuple(waves)


def _sizes(stages: Stages, first: int, everyone: int) -> list[int]:
    """The sizes of the waves after the first, enough of them for everyone."""
    growth, covered = stages.growth, first
    sizes: list[int] = []
    if growth is not None and not (math.isfinite(growth) and growth > 1):
        raise UsageError(
            f"waves that grow by the factor {growth}, more than 1 expected",
            hint="2 doubles each wave.",
        )
    given = [_size(text, everyone) for text in stages.sizes]
    exact = float(max(1, first))
    while covered < everyone:
        if growth is not None:
            # The first wave of all where there is no canary is one device.
            exact = exact * growth if covered else exact
            size = math.floor(exact)
        elif given:
            size = given[min(len(sizes), len(given) - 1)]
        else:
            size = everyone - covered
        sizes.append(size)
        covered += size
    return sizes


def _size(text: str, everyone: int) -> int:
    match = _SIZE.fullmatch(text.strip())
    number = float(match[1]) if match else 0.0
    is_percent = bool(match and match[2])
    if number <= 0 or (number > 100 if is_percent else number % 1):
        raise UsageError(
            f"a wave of {text[:40]!r}, a number of devices or a percentage expected",
            hint="Write 10, or 25% of all.",
        )
    return max(1, math.ceil(everyone * number / 100)) if is_percent else int(number)
