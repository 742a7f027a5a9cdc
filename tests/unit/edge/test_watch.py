from __future__ import annotations

import asyncio
import base64
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.documents import Json
from skerry.core.errors import RuntimeFailure
from skerry.core.model import TensorSpec
from skerry.core.release import Blob, Manifest, ReleaseId, ReleaseModel
from skerry.core.seams import Array, Frame, Tensors
from skerry.edge import watch as watch_module
from skerry.edge.installed import Installed
from skerry.edge.watch import FieldWatch
from skerry.evolve.drift import make_reference, write_reference
from skerry.evolve.sampling import SamplingSettings
from tests.clusters import BIAS, SIZE, WEIGHT, classes, confidences, draw

TASK = """schema = "skerry.task/1"
kind = "classification"
metric = "top1"
labels = ["a", "b", "c"]
[[post]]
step = "softmax"
[[post]]
step = "topk"
k = 3
"""
_BLOB = Blob(sha256="0" * 64, size_bytes=1)


class _Sent:
    """What the watch put into the outbox."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Mapping[str, Any]]] = []

    async def put(self, kind: str, body: Mapping[str, Json]) -> int:
        self.messages.append((str(kind), body))
        return len(self.messages)

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [body for sent, body in self.messages if sent == kind]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Answer:
    release: ReleaseId
    outputs: Tensors


def _outputs(point: Array) -> dict[str, Array]:
    return {"logits": point @ WEIGHT.T + BIAS, "embedding": point}


class _Engine:
    """Answers at once; fails or swaps when told to."""

    def __init__(self, installed: Installed | None) -> None:
        self.installed = installed
        self.failures = 0
        self.answered = 0

    async def infer(
        self, name: str, inputs: Tensors, *, is_own: bool = False
    ) -> _Answer:
        assert is_own
        await asyncio.sleep(0)
        self.answered += 1
        if self.failures:
            self.failures -= 1
            raise RuntimeFailure("it broke", hint="Mend it.")
        assert self.installed is not None
        assert name == "meter"
        return _Answer(release=self.installed.id, outputs=_outputs(inputs["x"]))

    def active(self, name: str) -> Installed | None:
        assert name == "meter"
        return self.installed


class _Source:
    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames

    async def frames(self) -> AsyncIterator[Frame]:
        for frame in self._frames:
            yield frame
            for _ in range(20):
                await asyncio.sleep(0)


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """A release of the clusters' classifier with its drift reference."""
    rng = np.random.default_rng(0)
    points, _ = draw(400, rng)
    (tmp_path / "drift").write_bytes(
        write_reference(
            make_reference(points, confidences(points), rng=rng, labels=classes(points))
        )
    )
    (tmp_path / "task").write_text(TASK)
    model = ReleaseModel(
        target="any",
        runtime="onnxruntime",
        blob=_BLOB,
        inputs=(TensorSpec(name="x", dtype="float32", shape=(1, SIZE)),),
        outputs=(),
        embedding="embedding",
    )
    manifest = Manifest(
        name="meter",
        version=1,
        created_at_ms=0,
        models=(model,),
        golden=_BLOB,
        task=_BLOB,
        drift=_BLOB,
    )
    files = {"task": tmp_path / "task", "drift": tmp_path / "drift"}
    return Installed(manifest=manifest, model=model, files=files)


def _frames(n: int, seed: int, *, shift: float = 0.0, start: int = 0) -> list[Frame]:
    points, _ = draw(n, np.random.default_rng(seed), shift=shift)
    return [
        Frame(
            source="camera",
            number=start + index,
            captured_at_ms=1000 + index,
            inputs={"x": point[None]},
            notes={"recording": "r", "index": str(index)},
        )
        for index, point in enumerate(points)
    ]


def _watch(sent: _Sent, clock: FakeClock | None = None, **settings: int) -> FieldWatch:
    return FieldWatch(
        sent.put,
        clock=clock or FakeClock(),
        rng=np.random.default_rng(0),
        settings=SamplingSettings(**settings),
    )


async def _observe(
    watch: FieldWatch, installed: Installed, frames: list[Frame]
) -> None:
    for frame in frames:
        await watch.observe(frame, installed, _outputs(frame.inputs["x"]))


