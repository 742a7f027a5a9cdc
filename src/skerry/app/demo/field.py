"""Act 5: the lens fogs; the fleet notices, asks for labels, learns and heals itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.app.demo.load import Reply, Scene, ask_all
from skerry.app.demo.stage import CANARY_FIRST, GATEWAYS, Stage
from skerry.app.demo.workshop import Made, pack
from skerry.core.durable import write_file
from skerry.core.errors import StateError
from skerry.core.fleet import RolloutState

CAMERA = GATEWAYS[0]
CLEAR_FILE, FOGGED_FILE = "1-clear.npz", "2-fogged.npz"
CLEAR_S = 3.0
"""How long the camera sees clearly while it is watched: no alarm may come."""

MOST_SAMPLES = 100
ALARM_TIMEOUT_S = 40.0
SAMPLES_TIMEOUT_S = 40.0
SETTLED_S = 2.0
"""How long the load goes on at the end, for the picture."""

COLLECT = {"most": MOST_SAMPLES, "window_frames": 20, "per_window": 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldAccuracy:
    """Digits read right by the fleet, over HTTP, as fractions.

    Attributes:
        before: Through a clear lens.
        drifted: Through the fogged one.
        after: The same fogged pictures, by the healed release.
        clear_after: Through a clear lens, by the healed release.
    """

    before: float
    drifted: float
    after: float
    clear_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFigures:
    """What came of act 5.

    Attributes:
        accuracy: On pictures that nothing was fitted on.
        pictures: How many of them.
        found_after: Frames of the fogged camera until the alarm.
        clear_frames: Frames of the clear camera, without one.
        samples: Pictures sent to the hub.
        uncertain: How many of them were sent because the model was unsure.
        labelled: How many of them the operator labelled.
        release: The healed release.
        delta_bytes: It as a delta, as the gateways fetch it; None without one.
        full_bytes: The same whole.
        evidence: What the hub's gates found, a line.
        healed_s: From the first fogged frame until all gateways run it.
    """

    accuracy: FieldAccuracy
    pictures: int
    found_after: int
    clear_frames: int
    samples: int
    uncertain: int
    labelled: int
    release: str
    delta_bytes: int | None
    full_bytes: int
    evidence: str
    healed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """What the camera and the people in the field see.

    Attributes:
        clear: Pictures through a clear lens, for the load and for measuring.
        fogged: The same through a fogged one.
        clear_recording: What the camera sees at first.
        fogged_recording: What it sees then; other digits than those of `fogged`.
    """

    clear: Scene
    fogged: Scene
    clear_recording: Scene
    fogged_recording: Scene


async def heal(stage: Stage, lens: Lens, running: Made, camera: Path) -> FieldFigures:
    """Fog the lens and let the fleet heal itself.

    Args:
        stage: The fleet.
        lens: What is seen.
        running: The release that all gateways run.
        camera: The folder that stands for the first gateway's camera.
    """
    stage.load.show(lens.clear)
    write_file(camera / CLEAR_FILE, pack(lens.clear_recording))
    before = await measure(stage, lens.clear)
    stage.say(f"the field, through a clear lens: {before:.1%} of digits read right")
    await stage.clock.sleep(CLEAR_S)
    fog_s = stage.clock.wall_s()
    write_file(camera / FOGGED_FILE, pack(lens.fogged_recording))
    stage.load.show(lens.fogged)
    stage.mark("field", "the lens fogs")
    drifted = await measure(stage, lens.fogged)
    stage.say(f"the lens fogs (blur, gain, noise): {drifted:.1%} read right")
    alarm = await _wait_alarm(stage)
    samples = await _wait_samples(stage, running)
    found_after, clear_frames = _count_frames(alarm)
    stage.say(
        f"{CAMERA} raises the alarm after {found_after} fogged frames; none on "
        f"{clear_frames} clear ones"
    )
    labelled = await label(stage, samples, lens)
    uncertain = sum(_kind(sample) == "uncertain" for sample in samples)
    stage.mark("field", f"{labelled} samples labelled")
    stage.say(
        f"{len(samples)} pictures came to the hub, {uncertain} because the model was "
        f"unsure, the rest at random; the operator labels them (the demo takes the "
        f"recording's truth)"
    )
    healed, evidence = await _retrain(stage, running)
    stage.say(f"the hub refits the head: {evidence}")
    bundle = await stage.publish(healed, deltas_from=[running])
    delta_bytes = bundle.delta_bytes.get(running.blob)
    stage.mark("swap", f"rollout of {healed.id}, canary first")
    rollout = await stage.roll_out(healed.id, CANARY_FIRST)
    await stage.wait_rollout(rollout, RolloutState.SUCCEEDED)
    healed_s = stage.clock.wall_s() - fog_s
    stage.mark("swap", f"{healed.id} runs on all gateways")
    after = await measure(stage, lens.fogged)
    clear_after = await measure(stage, lens.clear)
    await stage.clock.sleep(SETTLED_S)
    figures = FieldFigures(
        accuracy=FieldAccuracy(
            before=before, drifted=drifted, after=after, clear_after=clear_after
        ),
        pictures=len(lens.fogged),
        found_after=found_after,
        clear_frames=clear_frames,
        samples=len(samples),
        uncertain=uncertain,
        labelled=labelled,
        release=str(healed.id),
        delta_bytes=delta_bytes,
        full_bytes=len(healed.content),
        evidence=evidence,
        healed_s=healed_s,
    )
    _tell(stage, figures)
    return figures


async def measure(stage: Stage, scene: Scene) -> float:
    """Show a scene to the fleet over HTTP; the fraction of digits read right.

    Raises:
        StateError: A picture had no answer.
    """
    clients = {name: stage.client(name) for name in GATEWAYS}
    replies = await ask_all(stage.load, clients, scene)
    return share_right(replies)


def share_right(replies: Sequence[Reply]) -> float:
    """The fraction of replies that read the digit right.

    Raises:
        StateError: There are none, or one failed.
    """
    failed = [reply for reply in replies if reply.is_right is None]
    if failed or not replies:
        what = failed[0].what if failed else "nothing was asked"
        raise StateError(
            f"{len(failed)} of {len(replies)} pictures had no answer: {what}",
            hint="Look at the gateways' logs.",
        )
    return sum(bool(reply.is_right) for reply in replies) / len(replies)


async def label(stage: Stage, samples: Sequence[Any], lens: Lens) -> int:
    """Label samples by the recordings' truth; returns how many."""
    truth = {
        CLEAR_FILE: lens.clear_recording.labels,
        FOGGED_FILE: lens.fogged_recording.labels,
    }
    for sample in samples:
        notes = sample["notes"]
        digit = int(truth[notes["recording"]][int(notes["index"])])
        await stage.api.label_sample(str(sample["id"]), str(digit))
    return len(samples)


