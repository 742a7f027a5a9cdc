"""Why a device runs what it runs: one paragraph, from what the hub knows.

A pure function of the device, its shadow, its rollouts, the manifests and the time: it
asks nobody, so it says the same of a device that is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from skerry.core.documents import Json
from skerry.core.fleet import Device, Outcome, Rollout, RolloutState, Shadow
from skerry.core.release import Manifest, Reason, ReleaseId
from skerry.evolve.rollout import release_in

_PHASES = {
    "fetching": "is reading what was signed",
    "downloading": "is downloading it",
    "checking": "is checking it beside what runs",
    "switching": "is switching to it",
    "probation": "serves it on probation",
}
_ADVICE = {
    Reason.UNTRUSTED: "Publish it with a key that the device trusts.",
    Reason.REPLAYED: "Publish it again under a higher version.",
    Reason.CORRUPT: "Publish it again as a new version: that uploads its blobs anew.",
    Reason.TOO_NEW: "Upgrade Skerry on the device first.",
    Reason.UNFIT: "Publish a release with a model for this device's target.",
    Reason.LATENCY: "It takes a faster model, a larger budget, or a device less busy.",
    Reason.MEMORY: "It takes a smaller model or a larger budget.",
    Reason.SIZE: "It takes a smaller model or a larger budget.",
}
_BYTES = {Reason.MEMORY, Reason.SIZE}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """All that is known of one release name on one device."""

    name: str
    device: Device
    shadow: Shadow
    rollouts: Sequence[Rollout]
    manifests: Mapping[ReleaseId, Manifest]
    now_ms: int

    @property
    def runs(self) -> ReleaseId | None:
        return release_in(self.shadow.reported, self.name)

    @property
    def wanted(self) -> ReleaseId | None:
        return release_in(self.shadow.desired, self.name)

    def reported(self, key: str) -> dict[str, Json]:
        return entry_of(self.shadow.reported, key, self.name)


def why(
    device: Device,
    shadow: Shadow,
    rollouts: Sequence[Rollout],
    *,
    manifests: Mapping[ReleaseId, Manifest],
    now_ms: int,
) -> str:
    """Say what a device runs, what it should, why not yet, and what happens next.

    Args:
        device: The device.
        shadow: Its shadow.
        rollouts: Those that have it in a wave, the newest first.
        manifests: Of the releases in question, as far as they are known.
        now_ms: The time, milliseconds since 1970.

    Returns:
        One paragraph of plain English.
    """
    sentences = [_presence(device, now_ms), _clone(device, now_ms)]
    names = _names(shadow.desired) | _names(shadow.reported)
    names |= {rollout.release.name for rollout in rollouts}
    for name in sorted(names):
        case = _Case(
            name=name,
            device=device,
            shadow=shadow,
            rollouts=[one for one in rollouts if one.release.name == name],
            manifests=manifests,
            now_ms=now_ms,
        )
        sentences += _explain(case)
    if not names:
        sentences.append("It runs no release, and no rollout has it in a wave.")
    return " ".join(sentence for sentence in sentences if sentence)


def ago(at_ms: int | None, now_ms: int) -> str:
    """Say how long ago something was, coarsely: `12 s`, `5 min`, `3 h`, `2 days`."""
    if at_ms is None:
        return "never"
    seconds = max(0, (now_ms - at_ms) // 1000)
    for unit, length, upto in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < upto:
            return f"{seconds // length} {unit}"
    return f"{seconds // 86_400} days"


def utc(at_ms: int) -> str:
    """Write a time for people: `2026-01-01 00:00:00 UTC`; empty if it is none."""
    try:
        at = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return ""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def entry_of(side: Mapping[str, Json], key: str, name: str) -> dict[str, Json]:
    """Read `side[key][name]`, or nothing: what a device says may have any shape."""
    entries = side.get(key)
    entry = entries.get(name) if isinstance(entries, dict) else None
    return entry if isinstance(entry, dict) else {}


def describe_refusal(refusal: Mapping[str, Json]) -> str:
    """Say a refusal in a few words: reason, what, measured against allowed."""
    reason = str(refusal.get("reason", "no reason given"))[:40]
    what = str(refusal.get("what") or "")[:200].rstrip(".")
    measured, allowed = refusal.get("measured"), refusal.get("allowed")
    figures = ""
    if is_number(measured) and is_number(allowed):
        figures = (
            f" ({_figure(reason, measured)} measured, "
            f"{_figure(reason, allowed)} allowed)"
        )
    return f"{reason}{': ' if what else ''}{what}{figures}"


def is_number(value: Json) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _presence(device: Device, now_ms: int) -> str:
    if device.enrolled_at_ms is None:
        return (
            f"{device.name} is registered but has not enrolled yet: "
            "start its gateway with its one-time token."
        )
    if device.is_online:
        return f"{device.name} is online."
    if device.last_seen_ms is None:
        return f"{device.name} has enrolled but was never online."
    return f"{device.name} has been offline for {ago(device.last_seen_ms, now_ms)}."


def _clone(device: Device, now_ms: int) -> str:
    if device.cloned_at_ms is None:
        return ""
    return (
        f"Two gateways speak as {device.name}, last {ago(device.cloned_at_ms, now_ms)} "
        "ago: its disk was copied. Stop one, and enrol the other anew: skerry device "
        f"create {device.name}."
    )


def _explain(case: _Case) -> list[str]:
    sentences = [_what_runs(case), *_what_should(case)]
    if case.wanted is not None and case.wanted != case.runs:
        sentences += _why_not_yet(case)
    elif case.runs is not None and case.reported("releases").get("probation"):
        sentences.append("If it fails in that time it goes back by itself.")
    sentences += _waiting_for_waves(case)
    return sentences


def _what_runs(case: _Case) -> str:
    if case.runs is None:
        return f"It runs no {case.name}."
    entry = case.reported("releases")
    since_ms = entry.get("since_ms")
    since = ""
    if isinstance(since_ms, int) and not isinstance(since_ms, bool):
        since = f", since {utc(since_ms)}"
    trial = ", still on probation" if entry.get("probation") else ""
    verb = "runs" if case.device.is_online else "ran, when last heard,"
    return f"It {verb} {case.runs}{since}{trial}."


def _what_should(case: _Case) -> list[str]:
    if case.wanted is None:
        if case.runs is None:
            return []
        return ["Its shadow wants none of that name any more: what it has serves on."]
    by = str(entry_of(case.shadow.desired, "releases", case.name).get("rollout", ""))
    source = f", by rollout {by[:63]}" if by else ", as an operator set it"
    if case.wanted == case.runs:
        return [f"That is what it should run{source}."]
    return [f"It should run {case.wanted}{source}."]


def _why_not_yet(case: _Case) -> list[str]:
    refusal = case.reported("refused")
    if refusal.get("release") == str(case.wanted) and not _is_passing(refusal):
        return _refused(case, refusal)
    update = case.reported("update")
    if case.device.enrolled_at_ms is None:
        return ["Not yet, since it has not enrolled; then it begins."]
    if not case.device.is_online:
        return [
            "Not yet, since it is offline.",
            "As soon as it is back it reads its shadow and begins.",
        ]
    if case.wanted is not None and update.get("version") == case.wanted.version:
        return _under_way(case, update, refusal)
    return [_misfit(case) or "It has not answered yet; it begins within moments."]


def _refused(case: _Case, refusal: Mapping[str, Json]) -> list[str]:
    at_ms = refusal.get("at_ms")
    when = ""
    if isinstance(at_ms, int) and not isinstance(at_ms, bool):
        when = f" {ago(at_ms, case.now_ms)} ago"
    sentences = [f"It refused that{when} for {describe_refusal(refusal)}."]
    if case.runs is not None:
        sentences.append(f"{case.runs} goes on serving.")
    reason = str(refusal.get("reason"))
    advice = _ADVICE.get(Reason(reason), "") if reason in set(Reason) else ""
    sentences.append(
        f"It will not try again by itself. {advice or 'Publish a release that holds.'}"
    )
    return sentences


def _under_way(
    case: _Case, update: Mapping[str, Json], refusal: Mapping[str, Json]
) -> list[str]:
    phase = str(update.get("phase"))
    if phase in _PHASES:
        return [f"It {_PHASES[phase]} right now."]
    attempt, retry_at_ms = update.get("attempt"), update.get("retry_at_ms")
    if update.get("awaits_window") is True and isinstance(retry_at_ms, int):
        return [
            f"It waits for its maintenance window, and begins at {utc(retry_at_ms)}."
        ]
    trouble = f" ({describe_refusal(refusal)})" if refusal else ""
    tries = f"Attempt {attempt} did not work{trouble}" if attempt else "It waits"
    if isinstance(retry_at_ms, int) and not isinstance(retry_at_ms, bool):
        wait_s = max(0, retry_at_ms - case.now_ms) // 1000
        return [f"{tries}; it tries again at {utc(retry_at_ms)}, in {wait_s} s."]
    return [f"{tries}; it tries again by itself."]


def _misfit(case: _Case) -> str:
    """Say what speaks against the release before the device has answered."""
    manifest = case.manifests.get(case.wanted) if case.wanted else None
    agent = case.shadow.reported.get("agent")
    if manifest is None or not isinstance(agent, dict):
        return ""
    level, target = agent.get("level"), agent.get("target")
    if isinstance(level, int) and manifest.requires > level:
        return (
            f"Its agent understands level {level} and the release needs "
            f"{manifest.requires}: upgrade Skerry on the device."
        )
    if isinstance(target, str) and manifest.model_for(target) is None:
        return f"The release has no model for its target {target[:63]}."
    return ""


def _waiting_for_waves(case: _Case) -> list[str]:
    # The newest says it all; older ones would only bury it.
    rollout = next(
        (one for one in case.rollouts if case.device.name in one.progress), None
    )
    if rollout is None:
        return []
    outcome = rollout.progress[case.device.name].outcome
    if outcome is Outcome.SUPERSEDED and rollout.release != case.wanted:
        said = "no longer concerns it: its shadow was changed since."
        return [f"Rollout {rollout.id} of {rollout.release} {said}"]
    if outcome is Outcome.WAITING:
        return [_waits(rollout, case.device.name)]
    if outcome is Outcome.UNDOING:
        is_at_it = rollout.state is RolloutState.UNDOING
        verb = "is taking it back" if is_at_it else "could not take it back"
        of = f"{rollout.id} {verb} from {rollout.release}"
        return [f"Rollout {of}: {rollout.reason}."]
    return []


def _waits(rollout: Rollout, device: str) -> str:
    number = next(
        place
        for place, wave in enumerate(rollout.waves, start=1)
        if device in wave.devices
    )
    if not rollout.state.is_going_on:
        return (
            f"Rollout {rollout.id} of {rollout.release} ended before its wave "
            f"({number}) came: {rollout.reason or rollout.state.value}."
        )
    wave = rollout.waves[rollout.wave].devices
    paused = f", {rollout.reason}" if rollout.reason else ""
    updated = sum(rollout.progress[one].outcome is Outcome.UPDATED for one in wave)
    return (
        f"Rollout {rollout.id} brings it {rollout.release} in wave {number}; "
        f"wave {rollout.wave + 1} of {len(rollout.waves)} is under way, with "
        f"{updated} of {len(wave)} updated{paused}."
    )


def _figure(reason: str, value: Json) -> str:
    number = float(str(value))
    if reason == Reason.LATENCY.value:
        return f"{number:.3g} ms"
    if reason in {one.value for one in _BYTES}:
        return f"{number / 1000:,.0f} kB" if number >= 10_000 else f"{number:.0f} B"
    return f"{number:.3g}"


def _is_passing(refusal: Mapping[str, Json]) -> bool:
    reason = str(refusal.get("reason"))
    return reason in set(Reason) and Reason(reason).is_passing


def _names(side: Mapping[str, Json]) -> set[str]:
    releases = side.get("releases")
    return set(releases) if isinstance(releases, dict) else set()