def test_clean_frames_send_nothing_but_a_report(installed: Installed) -> None:
    """500 clean frames: no event, no sample; the shadow hears of the watch."""
    sent = _Sent()
    asyncio.run(_observe(_watch(sent), installed, _frames(500, 1)))
    assert [kind for kind, _ in sent.messages] == ["reported"]
    drift = sent.of("reported")[0]["patch"]["drift"]["meter"]
    assert drift["is_drift"] is False
    assert drift["release"] == "meter/1"


def test_a_shift_alarms_and_sends_samples_up_to_the_budget(
    installed: Installed,
) -> None:
    """One alarm, 30 samples, half of each kind, and the shadow says how many."""
    sent = _Sent()
    frames = _frames(200, 1) + _frames(400, 2, shift=1.0, start=200)
    asyncio.run(_observe(_watch(sent, most=30), installed, frames))
    (alarm,) = sent.of("event")
    assert alarm["name"] == "drift.alarm"
    assert 200 <= alarm["frame"] < 260
    assert alarm["notes"]["recording"] == "r"
    assert max(alarm["statistics"].values()) > 1
    samples = sent.of("sample")
    kinds = [sample["kind"] for sample in samples]
    assert kinds.count("random") == kinds.count("uncertain") == 15
    last = sent.of("reported")[-1]["patch"]["drift"]["meter"]
    assert last["is_drift"] is True
    assert last["samples_sent"] == 30
    assert last["since_ms"] == alarm["at_ms"]


def test_a_sample_holds_its_frame(installed: Installed) -> None:
    """The inputs come back bit by bit, with what the model said of them."""
    sent = _Sent()
    frames = _frames(400, 2, shift=1.0)
    asyncio.run(_observe(_watch(sent), installed, frames))
    sample = sent.of("sample")[0]
    frame = frames[sample["frame"]]
    packed = sample["inputs"]["x"]
    content = zlib.decompress(base64.b64decode(packed["zlib"]))
    array = np.frombuffer(content, packed["dtype"]).reshape(packed["shape"])
    np.testing.assert_array_equal(array, frame.inputs["x"])
    assert sample["release"] == "meter/1"
    assert sample["captured_at_ms"] == frame.captured_at_ms
    assert sample["notes"] == dict(frame.notes)
    assert sample["prediction"] in {"a", "b", "c"}
    assert 0 < sample["confidence"] <= 1


def test_the_alarm_is_lifted_when_the_world_is_back(installed: Installed) -> None:
    """A second event says so, and the shadow too."""
    sent = _Sent()
    frames = _frames(300, 2, shift=1.0) + _frames(1000, 3)
    asyncio.run(_observe(_watch(sent, most=4), installed, frames))
    assert [event["name"] for event in sent.of("event")] == [
        "drift.alarm",
        "drift.cleared",
    ]
    last = sent.of("reported")[-1]["patch"]["drift"]["meter"]
    assert last["is_drift"] is False


def test_reports_are_rare(installed: Installed) -> None:
    """While nothing changes the shadow hears of it every 30 seconds."""
    sent, clock = _Sent(), FakeClock()
    watch = _watch(sent, clock)

    async def main() -> None:
        for frame in _frames(100, 1):
            await _observe(watch, installed, [frame])
            clock.advance(wall_s=1)

    asyncio.run(main())
    assert len(sent.of("reported")) == 4


def test_a_new_release_is_watched_anew(installed: Installed) -> None:
    """Its charts and its budget begin from nothing, by the settings of now."""
    sent = _Sent()
    watch = _watch(sent, most=10)
    newer = replace(installed, manifest=replace(installed.manifest, version=2))

    async def main() -> None:
        frames = _frames(300, 2, shift=1.0)
        await _observe(watch, installed, frames)
        watch.configure({"most": 6})
        await _observe(watch, newer, frames)

    asyncio.run(main())
    releases = [sample["release"] for sample in sent.of("sample")]
    assert releases == ["meter/1"] * 10 + ["meter/2"] * 6
    assert len(sent.of("event")) == 2


def test_settings_that_make_no_sense_change_nothing(
    installed: Installed, caplog: pytest.LogCaptureFixture
) -> None:
    """They are logged, and those before hold."""
    sent = _Sent()
    watch = _watch(sent, most=10)
    with caplog.at_level(logging.WARNING):
        watch.configure({"most": -5})
    asyncio.run(_observe(watch, installed, _frames(300, 2, shift=1.0)))
    assert len(sent.of("sample")) == 10
    assert caplog.records[0].message == "watch.settings_refused"


