"""What a shadow says of a device's part in a rollout; it may have any shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from skerry.core.documents import Json
from skerry.core.fleet import Figures, MetricGate, Outcome, Rollout, Shadow
from skerry.core.release import Reason, ReleaseId

TOLD = frozenset({Outcome.SENT, Outcome.UPDATED, Outcome.REFUSED, Outcome.LATE})
"""Outcomes of devices that were told to update and have not been told to go back."""


def previous_release(shadow: Shadow, name: str) -> ReleaseId | None:
    """Tell what undoing a rollout that starts now would go back to.

    That is what the shadow wants, unless the device has refused just that for good:
    then it is what the device says it runs.

    Args:
        shadow: The device's shadow.
        name: The release's name.
    """
    wanted = release_in(shadow.desired, name)
    refusal = entry_of(shadow.reported, "refused", name)
    if wanted is not None and refusal.get("release") == str(wanted):
        reason = str(refusal.get("reason"))
        if not is_passing(reason):
            return release_in(shadow.reported, name)
    return wanted


def release_in(side: Mapping[str, Json], name: str) -> ReleaseId | None:
    """Read which release of a name one side of a shadow holds."""
    version = entry_of(side, "releases", name).get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > 0:
        return ReleaseId(name=name, version=version)
    return None


def is_changed_elsewhere(rollout: Rollout, shadow: Shadow) -> bool:
    """Whether a device's shadow no longer wants what the rollout left it wanting.

    Args:
        rollout: A rollout whose actions are all done.
        shadow: The shadow of one of its devices.
    """
    progress = rollout.progress[shadow.device]
    name = rollout.release.name
    wanted = release_in(shadow.desired, name)
    if progress.outcome is Outcome.WAITING:
        return progress.previous not in {wanted, previous_release(shadow, name)}
    if progress.outcome in TOLD:
        by = entry_of(shadow.desired, "releases", name).get("rollout")
        return wanted != rollout.release or by != rollout.id
    if progress.outcome in {Outcome.UNDOING, Outcome.UNDONE}:
        return wanted != progress.previous
    return False


def runs_for_good(rollout: Rollout, reported: Mapping[str, Json]) -> bool:
    """Whether a device runs a rollout's release and has passed its probation."""
    name = rollout.release.name
    runs = entry_of(reported, "releases", name)
    return release_in(reported, name) == rollout.release and not runs.get("probation")


def refusal_of(
    rollout: Rollout, release: ReleaseId, reported: Mapping[str, Json]
) -> str:
    """Say why a device has refused a release in this rollout; empty if it has not."""
    reason, said = _said(rollout, release, reported)
    return "" if is_passing(reason) else said


def trouble_of(
    rollout: Rollout, release: ReleaseId, reported: Mapping[str, Json]
) -> str:
    """Say what keeps a device that goes on trying; empty if nothing does."""
    reason, said = _said(rollout, release, reported)
    return said if is_passing(reason) else ""


def is_passing(reason: str) -> bool:
    """Whether trying again may help; a newer agent's reason is a refusal."""
    try:
        return Reason(reason).is_passing
    except ValueError:
        return False


def figures_of(
    reported: Mapping[str, Json], name: str, gates: Sequence[MetricGate]
) -> Figures:
    """Read the figures that gates ask for, as far as the device reports them.

    Args:
        reported: The reported side.
        name: The release's name.
        gates: What is asked for.

    Returns:
        By metric, with `requests` where the device counts them. Rates come as counts:
        `failed` for `error_rate`.
    """
    found: dict[str, float] = {}
    serving = entry_of(reported, "serving", name)
    for gate in gates:
        section, _, key = gate.metric.rpartition(".")
        of_name = entry_of(reported, section, name) if section else serving
        whole = reported.get(section)
        figure = figure_at(of_name, key)
        if figure is None and isinstance(whole, dict):
            figure = figure_at(whole, key)
        if figure is not None:
            found[gate.metric] = figure
    for key in ("requests", "failed"):
        count = figure_at(serving, key)
        if gates and count is not None:
            found[key] = count
    return found


def serves(reported: Mapping[str, Json], name: str) -> ReleaseId | None:
    """Read which release the figures in `serving` are of."""
    version = entry_of(reported, "serving", name).get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > 0:
        return ReleaseId(name=name, version=version)
    return None


def figure_at(entry: Mapping[str, Json], key: str) -> float | None:
    """Read a finite number, or None."""
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def entry_of(side: Mapping[str, Json], key: str, name: str) -> dict[str, Json]:
    """Read `side[key][name]`; what a device says may have any shape."""
    entries = side.get(key)
    entry = entries.get(name) if isinstance(entries, dict) else None
    return entry if isinstance(entry, dict) else {}


def _said(
    rollout: Rollout, release: ReleaseId, reported: Mapping[str, Json]
) -> tuple[str, str]:
    """The reason by which a device does not run a release, and a line for people."""
    refusal = entry_of(reported, "refused", release.name)
    is_ours = refusal.get("release") == str(release)
    if not is_ours or refusal.get("rollout") != rollout.id:
        return "", ""
    reason = str(refusal.get("reason", ""))
    what = str(refusal.get("what", ""))[:200]
    return reason, f"{reason}: {what}" if what else reason or "no reason given"
