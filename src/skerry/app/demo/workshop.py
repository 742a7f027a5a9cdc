"""The publisher's workshop: makes the demo's releases, and what each must answer.

Everything here is what any publisher calls: quantize, refit a head, make a release.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skerry.app.demo import networks
from skerry.app.demo.acts import TextAct, TextNet
from skerry.app.demo.digits import Digits, DigitSplit
from skerry.app.demo.fog import fog
from skerry.app.demo.load import Expected, Scene
from skerry.app.pipelines.embedding import (
    EMBEDDING,
    ask,
    find_head,
    make_drift_blob,
    read_head,
    with_embedding,
    with_head,
)
from skerry.app.publish.build import make_release
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.core.budget import Budget
from skerry.core.clock import Clock
from skerry.core.durable import make_folder, write_file
from skerry.core.model import Model
from skerry.core.release import Manifest, ReleaseId
from skerry.core.seams import LoadOptions
from skerry.evolve.refit import Labelled, refit_head
from skerry.graph import Graph, open_model, read_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.samples import LABEL, MemorySource, take

INPUT = "picture"
OUTPUT = "logits"
TEXT_NAME = "text-lines"

FOG_LEVEL = 1.1
"""How thick the fog of act 5 is; see `fog`."""

NIGHT_NOISE = 0.12
"""Standard deviation of the sensor's noise at night, of full scale."""

ROOMY_LATENCY = 20.0
"""A release's budget for latency, in times of what the bench measured: it is to catch
what is badly wrong, not a busy neighbour."""

TIGHT_LATENCY = 2.7
"""The same of the release that must fail with 30 % of a CPU, where one inference takes
at least 3.3 times as long."""

BENCH_WINDOWS, BENCH_RUNS = 100, 20
TOLERANCE = 0.05
"""Largest relative squared error on a golden sample between the float source and its
INT8 copy."""

REPLAYED_DIGITS = 1200
NIGHT_DIGITS = 600
TEXT_GOLDEN_SAMPLES = 2
_RUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """A release as its publisher has it.

    Attributes:
        manifest: What it is made of.
        blobs: Its parts by SHA-256.
        model: The model file that devices run.
        graph: The same, read.
        source: The float graph that is right by definition.
    """

    manifest: Manifest
    blobs: dict[str, bytes]
    model: Model
    graph: Graph
    source: Graph

    @property
    def id(self) -> ReleaseId:
        """Its name and version."""
        return self.manifest.id

    @property
    def blob(self) -> str:
        """The SHA-256 of the model file."""
        return self.model.sha256

    @property
    def content(self) -> bytes:
        """The bytes of the model file."""
        return self.blobs[self.blob]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictures:
    """The held-out digits, dealt out: no picture is in two places.

    Attributes:
        night: What the load shows at first: a noisy sensor.
        clear: The field through a clear lens.
        fogged: The same digits through a fogged one.
        clear_recording: What the camera sees at first.
        fogged_recording: What it sees then.
        usual: Clean digits that say what is usual, for the drift watch and the refit.
    """

    night: Scene
    clear: Scene
    fogged: Scene
    clear_recording: Scene
    fogged_recording: Scene
    usual: Digits

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """What the gateways are shown over HTTP."""
        return self.night, self.clear, self.fogged


def deal_out(parts: DigitSplit, rng: np.random.Generator) -> Pictures:
    """Deal the held-out digits out."""
    edges = (0, 400, 800, 1000, 1500, 2000)
    night, field, clear, fogged, usual = (
        parts.held_out.take(np.arange(first, last)) for first, last in pairwise(edges)
    )
    seen = fog(field.pictures, FOG_LEVEL, rng)
    return Pictures(
        night=_scene("night", add_noise(night.pictures, rng), night.labels),
        clear=_scene("clear", field.pictures, field.labels),
        fogged=_scene("fogged", seen, field.labels),
        clear_recording=_scene("camera, clear", clear.pictures, clear.labels),
        fogged_recording=_scene(
            "camera, fogged", fog(fogged.pictures, FOG_LEVEL, rng), fogged.labels
        ),
        usual=Digits(
            pictures=np.concatenate([parts.calibration.pictures, usual.pictures]),
            labels=np.concatenate([parts.calibration.labels, usual.labels]),
        ),
    )


