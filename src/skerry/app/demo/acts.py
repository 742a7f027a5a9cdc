"""What the demo does, act by act; it only calls what any user can call."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from skerry.adapt.audit import Audit, audit
from skerry.adapt.compare import Comparison, compare
from skerry.adapt.target_files import load_target
from skerry.app.demo import networks
from skerry.app.demo.digits import read_digits, split_digits
from skerry.app.demo.textlines import TextLines, read_lines
from skerry.compress.ptq.quantize import Quantize
from skerry.compress.search.evidence import Compressed, compress
from skerry.core.budget import Budget
from skerry.core.model import Model
from skerry.core.seams import LoadOptions, Runtime
from skerry.graph import Graph, open_model, read_graph, with_static_inputs, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import Scores, evaluate
from skerry.tasks.samples import SampleSource, split, take
from skerry.tasks.task import Task

Progress = Callable[[str, int, int], None]

SEED = 0
TARGETS = ("x86-64", "ethos-u55-128")
RUNTIMES = ("onnxruntime", "openvino")
CALIBRATION_LINES = 16
EVALUATION_LINES = 200
COMPARED_LINES = 30
COMPARE_REPEATS = 7
TEXT_BUDGET = Budget(accuracy_drop=0.02)
METER_BUDGET = Budget(accuracy_drop=0.01)
THREADS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TextNet:
    """The text recognition net with everything the first two acts need.

    Attributes:
        model: Its file.
        task: How it is fed and read.
        calibration: Lines for ranges.
        selection: Lines that the search may look at.
        report: Lines that only the report looks at.
        lines: Pictures and texts of the whole evaluation set.
    """

    model: Model
    task: Task
    calibration: SampleSource
    selection: SampleSource
    report: SampleSource
    lines: TextLines


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The first act: will it run, and where fastest."""

    audits: tuple[Audit, ...]
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Misread:
    """A line that plain INT8 misreads and Skerry's choice does not.

    Attributes:
        line: Its number in the evaluation set.
        truth: What it says.
        source: What the float model reads.
        plain: What plain INT8 reads.
        chosen: What Skerry's choice reads.
    """

    line: int
    truth: str
    source: str
    plain: str
    chosen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAct:
    """The second act on the text net: plain INT8 against a measured choice.

    Attributes:
        compressed: The outcome.
        per_tensor: Plain INT8 of every operator, one scale a tensor: what quantizers
            do unless told otherwise.
        per_tensor_graph: The net that does so.
        plain: The same with one scale a channel of the weights.
        misread: What only the latter misreads.
    """

    compressed: Compressed
    per_tensor: Scores
    per_tensor_graph: Graph
    plain: Scores
    misread: tuple[Misread, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterAct:
    """The second act on our own net.

    Attributes:
        compressed: The outcome.
        readings: Readings of five digits composed of the report half.
        readings_right_before: How many of them the source reads without a mistake.
        readings_right_after: How many the compressed model does.
    """

    compressed: Compressed
    readings: int
    readings_right_before: int
    readings_right_after: int

    @property
    def step(self) -> Quantize:
        """How it was quantized, or how it is by default where nothing held."""
        chosen = self.compressed.choice.chosen
        return (chosen.step if chosen else None) or Quantize()


def prepare_text() -> TextNet:
    """Find the net and print its lines."""
    model = networks.text_model()
    task = networks.text_task(model)
    lines = read_lines(EVALUATION_LINES, seed=SEED, which="evaluation")
    few = read_lines(CALIBRATION_LINES, seed=SEED, which="calibration")
    samples = networks.text_samples(lines, model, task)
    selection, report = split(samples, SEED)
    return TextNet(
        model=model,
        task=task,
        calibration=networks.text_samples(few, model, task),
        selection=selection,
        report=report,
        lines=lines,
    )


def audit_text(net: TextNet) -> tuple[Audit, ...]:
    """Audit the net against two very different targets."""
    shape = (1, 3, networks.TEXT_HEIGHT, networks.TEXT_WIDTH)
    graph = with_static_inputs(
        read_graph(net.model.path), {net.model.inputs[0].name: shape}
    )
    return tuple(audit(graph, load_target(name)) for name in TARGETS)


def compare_text(net: TextNet, progress: Progress | None) -> Comparison:
    """Run the same file on two runtimes, in turns."""
    return compare(
        net.model,
        RUNTIMES,
        take(net.selection, COMPARED_LINES),
        task=net.task,
        repeats=COMPARE_REPEATS,
        progress=progress,
    )


def squeeze_text(net: TextNet, progress: Progress | None) -> TextAct:
    """Compress the net, and read the report half with plain INT8 too."""
    runtime = get_runtime("onnxruntime")
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        compressed = compress(
            net.model,
            calibration=net.calibration,
            selection=net.selection,
            report=net.report,
            task=net.task,
            runtime=runtime,
            budget=TEXT_BUDGET,
            threads=THREADS,
            folder=Path(folder),
            progress=progress,
        )
        graphs = [one.read() for one in compressed.choice.candidates[:2]]
    per_tensor, plain = (
        _score(graph, runtime, net.report, net.task) for graph in graphs
    )
    return TextAct(
        compressed=compressed,
        per_tensor=per_tensor,
        per_tensor_graph=graphs[0],
        plain=plain,
        misread=_misread(compressed, plain),
    )


def squeeze_meter(progress: Progress | None) -> MeterAct:
    """Compress our own meter reader."""
    model = open_model(networks.meter_path())
    parts = split_digits(read_digits())
    held_out = networks.meter_samples(parts.held_out, model)
    selection, report = split(held_out, SEED)
    compressed = compress(
        model,
        calibration=networks.meter_samples(parts.calibration, model),
        selection=selection,
        report=report,
        task=networks.meter_task(),
        runtime=get_runtime("onnxruntime"),
        budget=METER_BUDGET,
        threads=1,
        progress=progress,
    )
    return _read_meters(compressed)


def _read_meters(compressed: Compressed) -> MeterAct:
    """Compose readings of the report half's digits and count those read right."""
    right = [compressed.before.per_sample, compressed.after.per_sample]
    labels = [cast("int", label) for label in compressed.before.labels]
    groups = range(0, len(labels) - 4, 5)
    before, after = (
        sum(bool(scores[start : start + 5].all()) for start in groups)
        for scores in right
    )
    return MeterAct(
        compressed=compressed,
        readings=len(groups),
        readings_right_before=before,
        readings_right_after=after,
    )


def _score(graph: Graph, runtime: Runtime, samples: SampleSource, task: Task) -> Scores:
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        model = write_graph(graph, Path(folder) / "plain.onnx")
        session = runtime.load(model, LoadOptions(threads=THREADS))
        try:
            return evaluate(session, samples, task)
        finally:
            session.close()


def _misread(compressed: Compressed, plain: Scores) -> tuple[Misread, ...]:
    """Lines that the source and the choice read right, and plain INT8 does not."""
    before, after = compressed.before, compressed.after
    return tuple(
        Misread(
            line=int(before.names[index].removeprefix("line ")),
            truth=str(before.labels[index]),
            source=before.predictions[index].name,
            plain=plain.predictions[index].name,
            chosen=after.predictions[index].name,
        )
        for index in range(len(before.labels))
        if before.per_sample[index]
        and after.per_sample[index]
        and not plain.per_sample[index]
    )
