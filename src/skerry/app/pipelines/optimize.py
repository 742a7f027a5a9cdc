"""Optimize a deployment here or for a target, with all that the verbs can do for it.

The loop is `skerry.adapt.optimize`; quantization comes from `skerry.compress`, and the
compiler from the toolchains: what the loop may try is joined here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from skerry.adapt.optimize.compiled import Bench
from skerry.adapt.optimize.deployment import Deployment
from skerry.adapt.optimize.loop import Optimized, Progress, optimize
from skerry.adapt.optimize.remedies import Recoding, Workshop, remedies_for
from skerry.adapt.optimize.timing import ROUNDS, by_word, in_turns
from skerry.adapt.optimize.validate import Validator, Verdict
from skerry.adapt.tflite import fuse_pairs
from skerry.app.pipelines.export import complete_scales
from skerry.compress.ptq.half import Half
from skerry.compress.ptq.quantize import ACCURATE, StepContext
from skerry.core.model import Model, ModelFormat
from skerry.core.seams import Runtime, Toolchain
from skerry.core.target import Target
from skerry.graph import Graph, infer_shapes, peak_activation_bytes, read_graph
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import SELECTION_MARGIN
from skerry.tasks.samples import SampleSource, take
from skerry.tasks.task import Task

TIMED_INPUTS = 4
"""Samples that one timed call runs, one after the other."""

CALIBRATED = 64
"""Samples that ranges of activations are read from."""

INT8_SPEEDUP = 2.0
HALF_SPEEDUP = 1.1
"""What is hoped for, to say what is tried first; what stays is measured."""

HOST = "onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be made faster, and what it may lose.

    Attributes:
        start: How the model is run now.
        selection: Samples that choose; with labels where there is a task.
        reported: Samples that nothing is chosen by.
        task: How outputs are scored; None compares outputs.
        limit: The largest loss, as `Verdict` says it.
        folder: Where changed files are written.
        progress: Told of each trial.
    """

    start: Deployment
    selection: SampleSource
    reported: SampleSource
    task: Task | None
    limit: float
    folder: Path
    progress: Progress | None = None

    def judge(self) -> Validator:
        """Judges while something is chosen: of a task's loss it keeps a margin."""
        margin = 1.0 if self.task is None else SELECTION_MARGIN
        limit = margin * self.limit
        return Validator(self.start, self.selection, self.task, limit=limit)

    def report(self, chosen: Deployment) -> Verdict:
        """Judge what was chosen."""
        judge = Validator(self.start, self.reported, self.task, limit=self.limit)
        return judge(chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of it.

    Attributes:
        done: What the loop did.
        verdict: The answers of what was chosen.
        files: What is to be kept of the folder: models, each with what lies beside it;
            empty where the model that was given is run as it is.
        measured: Figures by the names of `Budget`.
        missing: What was not tried, and why.
        notes: What a reader must know.
    """

    done: Optimized
    verdict: Verdict
    files: tuple[Path, ...]
    measured: Mapping[str, float]
    missing: Mapping[str, str]
    notes: tuple[str, ...]


def optimize_here(
    wanted: Wanted,
    *,
    most_threads: int,
    runtimes: tuple[str, ...] = (),
    rounds: int = ROUNDS,
) -> Found:
    """Optimize for this machine, timed in turns.

    Args:
        wanted: What is to be made faster.
        most_threads: CPU threads that one inference may have.
        runtimes: Names of those that may be tried; empty for all that take the format.
        rounds: Rounds of each timing.

    Raises:
        SkerryError: The model cannot be run as it is.
    """
    inputs = [one.inputs for one in take(wanted.selection, TIMED_INPUTS)]
    shop = Workshop(
        inputs=inputs,
        folder=wanted.folder,
        most_threads=most_threads,
        runtimes=runtimes,
        recodings=recodings(wanted.selection),
    )
    done = optimize(
        wanted.start,
        time=in_turns(inputs, rounds=rounds),
        diagnose=lambda one: remedies_for(one, shop),
        validate=wanted.judge(),
        progress=wanted.progress,
    )
    verdict = wanted.report(done.chosen)
    model, given = done.chosen.model, wanted.start.model
    shapes = {name: array.shape for name, array in inputs[0].items()}
    return Found(
        done=done,
        verdict=verdict,
        files=() if model.path == given.path else (model.path,),
        measured=_measured(done, verdict, wanted, model.size_bytes)
        | _peak_memory(model, shapes),
        missing=shop.missing,
        notes=done.notes,
    )


def optimize_for(wanted: Wanted, target: Target, toolchain: Toolchain) -> Found:
    """Optimize for a target that is not here, by its compiler's word.

    Args:
        wanted: What is to be made faster; answers are compared on this machine.
        target: The hardware.
        toolchain: Its compiler.

    Raises:
        SkerryError: The model cannot be compiled, nor once it is rewritten.
    """
    (first,) = take(wanted.selection, 1)
    bench = Bench(
        target,
        toolchain,
        shapes={name: array.shape for name, array in first.inputs.items()},
        quantize=_integers(wanted.selection),
        folder=wanted.folder,
    )
    start, note = bench.begin(wanted.start)
    judge = wanted.judge()
    done = optimize(
        start,
        time=by_word(bench.time_ms),
        diagnose=bench.diagnose,
        validate=lambda one: judge(bench.build(one).host),
        progress=wanted.progress,
    )
    built = bench.build(done.chosen)
    verdict = wanted.report(built.host)
    figures = _measured(done, verdict, wanted, built.written.size_bytes)
    memory = {"memory_bytes": float(built.compiled.memory_bytes)}
    notes = [*([note] if note else []), *done.notes]
    if built.left:
        notes.append(
            "Left to another processor, and not in these figures: "
            f"{', '.join(dict.fromkeys(built.left))}."
        )
    return Found(
        done=done,
        verdict=verdict,
        files=(built.host.model.path, built.written.path),
        measured=figures | memory,
        missing={},
        notes=tuple(notes),
    )


def recodings(samples: SampleSource) -> tuple[Recoding, ...]:
    """Numbers of fewer bits that a model of floats may be tried in.

    BF16 is not among them: OpenVINO computes in it by itself where the CPU can, which
    is the default precision of that runtime.

    Args:
        samples: What ranges are read from; labels are not looked at.
    """
    few = take(samples, CALIBRATED)

    made: dict[tuple[str, bytes], Graph] = {}

    def integers(graph: Graph, runtime: Runtime) -> Graph:
        # A remedy is tried again once something has changed, and alone at the end:
        # what is the same model on the same runtime need not be calibrated again.
        key = runtime.name, hashlib.sha256(graph.to_bytes()).digest()
        if key not in made:
            step = replace(ACCURATE, runtime=runtime.name)
            context = StepContext(calibration=few, runtime=runtime)
            made[key] = step.apply(graph, context)
        return made[key]

    def half(graph: Graph, runtime: Runtime) -> Graph:
        context = StepContext(calibration=few, runtime=runtime)
        return Half(dtype="float16", compute=True).apply(graph, context)

    return (
        Recoding(name="INT8", speedup=INT8_SPEEDUP, change=integers),
        Recoding(name="FP16", speedup=HALF_SPEEDUP, change=half),
    )


def _integers(samples: SampleSource) -> Callable[[Graph], Graph]:
    """Bring all of a graph to integers, as hardware without floats wants it."""
    few = take(samples, CALIBRATED)
    host = get_runtime(HOST)

    def quantize(graph: Graph) -> Graph:
        if not any(node.op_type == "QuantizeLinear" for node in graph.nodes):
            context = StepContext(calibration=few, runtime=host)
            graph = replace(ACCURATE, operators="all").apply(graph, context)
        fused = fuse_pairs(infer_shapes(graph))
        return complete_scales(fused, (one.inputs for one in few), host)

    return quantize


def _peak_memory(
    model: Model, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, float]:
    """The most bytes of activations alive at once, where that can be counted."""
    if model.format is not ModelFormat.ONNX:
        return {}
    peak = peak_activation_bytes(read_graph(model.path), shapes)
    return {} if peak is None else {"memory_bytes": float(peak)}


def _measured(
    done: Optimized, verdict: Verdict, wanted: Wanted, size_bytes: int
) -> dict[str, float]:
    figures = {"latency_ms": done.chosen_ms, "size_bytes": float(size_bytes)}
    if wanted.task is not None:
        figures["accuracy_drop"] = verdict.loss
    return figures