def add_noise(
    pictures: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """See pictures as the sensor does at night."""
    noisy = pictures + rng.normal(0, NIGHT_NOISE * 255, pictures.shape)
    return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)


class Workshop:
    """Makes releases of the meter reader.

    Args:
        folder: Where model files go.
        parts: The digits.
        pictures: What the fleet will be shown.
        expected: Learns what each release gives for it.
        clock: What the bench measures by.
    """

    NAME = "meter-reader"

    def __init__(
        self,
        folder: Path,
        parts: DigitSplit,
        pictures: Pictures,
        expected: Expected,
        *,
        clock: Clock,
    ) -> None:
        make_folder(folder)
        self.expected = expected
        self.latency_ms = 0.0
        self._folder = folder
        self._parts = parts
        self._pictures = pictures
        self._clock = clock
        self._task = networks.meter_task()
        self._runtime = get_runtime(_RUNTIME)

    def first(self, step: Quantize) -> Made:
        """Release 1: quantized but for its head, and it shows its embedding, too.

        The head is a thousandth of the work; in float it can be refitted without
        quantizing anything again.
        """
        source = with_embedding(read_graph(networks.meter_path()))
        head = find_head(prepare(source)).node.name or ""
        quantized = replace(step, keep_float=(*step.keep_float, head)).apply(
            source,
            StepContext(calibration=self._calibration(), runtime=self._runtime),
        )
        model = self._write(quantized, 1)
        self.latency_ms = self._bench(model)
        return self._make(1, model, quantized, source, notes="INT8, float head")

    def refitted(
        self, version: int, of: Made, *, seed: int, budget: Budget | None = None
    ) -> Made:
        """A release whose head has also seen digits at night.

        Args:
            version: Its version.
            of: The release that it is made from.
            seed: Another seed, another noise, another head.
            budget: What must hold; the roomy one by default.
        """
        rng = np.random.default_rng(seed)
        day = self._parts.training.take(np.arange(REPLAYED_DIGITS))
        few = day.take(rng.permutation(len(day))[:NIGHT_DIGITS])
        night = Digits(pictures=add_noise(few.pictures, rng), labels=few.labels)
        head = refit_head(
            read_head(of.graph, find_head(of.graph)),
            field=self._embed(of, night),
            replay=self._embed(of, day),
        )
        graph = with_head(of.graph, head)
        return self._make(
            version,
            self._write(graph, version),
            graph,
            with_head(of.source, head),
            budget=budget,
            notes="head refitted for the night",
        )

    def adopt(self, of: Made, content: bytes, drift: bytes) -> Made:
        """Make a release of a candidate that the hub's retraining has made."""
        version = of.id.version + 1
        path = self._folder / f"{self.NAME}-{version}.onnx"
        write_file(path, content)
        graph = read_graph(path)
        source = with_head(of.source, read_head(graph, find_head(graph)))
        return self._make(
            version,
            open_model(path),
            graph,
            source,
            drift=drift,
            notes="head refitted on labelled samples of the field",
        )

    def tight(self) -> Budget:
        """A budget that holds on the bench, and not with 30 % of a CPU."""
        return Budget(latency_ms=self.latency_ms * TIGHT_LATENCY)

    def replay(self) -> bytes:
        """Old samples, `.npz`: what the hub's refit must not forget.

        The net was not trained on them, so that the gate sees what it really loses.
        """
        digits = self._pictures.usual
        return pack(_scene("replay", digits.pictures, digits.labels))

    def _make(
        self,
        version: int,
        model: Model,
        graph: Graph,
        source: Graph,
        *,
        budget: Budget | None = None,
        drift: bytes | None = None,
        notes: str,
    ) -> Made:
        golden_from = write_graph(
            source, self._folder / f"{self.NAME}-{version}.float.onnx"
        )
        roomy = Budget(
            latency_ms=self.latency_ms * ROOMY_LATENCY,
            size_bytes=2 * model.size_bytes,
        )
        manifest, blobs = make_release(
            self.NAME,
            version,
            model,
            self._task,
            self._calibration(),
            golden_from=golden_from,
            budget=budget or roomy,
            embedding=EMBEDDING,
            tolerance=TOLERANCE,
            drift=drift or self._drift(model),
            notes=notes,
        )
        made = Made(
            manifest=manifest, blobs=blobs, model=model, graph=graph, source=source
        )
        self._learn(made)
        return made

    def _learn(self, made: Made) -> None:
        """Compute what the released file gives for everything that is shown."""
        session = self._runtime.load(made.model, LoadOptions(threads=1))
        try:
            for scene in self._pictures.scenes:
                outputs = [
                    session.run({INPUT: scene.pictures[index : index + 1]})[OUTPUT][0]
                    for index in range(len(scene))
                ]
                self.expected.learn(
                    str(made.id), made.blob, scene.name, np.stack(outputs)
                )
        finally:
            session.close()

    def _embed(self, made: Made, digits: Digits) -> Labelled:
        session = self._runtime.load(made.model, LoadOptions(threads=1))
        samples = networks.meter_samples(digits, made.model)
        try:
            answers = ask(
                session,
                ((sample.inputs, None) for sample in samples),
                embedding=EMBEDDING,
                task=self._task,
            )
        finally:
            session.close()
        return Labelled(embeddings=answers.embeddings, labels=digits.labels)

    def _drift(self, model: Model) -> bytes:
        return make_drift_blob(
            model,
            networks.meter_samples(self._pictures.usual, model),
            task=self._task,
            runtime=self._runtime,
            rng=np.random.default_rng(0),
        )

    def _bench(self, model: Model) -> float:
        """What an inference takes undisturbed: the best of many short windows."""
        session = self._runtime.load(model, LoadOptions(threads=1))
        inputs = {INPUT: self._pictures.clear.pictures[:1]}
        best_s = float("inf")
        try:
            for _ in range(BENCH_WINDOWS):
                begun_s = self._clock.wall_s()
                for _ in range(BENCH_RUNS):
                    session.run(inputs)
                best_s = min(best_s, self._clock.wall_s() - begun_s)
        finally:
            session.close()
        return best_s * 1000 / BENCH_RUNS

    def _calibration(self) -> MemorySource:
        model = open_model(networks.meter_path())
        return networks.meter_samples(self._parts.calibration, model)

    def _write(self, graph: Graph, version: int) -> Model:
        return write_graph(graph, self._folder / f"{self.NAME}-{version}.onnx")