async def _wait_alarm(stage: Stage) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def has_alarmed() -> bool:
        found[:] = await _events(stage, "drift.alarm")
        return bool(found)

    await stage.until(has_alarmed, "the drift alarm", timeout_s=ALARM_TIMEOUT_S)
    stage.mark("field", f"{CAMERA}: drift alarm")
    return found[0]


async def _wait_samples(stage: Stage, running: Made) -> list[Any]:
    samples: list[Any] = []

    async def are_there() -> bool:
        samples[:] = await stage.api.samples(release=running.id)
        return len(samples) >= MOST_SAMPLES

    await stage.until(are_there, "the samples", timeout_s=SAMPLES_TIMEOUT_S)
    return samples


async def _events(stage: Stage, name: str) -> list[dict[str, Any]]:
    events = await stage.api.logs(CAMERA, limit=200)
    return [event for event in events if event.get("name") == name]


async def _retrain(stage: Stage, running: Made) -> tuple[Made, str]:
    """Have the hub refit the head, and make a release of its candidate."""
    replay = stage.workshop.replay()
    sha256 = hashlib.sha256(replay).hexdigest()
    await stage.api.blobs.put(sha256, replay)
    begun = await stage.api.start_retraining(running.id, replay=sha256)
    found: dict[str, Any] = {}

    async def has_ended() -> bool:
        found.update(await stage.api.retraining(begun))
        return found["state"] in {"passed", "failed"}

    await stage.until(has_ended, "the retraining")
    if found["state"] != "passed":
        raise StateError(
            f"the retraining did not pass its gates: {found.get('reason')}",
            hint=f"Look at {stage.fleet.log('hub')}.",
        )
    parts = {
        role: b"".join([part async for part in stage.api.blobs.open(blob["sha256"])])
        for role, blob in found["candidate"].items()
    }
    healed = stage.workshop.adopt(running, parts["model"], parts["drift"])
    return healed, tell_evidence(found["evidence"])


def tell_evidence(evidence: dict[str, Any]) -> str:
    """Say what the gates of a retraining found, in a line."""
    return (
        f"{evidence['field_before']:.0%} → {evidence['field_after']:.0%} of "
        f"{evidence['n_field']} field samples (each fold on a head that has not seen "
        f"it), {evidence['old_before']:.1%} → {evidence['old_after']:.1%} of "
        f"{evidence['n_old']} old ones"
    )


def _count_frames(alarm: Mapping[str, Any]) -> tuple[int, int]:
    """Fogged frames until the alarm, and clear ones before them.

    Raises:
        StateError: The alarm was raised on a clear frame.
    """
    fields = alarm["fields"]
    if fields["notes"]["recording"] != FOGGED_FILE:
        raise StateError(
            "the drift watch raised the alarm on a clear lens",
            hint="That is a false alarm.",
        )
    found_after = int(fields["notes"]["index"]) + 1
    return found_after, int(fields["frame"]) + 1 - found_after


def _kind(sample: Any) -> str:
    return str(sample["kind"])


def _tell(stage: Stage, figures: FieldFigures) -> None:
    accuracy = figures.accuracy
    delta = figures.delta_bytes
    stage.say(
        f"{figures.release} on all gateways {figures.healed_s:.0f} s after the fog: "
        f"{accuracy.before:.1%} → {accuracy.drifted:.1%} → {accuracy.after:.1%} of "
        f"{figures.pictures} digits ({accuracy.clear_after:.1%} of the clear ones), "
        f"{figures.samples} samples sent, "
        + (
            f"{delta:,} bytes shipped to each gateway instead of {figures.full_bytes:,}"
            if delta is not None
            else f"{figures.full_bytes:,} bytes shipped to each gateway"
        )
    )
