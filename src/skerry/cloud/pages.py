"""The status page: what the fleet does, readable on a phone, without a script.

What is shown is first made into rows of plain text (`overview`), then written by a
template that escapes everything. The page asks for nothing from outside, and its
Content-Security-Policy says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from skerry.cloud.why import ago, describe_refusal, entry_of, is_number, utc
from skerry.core.documents import Json
from skerry.core.fleet import Device, Outcome, Rollout, RolloutState, Shadow
from skerry.core.release import Manifest
from skerry.evolve.rollout import release_in

Tone = Literal["good", "bad", "busy", "quiet"]

REFRESH_S = 5
"""How often the page asks again by itself."""

MOST_DEVICES = 500
"""Most devices on the page: a longer table nobody reads."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_STATE_TONES: Mapping[RolloutState, Tone] = {
    RolloutState.RUNNING: "busy",
    RolloutState.PAUSED: "quiet",
    RolloutState.AWAITING: "busy",
    RolloutState.SUCCEEDED: "good",
    RolloutState.STOPPED: "bad",
    RolloutState.UNDOING: "busy",
    RolloutState.UNDONE: "bad",
}
_OUTCOME_TONES: Mapping[Outcome, Tone] = {
    Outcome.WAITING: "quiet",
    Outcome.SENT: "busy",
    Outcome.UPDATED: "good",
    Outcome.REFUSED: "bad",
    Outcome.LATE: "bad",
    Outcome.UNDOING: "busy",
    Outcome.UNDONE: "quiet",
    Outcome.SUPERSEDED: "quiet",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of a device's log.

    Attributes:
        device: Whose.
        at_ms: When, by the device's clock.
        name: What happened.
        fields: What else it says.
    """

    device: str
    at_ms: int
    name: str
    fields: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One release name on one device."""

    name: str
    runs: str
    wanted: str
    status: str
    tone: Tone
    refusal: str
    drift: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One device."""

    name: str
    labels: str
    presence: str
    tone: Tone
    place: str
    models: tuple[ModelRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """One device of a wave."""

    device: str
    outcome: str
    tone: Tone
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveRow:
    """One wave of a rollout."""

    title: str
    members: tuple[MemberRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """One rollout; `share` is the fraction of its devices that are updated."""

    id: str
    release: str
    state: str
    tone: Tone
    reason: str
    began: str
    share: float
    counted: str
    waves: tuple[WaveRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRow:
    """One release."""

    id: str
    made: str
    targets: str
    size: str
    notes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One line of a log."""

    at: str
    device: str
    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All that the page shows."""

    tenant: str
    at: str
    headline: str
    devices: tuple[DeviceRow, ...]
    left_out: int
    rollouts: tuple[RolloutRow, ...]
    releases: tuple[ReleaseRow, ...]
    log: tuple[LogRow, ...]


def overview(
    fleet: Sequence[tuple[Device, Shadow]],
    *,
    rollouts: Sequence[Rollout],
    releases: Sequence[Manifest],
    log: Sequence[LogLine],
    tenant: str,
    now_ms: int,
) -> Overview:
    """Make what is known into rows of text.

    Args:
        fleet: Devices with their shadows.
        rollouts: The newest first.
        releases: The newest first.
        log: The newest first.
        tenant: Whose fleet it is.
        now_ms: The time, milliseconds since 1970.
    """
    shown = fleet[:MOST_DEVICES]
    return Overview(
        tenant=tenant,
        at=utc(now_ms),
        headline=_headline(fleet, rollouts),
        devices=tuple(_device_row(*one, now_ms=now_ms) for one in shown),
        left_out=len(fleet) - len(shown),
        rollouts=tuple(_rollout_row(one, now_ms) for one in rollouts),
        releases=tuple(_release_row(one) for one in releases),
        log=tuple(_log_row(one) for one in log),
    )


def render(shown: Overview) -> str:
    """Write the page."""
    return _ENVIRONMENT.get_template("page.html").render(
        page=shown, refresh_s=REFRESH_S, policy=CONTENT_SECURITY_POLICY
    )


def _headline(
    fleet: Sequence[tuple[Device, Shadow]], rollouts: Sequence[Rollout]
) -> str:
    if not fleet:
        return "No device yet: register one, and start its gateway with its token."
    online = sum(device.is_online for device, _ in fleet)
    current = sum(_is_current(shadow) for _, shadow in fleet)
    running = sum(one.state is RolloutState.RUNNING for one in rollouts)
    under_way = {0: "No rollout", 1: "One rollout"}.get(running, f"{running} rollouts")
    return (
        f"{online} of {_count(len(fleet), 'device')} online, {current} running what "
        f"they should. {under_way} under way."
    )


def _is_current(shadow: Shadow) -> bool:
    wanted = shadow.desired.get("releases")
    return isinstance(wanted, dict) and all(
        release_in(shadow.desired, name) == release_in(shadow.reported, name)
        for name in wanted
    )


def _device_row(device: Device, shadow: Shadow, *, now_ms: int) -> DeviceRow:
    agent = shadow.reported.get("agent")
    agent = agent if isinstance(agent, dict) else {}
    if device.enrolled_at_ms is None:
        presence = "not enrolled"
    elif device.is_online:
        presence = "online"
    else:
        presence = f"offline for {ago(device.last_seen_ms, now_ms)}"
        presence = "never online" if device.last_seen_ms is None else presence
    place = (agent.get("target"), agent.get("address"))
    return DeviceRow(
        name=device.name,
        labels=", ".join(f"{key}={value}" for key, value in device.labels.items()),
        presence=presence,
        tone="good" if device.is_online else "quiet",
        place=" · ".join(str(part)[:80] for part in place if part),
        models=tuple(
            _model_row(shadow, name, now_ms) for name in sorted(_names(shadow))[:20]
        ),
    )


def _names(shadow: Shadow) -> set[str]:
    sides = (shadow.desired.get("releases"), shadow.reported.get("releases"))
    return {name for side in sides if isinstance(side, dict) for name in side}


def _model_row(shadow: Shadow, name: str, now_ms: int) -> ModelRow:
    runs = release_in(shadow.reported, name)
    wanted = release_in(shadow.desired, name)
    refusal = entry_of(shadow.reported, "refused", name)
    update = entry_of(shadow.reported, "update", name)
    trial = entry_of(shadow.reported, "releases", name).get("probation")
    status, tone = _status(runs == wanted, refusal, update, is_trial=bool(trial))
    return ModelRow(
        name=name,
        runs=str(runs.version) if runs else "–",
        wanted=str(wanted.version) if wanted else "–",
        status=status,
        tone=tone,
        refusal=(
            f"{str(refusal.get('release'))[:80]} refused for "
            f"{describe_refusal(refusal)}"
            if refusal
            else ""
        ),
        drift=_drift(entry_of(shadow.reported, "drift", name), now_ms),
    )


def _status(
    is_current: bool,  # noqa: FBT001 - one of three facts, named by the caller
    refusal: Mapping[str, Json],
    update: Mapping[str, Json],
    *,
    is_trial: bool,
) -> tuple[str, Tone]:
    if is_trial:
        return "on probation", "busy"
    if update:
        return str(update.get("phase", "updating"))[:40], "busy"
    if is_current:
        return "as it should", "good"
    return ("refused", "bad") if refusal else ("waiting", "busy")


def _drift(drift: Mapping[str, Json], now_ms: int) -> str:
    if not drift.get("is_drift"):
        return ""
    since_ms, sent = drift.get("since_ms"), drift.get("samples_sent")
    since = f" for {ago(int(str(since_ms)), now_ms)}" if _is_whole(since_ms) else ""
    samples = f", {_count(int(str(sent)), 'sample')} sent" if _is_whole(sent) else ""
    return f"input has drifted{since}{samples}"


def _is_whole(value: Json) -> bool:
    return is_number(value) and isinstance(value, int)


def _rollout_row(rollout: Rollout, now_ms: int) -> RolloutRow:
    everyone = rollout.progress.values()
    updated = sum(one.outcome is Outcome.UPDATED for one in everyone)
    waves = []
    for place, wave in enumerate(rollout.waves):
        is_now = place == rollout.wave and rollout.state.is_going_on
        members = tuple(_member_row(rollout, one) for one in wave.devices[:100])
        title = f"Wave {place + 1}{' (now)' if is_now else ''}"
        waves.append(WaveRow(title=title, members=members))
    return RolloutRow(
        id=rollout.id,
        release=str(rollout.release),
        state=rollout.state.value,
        tone=_STATE_TONES[rollout.state],
        reason=rollout.reason,
        began=f"began {ago(rollout.started_at_ms, now_ms)} ago",
        share=updated / max(1, len(everyone)),
        counted=f"{updated} of {len(everyone)} updated",
        waves=tuple(waves),
    )


def _member_row(rollout: Rollout, device: str) -> MemberRow:
    one = rollout.progress[device]
    return MemberRow(
        device=device,
        outcome=one.outcome.value,
        tone=_OUTCOME_TONES[one.outcome],
        reason=one.reason,
    )


def _release_row(manifest: Manifest) -> ReleaseRow:
    sizes = [model.blob.size_bytes for model in manifest.models]
    return ReleaseRow(
        id=str(manifest.id),
        made=utc(manifest.created_at_ms),
        targets=", ".join(model.target for model in manifest.models),
        size=" / ".join(f"{size / 1000:,.0f} kB" for size in sizes),
        notes=manifest.notes,
    )


def _log_row(line: LogLine) -> LogRow:
    fields = ", ".join(
        f"{key}: {value}"
        for key, value in line.fields.items()
        if key not in {"name", "at_ms"} and value not in (None, "", {}, [])
    )
    text = fields if len(fields) <= 200 else f"{fields[:199]}…"
    return LogRow(at=utc(line.at_ms), device=line.device, name=line.name, text=text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


_ENVIRONMENT = Environment(
    loader=PackageLoader("skerry.cloud", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