@pytest.mark.parametrize("what", ["no-file", "no-output", "damaged", "other-model"])
def test_a_release_that_cannot_be_watched_is_served_all_the_same(
    installed: Installed, what: str
) -> None:
    """No reference, no embedding, a damaged or a strange one: nothing is sent."""
    sent, watch_it = _Sent(), installed
    if what == "no-file":
        watch_it = replace(installed, files={"task": installed.files["task"]})
    elif what == "no-output":
        watch_it = replace(installed, model=replace(installed.model, embedding="other"))
    elif what == "damaged":
        installed.files["drift"].write_bytes(b"x")
    else:
        rng = np.random.default_rng(0)
        reference = make_reference(rng.random((60, 5)), rng.random(60), rng=rng)
        installed.files["drift"].write_bytes(write_reference(reference))
    asyncio.run(_observe(_watch(sent), watch_it, _frames(50, 2, shift=1.0)))
    assert sent.messages == []


def test_what_is_too_large_is_not_sent_but_counted(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before packing and after: neither sends, both are counted."""
    for limit, value in (("LARGEST_INPUT_BYTES", 10), ("LARGEST_SAMPLE_BYTES", 100)):
        sent = _Sent()
        with monkeypatch.context() as patched:
            patched.setattr(watch_module, limit, value)
            frames = _frames(600, 2, shift=1.0) + _frames(1000, 3)
            asyncio.run(_observe(_watch(sent, most=20), installed, frames))
        assert sent.of("sample") == []
        last = sent.of("reported")[-1]["patch"]["drift"]["meter"]
        assert last["samples_too_large"] >= 20
        assert last["samples_sent"] == 0


def test_a_source_is_watched_through_the_engines_failures(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of the engine are passed over; the alarm comes all the same."""

    async def inline(call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    # A thread that is slow to start would let frames pass by.
    monkeypatch.setattr(asyncio, "to_thread", inline)
    sent, engine = _Sent(), _Engine(installed)
    engine.failures = 3
    source = _Source(_frames(100, 1) + _frames(400, 2, shift=1.0, start=100))

    async def main() -> None:
        clock = FakeClock()
        running = asyncio.create_task(_watch(sent, clock).run(source, engine, "meter"))
        while not running.done():
            await asyncio.sleep(0)
            clock.advance(wall_s=1.0)
        await running

    asyncio.run(main())
    assert engine.answered > 300
    assert sent.of("event")[0]["name"] == "drift.alarm"


def test_only_the_newest_frame_is_kept(installed: Installed) -> None:
    """While the engine is slow frames are dropped, not queued."""
    sent, engine, clock = _Sent(), _Engine(None), FakeClock()
    frames = _frames(50, 1)

    async def main() -> None:
        running = asyncio.create_task(
            _watch(sent, clock).run(_Source(frames), engine, "meter")
        )
        await asyncio.sleep(0.05)
        engine.installed = installed
        while not running.done():
            await asyncio.sleep(0)
            clock.advance(wall_s=1.0)
        await running

    asyncio.run(main())
    assert 1 <= engine.answered <= 2
    report = sent.of("reported")[0]["patch"]["drift"]["meter"]
    assert report["seen"] == 1


def test_an_answer_from_before_a_swap_is_not_looked_at(installed: Installed) -> None:
    """The charts of the new release see its own answers only."""
    sent, engine = _Sent(), _Engine(installed)
    newer = replace(installed, manifest=replace(installed.manifest, version=2))

    class _Swapping(_Engine):
        async def infer(
            self, name: str, inputs: Tensors, *, is_own: bool = False
        ) -> _Answer:
            answer = await super().infer(name, inputs, is_own=is_own)
            self.installed = newer
            return answer

    engine = _Swapping(installed)

    async def main() -> None:
        clock = FakeClock()
        await _watch(sent, clock).run(_Source(_frames(3, 1)), engine, "meter")

    asyncio.run(main())
    report = sent.of("reported")[0]["patch"]["drift"]["meter"]
    assert report["release"] == "meter/2"