def pack(scene: Scene) -> bytes:
    """Write pictures and labels as an `.npz` that the meter reader's tools read."""
    stream = io.BytesIO()
    arrays = {INPUT: scene.pictures, LABEL: scene.labels}
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def renumbered(made: Made, version: int) -> Manifest:
    """The same release under another version: what a forger offers."""
    return replace(made.manifest, version=version)


def broken_text(folder: Path, net: TextNet, act: TextAct) -> Made:
    """Act 2's net as plain INT8, one scale a tensor, has left it.

    Its golden samples come from the float net, so that every device can tell.
    """
    make_folder(folder)
    graph = act.per_tensor_graph
    model = write_graph(graph, folder / f"{TEXT_NAME}-1.onnx")
    manifest, blobs = make_release(
        TEXT_NAME,
        1,
        model,
        net.task,
        take(net.report, TEXT_GOLDEN_SAMPLES),
        golden_from=net.model,
        golden_samples=TEXT_GOLDEN_SAMPLES,
        notes="plain INT8, one scale a tensor",
    )
    return Made(
        manifest=manifest,
        blobs=blobs,
        model=model,
        graph=graph,
        source=read_graph(net.model.path),
    )


def _scene(
    name: str, pictures: NDArray[np.uint8], labels: Sequence[int] | NDArray[np.int64]
) -> Scene:
    return Scene(
        name=name,
        pictures=(pictures.astype(np.float32) / np.float32(255))[:, None],
        labels=np.asarray(labels, np.int64),
    )
