"""The nets of `benchmarks.formats`: graphs of codes, their files and samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.nets.case import Case, read_marker
from benchmarks.nets.catalogue import find_net, make_case
from benchmarks.nets.places import data, data_folder
from skerry.adapt.tflite import fuse_pairs, read_tflite_graph, write_tflite
from skerry.app.pipelines.export import complete_scales
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.core.durable import make_folder, write_file
from skerry.core.seams import Array, Tensors
from skerry.graph import Graph, infer_shapes, read_graph, with_static_inputs
from skerry.runtimes import get_runtime

MODELS = "models_mlperf_tiny"

COMPRESSED = ("kws", "vww", "resnet8", "ds")
"""Float nets of the catalogue, quantized by our own step."""

IMPORTED = {
    "kws, imported": ("kws/kws_ref_model.tflite", "kws"),
    "vww, imported": ("vww/vww_96_int8.tflite", "vww"),
    "resnet8, imported": ("ic/pretrainedResnet_quant.tflite", "resnet8"),
    "ad, imported": ("ad/ad01_int8.tflite", ""),
}
"""MLPerf Tiny's INT8 files, made by TensorFlow's converter, and whose samples they
take; none are at hand for the anomaly net."""

FROM_ZERO = {"vww": 1 / 255, "resnet8": 1.0}
"""The steps of pictures whose codes begin at zero: code = number ÷ step − 128."""


Samples = Callable[[], Iterable[Tensors]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A net in both formats.

    Attributes:
        name: Its name in the results.
        graph: The ONNX graph, all of codes.
        path: The TFLite file that was written from it.
        samples: Gives inputs of the graph; None where there are none at hand.
    """

    name: str
    graph: Graph
    path: Path
    samples: Samples | None


def missing(name: str, work: Path) -> str | None:
    """Say what is missing to make a net here, and how to get it."""
    if name not in IMPORTED:
        is_made = read_marker(work / f"{name}-seed0") is not None
        return None if is_made else find_net(name).missing()
    source = IMPORTED[name][1]
    return data(MODELS)() or (missing(source, work) if source else None)


def export(name: str, work: Path, *, count: int, quick: bool) -> Exported:
    """Make a net's graph and its file.

    Args:
        name: One of `COMPRESSED` or `IMPORTED`.
        work: What is kept.
        count: Most samples that are given.
        quick: Whether small cases will do.
    """
    make = _imported if name in IMPORTED else _compressed
    graph, samples = make(name, work, count=count, quick=quick)
    make_folder(work / "files")
    path = work / "files" / f"{name.replace(', ', '-')}.tflite"
    write_file(path, write_tflite(graph))
    return Exported(name=name, graph=graph, path=path, samples=samples)


def case_of(name: str, work: Path, *, quick: bool) -> Case:
    """The case of a net, made if it is not there yet."""
    folder = work / f"{name}-seed0"
    make_case(name, folder, quick=quick)
    return Case.read(folder)


def _compressed(
    name: str, work: Path, *, count: int, quick: bool
) -> tuple[Graph, Samples]:
    case = case_of(name, work, quick=quick)
    runtime = get_runtime("onnxruntime")
    step = Quantize(operators="all")
    graph = read_graph(case.model.path)
    context = StepContext(calibration=case.calibration, runtime=runtime)
    quantized = step.apply(graph, context)
    shapes = {spec.name: _of_one(spec.shape) for spec in quantized.inputs}
    fixed = infer_shapes(with_static_inputs(quantized, shapes))
    rows = (sample.inputs for sample in case.calibration)
    whole = complete_scales(infer_shapes(fuse_pairs(fixed)), rows, runtime)
    return whole, lambda: (one.inputs for one in islice(case.report, count))


def _of_one(shape: tuple[int | str | None, ...]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 1 for size in shape)


def _imported(
    name: str, work: Path, *, count: int, quick: bool
) -> tuple[Graph, Samples | None]:
    place, source = IMPORTED[name]
    path = data_folder(MODELS) / place
    graph = read_tflite_graph(path.read_bytes(), name=path.name)
    (spec,) = graph.inputs
    if not source:
        return graph, None

    def samples() -> Iterator[Tensors]:
        for one in islice(case_of(source, work, quick=quick).report, count):
            (floats,) = one.inputs.values()
            yield {spec.name: _codes(source, floats).reshape(_of_one(spec.shape))}

    return graph, samples


def _codes(source: str, floats: Array) -> Array:
    """A sample of a float net as the INT8 net takes it."""
    if source == "kws":
        # As `benchmarks.nets.tiny` made them out of the codes.
        codes = np.rint(floats / 0.58470) + 83
    else:
        codes = np.rint(floats / FROM_ZERO[source]) - 128
    return np.clip(codes, -128, 127).astype(np.int8)
